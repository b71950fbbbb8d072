package org.retinaface.core

/** JPEG orientation, read here because Android's ExifInterface for streams is newer than the API this is checked against. */
object Exif {
    private const val ORIENTATION_TAG = 0x0112
    private val HEADER = byteArrayOf('E'.code.toByte(), 'x'.code.toByte(), 'i'.code.toByte(), 'f'.code.toByte(), 0, 0)

    /**
     * The EXIF orientation of a JPEG, 1-8; 1 (upright) when there is none, it is damaged, or this is no JPEG.
     *
     * @param start the file's beginning; 128 KiB hold every EXIF block that comes first.
     */
    fun orientation(start: ByteArray): Int {
        var at = 2
        if (start.size < 4 || u16(start, 0, bigEndian = true) != 0xffd8) return 1
        while (at + 4 <= start.size) {
            val marker = u16(start, at, bigEndian = true)
            val length = u16(start, at + 2, bigEndian = true)
            if (marker == 0xffe1 && hasHeader(start, at + 4)) {
                return inTiff(start.copyOfRange(minOf(at + 10, start.size), minOf(at + 2 + length, start.size)))
            }
            if (marker !in 0xffe0..0xffef && marker != 0xfffe) return 1
            at += 2 + length
        }
        return 1
    }

    private fun hasHeader(
        bytes: ByteArray,
        at: Int,
    ): Boolean = at + HEADER.size <= bytes.size && HEADER.indices.all { bytes[at + it] == HEADER[it] }

    private fun inTiff(tiff: ByteArray): Int {
        if (tiff.size < 8) return 1
        val bigEndian = tiff[0] == 'M'.code.toByte()
        val directory = u32(tiff, 4, bigEndian)
        if (directory < 8 || directory + 2 > tiff.size) return 1
        for (entry in 0 until u16(tiff, directory.toInt(), bigEndian)) {
            val at = directory.toInt() + 2 + entry * 12
            if (at + 12 > tiff.size) return 1
            if (u16(tiff, at, bigEndian) == ORIENTATION_TAG) {
                return u16(tiff, at + 8, bigEndian).takeIf { it in 1..8 } ?: 1
            }
        }
        return 1
    }

    private fun u16(
        bytes: ByteArray,
        at: Int,
        bigEndian: Boolean,
    ): Int {
        val first = bytes[at].toInt() and 0xff
        val second = bytes[at + 1].toInt() and 0xff
        return if (bigEndian) (first shl 8) or second else (second shl 8) or first
    }

    private fun u32(
        bytes: ByteArray,
        at: Int,
        bigEndian: Boolean,
    ): Long {
        val first = u16(bytes, at, bigEndian).toLong()
        val second = u16(bytes, at + 2, bigEndian).toLong()
        return if (bigEndian) (first shl 16) or second else (second shl 16) or first
    }

    /** [image] as a viewer shows it, given its EXIF [orientation]; the same object for 1. */
    fun upright(
        image: BgrImage,
        orientation: Int,
    ): BgrImage {
        if (orientation !in 2..8) return image
        val swapped = orientation >= 5
        val width = if (swapped) image.height else image.width
        val height = if (swapped) image.width else image.height
        val out = BgrImage(width, height)
        for (y in 0 until height) {
            for (x in 0 until width) {
                val flippedX = width - 1 - x
                val flippedY = height - 1 - y
                // Where upright pixel (x, y) was stored: the definition of the eight orientations.
                val (sourceX, sourceY) =
                    when (orientation) {
                        2 -> flippedX to y
                        3 -> flippedX to flippedY
                        4 -> x to flippedY
                        5 -> y to x
                        6 -> y to flippedX
                        7 -> flippedY to flippedX
                        else -> flippedY to x
                    }
                val from = (sourceY * image.width + sourceX) * 3
                image.data.copyInto(out.data, (y * width + x) * 3, from, from + 3)
            }
        }
        return out
    }
}
