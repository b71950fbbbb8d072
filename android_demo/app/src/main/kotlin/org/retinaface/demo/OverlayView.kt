package org.retinaface.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Matrix
import android.graphics.Paint
import android.graphics.Typeface
import android.util.AttributeSet
import android.view.View
import org.retinaface.core.Mark
import org.retinaface.core.ViewTransform
import org.retinaface.core.marks

/** Draws the analysed picture with its faces: what is seen is what the network saw, in step with the boxes. */
internal class OverlayView(
    context: Context,
    attributes: AttributeSet,
) : View(context, attributes) {
    private val density = resources.displayMetrics.density
    private val picture = Paint(Paint.FILTER_BITMAP_FLAG)
    private val outline =
        Paint(Paint.ANTI_ALIAS_FLAG).apply {
            style = Paint.Style.STROKE
            color = GREEN
        }
    private val dot = Paint(Paint.ANTI_ALIAS_FLAG)
    private val text =
        Paint(Paint.ANTI_ALIAS_FLAG).apply { typeface = Typeface.DEFAULT_BOLD }
    private val matrix = Matrix()

    /** What to draw; null for nothing. */
    var shown: Shown? = null
        set(value) {
            field = value
            contentDescription =
                value?.run { resources.getQuantityString(R.plurals.faces, faces.size, faces.size) }
            invalidate()
        }

    override fun onDraw(canvas: Canvas) {
        super.onDraw(canvas)
        val now = shown ?: return
        val transform = ViewTransform(now.bitmap.width, now.bitmap.height, width, height, now.mirrored)
        val (left, top, right) = transform.frame()
        matrix.setScale(if (now.mirrored) -transform.scale else transform.scale, transform.scale)
        matrix.postTranslate(if (now.mirrored) right else left, top)
        canvas.drawBitmap(now.bitmap, matrix, picture)
        marks(now.faces, transform, density).forEach { draw(canvas, it) }
    }

    private fun draw(
        canvas: Canvas,
        mark: Mark,
    ) {
        when (mark) {
            is Mark.Box -> {
                outline.strokeWidth = mark.width
                canvas.drawRect(mark.left, mark.top, mark.right, mark.bottom, outline)
            }

            is Mark.Dot -> {
                dot.color = Color.BLACK
                canvas.drawCircle(mark.x, mark.y, mark.radius + mark.rim, dot)
                dot.color = DOTS[mark.index]
                canvas.drawCircle(mark.x, mark.y, mark.radius, dot)
            }

            is Mark.Label -> {
                text.textSize = mark.size
                text.color = Color.BLACK
                canvas.drawText(mark.text, mark.x + mark.shadow, mark.y + mark.shadow, text)
                text.color = GREEN
                canvas.drawText(mark.text, mark.x, mark.y, text)
            }
        }
    }

    private companion object {
        val GREEN = 0xFF69F0AE.toInt()
        val DOTS = listOf(0xFF4FC3F7, 0xFF4FC3F7, 0xFFFFD54F, 0xFFFF8A65, 0xFFFF8A65).map { it.toInt() }
    }
}
