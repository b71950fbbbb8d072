package android.os;

/** Fake: its work runs when the test says so, see Looper. */
public class HandlerThread extends Thread {
    private final Looper looper = new Looper();

    public HandlerThread(String name) {
        super(name);
    }

    @Override
    public synchronized void start() {}

    public Looper getLooper() {
        return looper;
    }

    public boolean quitSafely() {
        looper.quit = true;
        return true;
    }
}
