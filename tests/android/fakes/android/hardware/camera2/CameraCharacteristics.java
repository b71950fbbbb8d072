package android.hardware.camera2;

import java.util.HashMap;
import java.util.Map;

/** Fake: what the test puts in. */
public class CameraCharacteristics {
    public static class Key<T> {}

    public static final int LENS_FACING_FRONT = 0;
    public static final Key<Object> SCALER_STREAM_CONFIGURATION_MAP = new Key<>();
    public static final Key<Object> LENS_FACING = new Key<>();
    public static final Key<Object> SENSOR_ORIENTATION = new Key<>();
    public static final Key<Object> SENSOR_INFO_ACTIVE_ARRAY_SIZE = new Key<>();
    public static final Key<Object> CONTROL_AF_AVAILABLE_MODES = new Key<>();
    public final Map<Object, Object> facts = new HashMap<>();

    @SuppressWarnings("unchecked")
    public <T> T get(Key<T> key) {
        return (T) facts.get(key);
    }
}
