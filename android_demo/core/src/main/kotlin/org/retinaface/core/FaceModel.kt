package org.retinaface.core

import java.nio.ByteBuffer

/** Element types that exported models have at their edges. */
enum class ElementType(
    val bytes: Int,
) {
    INT8(1),
    FLOAT32(4),
}

/**
 * One input or output tensor.
 *
 * @property shape with the batch of 1 in front.
 * @property scale of the quantization, value = (q − [zeroPoint])·scale; both 0 for floats.
 */
class TensorInfo(
    val shape: List<Int>,
    val type: ElementType,
    val scale: Float,
    val zeroPoint: Int,
) {
    val elements: Int get() = shape.fold(1) { product, side -> product * side }
    val byteSize: Int get() = elements * type.bytes
}

/** Whatever runs the network: LiteRT on a phone, its C API on a JVM, a stub in tests. Used by one thread at a time. */
interface FaceModel : AutoCloseable {
    /** Shape [1, height, width, 3], the present one, as are those of [outputs]. */
    val input: TensorInfo

    /** By signature name, `score_8` … `landmark_32`: the order of tensors in a file means nothing. */
    val outputs: Map<String, TensorInfo>

    /**
     * Makes the network ready for pictures of another shape; [input] and [outputs] then tell the new ones.
     *
     * @return false when it runs at the shape that it has only; nothing has changed then.
     */
    fun resize(shape: Shape): Boolean

    /**
     * Runs the network.
     *
     * @param input [TensorInfo.byteSize] bytes in native order, from position 0.
     * @return the raw outputs by name, in native order, from position 0; valid until the next call.
     */
    fun run(input: ByteBuffer): Map<String, ByteBuffer>
}
