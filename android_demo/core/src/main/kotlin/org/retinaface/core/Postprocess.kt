package org.retinaface.core

/**
 * From candidates in input pixels to faces in picture pixels: undo the letterbox, clip, suppress.
 *
 * @param scale of the letterbox.
 * @param imageWidth of the picture in pixels, as is [imageHeight]; boxes are clipped to it, landmarks are not.
 */
fun selectFaces(
    candidates: Candidates,
    scale: Double,
    imageWidth: Int,
    imageHeight: Int,
    iouThreshold: Double,
    spec: ModelSpec,
): List<Face> {
    val factor = scale.toFloat()
    val limits = floatArrayOf(imageWidth.toFloat(), imageHeight.toFloat())
    val boxes = FloatArray(candidates.boxes.size) { i -> (candidates.boxes[i] / factor).coerceIn(0f, limits[i % 2]) }
    val kept =
        nms(boxes, candidates.logits, iouThreshold, maxCandidates = spec.maxCandidates, maxFaces = spec.maxFaces)
    return kept.map { k ->
        Face(
            anchor = candidates.anchors[k],
            x1 = boxes[k * 4],
            y1 = boxes[k * 4 + 1],
            x2 = boxes[k * 4 + 2],
            y2 = boxes[k * 4 + 3],
            score = sigmoid(candidates.logits[k]),
            landmarks = FloatArray(10) { i -> candidates.landmarks[k * 10 + i] / factor },
        )
    }
}
