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
 */
class Letterbox(
    val imageWidth: Int,
    val imageHeight: Int,
    val inputWidth: Int,
    val inputHeight: Int,
) {
    /** Letterboxed = scale · original. */
    val scale: Double = minOf(inputHeight.toDouble() / imageHeight, inputWidth.toDouble() / imageWidth)

    /** Size of the picture inside the input, in pixels. */
    val columns: Int = (imageWidth * scale + 0.5).toInt().coerceIn(1, inputWidth)
    val rows: Int = (imageHeight * scale + 0.5).toInt().coerceIn(1, inputHeight)

    private val halves = imageWidth == 2 * columns && imageHeight == 2 * rows
    private val across = Taps(columns, imageWidth, clampWeights = true)
    private val down = Taps(rows, imageHeight, clampWeights = false)
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
        for (row in 0 until rows) {
            val to = row * inputWidth * 3
            when {
                columns == imageWidth && rows == imageHeight -> {
                    image.data.copyInto(out.data, to, row * columns * 3, (row + 1) * columns * 3)
                }

                halves -> {
                    averageRow(image, row, out.data, to)
                }

                else -> {
                    bilinearRow(image, row, out.data, to)
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

    private fun averageRow(
        image: BgrImage,
        row: Int,
        data: ByteArray,
        to: Int,
    ) {
        val source = image.data
        val stride = imageWidth * 3
        for (column in 0 until columns) {
            for (channel in 0 until 3) {
                val from = 2 * row * stride + column * 6 + channel
                val above = (source[from].toInt() and 0xff) + (source[from + 3].toInt() and 0xff)
                val below = (source[from + stride].toInt() and 0xff) + (source[from + stride + 3].toInt() and 0xff)
                data[to + column * 3 + channel] = ((above + below + 2) shr 2).toByte()
            }
        }
    }

    private fun bilinearRow(
        image: BgrImage,
        row: Int,
        data: ByteArray,
        to: Int,
    ) {
        loadRows(image, down.first[row], down.second[row])
        val weight0 = down.weight0[row]
        val weight1 = down.weight1[row]
        for (i in 0 until columns * 3) {
            val sum = ((weight0 * (upper[i] shr 4)) shr 16) + ((weight1 * (lower[i] shr 4)) shr 16)
            data[to + i] = ((sum + 2) shr 2).toByte()
        }
    }

    /** Makes [upper] and [lower] the horizontally scaled source rows; neighbours share them, so most are there already. */
    private fun loadRows(
        image: BgrImage,
        first: Int,
        second: Int,
    ) {
        if (first == lowerRow) {
            upper = lower.also { lower = upper }
            upperRow = lowerRow.also { lowerRow = upperRow }
        }
        if (first != upperRow) scaleRow(image, first, upper)
        upperRow = first
        if (second != lowerRow) scaleRow(image, second, lower)
        lowerRow = second
    }

    private fun scaleRow(
        image: BgrImage,
        row: Int,
        into: IntArray,
    ) {
        val start = row * imageWidth * 3
        var to = 0
        for (column in 0 until columns) {
            val left = start + across.first[column] * 3
            val right = start + across.second[column] * 3
            val weight0 = across.weight0[column]
            val weight1 = across.weight1[column]
            for (channel in 0 until 3) {
                into[to++] = (image.data[left + channel].toInt() and 0xff) * weight0 +
                    (image.data[right + channel].toInt() and 0xff) * weight1
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
