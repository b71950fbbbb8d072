package org.retinaface.core

private const val BLOCKS = 6 // across a face's longer side: too few to know somebody by
private const val MARGIN = 0.15f // of a side, on each side: hair and chin stand out of the box

/** Replaces each face of [image], and a margin around it, by a few squares of their mean colour, in place. */
fun pixelate(
    image: ArgbImage,
    faces: List<Face>,
) {
    for (face in faces) {
        val marginX = (face.x2 - face.x1) * MARGIN
        val marginY = (face.y2 - face.y1) * MARGIN
        val left = (face.x1 - marginX).toInt().coerceIn(0, image.width)
        val right = Math.ceil((face.x2 + marginX).toDouble()).toInt().coerceIn(0, image.width)
        val top = (face.y1 - marginY).toInt().coerceIn(0, image.height)
        val bottom = Math.ceil((face.y2 + marginY).toDouble()).toInt().coerceIn(0, image.height)
        val side = maxOf((maxOf(right - left, bottom - top) + BLOCKS - 1) / BLOCKS, 1)
        for (y in top until bottom step side) {
            for (x in left until right step side) {
                fillWithMean(image, x, y, minOf(x + side, right), minOf(y + side, bottom))
            }
        }
    }
}

private fun fillWithMean(
    image: ArgbImage,
    left: Int,
    top: Int,
    right: Int,
    bottom: Int,
) {
    var red = 0L
    var green = 0L
    var blue = 0L
    for (y in top until bottom) {
        for (i in y * image.width + left until y * image.width + right) {
            val pixel = image.pixels[i]
            red += (pixel shr 16) and 0xff
            green += (pixel shr 8) and 0xff
            blue += pixel and 0xff
        }
    }
    val count = (right - left).toLong() * (bottom - top)
    val (r, g, b) = listOf(red, green, blue).map { (it / count).toInt() }
    val mean = (0xff shl 24) or (r shl 16) or (g shl 8) or b
    for (y in top until bottom) image.pixels.fill(mean, y * image.width + left, y * image.width + right)
}
