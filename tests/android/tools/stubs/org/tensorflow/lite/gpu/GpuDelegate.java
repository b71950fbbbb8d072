package org.tensorflow.lite.gpu;

import org.tensorflow.lite.Delegate;

/** Stub, see Delegate. */
public class GpuDelegate implements Delegate {
    public GpuDelegate() {
        throw new UnsupportedOperationException();
    }

    @Override
    public long getNativeHandle() {
        throw new UnsupportedOperationException();
    }
}
