package org.retinaface.core

/** Height and width of a network's input in pixels. */
data class Shape(
    val height: Int,
    val width: Int,
)

private const val MULTIPLE = 32 // pixels: the coarsest stride
private val PARTS = listOf(3 to 5, 7 to 10, 3 to 4, 1 to 1) // of a side, that it may be shortened to

/**
 * The smallest of a model's shapes that holds the letterboxed picture at the scale of [own] (twin of
 * `tflite/shapes.py`): the same faces without computing the empty part.
 *
 * @return one side is [own]'s, the other 3/5, 7/10, 3/4 or all of [own]'s, up to a multiple of 32.
 */
fun autoShape(
    imageHeight: Int,
    imageWidth: Int,
    own: Shape,
): Shape =
    // Whole numbers: in floating point, 384 rows could come out as 384.0000001 and take 480.
    if (own.height.toLong() * imageWidth <= own.width.toLong() * imageHeight) {
        Shape(own.height, shortened(own.width, imageWidth.toLong() * own.height, imageHeight))
    } else {
        Shape(shortened(own.height, imageHeight.toLong() * own.width, imageWidth), own.width)
    }

/** The shortest form of [side] that is at least [numerator] / [denominator]. */
private fun shortened(
    side: Int,
    numerator: Long,
    denominator: Int,
): Int =
    PARTS
        .map { (part, whole) -> (side * part + whole * MULTIPLE - 1) / (whole * MULTIPLE) * MULTIPLE }
        .first { it.toLong() * denominator >= numerator }
