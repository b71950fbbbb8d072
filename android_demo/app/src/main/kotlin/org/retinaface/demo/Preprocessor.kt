package org.retinaface.demo

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.media.Image
import android.net.Uri
import org.retinaface.core.BgrImage
import org.retinaface.core.Exif
import org.retinaface.core.YuvConverter
import org.retinaface.core.YuvPlane
import java.io.IOException

/** Turns what Android hands out into upright BGR pictures, and these into bitmaps. One thread at a time. */
internal class Preprocessor {
    private val converter = YuvConverter()
    private var frame: BgrImage? = null
    private var pixels = IntArray(0)

    /** A camera image, turned by [rotation] degrees; the result is overwritten by the next call. */
    fun fromCamera(
        image: Image,
        rotation: Int,
    ): BgrImage {
        val (y, u, v) = image.planes.map { YuvPlane(it.buffer, it.rowStride, it.pixelStride) }
        return converter.convert(y, u, v, image.width, image.height, rotation, frame).also { frame = it }
    }

    /**
     * A picked photo, upright, with sides of at most [MAX_SIDE] pixels.
     *
     * @throws IOException it cannot be read or is no picture.
     */
    fun fromPhoto(
        resolver: ContentResolver,
        uri: Uri,
    ): BgrImage {
        val bytes = resolver.openInputStream(uri)?.use { it.readBytes() } ?: throw IOException("it cannot be opened")
        val options = BitmapFactory.Options().apply { inJustDecodeBounds = true }
        BitmapFactory.decodeByteArray(bytes, 0, bytes.size, options)
        if (options.outWidth <= 0 || options.outHeight <= 0) throw IOException("it is no picture that Android reads")
        options.inJustDecodeBounds = false
        options.inPreferredConfig = Bitmap.Config.ARGB_8888
        options.inSampleSize = 1
        while (maxOf(options.outWidth, options.outHeight) / options.inSampleSize > MAX_SIDE) options.inSampleSize *= 2
        val bitmap = BitmapFactory.decodeByteArray(bytes, 0, bytes.size, options) ?: throw IOException("it is damaged")
        val argb = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(argb, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        val image = BgrImage.fromArgb(bitmap.width, bitmap.height, argb)
        bitmap.recycle()
        return Exif.upright(image, Exif.orientation(bytes))
    }

    /** A new bitmap: the screen may still draw the last one. */
    fun toBitmap(image: BgrImage): Bitmap {
        if (pixels.size != image.width * image.height) pixels = IntArray(image.width * image.height)
        image.toArgb(pixels)
        return Bitmap.createBitmap(pixels, image.width, image.height, Bitmap.Config.ARGB_8888)
    }

    private companion object {
        // Several times the network's input: more only costs memory.
        const val MAX_SIDE = 2048
    }
}
