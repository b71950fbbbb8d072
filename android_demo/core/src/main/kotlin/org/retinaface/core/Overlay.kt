package org.retinaface.core

/**
 * Maps picture pixels to view pixels: the whole picture visible, centred.
 *
 * @param mirrored left and right swapped, as people expect of a front camera.
 */
class ViewTransform(
    private val imageWidth: Int,
    private val imageHeight: Int,
    viewWidth: Int,
    viewHeight: Int,
    private val mirrored: Boolean = false,
) {
    /** View pixels per picture pixel. */
    val scale: Float = minOf(viewWidth.toFloat() / imageWidth, viewHeight.toFloat() / imageHeight)
    private val left = (viewWidth - imageWidth * scale) / 2
    private val top = (viewHeight - imageHeight * scale) / 2

    fun x(imageX: Float): Float = left + (if (mirrored) imageWidth - imageX else imageX) * scale

    fun y(imageY: Float): Float = top + imageY * scale

    /** The picture's own place in the view: left, top, right, bottom. */
    fun frame(): FloatArray = floatArrayOf(left, top, left + imageWidth * scale, top + imageHeight * scale)
}

/** Something to draw, in view pixels: the phone's view and the desktop renderer draw the same list. */
sealed class Mark {
    /** A rectangle's outline, [width] pixels wide. */
    class Box(
        val left: Float,
        val top: Float,
        val right: Float,
        val bottom: Float,
        val width: Float,
    ) : Mark()

    /** A landmark: circle with a black [rim], to be seen on any skin; [index] 0-4 in the model's landmark order. */
    class Dot(
        val x: Float,
        val y: Float,
        val radius: Float,
        val rim: Float,
        val index: Int,
    ) : Mark()

    /** Points of the size [width], x y each: the vertices of a mesh. */
    class Points(
        val places: FloatArray,
        val width: Float,
    ) : Mark()

    /** One of a face's own axes: [index] 0 to its right in the picture, 1 down, 2 where the nose points. */
    class Axis(
        val x1: Float,
        val y1: Float,
        val x2: Float,
        val y2: Float,
        val width: Float,
        val index: Int,
    ) : Mark()

    /** Text whose baseline starts at (x, y), on its own black [shadow] that many pixels right and down. */
    class Label(
        val text: String,
        val x: Float,
        val y: Float,
        val size: Float,
        val shadow: Float,
    ) : Mark()
}

/**
 * What to draw for [faces], in view pixels: of those with a mesh its vertices instead of the landmarks. Line widths and
 * text grow with [density] (1 = a pixel of 1/160 inch).
 */
fun marks(
    faces: List<Face>,
    transform: ViewTransform,
    density: Float,
): List<Mark> =
    faces.flatMap { face ->
        val a = transform.x(face.x1)
        val b = transform.x(face.x2)
        val left = minOf(a, b)
        val right = maxOf(a, b)
        val top = transform.y(face.y1)
        val bottom = transform.y(face.y2)
        val size = 14 * density
        // Above the box, or inside where the view ends.
        val baseline = if (top - 4 * density < size) top + size else top - 4 * density
        val label = Mark.Label("${Math.round(face.score * 100)} %", left, baseline, size, density)
        val outline = Mark.Box(left, top, right, bottom, 2 * density)
        listOf(outline) + meshMarks(face, transform, density).ifEmpty { dots(face, transform, density) } + label
    }

private fun dots(
    face: Face,
    transform: ViewTransform,
    density: Float,
): List<Mark> {
    val radius = ((face.x2 - face.x1) * transform.scale / 40).coerceIn(1.5f * density, 6 * density)
    return (0 until 5).map { i ->
        val x = transform.x(face.landmarks[2 * i])
        Mark.Dot(x, transform.y(face.landmarks[2 * i + 1]), radius, density, i)
    }
}

/** The vertices and the head's axes of a face that has them. */
private fun meshMarks(
    face: Face,
    transform: ViewTransform,
    density: Float,
): List<Mark> {
    val (mesh, pose) = face.mesh to face.pose
    if (mesh == null || pose == null) return emptyList()
    val places =
        FloatArray(mesh.size / 3 * 2) { i ->
            if (i % 2 == 0) transform.x(mesh[i / 2 * 3]) else transform.y(mesh[i / 2 * 3 + 1])
        }
    val (x, y) = (face.x1 + face.x2) / 2 to (face.y1 + face.y2) / 2
    val length = maxOf(face.x2 - face.x1, face.y2 - face.y1) / 2
    val ends = pose.axes()
    val axes =
        (0 until 3).map { i ->
            val (endX, endY) = x + ends[2 * i] * length to y + ends[2 * i + 1] * length
            Mark.Axis(transform.x(x), transform.y(y), transform.x(endX), transform.y(endY), 2 * density, i)
        }
    val width = ((face.x2 - face.x1) * transform.scale / 80).coerceAtLeast(density / 2)
    return listOf(Mark.Points(places, width)) + axes
}
