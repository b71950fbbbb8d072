package android.widget;

import android.content.Context;

/** Fake. */
public class CheckBox extends CompoundButton {
    public CheckBox(Context context) {
        super(context);
    }
}
