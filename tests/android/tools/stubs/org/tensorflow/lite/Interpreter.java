package org.tensorflow.lite;

import java.nio.ByteBuffer;
import java.util.Map;

/** Stub, see Delegate. */
public final class Interpreter implements AutoCloseable {
    public static class Options {
        public Options setNumThreads(int numThreads) {
            throw new UnsupportedOperationException();
        }

        public Options setUseXNNPACK(boolean useXNNPACK) {
            throw new UnsupportedOperationException();
        }

        public Options addDelegate(Delegate delegate) {
            throw new UnsupportedOperationException();
        }
    }

    public Interpreter(ByteBuffer model, Options options) {
        throw new UnsupportedOperationException();
    }

    public void resizeInput(int idx, int[] dims) {
        throw new UnsupportedOperationException();
    }

    public void allocateTensors() {
        throw new UnsupportedOperationException();
    }

    public String[] getSignatureKeys() {
        throw new UnsupportedOperationException();
    }

    public String[] getSignatureInputs(String signatureKey) {
        throw new UnsupportedOperationException();
    }

    public String[] getSignatureOutputs(String signatureKey) {
        throw new UnsupportedOperationException();
    }

    public Tensor getInputTensorFromSignature(String inputName, String signatureKey) {
        throw new UnsupportedOperationException();
    }

    public Tensor getOutputTensorFromSignature(String outputName, String signatureKey) {
        throw new UnsupportedOperationException();
    }

    public void runSignature(Map<String, Object> inputs, Map<String, Object> outputs, String signatureKey) {
        throw new UnsupportedOperationException();
    }

    @Override
    public void close() {}
}
