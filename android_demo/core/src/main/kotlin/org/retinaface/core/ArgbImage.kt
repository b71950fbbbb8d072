package org.retinaface.core

/**
 * A picture as Android hands it out and shows it: 0xAARRGGBB numbers, rows top to bottom without padding.
 *
 * @property pixels `width · height` of them; alpha is ignored. Reused from frame to frame by callers that own it.
 * @throws IllegalArgumentException a side is not positive, or [pixels] has another length.
 */
class ArgbImage(
    val width: Int,
    val height: Int,
    val pixels: IntArray = IntArray(width * height),
) {
    init {
        require(width > 0 && height > 0) { "image is $width×$height pixels, expected at least 1×1" }
        require(pixels.size == width * height) {
            "image of $width×$height needs ${width * height} pixels, found ${pixels.size}"
        }
    }
}
