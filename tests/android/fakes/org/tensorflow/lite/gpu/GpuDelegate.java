package org.tensorflow.lite.gpu;

import org.tensorflow.lite.Delegate;

/** Fake. */
public class GpuDelegate implements Delegate {
    public static boolean broken;

    public GpuDelegate() {
        if (broken) throw new IllegalStateException("the driver refuses");
    }

    @Override
    public long getNativeHandle() {
        return 0;
    }
}
