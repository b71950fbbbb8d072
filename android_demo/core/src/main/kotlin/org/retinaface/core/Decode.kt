package org.retinaface.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.ln

/** Largest exponent of a box size: 1000 px from a 16 px anchor. Beyond it exp overflows and the box means nothing. */
private val MAX_LOG_SIZE = ln(1000.0 / 16).toFloat()

/**
 * Anchors above the threshold, in anchor order, in pixels of the network's input.
 *
 * @property anchors index into the anchor table, increasing.
 * @property logits probability = [sigmoid] of it.
 * @property boxes four floats each, x1 y1 x2 y2, not clipped.
 * @property landmarks ten floats each, x y of five points.
 */
class Candidates(
    val anchors: IntArray,
    val logits: FloatArray,
    val boxes: FloatArray,
    val landmarks: FloatArray,
) {
    val size: Int get() = anchors.size
}

/** log(p / (1 − p)), ∓infinity at 0 and 1. */
fun logit(probability: Double): Float {
    require(probability in 0.0..1.0) { "score threshold is $probability, expected a probability in 0-1" }
    return ln(probability / (1 - probability)).toFloat()
}

/** Logit to probability, without overflow. */
fun sigmoid(logit: Float): Float {
    val exponential = exp(-abs(logit).toDouble())
    return ((if (logit >= 0) 1.0 else exponential) / (1 + exponential)).toFloat()
}

/** (q − zero point)·scale. */
private fun dequantize(
    quantized: Int,
    scale: Float,
    zeroPoint: Int,
): Float = (quantized.toFloat() - zeroPoint.toFloat()) * scale

/** The smallest int8 whose dequantised logit is at least logit([threshold]), or 128 if none is. */
fun minQuantizedScore(
    threshold: Double,
    scale: Float,
    zeroPoint: Int,
): Int {
    val wanted = logit(threshold)
    return (-128..127).firstOrNull { dequantize(it, scale, zeroPoint) >= wanted } ?: 128
}

/** One output tensor: numbers as stored, read as float32. */
internal class Output(
    private val info: TensorInfo,
    bytes: ByteBuffer,
) {
    val size = info.elements
    private val raw: ByteBuffer = bytes.duplicate().order(ByteOrder.nativeOrder())

    operator fun get(index: Int): Float =
        when (info.type) {
            ElementType.INT8 -> dequantize(raw.get(index).toInt(), info.scale, info.zeroPoint)
            ElementType.FLOAT32 -> raw.getFloat(index * 4)
        }

    /** Calls [found] with each index whose value is at least logit([threshold]); integers are compared as stored. */
    inline fun forEachAbove(
        threshold: Double,
        found: (Int) -> Unit,
    ) {
        when (info.type) {
            ElementType.INT8 -> {
                val least = minQuantizedScore(threshold, info.scale, info.zeroPoint)
                for (i in 0 until size) if (raw.get(i) >= least) found(i)
            }

            ElementType.FLOAT32 -> {
                val least = logit(threshold)
                for (i in 0 until size) if (raw.getFloat(i * 4) >= least) found(i)
            }
        }
    }
}

/**
 * Turns raw output tensors into boxes and landmarks: threshold first, then decode what is left (twin of
 * `tflite/decode.py`: float32 in the order written there, `exp` in float64).
 *
 * @param shape of the input that the outputs belong to.
 * @param infos type and quantization of every output by name.
 * @throws SpecException an output is missing or has not the size that [spec] and [shape] give it.
 */
class Decoder(
    private val spec: ModelSpec,
    shape: Shape,
    private val infos: Map<String, TensorInfo>,
    name: String,
) {
    private val anchors: FloatArray
    private val centreVariance = spec.variances[0].toFloat()
    private val sizeVariance = spec.variances[1].toFloat()

    init {
        for ((stride, sizes) in spec.strides.zip(spec.anchorSizes)) {
            val cells = featureSize(shape.height, stride).toLong() * featureSize(shape.width, stride)
            for ((kind, width) in WIDTHS) {
                val found = infos["${kind}_$stride"]?.elements
                val wanted = cells * sizes.size * width
                if (found == null || found.toLong() != wanted) {
                    throw SpecException(
                        "$name: output ${kind}_$stride has $found values, expected $wanted; " +
                            "export it with quantization/convert.py",
                    )
                }
            }
        }
        // Only now: the outputs have confirmed the metadata, which alone could ask for gigabytes of anchors.
        anchors = makeAnchors(spec, shape)
    }

    /** The three outputs of a level and the number of its first anchor. */
    private class Level(
        val first: Int,
        val scores: Output,
        val boxes: Output,
        val landmarks: Output,
    )

    /**
     * Candidates of one image.
     *
     * @param outputs raw tensors by name.
     * @param scoreThreshold probability, 0-1. Beyond `maxCandidates` those of the highest logit stay, of equal ones
     *     those with the lower anchor index. Candidates that are not finite are left out.
     */
    fun decode(
        outputs: Map<String, ByteBuffer>,
        scoreThreshold: Double,
    ): Candidates {
        val levels = levels(outputs)
        val found = IntList()
        val logits = FloatList()
        for (level in levels) {
            level.scores.forEachAbove(scoreThreshold) { i ->
                found.add(level.first + i)
                logits.add(level.scores[i])
            }
        }
        val kept = strongest(logits.toArray(), spec.maxCandidates)
        return boxesAndLandmarks(found.toArray(), logits.toArray(), kept, levels)
    }

    private fun levels(outputs: Map<String, ByteBuffer>): List<Level> {
        var first = 0
        return spec.strides.map { stride ->
            val (scores, boxes, landmarks) =
                WIDTHS.keys.map { kind ->
                    Output(infos.getValue("${kind}_$stride"), outputs.getValue("${kind}_$stride"))
                }
            Level(first, scores, boxes, landmarks).also { first += scores.size }
        }
    }

    /** Positions, in order, of the [most] highest logits. */
    private fun strongest(
        logits: FloatArray,
        most: Int,
    ): IntArray {
        if (logits.size <= most) return IntArray(logits.size) { it }
        val order = orderByScore(logits).copyOf(most)
        order.sort()
        return order
    }

    private fun boxesAndLandmarks(
        found: IntArray,
        logits: FloatArray,
        kept: IntArray,
        levels: List<Level>,
    ): Candidates {
        val boxes = FloatArray(kept.size * 4)
        val landmarks = FloatArray(kept.size * 10)
        val finite = IntList()
        var number = 0
        for (k in kept.indices) {
            val anchor = found[kept[k]]
            while (anchor >= levels[number].first + levels[number].scores.size) number++
            val level = levels[number]
            decodeBox(level.boxes, anchor - level.first, anchor, boxes, k * 4)
            decodeLandmarks(level.landmarks, anchor - level.first, anchor, landmarks, k * 10)
            if (allFinite(boxes, k * 4, 4) && allFinite(landmarks, k * 10, 10)) finite.add(k)
        }
        return select(finite.toArray(), IntArray(kept.size) { found[kept[it]] }, logits, kept, boxes, landmarks)
    }

    /** centre = anchor + d·v₀·size; half a side = size·exp(min(d·v₁, log(1000/16)))·0.5. */
    private fun decodeBox(
        deltas: Output,
        row: Int,
        anchor: Int,
        boxes: FloatArray,
        to: Int,
    ) {
        val size = anchors[anchor * 3 + 2]
        for (axis in 0 until 2) {
            val centre = anchors[anchor * 3 + axis] + deltas[row * 4 + axis] * centreVariance * size
            val exponent = minOf(deltas[row * 4 + 2 + axis] * sizeVariance, MAX_LOG_SIZE)
            val half = size * exp(exponent.toDouble()).toFloat() * 0.5f
            boxes[to + axis] = centre - half
            boxes[to + 2 + axis] = centre + half
        }
    }

    private fun decodeLandmarks(
        deltas: Output,
        row: Int,
        anchor: Int,
        landmarks: FloatArray,
        to: Int,
    ) {
        val size = anchors[anchor * 3 + 2]
        for (i in 0 until 10) {
            landmarks[to + i] = anchors[anchor * 3 + i % 2] + deltas[row * 10 + i] * centreVariance * size
        }
    }

    private fun allFinite(
        values: FloatArray,
        from: Int,
        count: Int,
    ): Boolean = (from until from + count).all { values[it].isFinite() }

    private fun select(
        finite: IntArray,
        numbers: IntArray,
        logits: FloatArray,
        kept: IntArray,
        boxes: FloatArray,
        landmarks: FloatArray,
    ): Candidates =
        Candidates(
            IntArray(finite.size) { numbers[finite[it]] },
            FloatArray(finite.size) { logits[kept[finite[it]]] },
            FloatArray(finite.size * 4) { boxes[finite[it / 4] * 4 + it % 4] },
            FloatArray(finite.size * 10) { landmarks[finite[it / 10] * 10 + it % 10] },
        )

    private companion object {
        /** Values per anchor of each kind of output. */
        val WIDTHS = mapOf("score" to 1, "box" to 4, "landmark" to 10)
    }
}
