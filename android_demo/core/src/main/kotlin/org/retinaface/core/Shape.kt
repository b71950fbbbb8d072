package org.retinaface.core

/** Height and width of a network's input in pixels. */
data class Shape(
    val height: Int,
    val width: Int,
)

private const val MULTIPLE = 32 // pixels: the coarsest stride
private const val SMALLEST = 64 // pixels per side

/**
 * The smallest rectangle of multiples of 32 that holds the letterboxed picture at the scale of [own] (twin of
 * `tflite/shapes.py`): the same faces without computing the empty part.
 *
 * @return one side is [own]'s, the other from 64 to [own]'s.
 */
fun autoShape(
    imageHeight: Int,
    imageWidth: Int,
    own: Shape,
): Shape =
    // Whole numbers: in floating point, 384.0000001 rows would need 416.
    if (own.height.toLong() * imageWidth <= own.width.toLong() * imageHeight) {
        Shape(own.height, upToMultiple(imageWidth.toLong() * own.height, imageHeight, own.width))
    } else {
        Shape(upToMultiple(imageHeight.toLong() * own.width, imageWidth, own.height), own.width)
    }

private fun upToMultiple(
    numerator: Long,
    denominator: Int,
    most: Int,
): Int {
    val step = denominator.toLong() * MULTIPLE
    val side = (numerator + step - 1) / step * MULTIPLE
    return minOf(maxOf(side, SMALLEST.toLong()), most.toLong()).toInt()
}
