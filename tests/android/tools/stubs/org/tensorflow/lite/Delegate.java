package org.tensorflow.lite;

/** Stub: the signatures that the app uses of LiteRT's Java API, to type-check against without the library. */
public interface Delegate extends AutoCloseable {
    long getNativeHandle();

    @Override
    default void close() {}
}
