package android.media;

import android.view.Surface;
import java.nio.ByteBuffer;
import java.util.ArrayDeque;
import java.util.Queue;

/** Fake: what goes in comes out as a picture of 640×480 pixels, which is lost when its buffer is released. */
public class MediaCodec {
    public static class BufferInfo {
        public int flags;
        public long presentationTimeUs;
    }

    public static final int BUFFER_FLAG_END_OF_STREAM = 4;
    public static int open;
    private final Queue<long[]> inside = new ArrayDeque<>(); // flags, time
    private Image image;

    public static MediaCodec createDecoderByType(String type) {
        open++;
        return new MediaCodec();
    }

    public void configure(MediaFormat format, Surface surface, MediaCrypto crypto, int flags) {
        if (!format.containsKey(MediaFormat.KEY_COLOR_FORMAT)) throw new IllegalArgumentException("no colour format");
    }

    public void start() {}

    public int dequeueInputBuffer(long timeout) {
        return inside.size() < 3 ? 0 : -1;
    }

    public ByteBuffer getInputBuffer(int index) {
        return ByteBuffer.allocate(1);
    }

    public void queueInputBuffer(int index, int offset, int size, long time, int flags) {
        inside.add(new long[] {flags, time});
    }

    public int dequeueOutputBuffer(BufferInfo info, long timeout) {
        long[] next = inside.poll();
        if (next == null) return -1;
        info.flags = (int) next[0];
        info.presentationTimeUs = next[1];
        image = next[0] == 0 ? new Image(640, 480) : null;
        return 0;
    }

    public Image getOutputImage(int index) {
        return image;
    }

    public void releaseOutputBuffer(int index, boolean render) {
        if (image != null) image.closed = true;
    }

    public void release() {
        open--;
    }
}
