package android.widget;

import android.content.Context;

/** Fake. */
public class CompoundButton extends TextView {
    public interface OnCheckedChangeListener {
        void onCheckedChanged(CompoundButton button, boolean checked);
    }

    private OnCheckedChangeListener listener;
    private boolean checked;

    public CompoundButton(Context context) {
        super(context);
    }

    public void setOnCheckedChangeListener(OnCheckedChangeListener listener) {
        this.listener = listener;
    }

    public boolean isChecked() {
        return checked;
    }

    public void setChecked(boolean checked) {
        this.checked = checked;
        if (listener != null) listener.onCheckedChanged(this, checked);
    }
}
