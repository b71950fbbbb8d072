package android.os;

import java.util.HashMap;
import java.util.Map;

/** Fake. */
public class Bundle {
    private final Map<String, Object> values = new HashMap<>();

    public void putParcelable(String key, Parcelable value) {
        values.put(key, value);
    }

    public void putBoolean(String key, boolean value) {
        values.put(key, value);
    }

    @SuppressWarnings("unchecked")
    public <T extends Parcelable> T getParcelable(String key) {
        return (T) values.get(key);
    }

    public boolean getBoolean(String key) {
        return (Boolean) values.getOrDefault(key, false);
    }
}
