package org.retinaface.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.exp
import kotlin.math.ln

class DecodeTest {
    private val spec = ModelSpec.fromJson(specJson(), "test")

    @Test
    fun anchorsAreOrderedByLevelRowColumnSize() {
        val anchors = makeAnchors(spec, spec.shape)
        assertEquals(3 * 2 * (8 * 12 + 4 * 6 + 2 * 3), anchors.size)
        assertArrayEquals(floatArrayOf(4f, 4f, 16f, 4f, 4f, 32f, 12f, 4f, 16f), anchors.copyOf(9), 0f)
        assertArrayEquals(floatArrayOf(80f, 48f, 512f), anchors.copyOfRange(anchors.size - 3, anchors.size), 0f)
        assertEquals(3, featureSize(65, 32))
    }

    @Test
    fun smallestScoreThatPasses() {
        // 0.1 · (q + 3) ≥ logit 0.5 = 0 from q = −3 on.
        assertEquals(-3, minQuantizedScore(0.5, 0.1f, -3))
        assertEquals(-2, minQuantizedScore(0.5001, 0.1f, -3))
        assertEquals(-128, minQuantizedScore(0.0, 0.1f, 0))
        assertEquals(128, minQuantizedScore(1.0, 0.1f, 0))
        assertEquals(128, minQuantizedScore(0.9, 0.001f, 0))
        assertThrows(IllegalArgumentException::class.java) { logit(1.5) }
    }

    @Test
    fun sigmoidInvertsLogit() {
        for (p in listOf(0.001, 0.02, 0.5, 0.9, 0.999)) assertEquals(p.toFloat(), sigmoid(logit(p)), 1e-7f)
        assertEquals(1f, sigmoid(500f), 0f)
        assertEquals(0f, sigmoid(-500f), 0f)
    }

    @Test
    fun oneQuantizedAnchorByHand() {
        val outputs = Outputs(ElementType.INT8, 0.25f, 2)
        // Anchor 3 of level 8 is column 1, size 32: centre (12, 4). Values are (q − 2)·0.25.
        outputs.set("score_8", 3, 6) // logit 1
        outputs.setAll("box_8", 3 * 4, 6, -2, 22, 2) // 1, −1, 5, 0
        outputs.setAll("landmark_8", 3 * 10, 2, 2, 6, 6, -2, 2, 2, 42, 2, 2)
        val found = outputs.decode(spec, 0.7)
        assertArrayEquals(intArrayOf(3), found.anchors)
        assertEquals(1f, found.logits[0], 0f)
        // Centre (12 + 3.2, 4 − 3.2); sides 32·exp(1), 32·exp(0).
        val half = (16 * exp(1.0)).toFloat()
        assertArrayEquals(floatArrayOf(15.2f - half, -15.2f, 15.2f + half, 16.8f), found.boxes, 1e-5f)
        val landmarks = floatArrayOf(12f, 4f, 15.2f, 7.2f, 8.8f, 4f, 12f, 36f, 12f, 4f)
        assertArrayEquals(landmarks, found.landmarks, 1e-5f)
    }

    @Test
    fun levelsAreConcatenated() {
        val outputs = Outputs(ElementType.FLOAT32, 0f, 0)
        outputs.set("score_16", 0, 2)
        outputs.set("score_32", 11, 3)
        val found = outputs.decode(spec, 0.6)
        assertArrayEquals(intArrayOf(192, 192 + 48 + 11), found.anchors)
        assertArrayEquals(floatArrayOf(-24f, -24f, 40f, 40f), found.boxes.copyOf(4), 0f)
        assertArrayEquals(floatArrayOf(2f, 3f), found.logits, 0f)
    }

    @Test
    fun sizesAreClamped() {
        val outputs = Outputs(ElementType.FLOAT32, 0f, 0)
        outputs.set("score_8", 0, 5)
        outputs.set("box_8", 2, 1e30f.toInt())
        val found = outputs.decode(spec, 0.6)
        val half = 8 * exp(ln(1000.0 / 16)).toFloat()
        assertEquals(4 + half, found.boxes[2], 1e-3f)
    }

    @Test
    fun onlyTheStrongestTakePart() {
        val few = ModelSpec.fromJson(specJson().replace("5000", "3"), "test")
        val outputs = Outputs(ElementType.INT8, 0.1f, 0)
        for ((anchor, score) in listOf(1 to 5, 7 to 9, 8 to 5, 9 to 5, 10 to 7)) outputs.set("score_8", anchor, score)
        assertArrayEquals(intArrayOf(1, 7, 10), outputs.decode(few, 0.6).anchors)
    }

    @Test
    fun candidatesThatAreNotFiniteAreLeftOut() {
        val outputs = Outputs(ElementType.FLOAT32, 0f, 0)
        outputs.set("score_8", 0, 5)
        outputs.set("score_8", 1, 4)
        outputs.setFloat("landmark_8", 3, Float.NaN)
        assertArrayEquals(intArrayOf(1), outputs.decode(spec, 0.6).anchors)
        outputs.setFloat("box_8", 4, Float.POSITIVE_INFINITY)
        assertEquals(0, outputs.decode(spec, 0.6).size)
    }

    @Test
    fun outputsMustFitTheSpec() {
        val outputs = Outputs(ElementType.INT8, 0.1f, 0)
        val wrong = outputs.infos + ("box_16" to TensorInfo(listOf(1, 4), ElementType.INT8, 0.1f, 0))
        val error = assertThrows(SpecException::class.java) { Decoder(spec, spec.shape, wrong, "m") }
        assertTrue(error.message, error.message!!.startsWith("m: output box_16 has 4 values, expected 192"))
        assertThrows(SpecException::class.java) { Decoder(spec, spec.shape, outputs.infos - "score_8", "m") }
    }

    @Test
    fun facesComeBackInThePicture() {
        val candidates =
            Candidates(
                intArrayOf(4, 9),
                floatArrayOf(0f, 2f),
                floatArrayOf(-5f, 10f, 20f, 30f, 40f, 40f, 60f, 70f),
                FloatArray(20) { it.toFloat() },
            )
        val faces = selectFaces(candidates, 0.5, 100, 120, 0.4, spec)
        assertEquals(listOf(9, 4), faces.map { it.anchor })
        assertArrayEquals(floatArrayOf(80f, 80f, 100f, 120f), faces[0].run { floatArrayOf(x1, y1, x2, y2) }, 0f)
        assertArrayEquals(floatArrayOf(0f, 20f, 40f, 60f), faces[1].run { floatArrayOf(x1, y1, x2, y2) }, 0f)
        assertEquals(0.5f, faces[1].score, 0f)
        assertArrayEquals(FloatArray(10) { it * 2f }, faces[1].landmarks, 0f)
    }
}

/** Output tensors of [specJson]'s network, all zero (scores far below any threshold). */
internal class Outputs(
    type: ElementType,
    scale: Float,
    zeroPoint: Int,
) {
    val infos = LinkedHashMap<String, TensorInfo>()
    val buffers = LinkedHashMap<String, ByteBuffer>()

    init {
        for ((stride, cells) in listOf(8 to 96, 16 to 24, 32 to 6)) {
            for ((kind, width) in listOf("score" to 1, "box" to 4, "landmark" to 10)) {
                val info = TensorInfo(listOf(1, cells, 2 * width), type, scale, zeroPoint)
                infos["${kind}_$stride"] = info
                buffers["${kind}_$stride"] = ByteBuffer.allocate(info.byteSize).order(ByteOrder.nativeOrder())
                if (kind == "score") repeat(info.elements) { set("${kind}_$stride", it, -100) }
            }
        }
    }

    fun set(
        name: String,
        index: Int,
        value: Int,
    ) {
        when (infos.getValue(name).type) {
            ElementType.INT8 -> buffers.getValue(name).put(index, value.toByte())
            ElementType.FLOAT32 -> setFloat(name, index, value.toFloat())
        }
    }

    fun setFloat(
        name: String,
        index: Int,
        value: Float,
    ) {
        buffers.getValue(name).putFloat(index * 4, value)
    }

    fun setAll(
        name: String,
        from: Int,
        vararg values: Int,
    ) = values.forEachIndexed { i, value -> set(name, from + i, value) }

    fun decode(
        spec: ModelSpec,
        threshold: Double,
    ): Candidates = Decoder(spec, spec.shape, infos, "test").decode(buffers, threshold)
}
