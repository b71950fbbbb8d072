package android.hardware.camera2;

import android.os.Handler;
import android.view.Surface;
import java.util.List;

/** Fake: an opened camera; a closed one refuses every call, as Android's does. */
public class CameraDevice implements AutoCloseable {
    public abstract static class StateCallback {
        public static final int ERROR_CAMERA_IN_USE = 1;
        public static final int ERROR_MAX_CAMERAS_IN_USE = 2;
        public static final int ERROR_CAMERA_DEVICE = 4;

        public abstract void onOpened(CameraDevice camera);

        public abstract void onDisconnected(CameraDevice camera);

        public abstract void onError(CameraDevice camera, int error);
    }

    public static final int TEMPLATE_PREVIEW = 1;
    public int closed;
    public CameraCaptureSession.StateCallback session;
    public CaptureRequest repeating;

    private void check() {
        if (closed > 0) throw new IllegalStateException("CameraDevice was already closed");
    }

    public void createCaptureSession(List<Surface> surfaces, CameraCaptureSession.StateCallback callback, Handler handler)
            throws CameraAccessException {
        check();
        session = callback;
    }

    public CaptureRequest.Builder createCaptureRequest(int template) throws CameraAccessException {
        check();
        return new CaptureRequest.Builder();
    }

    @Override
    public void close() {
        closed++;
    }
}
