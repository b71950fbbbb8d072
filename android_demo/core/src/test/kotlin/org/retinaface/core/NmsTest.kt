package org.retinaface.core

import org.junit.Assert.assertArrayEquals
import org.junit.Test

class NmsTest {
    private val boxes = floatArrayOf(0f, 0f, 10f, 10f, 0f, 0f, 10f, 8f, 20f, 20f, 30f, 30f, 0f, 0f, 10f, 4f)

    private fun run(
        scores: FloatArray,
        threshold: Double,
        boxes: FloatArray = this.boxes,
        pixelOffset: Int = 0,
        maxCandidates: Int = 5000,
        maxFaces: Int = 750,
    ) = nms(boxes, scores, threshold, pixelOffset, maxCandidates, maxFaces)

    @Test
    fun overlappingWeakerBoxesGo() {
        // IoU 0-1 0.8, 0-3 0.4, 1-3 0.5.
        assertArrayEquals(intArrayOf(0, 2, 3), run(floatArrayOf(4f, 3f, 2f, 1f), 0.4))
        assertArrayEquals(intArrayOf(0, 2), run(floatArrayOf(4f, 3f, 2f, 1f), 0.39))
        assertArrayEquals(intArrayOf(1, 2), run(floatArrayOf(3f, 4f, 2f, 1f), 0.4))
    }

    @Test
    fun equalScoresGoByIndex() {
        assertArrayEquals(intArrayOf(0, 2, 3), run(floatArrayOf(1f, 1f, 1f, 1f), 0.4))
        assertArrayEquals(intArrayOf(0, 2, 3), run(floatArrayOf(-0f, 0f, -0f, 0f), 0.4))
        assertArrayEquals(intArrayOf(2, 1), run(floatArrayOf(-3f, -1f, 0f, -2f), 0.4))
    }

    @Test
    fun limits() {
        val scores = floatArrayOf(4f, 3f, 2f, 1f)
        assertArrayEquals(intArrayOf(0), run(scores, 0.4, maxFaces = 1))
        assertArrayEquals(intArrayOf(0), run(scores, 0.4, maxCandidates = 2))
        assertArrayEquals(intArrayOf(), run(FloatArray(0), 0.4, FloatArray(0)))
        assertArrayEquals(intArrayOf(), run(scores, 0.4, maxFaces = 0))
    }

    @Test
    fun pixelOffsetCountsBothEnds() {
        // 0..9 and 0..4: 50 / 100 pixels with both ends counted, 36 / 81 without.
        val pair = floatArrayOf(0f, 0f, 9f, 9f, 0f, 0f, 9f, 4f)
        assertArrayEquals(intArrayOf(0), run(floatArrayOf(2f, 1f), 0.48, pair, pixelOffset = 1))
        assertArrayEquals(intArrayOf(0, 1), run(floatArrayOf(2f, 1f), 0.48, pair))
    }

    @Test
    fun emptyBoxesOverlapNothing() {
        val empty = floatArrayOf(5f, 5f, 5f, 5f, 5f, 5f, 5f, 5f, 0f, 0f, 10f, 10f)
        assertArrayEquals(intArrayOf(0, 1, 2), run(floatArrayOf(3f, 2f, 1f), 0.4, empty))
    }

    @Test
    fun negativeScoresSortBelowPositive() {
        val order = orderByScore(floatArrayOf(-1f, 3f, -2f, Float.POSITIVE_INFINITY, 0f, Float.NEGATIVE_INFINITY))
        assertArrayEquals(intArrayOf(3, 1, 4, 0, 2, 5), order)
    }
}
