package org.tensorflow.lite;

import java.nio.ByteBuffer;
import java.util.Map;

/** Fake: a network that finds one face, whatever it sees, at any shape. */
public final class Interpreter implements AutoCloseable {
    public static class Options {
        public boolean delegated;

        public Options setNumThreads(int numThreads) {
            return this;
        }

        public Options setUseXNNPACK(boolean useXNNPACK) {
            return this;
        }

        public Options addDelegate(Delegate delegate) {
            delegated = true;
            return this;
        }
    }

    public static volatile int open;
    public static volatile int[] lastShape;
    public static volatile boolean fixed;
    private int[] shape = {1, 640, 640, 3};

    public Interpreter(ByteBuffer model, Options options) {
        open++;
    }

    public void resizeInput(int idx, int[] dims) {
        if (fixed && (dims[1] != 640 || dims[2] != 640)) throw new IllegalArgumentException("cannot be resized");
        shape = dims;
    }

    public void allocateTensors() {}

    public String[] getSignatureKeys() {
        return new String[] {"serving_default"};
    }

    public String[] getSignatureInputs(String signatureKey) {
        return new String[] {"image"};
    }

    public String[] getSignatureOutputs(String signatureKey) {
        return "score_8 score_16 score_32 box_8 box_16 box_32 landmark_8 landmark_16 landmark_32".split(" ");
    }

    public Tensor getInputTensorFromSignature(String inputName, String signatureKey) {
        return new FakeTensor(shape);
    }

    public Tensor getOutputTensorFromSignature(String outputName, String signatureKey) {
        int stride = Integer.parseInt(outputName.substring(outputName.indexOf('_') + 1));
        int values = outputName.startsWith("score") ? 1 : outputName.startsWith("box") ? 4 : 10;
        return new FakeTensor(1, (shape[1] + stride - 1) / stride, (shape[2] + stride - 1) / stride, 2 * values);
    }

    public void runSignature(Map<String, Object> inputs, Map<String, Object> outputs, String signatureKey) {
        lastShape = shape;
        if (((ByteBuffer) inputs.get("image")).remaining() != shape[1] * shape[2] * 3) throw new IllegalArgumentException();
        for (Map.Entry<String, Object> output : outputs.entrySet()) {
            ByteBuffer buffer = (ByteBuffer) output.getValue();
            byte low = output.getKey().startsWith("score") ? (byte) -128 : 0;
            for (int i = 0; i < buffer.limit(); i++) buffer.put(i, low);
        }
        // The first anchor of level 32: centre (16, 16), 256 pixels wide; a logit of 2.
        ((ByteBuffer) outputs.get("score_32")).put(0, (byte) 20);
    }

    @Override
    public void close() {
        open--;
    }

    private static class FakeTensor implements Tensor {
        private final int[] shape;

        FakeTensor(int... shape) {
            this.shape = shape;
        }

        @Override
        public DataType dataType() {
            return DataType.INT8;
        }

        @Override
        public int[] shape() {
            return shape;
        }

        @Override
        public QuantizationParams quantizationParams() {
            return new QuantizationParams() {
                @Override
                public float getScale() {
                    return 0.1f;
                }

                @Override
                public int getZeroPoint() {
                    return 0;
                }
            };
        }
    }
}
