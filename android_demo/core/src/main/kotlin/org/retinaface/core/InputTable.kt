package org.retinaface.core

import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * The network's input value for every pixel value: mean, scale and zero point in one 256×3 table. One thread at a time.
 *
 * @throws IllegalArgumentException [mean] has not three values.
 */
class InputTable(
    mean: List<Double>,
    private val info: TensorInfo,
) {
    private val floats = FloatArray(256 * 3)
    private val bytes = ByteArray(256 * 3)

    // What goes into the network, reused from picture to picture.
    private val byteValues = ByteArray(if (info.type == ElementType.INT8) info.elements else 0)
    private val floatValues = FloatArray(if (info.type == ElementType.FLOAT32) info.elements else 0)

    init {
        require(mean.size == 3) { "mean has ${mean.size} values, expected B, G and R" }
        for (pixel in 0 until 256) {
            for (channel in 0 until 3) {
                val value = pixel - mean[channel]
                floats[pixel * 3 + channel] = value.toFloat()
                if (info.type == ElementType.INT8) {
                    val quantized = Math.floor(value / info.scale.toDouble() + 0.5) + info.zeroPoint
                    bytes[pixel * 3 + channel] = quantized.coerceIn(-128.0, 127.0).toInt().toByte()
                }
            }
        }
    }

    /** A buffer that [fill] accepts. */
    fun allocate(): ByteBuffer = ByteBuffer.allocateDirect(info.byteSize).order(ByteOrder.nativeOrder())

    /** Writes the value of each pixel of [image] into [out], which is then at position 0. */
    fun fill(
        image: BgrImage,
        out: ByteBuffer,
    ) {
        require(image.data.size == info.elements) { "image has ${image.data.size} values, expected ${info.elements}" }
        out.clear()
        when (info.type) {
            ElementType.INT8 -> {
                forEachEntry(image.data) { i, entry -> byteValues[i] = bytes[entry] }
                out.put(byteValues)
            }

            ElementType.FLOAT32 -> {
                forEachEntry(image.data) { i, entry -> floatValues[i] = floats[entry] }
                out.asFloatBuffer().put(floatValues)
            }
        }
        out.clear()
    }

    /** Calls [use] with each byte's position and the index of its value in the table. */
    private inline fun forEachEntry(
        data: ByteArray,
        use: (Int, Int) -> Unit,
    ) {
        for (pixel in 0 until data.size / 3) {
            for (channel in 0 until 3) {
                val i = pixel * 3 + channel
                use(i, (data[i].toInt() and 0xff) * 3 + channel)
            }
        }
    }
}

/** The letterbox border: the rounded mean, as bytes B, G, R. */
fun fillColour(mean: List<Double>): ByteArray = ByteArray(mean.size) { i -> Math.floor(mean[i] + 0.5).toInt().toByte() }
