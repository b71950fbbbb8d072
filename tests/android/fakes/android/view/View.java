package android.view;

import android.content.Context;
import android.content.res.Resources;
import android.graphics.Canvas;
import android.util.AttributeSet;

/** Fake. */
public class View {
    public interface OnClickListener {
        void onClick(View view);
    }

    public interface OnApplyWindowInsetsListener {
        WindowInsets onApplyWindowInsets(View view, WindowInsets insets);
    }

    public static final int VISIBLE = 0;
    public static final int GONE = 8;
    public int width = 100;
    public int height = 100;
    public int[] padding;
    public int invalidations;
    public OnApplyWindowInsetsListener insets;
    private int visibility = GONE;
    private OnClickListener click;

    public View(Context context) {}

    public View(Context context, AttributeSet attributes) {}

    public void tap() {
        click.onClick(this);
    }

    /** Android draws what was invalidated. */
    public void frame() {
        onDraw(new Canvas());
    }

    protected void onDraw(Canvas canvas) {}

    public void setOnClickListener(OnClickListener listener) {
        click = listener;
    }

    public void setOnApplyWindowInsetsListener(OnApplyWindowInsetsListener listener) {
        insets = listener;
    }

    public void setPadding(int left, int top, int right, int bottom) {
        padding = new int[] {left, top, right, bottom};
    }

    public void setVisibility(int visibility) {
        this.visibility = visibility;
    }

    public int getVisibility() {
        return visibility;
    }

    public void setContentDescription(CharSequence text) {}

    public void invalidate() {
        invalidations++;
    }

    public Resources getResources() {
        return new Resources();
    }

    public final int getWidth() {
        return width;
    }

    public final int getHeight() {
        return height;
    }
}
