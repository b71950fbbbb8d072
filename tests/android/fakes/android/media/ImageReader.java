package android.media;

import android.os.Handler;
import android.view.Surface;
import java.util.ArrayList;
import java.util.List;

/** Fake: images come from the test; holds no more than it was made for. */
public class ImageReader implements AutoCloseable {
    public interface OnImageAvailableListener {
        void onImageAvailable(ImageReader reader);
    }

    public static ImageReader last;
    public final int width;
    public final int height;
    public boolean closed;
    public int out;
    private final int most;
    private final List<Image> waiting = new ArrayList<>();
    private OnImageAvailableListener listener;
    private Handler handler;

    private ImageReader(int width, int height, int most) {
        this.width = width;
        this.height = height;
        this.most = most;
    }

    public static ImageReader newInstance(int width, int height, int format, int most) {
        last = new ImageReader(width, height, most);
        return last;
    }

    /** The camera has a new picture. */
    public Image deliver() {
        Image image = new Image(width, height);
        image.reader = this;
        waiting.add(image);
        handler.post(() -> listener.onImageAvailable(this));
        return image;
    }

    public Surface getSurface() {
        return null;
    }

    public void setOnImageAvailableListener(OnImageAvailableListener listener, Handler handler) {
        this.listener = listener;
        this.handler = handler;
    }

    public Image acquireLatestImage() {
        if (closed) throw new IllegalStateException("the reader is closed");
        if (waiting.isEmpty()) return null;
        // Android acquires the newest before it frees the older one that it holds.
        if (out + Math.min(waiting.size(), 2) > most) throw new IllegalStateException("maxImages (" + most + ") exceeded");
        Image newest = waiting.get(waiting.size() - 1);
        waiting.clear();
        out++;
        return newest;
    }

    @Override
    public void close() {
        closed = true;
    }
}
