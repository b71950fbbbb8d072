package android.media;

import android.content.Context;
import android.net.Uri;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Map;

/** Fake: sound, and as many pictures as the address says, a hundredth of a second apart; a number below 0 is no file. */
public class MediaExtractor {
    public static int open;
    private int frames;
    private int next;

    public MediaExtractor() {
        open++;
    }

    public void setDataSource(Context context, Uri uri, Map<String, String> headers) throws IOException {
        frames = Integer.parseInt(uri.toString());
        if (frames < 0) throw new IOException("no such film");
    }

    public int getTrackCount() {
        return frames == 0 ? 1 : 2;
    }

    public MediaFormat getTrackFormat(int track) {
        MediaFormat format = new MediaFormat();
        format.values.put(MediaFormat.KEY_MIME, track == 0 ? "audio/mp4a" : "video/avc");
        if (track == 1) format.values.put(MediaFormat.KEY_ROTATION, 90);
        return format;
    }

    public void selectTrack(int track) {
        if (track != 1) throw new IllegalArgumentException("that is the sound");
    }

    public int readSampleData(ByteBuffer buffer, int offset) {
        return next < frames ? 1 : -1;
    }

    public long getSampleTime() {
        return next < frames ? next * 10_000L : -1;
    }

    public boolean advance() {
        return ++next < frames;
    }

    public void release() {
        open--;
    }
}
