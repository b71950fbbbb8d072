package org.tensorflow.lite.gpu;

import java.io.Closeable;

/** Stub, see Delegate. */
public class CompatibilityList implements Closeable {
    public boolean isDelegateSupportedOnThisDevice() {
        throw new UnsupportedOperationException();
    }

    @Override
    public void close() {}
}
