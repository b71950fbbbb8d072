package org.retinaface.core

/** From an anchor and where its box lies among [boxes], in pixels of the input, to its mesh in the picture, and pose. */
typealias MeshOf = (anchor: Int, boxes: FloatArray, at: Int) -> Pair<FloatArray, Pose>

/**
 * From candidates in input pixels to faces in picture pixels: undo the letterbox, clip, suppress.
 *
 * @param scale of the letterbox.
 * @param imageWidth of the picture in pixels, as is [imageHeight]; boxes are clipped to it, landmarks are not.
 * @param meshOf of a model with a mesh, asked for the faces that are left.
 */
fun selectFaces(
    candidates: Candidates,
    scale: Double,
    imageWidth: Int,
    imageHeight: Int,
    iouThreshold: Double,
    spec: ModelSpec,
    meshOf: MeshOf? = null,
): List<Face> {
    val factor = scale.toFloat()
    val limits = floatArrayOf(imageWidth.toFloat(), imageHeight.toFloat())
    val boxes = FloatArray(candidates.boxes.size) { i -> (candidates.boxes[i] / factor).coerceIn(0f, limits[i % 2]) }
    val kept =
        nms(boxes, candidates.logits, iouThreshold, maxCandidates = spec.maxCandidates, maxFaces = spec.maxFaces)
    return kept.map { k ->
        val dense = meshOf?.invoke(candidates.anchors[k], candidates.boxes, k * 4)
        Face(
            anchor = candidates.anchors[k],
            x1 = boxes[k * 4],
            y1 = boxes[k * 4 + 1],
            x2 = boxes[k * 4 + 2],
            y2 = boxes[k * 4 + 3],
            score = sigmoid(candidates.logits[k]),
            landmarks = FloatArray(10) { i -> candidates.landmarks[k * 10 + i] / factor },
            mesh = dense?.first,
            pose = dense?.second,
        )
    }
}
