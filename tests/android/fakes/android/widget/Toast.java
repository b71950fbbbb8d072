package android.widget;

import android.content.Context;

/** Fake: remembers the last one. */
public class Toast {
    public static final int LENGTH_LONG = 1;
    public static CharSequence shown;
    private final CharSequence text;

    private Toast(CharSequence text) {
        this.text = text;
    }

    public static Toast makeText(Context context, CharSequence text, int duration) {
        return new Toast(text);
    }

    public void show() {
        shown = text;
    }
}
