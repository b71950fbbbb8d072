package android.view;

/** Fake. */
public class Window {
    public int flags;

    public void addFlags(int flags) {
        this.flags |= flags;
    }

    public void clearFlags(int flags) {
        this.flags &= ~flags;
    }
}
