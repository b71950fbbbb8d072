package org.retinaface.core

/** Cells along one side of the feature map of [stride]: padded stride-2 convolutions round up. */
fun featureSize(
    inputSize: Int,
    stride: Int,
): Int = (inputSize + stride - 1) / stride

/**
 * Square anchors of all levels for an input of [shape]: centre x, centre y, side in input pixels, three floats each.
 *
 * Order: level, row, column, anchor; centres at ((column + 0.5)·stride, (row + 0.5)·stride). Twin of
 * `tflite/anchors.py`.
 */
fun makeAnchors(
    spec: ModelSpec,
    shape: Shape,
): FloatArray {
    val total =
        spec.strides.indices.sumOf { level ->
            val stride = spec.strides[level]
            featureSize(shape.height, stride) * featureSize(shape.width, stride) * spec.anchorSizes[level].size
        }
    val anchors = FloatArray(total * 3)
    var at = 0
    for ((stride, sizes) in spec.strides.zip(spec.anchorSizes)) {
        for (row in 0 until featureSize(shape.height, stride)) {
            for (column in 0 until featureSize(shape.width, stride)) {
                for (size in sizes) {
                    anchors[at++] = ((column + 0.5) * stride).toFloat()
                    anchors[at++] = ((row + 0.5) * stride).toFloat()
                    anchors[at++] = size.toFloat()
                }
            }
        }
    }
    return anchors
}
