package android.media;

import android.graphics.Rect;
import java.nio.ByteBuffer;

/** Fake: a grey picture that tells when it is read after its reader was closed. */
public class Image implements AutoCloseable {
    public final int width;
    public final int height;
    public boolean closed;
    ImageReader reader;

    public Image(int width, int height) {
        this.width = width;
        this.height = height;
    }

    public static class Plane {
        private final ByteBuffer buffer;
        private final int rowStride;

        Plane(int columns, int rows) {
            buffer = ByteBuffer.allocate(columns * rows);
            for (int i = 0; i < buffer.limit(); i++) buffer.put(i, (byte) 128);
            rowStride = columns;
        }

        public ByteBuffer getBuffer() {
            return buffer;
        }

        public int getRowStride() {
            return rowStride;
        }

        public int getPixelStride() {
            return 1;
        }
    }

    private void check() {
        if (closed || reader != null && reader.closed) throw new IllegalStateException("the image's memory is gone");
    }

    public int getWidth() {
        check();
        return width;
    }

    public int getHeight() {
        check();
        return height;
    }

    public Rect getCropRect() {
        check();
        return new Rect(0, 0, width, height);
    }

    public Plane[] getPlanes() {
        check();
        int columns = (width + 1) / 2, rows = (height + 1) / 2;
        return new Plane[] {new Plane(width, height), new Plane(columns, rows), new Plane(columns, rows)};
    }

    @Override
    public void close() {
        check();
        closed = true;
        if (reader != null) reader.out--;
    }
}
