package org.retinaface.core

import java.nio.ByteBuffer

/**
 * One plane of a YUV_420_888 image.
 *
 * @property rowStride bytes from one row to the next, often more than the width.
 * @property pixelStride bytes from one sample to the next: 1 in planar images, 2 where U and V are interleaved.
 */
class YuvPlane(
    val bytes: ByteBuffer,
    val rowStride: Int,
    val pixelStride: Int,
)

/**
 * Turns YUV_420_888 images into upright BGR; keeps its row buffers, thus not for two threads at once.
 *
 * Full-range BT.601 (JFIF), which is what Android's camera gives, in 16-bit fixed point: within 1 of the exact value.
 */
class YuvConverter {
    private var luma = ByteArray(0)
    private var blue = ByteArray(0)
    private var red = ByteArray(0)

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
        reuse: BgrImage? = null,
    ): BgrImage {
        val turn = Turn(rotation, width, height)
        val out =
            reuse?.takeIf { it.width == turn.outWidth && it.height == turn.outHeight }
                ?: BgrImage(turn.outWidth, turn.outHeight)
        for (row in 0 until height) {
            luma = readRow(y, row, width, luma)
            if (row % 2 == 0) {
                blue = readRow(u, row / 2, (width + 1) / 2, blue)
                red = readRow(v, row / 2, (width + 1) / 2, red)
            }
            convertRow(width, y.pixelStride, u.pixelStride, v.pixelStride, out.data, turn.start(row), turn.stepX * 3)
        }
        return out
    }

    /** The bytes that hold [count] samples of a row; the last row of a plane may end right after its last sample. */
    private fun readRow(
        plane: YuvPlane,
        row: Int,
        count: Int,
        buffer: ByteArray,
    ): ByteArray {
        val length = (count - 1) * plane.pixelStride + 1
        val start = row * plane.rowStride
        require(start + length <= plane.bytes.limit()) {
            "plane has ${plane.bytes.limit()} bytes, row $row ends at ${start + length}"
        }
        val into = if (buffer.size < length) ByteArray(length) else buffer
        val bytes = plane.bytes.duplicate()
        bytes.position(start)
        bytes.get(into, 0, length)
        return into
    }

    private fun convertRow(
        width: Int,
        yStride: Int,
        uStride: Int,
        vStride: Int,
        data: ByteArray,
        start: Int,
        step: Int,
    ) {
        var to = start
        for (column in 0 until width) {
            val y = ((luma[column * yStride].toInt() and 0xff) shl 16) + (1 shl 15)
            val u = (blue[(column shr 1) * uStride].toInt() and 0xff) - 128
            val v = (red[(column shr 1) * vStride].toInt() and 0xff) - 128
            data[to] = clampToByte((y + 116130 * u) shr 16) // 1.772 · 65536
            data[to + 1] = clampToByte((y - 22554 * u - 46802 * v) shr 16) // 0.344136, 0.714136
            data[to + 2] = clampToByte((y + 91881 * v) shr 16) // 1.402
            to += step
        }
    }

    private fun clampToByte(value: Int): Byte = (if (value < 0) 0 else minOf(value, 255)).toByte()
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

    /** Byte offset of the first pixel of a row. */
    fun start(row: Int): Int = (origin + row * stepY) * 3
}
