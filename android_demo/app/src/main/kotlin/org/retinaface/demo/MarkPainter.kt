package org.retinaface.demo

import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Paint
import android.graphics.Typeface
import org.retinaface.core.Mark

/** Draws boxes, landmarks, meshes, poses and scores on a canvas: the screen's, or that of a picture to be saved. */
internal class MarkPainter {
    private val outline =
        Paint(Paint.ANTI_ALIAS_FLAG).apply {
            style = Paint.Style.STROKE
            color = GREEN
        }
    private val dot = Paint(Paint.ANTI_ALIAS_FLAG)
    private val line = Paint(Paint.ANTI_ALIAS_FLAG)
    private val text =
        Paint(Paint.ANTI_ALIAS_FLAG).apply { typeface = Typeface.DEFAULT_BOLD }

    fun draw(
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

            is Mark.Points -> {
                line.strokeWidth = mark.width
                line.color = LIGHT_BLUE
                canvas.drawPoints(mark.places, line)
            }

            is Mark.Axis -> {
                line.strokeWidth = mark.width
                line.color = AXES[mark.index]
                canvas.drawLine(mark.x1, mark.y1, mark.x2, mark.y2, line)
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
        val LIGHT_BLUE = 0xFFB3E5FC.toInt()
        val AXES = listOf(0xFFFF5252, 0xFF69F0AE, 0xFF448AFF).map { it.toInt() }
        val DOTS = listOf(0xFF4FC3F7, 0xFF4FC3F7, 0xFFFFD54F, 0xFFFF8A65, 0xFFFF8A65).map { it.toInt() }
    }
}
