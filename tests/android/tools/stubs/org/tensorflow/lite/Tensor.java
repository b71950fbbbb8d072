package org.tensorflow.lite;

/** Stub, see Delegate. */
public interface Tensor {
    class QuantizationParams {
        public float getScale() {
            throw new UnsupportedOperationException();
        }

        public int getZeroPoint() {
            throw new UnsupportedOperationException();
        }
    }

    DataType dataType();

    int[] shape();

    QuantizationParams quantizationParams();
}
