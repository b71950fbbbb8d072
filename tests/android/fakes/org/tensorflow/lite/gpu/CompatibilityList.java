package org.tensorflow.lite.gpu;

import java.io.Closeable;

/** Fake. */
public class CompatibilityList implements Closeable {
    public static boolean supported;

    public boolean isDelegateSupportedOnThisDevice() {
        return supported;
    }

    @Override
    public void close() {}
}
