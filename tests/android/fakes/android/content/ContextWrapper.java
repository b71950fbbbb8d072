package android.content;

/** Fake, see Activity. */
public abstract class ContextWrapper extends Context {
    public ContextWrapper(Context base) {}
}
