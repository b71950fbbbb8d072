package org.retinaface.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Matrix
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View
import org.retinaface.core.ViewTransform
import org.retinaface.core.marks

/** Draws the analysed picture with its faces: what is seen is what the network saw, in step with the boxes. */
internal class OverlayView(
    context: Context,
    attributes: AttributeSet,
) : View(context, attributes) {
    private val density = resources.displayMetrics.density
    private val picture = Paint(Paint.FILTER_BITMAP_FLAG)
    private val painter = MarkPainter()
    private val matrix = Matrix()

    // Replaced since the last drawing, and before it: the screen may show the former until the next drawing has begun.
    private var replaced = ArrayList<Shown>()
    private var replacedBefore = ArrayList<Shown>()

    /** What to draw; null for nothing. */
    var shown: Shown? = null
        set(value) {
            field?.let(replaced::add)
            field = value
            contentDescription =
                value?.run { resources.getQuantityString(R.plurals.faces, faces.size, faces.size) }
            invalidate()
        }

    override fun onDraw(canvas: Canvas) {
        super.onDraw(canvas)
        replacedBefore.forEach { it.giveBack() }
        replacedBefore.clear()
        replacedBefore = replaced.also { replaced = replacedBefore }
        val now = shown ?: return
        val transform = ViewTransform(now.bitmap.width, now.bitmap.height, width, height, now.mirrored)
        val (left, top, right) = transform.frame()
        matrix.setScale(if (now.mirrored) -transform.scale else transform.scale, transform.scale)
        matrix.postTranslate(if (now.mirrored) right else left, top)
        canvas.drawBitmap(now.bitmap, matrix, picture)
        marks(now.faces, transform, density).forEach { painter.draw(canvas, it) }
    }
}
