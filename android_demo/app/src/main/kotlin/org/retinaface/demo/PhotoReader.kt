package org.retinaface.demo

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.media.ExifInterface
import android.net.Uri
import org.retinaface.core.ArgbImage
import org.retinaface.core.upright
import java.io.IOException

/** Reads picked photos, straight from their files and no larger than needed. */
internal class PhotoReader(
    private val resolver: ContentResolver,
) {
    /**
     * A photo, upright, with sides of at most [MAX_SIDE] pixels.
     *
     * @throws IOException it cannot be read or is no picture.
     * @throws SecurityException the permission to read it has ended.
     */
    fun read(uri: Uri): ArgbImage {
        val options = BitmapFactory.Options().apply { inJustDecodeBounds = true }
        decode(uri, options)
        if (options.outWidth <= 0 || options.outHeight <= 0) throw IOException("it is no picture that Android reads")
        options.inJustDecodeBounds = false
        options.inPreferredConfig = Bitmap.Config.ARGB_8888
        options.inSampleSize = 1
        while (maxOf(options.outWidth, options.outHeight) / options.inSampleSize > MAX_SIDE) options.inSampleSize *= 2
        val bitmap = decode(uri, options) ?: throw IOException("it is damaged")
        val image = pixelsOf(bitmap)
        bitmap.recycle()
        return upright(image, orientation(uri))
    }

    private fun decode(
        uri: Uri,
        options: BitmapFactory.Options,
    ): Bitmap? {
        val file = resolver.openFileDescriptor(uri, "r") ?: throw IOException("it cannot be opened")
        return file.use { BitmapFactory.decodeFileDescriptor(it.fileDescriptor, null, options) }
    }

    /** EXIF's orientation: of JPEG, from Android 9 on of HEIC, from 11 on of PNG and WebP; 1 where there is none. */
    private fun orientation(uri: Uri): Int =
        try {
            val stream = resolver.openInputStream(uri)
            stream?.use { ExifInterface(it).getAttributeInt(ExifInterface.TAG_ORIENTATION, UPRIGHT) } ?: UPRIGHT
        } catch (_: IOException) {
            UPRIGHT // a format without EXIF, or damaged: the pixels were fine
        }

    private companion object {
        // Several times the network's input: more only costs memory.
        const val MAX_SIDE = 2048
        const val UPRIGHT = ExifInterface.ORIENTATION_NORMAL
    }
}

/** A copy of a bitmap's pixels. */
internal fun pixelsOf(bitmap: Bitmap): ArgbImage {
    val image = ArgbImage(bitmap.width, bitmap.height)
    bitmap.getPixels(image.pixels, 0, image.width, 0, 0, image.width, image.height)
    return image
}
