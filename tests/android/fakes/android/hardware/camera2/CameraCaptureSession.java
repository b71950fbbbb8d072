package android.hardware.camera2;

import android.os.Handler;

/** Fake: the device remembers what is to be repeated. */
public class CameraCaptureSession {
    public abstract static class StateCallback {
        public abstract void onConfigured(CameraCaptureSession session);

        public abstract void onConfigureFailed(CameraCaptureSession session);
    }

    public abstract static class CaptureCallback {}

    private final CameraDevice device;

    public CameraCaptureSession(CameraDevice device) {
        this.device = device;
    }

    public int setRepeatingRequest(CaptureRequest request, CaptureCallback callback, Handler handler)
            throws CameraAccessException {
        device.repeating = request;
        return 0;
    }
}
