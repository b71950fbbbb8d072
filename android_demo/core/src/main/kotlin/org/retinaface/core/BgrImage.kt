package org.retinaface.core

/**
 * A picture as the network wants it: interleaved B, G, R bytes, rows top to bottom without padding.
 *
 * @property data `width · height · 3` bytes; reused from frame to frame by callers that own it.
 * @throws IllegalArgumentException a side is not positive, or [data] has another length.
 */
class BgrImage(
    val width: Int,
    val height: Int,
    val data: ByteArray = ByteArray(width * height * 3),
) {
    init {
        require(width > 0 && height > 0) { "image is $width×$height pixels, expected at least 1×1" }
        require(data.size == width * height * 3) {
            "image of $width×$height needs ${width * height * 3} bytes, found ${data.size}"
        }
    }

    /** Writes opaque 0xAARRGGBB pixels, row by row, into [pixels], which has `width · height` of them. */
    fun toArgb(pixels: IntArray) {
        require(pixels.size == width * height) { "found room for ${pixels.size} pixels, expected ${width * height}" }
        for (i in pixels.indices) {
            val blue = data[i * 3].toInt() and 0xff
            val green = data[i * 3 + 1].toInt() and 0xff
            val red = data[i * 3 + 2].toInt() and 0xff
            pixels[i] = (0xff shl 24) or (red shl 16) or (green shl 8) or blue
        }
    }

    companion object {
        /** From 0xAARRGGBB pixels, row by row (Android's `Bitmap.getPixels`, java.awt's `getRGB`); alpha is ignored. */
        fun fromArgb(
            width: Int,
            height: Int,
            pixels: IntArray,
        ): BgrImage {
            val image = BgrImage(width, height)
            var at = 0
            for (i in 0 until width * height) {
                val pixel = pixels[i]
                image.data[at++] = pixel.toByte()
                image.data[at++] = (pixel shr 8).toByte()
                image.data[at++] = (pixel shr 16).toByte()
            }
            return image
        }
    }
}
