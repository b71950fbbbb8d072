package android.media;

import java.util.HashMap;
import java.util.Map;

/** Fake. */
public class MediaFormat {
    public static final String KEY_MIME = "mime";
    public static final String KEY_ROTATION = "rotation-degrees";
    public static final String KEY_COLOR_FORMAT = "color-format";
    public final Map<String, Object> values = new HashMap<>();

    public boolean containsKey(String name) {
        return values.containsKey(name);
    }

    public int getInteger(String name) {
        return (Integer) values.get(name);
    }

    public void setInteger(String name, int value) {
        values.put(name, value);
    }

    public String getString(String name) {
        return (String) values.get(name);
    }
}
