package android.os;

/** Fake, see Looper. */
public class Handler {
    private final Looper looper;

    public Handler(Looper looper) {
        this.looper = looper;
    }

    public final boolean post(Runnable work) {
        return looper.add(work);
    }
}
