package org.retinaface.core

import java.nio.ByteBuffer

/**
 * Scales pictures of one size into the network's input: aligned to the top left, bilinear, the rest filled with the mean.
 *
 * Computes what OpenCV's `resize` with `INTER_LINEAR` computes on 8-bit images (11-bit coefficients; halving exactly
 * means averaging 2×2), so that Python and Kotlin feed the network the same bytes. Holds its row buffers, thus not for
 * two threads at once.
 *
 * @param imageWidth of the picture in pixels, as is [imageHeight].
 * @param inputWidth of the network's input in pixels, as is [inputHeight].
 * @param fill pixel of the border.
 * @param antialias halve the picture (means of 2×2 pixels, halves up) while it is at least twice as large as it will be:
 *   bilinear interpolation skips pixels then, and small faces with them. An odd last row or column is dropped.
 */
class Letterbox(
    val imageWidth: Int,
    val imageHeight: Int,
    val inputWidth: Int,
    val inputHeight: Int,
    fill: Int,
    antialias: Boolean = false,
) {
    /** Letterboxed = scale · original. */
    val scale: Double = minOf(inputHeight.toDouble() / imageHeight, inputWidth.toDouble() / imageWidth)

    /** Size of the picture inside the input, in pixels. */
    val columns: Int = (imageWidth * scale + 0.5).toInt().coerceIn(1, inputWidth)
    val rows: Int = (imageHeight * scale + 0.5).toInt().coerceIn(1, inputHeight)

    private val halvings = if (antialias) countHalvings() else 0
    private val sourceWidth = imageWidth shr halvings
    private val sourceHeight = imageHeight shr halvings
    private val shrunk = if (halvings > 0) IntArray((imageWidth / 2) * (imageHeight / 2)) else null
    private val halves = sourceWidth == 2 * columns && sourceHeight == 2 * rows
    private val across = Taps(columns, sourceWidth, clampWeights = true)
    private val down = Taps(rows, sourceHeight, clampWeights = false)
    private val line = IntArray(inputWidth)
    private val border = IntArray(inputWidth) { fill }
    private var upper = IntArray(columns * 3)
    private var lower = IntArray(columns * 3)
    private var upperRow = -1
    private var lowerRow = -1

    /**
     * Writes the network's input for [image] into [out], which is then at position 0: scaled, looked up and padded in
     * one pass over the target.
     *
     * @param out of `table.allocate` for the input's shape.
     * @throws IllegalArgumentException the image or the buffer has another size.
     */
    fun write(
        image: ArgbImage,
        table: InputTable,
        out: ByteBuffer,
    ) {
        require(image.width == imageWidth && image.height == imageHeight) {
            "letterbox is for $imageWidth×$imageHeight pixels, the image has ${image.width}×${image.height}"
        }
        out.clear()
        upperRow = -1
        lowerRow = -1
        val source = shrink(image)
        for (row in 0 until rows) {
            if (columns == sourceWidth && rows == sourceHeight) {
                table.write(source, row * columns, columns, out)
            } else {
                if (halves) halveRow(source, sourceWidth, row, line, 0, columns) else bilinearRow(source, row)
                table.write(line, 0, columns, out)
            }
            table.write(border, 0, inputWidth - columns, out)
        }
        for (row in rows until inputHeight) table.write(border, 0, inputWidth, out)
        require(!out.hasRemaining()) { "the input has ${out.limit()} bytes, ${out.position()} were written" }
        out.clear()
    }

    private fun countHalvings(): Int {
        var count = 0
        while (imageWidth shr count >= 2 * columns && imageHeight shr count >= 2 * rows) count++
        return count
    }

    /** The pixels of [image] after the halvings: its own, or [shrunk], which each further halving writes over. */
    private fun shrink(image: ArgbImage): IntArray {
        var source = image.pixels
        var width = imageWidth
        var height = imageHeight
        val into = shrunk ?: return source
        repeat(halvings) {
            for (row in 0 until height / 2) halveRow(source, width, row, into, row * (width / 2), width / 2)
            source = into
            width /= 2
            height /= 2
        }
        return source
    }

    /**
     * Means of 2×2 pixels, [count] of them, of rows 2·[row] and the next of a picture [width] pixels wide.
     *
     * [target] may be [source] and [to] the place of row [row] after the halving: what is written lies before what is
     * still to be read. Red and blue are added in one number, each in 16 bits of it.
     */
    private fun halveRow(
        source: IntArray,
        width: Int,
        row: Int,
        target: IntArray,
        to: Int,
        count: Int,
    ) {
        var from = 2 * row * width
        for (i in to until to + count) {
            val a = source[from]
            val b = source[from + 1]
            val c = source[from + width]
            val d = source[from + width + 1]
            val redBlue = (a and RED_BLUE) + (b and RED_BLUE) + (c and RED_BLUE) + (d and RED_BLUE) + 0x20002
            val green = (a and GREEN) + (b and GREEN) + (c and GREEN) + (d and GREEN) + 0x200
            target[i] = OPAQUE or ((redBlue shr 2) and RED_BLUE) or ((green shr 2) and GREEN)
            from += 2
        }
    }

    /** Row [row] of the scaled picture, into [line]. */
    private fun bilinearRow(
        source: IntArray,
        row: Int,
    ) {
        loadRows(source, down.first[row], down.second[row])
        val above = upper
        val below = lower
        val weight0 = down.weight0[row]
        val weight1 = down.weight1[row]
        var from = 0
        for (column in 0 until columns) {
            val blue = mixed(above[from], weight0, below[from], weight1)
            val green = mixed(above[from + 1], weight0, below[from + 1], weight1)
            val red = mixed(above[from + 2], weight0, below[from + 2], weight1)
            line[column] = OPAQUE or (red shl 16) or (green shl 8) or blue
            from += 3
        }
    }

    private fun mixed(
        above: Int,
        weight0: Int,
        below: Int,
        weight1: Int,
    ): Int = (((weight0 * (above shr 4)) shr 16) + ((weight1 * (below shr 4)) shr 16) + 2) shr 2

    /** Makes [upper] and [lower] the horizontally scaled source rows; neighbours share them, so most are there already. */
    private fun loadRows(
        source: IntArray,
        first: Int,
        second: Int,
    ) {
        if (first == lowerRow) {
            upper = lower.also { lower = upper }
            upperRow = lowerRow.also { lowerRow = upperRow }
        }
        if (first != upperRow) scaleRow(source, first, upper)
        upperRow = first
        if (second != lowerRow) scaleRow(source, second, lower)
        lowerRow = second
    }

    private fun scaleRow(
        source: IntArray,
        row: Int,
        into: IntArray,
    ) {
        val start = row * sourceWidth
        var to = 0
        for (column in 0 until columns) {
            val left = source[start + across.first[column]]
            val right = source[start + across.second[column]]
            val weight0 = across.weight0[column]
            val weight1 = across.weight1[column]
            into[to] = (left and 0xff) * weight0 + (right and 0xff) * weight1
            into[to + 1] = ((left shr 8) and 0xff) * weight0 + ((right shr 8) and 0xff) * weight1
            into[to + 2] = ((left shr 16) and 0xff) * weight0 + ((right shr 16) and 0xff) * weight1
            to += 3
        }
    }

    /** For each target position the two source positions and their weights, in 1/2048. */
    private class Taps(
        targetSize: Int,
        sourceSize: Int,
        clampWeights: Boolean,
    ) {
        val first = IntArray(targetSize)
        val second = IntArray(targetSize)
        val weight0 = IntArray(targetSize)
        val weight1 = IntArray(targetSize)

        init {
            val step = 1.0 / (targetSize.toDouble() / sourceSize)
            for (i in 0 until targetSize) {
                val position = ((i + 0.5) * step - 0.5).toFloat()
                var index = Math.floor(position.toDouble()).toInt()
                var fraction = position - index
                // OpenCV moves positions beyond the border to it across, but only clamps the rows down.
                if (clampWeights && (index < 0 || index >= sourceSize - 1)) {
                    index = index.coerceIn(0, sourceSize - 1)
                    fraction = 0f
                }
                first[i] = index.coerceIn(0, sourceSize - 1)
                second[i] = (index + 1).coerceIn(0, sourceSize - 1)
                weight0[i] = Math.rint(((1f - fraction) * ONE).toDouble()).toInt()
                weight1[i] = Math.rint((fraction * ONE).toDouble()).toInt()
            }
        }
    }

    private companion object {
        const val ONE = 2048f
        const val OPAQUE = 0xff shl 24
        const val RED_BLUE = 0xff00ff
        const val GREEN = 0x00ff00
    }
}
