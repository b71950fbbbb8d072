package android.os;

import java.util.ArrayDeque;
import java.util.Queue;

/** Fake: a queue that the test runs, so that nothing happens by chance. */
public class Looper {
    private static final Queue<Looper> all = new ArrayDeque<>();
    private static final Looper main = new Looper();
    private final Queue<Runnable> queue = new ArrayDeque<>();
    public boolean quit;

    public Looper() {
        synchronized (Looper.class) {
            all.add(this);
        }
    }

    public static Looper getMainLooper() {
        return main;
    }

    /** Forgets everything of the last test. */
    public static synchronized void reset() {
        all.clear();
        all.add(main);
        while (main.next() != null) {}
    }

    synchronized boolean add(Runnable work) {
        if (quit) return false;
        return queue.add(work);
    }

    private synchronized Runnable next() {
        return queue.poll();
    }

    /** Runs what waits on every looper, and what that adds, until nothing waits; true if there was something. */
    public static boolean runAll() {
        boolean any = false;
        for (boolean found = true; found; any |= found) {
            found = false;
            for (Looper looper : snapshot()) {
                for (Runnable work = looper.next(); work != null; work = looper.next()) {
                    work.run();
                    found = true;
                }
            }
        }
        return any;
    }

    private static synchronized Looper[] snapshot() {
        return all.toArray(new Looper[0]);
    }
}
