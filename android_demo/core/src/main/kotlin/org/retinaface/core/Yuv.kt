package org.retinaface.core

import java.nio.ByteBuffer

/**
 * One plane of a YUV_420_888 image.
 *
 * @property rowStride bytes from one row to the next, often more than the width.
 * @property pixelStride bytes from one sample to the next: 1 in planar images, 2 where U and V are interleaved.
 * @property start byte of the first sample: not 0 where a film's frames are cut out of larger ones.
 */
class YuvPlane(
    val bytes: ByteBuffer,
    val rowStride: Int,
    val pixelStride: Int,
    val start: Int = 0,
)

/**
 * Turns YUV_420_888 images into upright ones; keeps its row buffers, thus not for two threads at once.
 *
 * Full-range BT.601 (JFIF), which is what Android's camera gives, in 16-bit fixed point: within 1 of the exact value.
 */
class YuvConverter {
    private var luma = ByteArray(0)
    private var blue = ByteArray(0)
    private var red = ByteArray(0)

    // What a chroma sample adds to the luma of its four pixels, per channel, with half a unit for rounding.
    private var toRed = IntArray(0)
    private var toGreen = IntArray(0)
    private var toBlue = IntArray(0)

    /**
     * Converts and turns one image.
     *
     * @param width of the sensor image in pixels, as is [height]; chroma planes have half of each, rounded up.
     * @param rotation clockwise degrees: 0, 90, 180 or 270.
     * @param reuse written to and returned when it has the right size, else a new image is made.
     * @throws IllegalArgumentException another rotation, or a plane too short for the size.
     */
    fun convert(
        y: YuvPlane,
        u: YuvPlane,
        v: YuvPlane,
        width: Int,
        height: Int,
        rotation: Int,
        reuse: ArgbImage? = null,
    ): ArgbImage {
        val turn = Turn(rotation, width, height)
        val out =
            reuse?.takeIf { it.width == turn.outWidth && it.height == turn.outHeight }
                ?: ArgbImage(turn.outWidth, turn.outHeight)
        val (lumaRows, blueRows, redRows) = listOf(y, u, v).map(::Rows)
        val half = (width + 1) / 2
        for (row in 0 until height) {
            luma = lumaRows.read(row, width, luma)
            if (row % 2 == 0) {
                blue = blueRows.read(row / 2, half, blue)
                red = redRows.read(row / 2, half, red)
                prepareChroma(half, u.pixelStride, v.pixelStride)
            }
            convertRow(width, y.pixelStride, out.pixels, turn.start(row), turn.stepX)
        }
        return out
    }

    /** A plane's rows one by one, with a position of its own. */
    private class Rows(
        private val plane: YuvPlane,
    ) {
        private val bytes = plane.bytes.duplicate()

        /** The bytes that hold [count] samples; the last row of a plane may end right after its last sample. */
        fun read(
            row: Int,
            count: Int,
            buffer: ByteArray,
        ): ByteArray {
            val length = (count - 1) * plane.pixelStride + 1
            val from = plane.start + row * plane.rowStride
            require(from + length <= bytes.limit()) {
                "plane has ${bytes.limit()} bytes, row $row ends at ${from + length}"
            }
            val into = if (buffer.size < length) ByteArray(length) else buffer
            bytes.position(from)
            bytes.get(into, 0, length)
            return into
        }
    }

    private fun prepareChroma(
        count: Int,
        uStride: Int,
        vStride: Int,
    ) {
        if (toRed.size < count) {
            toRed = IntArray(count)
            toGreen = IntArray(count)
            toBlue = IntArray(count)
        }
        for (i in 0 until count) {
            val u = (blue[i * uStride].toInt() and 0xff) - 128
            val v = (red[i * vStride].toInt() and 0xff) - 128
            toRed[i] = HALF + 91881 * v // 1.402 · 65536
            toGreen[i] = HALF - 22554 * u - 46802 * v // 0.344136, 0.714136
            toBlue[i] = HALF + 116130 * u // 1.772
        }
    }

    private fun convertRow(
        width: Int,
        stride: Int,
        pixels: IntArray,
        start: Int,
        step: Int,
    ) {
        val luma = luma
        val toRed = toRed
        val toGreen = toGreen
        val toBlue = toBlue
        var to = start
        for (column in 0 until width) {
            val y = (luma[column * stride].toInt() and 0xff) shl 16
            val i = column shr 1
            pixels[to] = OPAQUE or (clamped(y + toRed[i]) shl 16) or (clamped(y + toGreen[i]) shl 8) or
                clamped(y + toBlue[i])
            to += step
        }
    }

    private fun clamped(value: Int): Int = minOf(maxOf(value shr 16, 0), 255)

    private companion object {
        const val OPAQUE = 0xff shl 24
        const val HALF = 1 shl 15
    }
}

/** Where the pixels of a picture go when it is turned: index = origin + x·stepX + y·stepY. */
private class Turn(
    rotation: Int,
    width: Int,
    height: Int,
) {
    val outWidth = if (rotation % 180 == 0) width else height
    val outHeight = if (rotation % 180 == 0) height else width
    val stepX: Int
    private val stepY: Int
    private val origin: Int

    init {
        when (rotation) {
            0 -> {
                stepX = 1
                stepY = outWidth
                origin = 0
            }

            90 -> {
                stepX = outWidth
                stepY = -1
                origin = outWidth - 1
            }

            180 -> {
                stepX = -1
                stepY = -outWidth
                origin = outWidth * outHeight - 1
            }

            270 -> {
                stepX = -outWidth
                stepY = 1
                origin = outWidth * (outHeight - 1)
            }

            else -> {
                throw IllegalArgumentException("rotation is $rotation, expected 0, 90, 180 or 270")
            }
        }
    }

    /** Index of the first pixel of a row. */
    fun start(row: Int): Int = origin + row * stepY
}
