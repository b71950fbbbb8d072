package android.hardware.camera2.params;

import android.util.Size;

/** Fake. */
public class StreamConfigurationMap {
    private final Size[] sizes;

    public StreamConfigurationMap(Size... sizes) {
        this.sizes = sizes;
    }

    public Size[] getOutputSizes(int format) {
        return sizes;
    }
}
