package android.widget;

import android.content.Context;
import android.view.View;

/** Fake. */
public class SeekBar extends View {
    public interface OnSeekBarChangeListener {
        void onProgressChanged(SeekBar bar, int progress, boolean fromUser);

        void onStartTrackingTouch(SeekBar bar);

        void onStopTrackingTouch(SeekBar bar);
    }

    private OnSeekBarChangeListener listener;
    private int progress;

    public SeekBar(Context context) {
        super(context);
    }

    public void setOnSeekBarChangeListener(OnSeekBarChangeListener listener) {
        this.listener = listener;
    }

    public int getProgress() {
        return progress;
    }

    /** A finger moves it there and lets go. */
    public void move(int to) {
        progress = to;
        listener.onProgressChanged(this, to, true);
        listener.onStopTrackingTouch(this);
    }
}
