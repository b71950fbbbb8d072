package org.retinaface.core

/** Positions of [scores] by score descending, equal scores by position ascending; no score is NaN. */
internal fun orderByScore(scores: FloatArray): IntArray {
    // One sortable number per score: float bits made monotonic and inverted above, position below. Adding 0 makes −0 equal 0.
    val keys =
        LongArray(scores.size) { i ->
            val bits = (scores[i] + 0f).toRawBits()
            val ascending = if (bits >= 0) bits else bits xor Int.MAX_VALUE
            (ascending.inv().toLong() shl 32) or i.toLong()
        }
    keys.sort()
    return IntArray(keys.size) { keys[it].toInt() }
}

/**
 * Greedy non-maximum suppression: a box stays unless its IoU with a better kept one is greater than the threshold
 * (twin of `tflite/nms.py`, float32 in the same order).
 *
 * @param boxes four floats each, x1 y1 x2 y2.
 * @param scores any increasing measure of confidence.
 * @param pixelOffset 0 for continuous coordinates; 1 counts a box from pixel a to pixel b as b − a + 1 wide.
 * @param maxCandidates of more boxes only so many of the highest score take part.
 * @param maxFaces at most so many are returned.
 * @return indices into [boxes], by score descending, equal scores by index ascending.
 */
fun nms(
    boxes: FloatArray,
    scores: FloatArray,
    iouThreshold: Double,
    pixelOffset: Int = 0,
    maxCandidates: Int = 5000,
    maxFaces: Int = 750,
): IntArray {
    val threshold = iouThreshold.toFloat()
    val offset = pixelOffset.toFloat()
    val order = orderByScore(scores)
    val kept = IntArray(minOf(maxFaces, order.size))
    val keptAreas = FloatArray(kept.size)
    var count = 0
    for (position in 0 until minOf(order.size, maxCandidates)) {
        if (count == kept.size) break
        val box = order[position] * 4
        val area = (boxes[box + 2] - boxes[box] + offset) * (boxes[box + 3] - boxes[box + 1] + offset)
        var free = true
        for (k in 0 until count) {
            val other = kept[k] * 4
            val height = minOf(boxes[box + 3], boxes[other + 3]) - maxOf(boxes[box + 1], boxes[other + 1]) + offset
            val width = minOf(boxes[box + 2], boxes[other + 2]) - maxOf(boxes[box], boxes[other]) + offset
            val inter = maxOf(width, 0f) * maxOf(height, 0f)
            if (inter / (keptAreas[k] + area - inter) > threshold) {
                free = false
                break
            }
        }
        if (free) {
            kept[count] = order[position]
            keptAreas[count++] = area
        }
    }
    return kept.copyOf(count)
}
