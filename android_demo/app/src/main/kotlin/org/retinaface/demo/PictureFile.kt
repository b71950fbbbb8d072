package org.retinaface.demo

import android.content.ContentProvider
import android.content.ContentValues
import android.content.Context
import android.database.Cursor
import android.database.MatrixCursor
import android.graphics.Bitmap
import android.graphics.Canvas
import android.net.Uri
import android.os.ParcelFileDescriptor
import android.provider.OpenableColumns
import org.retinaface.core.ViewTransform
import org.retinaface.core.marks
import org.retinaface.core.pixelate
import java.io.File
import java.io.FileNotFoundException
import java.io.IOException

/** The picture on the screen as a file, to be saved or shared. */
internal object PictureFile {
    const val TYPE = "image/jpeg"
    private const val QUALITY = 92
    private const val MARK_UNIT = 640f // pixels of a picture's longer side at which marks have their usual size

    /** The one file; another app reads it through [PictureProvider]. */
    fun of(context: Context): File = File(context.cacheDir, "picture.jpg")

    /** Its address for other apps. */
    fun address(): Uri = Uri.parse("content://${PictureProvider.AUTHORITY}/picture.jpg")

    /** A copy of the picture with boxes and landmarks, or with its faces made unrecognizable. */
    fun render(
        shown: Shown,
        blurred: Boolean,
    ): Bitmap {
        val copy = shown.bitmap.copy(Bitmap.Config.ARGB_8888, true)
        if (blurred) {
            val image = pixelsOf(copy)
            pixelate(image, shown.faces)
            copy.setPixels(image.pixels, 0, image.width, 0, 0, image.width, image.height)
        } else {
            val transform = ViewTransform(copy.width, copy.height, copy.width, copy.height)
            val canvas = Canvas(copy)
            val painter = MarkPainter()
            val density = maxOf(copy.width, copy.height) / MARK_UNIT
            marks(shown.faces, transform, density).forEach { painter.draw(canvas, it) }
        }
        return copy
    }

    /**
     * Writes a JPEG.
     *
     * @throws IOException no space, or the encoder fails.
     */
    fun write(
        picture: Bitmap,
        file: File,
    ) {
        val done = file.outputStream().use { picture.compress(Bitmap.CompressFormat.JPEG, QUALITY, it) }
        if (!done) throw IOException("it cannot be encoded")
    }
}

/** Gives the one picture to the app that the user shares it with, which must have been granted its address. */
internal class PictureProvider : ContentProvider() {
    override fun onCreate(): Boolean = true

    override fun getType(uri: Uri): String = PictureFile.TYPE

    override fun openFile(
        uri: Uri,
        mode: String,
    ): ParcelFileDescriptor {
        if (mode != "r") throw FileNotFoundException("$uri can be read only")
        return ParcelFileDescriptor.open(file(), ParcelFileDescriptor.MODE_READ_ONLY)
    }

    override fun query(
        uri: Uri,
        projection: Array<String>?,
        selection: String?,
        selectionArgs: Array<String>?,
        sortOrder: String?,
    ): Cursor {
        val file = file()
        val values =
            mapOf<String, Any>(OpenableColumns.DISPLAY_NAME to file.name, OpenableColumns.SIZE to file.length())
        val columns = projection?.filter { it in values } ?: values.keys.toList()
        return MatrixCursor(columns.toTypedArray(), 1).apply { addRow(columns.map { values[it] }) }
    }

    private fun file(): File = PictureFile.of(context ?: throw FileNotFoundException("not started"))

    override fun insert(
        uri: Uri,
        values: ContentValues?,
    ): Uri? = null

    override fun update(
        uri: Uri,
        values: ContentValues?,
        selection: String?,
        selectionArgs: Array<String>?,
    ): Int = 0

    override fun delete(
        uri: Uri,
        selection: String?,
        selectionArgs: Array<String>?,
    ): Int = 0

    companion object {
        const val AUTHORITY = "org.retinaface.demo.pictures"
    }
}
