package android.widget;

import android.content.Context;
import android.content.res.Resources;
import android.view.View;

/** Fake. */
public class TextView extends View {
    private CharSequence text = "";

    public TextView(Context context) {
        super(context);
    }

    public final void setText(int id) {
        text = Resources.name(id);
    }

    public final void setText(CharSequence text) {
        this.text = text;
    }

    public CharSequence getText() {
        return text;
    }
}
