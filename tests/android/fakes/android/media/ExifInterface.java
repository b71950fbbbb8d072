package android.media;

import java.io.IOException;
import java.io.InputStream;

/** Fake: says what the test wants, to who asks for the orientation of a stream. */
public class ExifInterface {
    public static final String TAG_ORIENTATION = "Orientation";
    public static final int ORIENTATION_NORMAL = 1;
    public static int orientation = 1;

    public ExifInterface(InputStream stream) throws IOException {
        if (stream.read() < 0) throw new IOException("the stream is empty");
        if (orientation < 0) throw new IOException("a format without EXIF");
    }

    public int getAttributeInt(String tag, int otherwise) {
        return tag.equals(TAG_ORIENTATION) ? orientation : otherwise;
    }
}
