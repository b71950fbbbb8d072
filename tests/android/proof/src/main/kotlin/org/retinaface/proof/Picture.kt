package org.retinaface.proof

import org.retinaface.core.ArgbImage
import org.retinaface.core.Mark
import org.retinaface.core.ViewTransform
import org.retinaface.core.marks
import java.awt.BasicStroke
import java.awt.Color
import java.awt.Font
import java.awt.Graphics2D
import java.awt.RenderingHints
import java.awt.geom.Ellipse2D
import java.awt.geom.Line2D
import java.awt.geom.Rectangle2D
import java.awt.image.BufferedImage
import java.io.File
import javax.imageio.ImageIO

private const val VIEW_WIDTH = 720
private const val VIEW_HEIGHT = 1280
private const val DENSITY = 2f
private val AXES = listOf(0xFF5252, 0x69F0AE, 0x448AFF).map(::Color)
private val COLOURS = listOf(0x4FC3F7, 0x4FC3F7, 0xFFD54F, 0xFF8A65, 0xFF8A65).map(::Color)

/** Writes the app's screen for a photo, drawn from the same marks as the phone's view, as a PNG. */
internal fun picture(
    library: File,
    model: File,
    photo: File,
    to: File,
) {
    val stored = ImageIO.read(photo)
    val pixels = stored.getRGB(0, 0, stored.width, stored.height, null, 0, stored.width)
    val image = ArgbImage(stored.width, stored.height, pixels)
    val detections = openDetector(library, model).use { it.detect(image) }
    val transform = ViewTransform(image.width, image.height, VIEW_WIDTH, VIEW_HEIGHT)
    val screen = BufferedImage(VIEW_WIDTH, VIEW_HEIGHT, BufferedImage.TYPE_INT_RGB)
    val graphics = screen.createGraphics()
    graphics.setRenderingHint(RenderingHints.KEY_ANTIALIASING, RenderingHints.VALUE_ANTIALIAS_ON)
    graphics.setRenderingHint(RenderingHints.KEY_INTERPOLATION, RenderingHints.VALUE_INTERPOLATION_BILINEAR)
    val (left, top, right, bottom) = transform.frame().map { Math.round(it) }
    graphics.drawImage(toAwt(image), left, top, right - left, bottom - top, null)
    marks(detections.faces, transform, DENSITY).forEach { draw(graphics, it) }
    graphics.dispose()
    ImageIO.write(screen, "png", to)
    println("${detections.faces.size} faces")
}

private fun draw(
    graphics: Graphics2D,
    mark: Mark,
) {
    when (mark) {
        is Mark.Box -> {
            graphics.color = Color(0x69F0AE)
            graphics.stroke = BasicStroke(mark.width)
            graphics.draw(Rectangle2D.Float(mark.left, mark.top, mark.right - mark.left, mark.bottom - mark.top))
        }

        is Mark.Dot -> {
            graphics.color = Color.BLACK
            graphics.fill(circle(mark.x, mark.y, mark.radius + mark.rim))
            graphics.color = COLOURS[mark.index]
            graphics.fill(circle(mark.x, mark.y, mark.radius))
        }

        is Mark.Points -> {
            graphics.color = Color(0xB3E5FC)
            for (i in mark.places.indices step 2) {
                graphics.fill(circle(mark.places[i], mark.places[i + 1], mark.width / 2))
            }
        }

        is Mark.Axis -> {
            graphics.color = AXES[mark.index]
            graphics.stroke = BasicStroke(mark.width)
            graphics.draw(Line2D.Float(mark.x1, mark.y1, mark.x2, mark.y2))
        }

        is Mark.Label -> {
            graphics.font = Font(Font.SANS_SERIF, Font.BOLD, 1).deriveFont(mark.size)
            graphics.color = Color.BLACK
            graphics.drawString(mark.text, mark.x + mark.shadow, mark.y + mark.shadow)
            graphics.color = Color(0x69F0AE)
            graphics.drawString(mark.text, mark.x, mark.y)
        }
    }
}

private fun circle(
    x: Float,
    y: Float,
    radius: Float,
) = Ellipse2D.Float(x - radius, y - radius, 2 * radius, 2 * radius)

private fun toAwt(image: ArgbImage): BufferedImage {
    val result = BufferedImage(image.width, image.height, BufferedImage.TYPE_INT_RGB)
    result.setRGB(0, 0, image.width, image.height, image.pixels, 0, image.width)
    return result
}
