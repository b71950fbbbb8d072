package android.hardware.camera2;

/** Fake. */
public class CameraAccessException extends Exception {
    public static final int CAMERA_DISABLED = 1;
    public static final int CAMERA_DISCONNECTED = 2;
    public static final int CAMERA_ERROR = 3;
    public static final int CAMERA_IN_USE = 4;
    private final int reason;

    public CameraAccessException(int reason, String message) {
        super(message);
        this.reason = reason;
    }

    public final int getReason() {
        return reason;
    }
}
