package org.retinaface.core

import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * The network's input value for every pixel value: mean, scale and zero point in one table per channel. One thread at a
 * time.
 *
 * @param mean per channel B, G, R, subtracted from 0-255.
 * @param info type and quantization of the network's input.
 * @throws IllegalArgumentException [mean] has not three values.
 */
class InputTable(
    mean: List<Double>,
    private val info: TensorInfo,
) {
    private val floats = List(3) { FloatArray(256) }
    private val bytes = List(3) { ByteArray(256) }

    // A row on its way into the network.
    private var row = ByteArray(0)

    init {
        require(mean.size == 3) { "mean has ${mean.size} values, expected B, G and R" }
        for (channel in 0 until 3) {
            for (pixel in 0 until 256) {
                val value = pixel - mean[channel]
                floats[channel][pixel] = value.toFloat()
                if (info.type == ElementType.INT8) {
                    val quantized = Math.floor(value / info.scale.toDouble() + 0.5) + info.zeroPoint
                    bytes[channel][pixel] = quantized.coerceIn(-128.0, 127.0).toInt().toByte()
                }
            }
        }
    }

    /** A buffer for an input of [shape]. */
    fun allocate(shape: Shape): ByteBuffer =
        ByteBuffer.allocateDirect(shape.height * shape.width * 3 * info.type.bytes).order(ByteOrder.nativeOrder())

    /** Appends the values of [count] pixels, from index [from] on, to [out]: B, G, R of each. */
    fun write(
        pixels: IntArray,
        from: Int,
        count: Int,
        out: ByteBuffer,
    ) = when (info.type) {
        ElementType.INT8 -> writeBytes(pixels, from, count, out)
        ElementType.FLOAT32 -> writeFloats(pixels, from, count, out)
    }

    private fun writeBytes(
        pixels: IntArray,
        from: Int,
        count: Int,
        out: ByteBuffer,
    ) {
        if (row.size < count * 3) row = ByteArray(count * 3)
        val (blue, green, red) = bytes
        val into = row
        var to = 0
        for (i in from until from + count) {
            val pixel = pixels[i]
            into[to] = blue[pixel and 0xff]
            into[to + 1] = green[(pixel shr 8) and 0xff]
            into[to + 2] = red[(pixel shr 16) and 0xff]
            to += 3
        }
        out.put(into, 0, count * 3)
    }

    private fun writeFloats(
        pixels: IntArray,
        from: Int,
        count: Int,
        out: ByteBuffer,
    ) {
        val (blue, green, red) = floats
        for (i in from until from + count) {
            val pixel = pixels[i]
            out.putFloat(blue[pixel and 0xff])
            out.putFloat(green[(pixel shr 8) and 0xff])
            out.putFloat(red[(pixel shr 16) and 0xff])
        }
    }
}

/** The letterbox border: the rounded mean as an opaque pixel. */
fun fillColour(mean: List<Double>): Int {
    val (blue, green, red) = mean.map { Math.floor(it + 0.5).toInt() and 0xff }
    return (0xff shl 24) or (red shl 16) or (green shl 8) or blue
}
