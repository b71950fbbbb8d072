package org.retinaface.core

/**
 * Scales pictures of one size into the network's input: aligned to the top left, bilinear, the rest filled with the mean.
 *
 * Computes what OpenCV's `resize` with `INTER_LINEAR` computes on 8-bit images (11-bit coefficients; halving exactly
 * means averaging 2×2), so that Python and Kotlin feed the network the same bytes. Holds its row buffers, thus not for
 * two threads at once.
 *
 * @param imageWidth of the picture in pixels, as is [imageHeight].
 * @param inputWidth of the network's input in pixels, as is [inputHeight].
 * @param antialias halve the picture (means of 2×2 pixels, halves up) while it is at least twice as large as it will be:
 *   bilinear interpolation skips pixels then, and small faces with them. An odd last row or column is dropped.
 */
class Letterbox(
    val imageWidth: Int,
    val imageHeight: Int,
    val inputWidth: Int,
    val inputHeight: Int,
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
    private val shrunk = if (halvings > 0) ByteArray((imageWidth / 2) * (imageHeight / 2) * 3) else null
    private val halves = sourceWidth == 2 * columns && sourceHeight == 2 * rows
    private val across = Taps(columns, sourceWidth, clampWeights = true)
    private val down = Taps(rows, sourceHeight, clampWeights = false)
    private var upper = IntArray(columns * 3)
    private var lower = IntArray(columns * 3)
    private var upperRow = -1
    private var lowerRow = -1

    /**
     * Fills [out], which has the size of the input.
     *
     * @param fill B, G, R of the border.
     */
    fun apply(
        image: BgrImage,
        fill: ByteArray,
        out: BgrImage,
    ) {
        require(image.width == imageWidth && image.height == imageHeight) {
            "letterbox is for $imageWidth×$imageHeight pixels, the image has ${image.width}×${image.height}"
        }
        require(out.width == inputWidth && out.height == inputHeight) {
            "letterbox fills $inputWidth×$inputHeight pixels, found ${out.width}×${out.height}"
        }
        upperRow = -1
        lowerRow = -1
        val source = shrink(image)
        for (row in 0 until rows) {
            val to = row * inputWidth * 3
            when {
                columns == sourceWidth && rows == sourceHeight -> {
                    source.copyInto(out.data, to, row * columns * 3, (row + 1) * columns * 3)
                }

                halves -> {
                    averageRow(source, sourceWidth, row, out.data, to, columns)
                }

                else -> {
                    bilinearRow(source, row, out.data, to)
                }
            }
            fillPixels(out.data, to + columns * 3, inputWidth - columns, fill)
        }
        fillPixels(out.data, rows * inputWidth * 3, (inputHeight - rows) * inputWidth, fill)
    }

    private fun fillPixels(
        data: ByteArray,
        from: Int,
        count: Int,
        fill: ByteArray,
    ) {
        var to = from
        repeat(count) {
            for (channel in 0 until 3) data[to++] = fill[channel]
        }
    }

    private fun countHalvings(): Int {
        var count = 0
        while (imageWidth shr count >= 2 * columns && imageHeight shr count >= 2 * rows) count++
        return count
    }

    /** The pixels of [image] after the halvings: its own, or [shrunk], which each further halving writes over. */
    private fun shrink(image: BgrImage): ByteArray {
        var source = image.data
        var width = imageWidth
        var height = imageHeight
        val into = shrunk ?: return source
        repeat(halvings) {
            for (row in 0 until height / 2) averageRow(source, width, row, into, row * (width / 2) * 3, width / 2)
            source = into
            width /= 2
            height /= 2
        }
        return source
    }

    /**
     * Means of 2×2 pixels, [count] of them, of rows 2·[row] and the next of a picture [width] pixels wide.
     *
     * [data] may be [source] and [to] the place of row [row] after the halving: what is written lies before what is still
     * to be read.
     */
    private fun averageRow(
        source: ByteArray,
        width: Int,
        row: Int,
        data: ByteArray,
        to: Int,
        count: Int,
    ) {
        val stride = width * 3
        for (column in 0 until count) {
            for (channel in 0 until 3) {
                val from = 2 * row * stride + column * 6 + channel
                val above = (source[from].toInt() and 0xff) + (source[from + 3].toInt() and 0xff)
                val below = (source[from + stride].toInt() and 0xff) + (source[from + stride + 3].toInt() and 0xff)
                data[to + column * 3 + channel] = ((above + below + 2) shr 2).toByte()
            }
        }
    }

    private fun bilinearRow(
        source: ByteArray,
        row: Int,
        data: ByteArray,
        to: Int,
    ) {
        loadRows(source, down.first[row], down.second[row])
        val weight0 = down.weight0[row]
        val weight1 = down.weight1[row]
        for (i in 0 until columns * 3) {
            val sum = ((weight0 * (upper[i] shr 4)) shr 16) + ((weight1 * (lower[i] shr 4)) shr 16)
            data[to + i] = ((sum + 2) shr 2).toByte()
        }
    }

    /** Makes [upper] and [lower] the horizontally scaled source rows; neighbours share them, so most are there already. */
    private fun loadRows(
        source: ByteArray,
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
        source: ByteArray,
        row: Int,
        into: IntArray,
    ) {
        val start = row * sourceWidth * 3
        var to = 0
        for (column in 0 until columns) {
            val left = start + across.first[column] * 3
            val right = start + across.second[column] * 3
            val weight0 = across.weight0[column]
            val weight1 = across.weight1[column]
            for (channel in 0 until 3) {
                into[to++] = (source[left + channel].toInt() and 0xff) * weight0 +
                    (source[right + channel].toInt() and 0xff) * weight1
            }
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
    }
}
