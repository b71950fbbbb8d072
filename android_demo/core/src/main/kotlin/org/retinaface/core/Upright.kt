package org.retinaface.core

/** Side of the squares that a picture is turned in: whole columns would miss the processor's cache at every pixel. */
private const val TILE = 32

/**
 * [image] as a viewer shows it; the same object for orientation 1 and for what is none.
 *
 * @param orientation EXIF's, 1-8: 2 mirrored, 3 upside down, 4 both, 5-8 turned by a quarter as well.
 */
fun upright(
    image: ArgbImage,
    orientation: Int,
): ArgbImage {
    val columns = image.width
    val rows = image.height
    val last = columns * rows - 1
    // Upright pixel (x, y) was stored at first + x·stepX + y·stepY: the definition of the eight orientations.
    return when (orientation) {
        2 -> turned(image, columns, rows, columns - 1, -1, columns)
        3 -> turned(image, columns, rows, last, -1, -columns)
        4 -> turned(image, columns, rows, last - columns + 1, 1, -columns)
        5 -> turned(image, rows, columns, 0, columns, 1)
        6 -> turned(image, rows, columns, last - columns + 1, -columns, 1)
        7 -> turned(image, rows, columns, last, -columns, -1)
        8 -> turned(image, rows, columns, columns - 1, columns, -1)
        else -> image
    }
}

private fun turned(
    image: ArgbImage,
    width: Int,
    height: Int,
    first: Int,
    stepX: Int,
    stepY: Int,
): ArgbImage {
    val out = ArgbImage(width, height)
    for (top in 0 until height step TILE) {
        for (left in 0 until width step TILE) {
            val right = minOf(left + TILE, width)
            for (y in top until minOf(top + TILE, height)) {
                val from = first + left * stepX + y * stepY
                copyStrip(image.pixels, from, stepX, out.pixels, y * width + left, right - left)
            }
        }
    }
    return out
}

private fun copyStrip(
    source: IntArray,
    start: Int,
    step: Int,
    target: IntArray,
    to: Int,
    count: Int,
) {
    var from = start
    for (i in to until to + count) {
        target[i] = source[from]
        from += step
    }
}
