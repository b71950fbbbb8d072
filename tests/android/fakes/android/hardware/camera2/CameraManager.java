package android.hardware.camera2;

import android.os.Handler;
import java.util.LinkedHashMap;
import java.util.Map;

/** Fake: the phone's cameras; the test answers what was asked to be opened. */
public class CameraManager {
    public abstract static class AvailabilityCallback {
        public void onCameraAvailable(String id) {}
    }

    public final Map<String, CameraCharacteristics> cameras = new LinkedHashMap<>();
    public AvailabilityCallback availability;
    public Exception refusal; // what openCamera throws
    public Exception listRefusal; // what getCameraIdList throws
    public String opening; // the last camera that was asked for
    public CameraDevice.StateCallback callback;

    public String[] getCameraIdList() throws CameraAccessException {
        CameraManager.<RuntimeException>sneak(listRefusal);
        return cameras.keySet().toArray(new String[0]);
    }

    public CameraCharacteristics getCameraCharacteristics(String id) throws CameraAccessException {
        return cameras.get(id);
    }

    public void openCamera(String id, CameraDevice.StateCallback callback, Handler handler) throws CameraAccessException {
        CameraManager.<RuntimeException>sneak(refusal);
        opening = id;
        this.callback = callback;
    }

    @SuppressWarnings("unchecked")
    private static <T extends Exception> void sneak(Exception e) throws T {
        if (e != null) throw (T) e;
    }

    public void registerAvailabilityCallback(AvailabilityCallback callback, Handler handler) {
        availability = callback;
    }

    public void unregisterAvailabilityCallback(AvailabilityCallback callback) {
        availability = null;
    }
}
