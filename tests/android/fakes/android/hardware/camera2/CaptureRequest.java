package android.hardware.camera2;

import android.view.Surface;
import java.util.HashMap;
import java.util.Map;

/** Fake: its settings by key. */
public class CaptureRequest {
    public static class Key<T> {}

    public static final Key<Integer> CONTROL_AF_MODE = new Key<>();
    public static final int CONTROL_AF_MODE_CONTINUOUS_PICTURE = 4;
    public final Map<Object, Object> settings = new HashMap<>();

    public static class Builder {
        private final CaptureRequest request = new CaptureRequest();

        public void addTarget(Surface surface) {}

        public <T> void set(Key<T> key, T value) {
            request.settings.put(key, value);
        }

        public CaptureRequest build() {
            return request;
        }
    }
}
