package org.retinaface.core

import java.nio.ByteBuffer
import java.nio.CharBuffer
import java.nio.charset.CharacterCodingException

/** The model file is not one, or its `retinaface.json` is missing or wrong; one line names file, finding, expectation. */
class SpecException(
    message: String,
) : IllegalArgumentException(message)

/**
 * What a model file says about itself: `retinaface.json`, zip-appended to the .tflite (twin of `tflite/spec.py`).
 *
 * @property inputHeight pixels, a multiple of 32, as is [inputWidth].
 * @property mean per channel B, G, R, subtracted from 0-255 pixels; also the letterbox fill.
 * @property strides feature strides in pixels, finest first.
 * @property anchorSizes anchor side lengths in pixels, per level.
 * @property variances (centre, size) factors of the box code.
 * @property antialias pictures at least twice as large as the input are halved first ([Letterbox]); false when absent.
 * @property scoreThreshold default confidence, in (0, 1).
 * @property iouThreshold NMS drops a box whose IoU with a kept one is greater.
 * @property maxCandidates boxes that enter NMS at most, and [maxFaces] that leave it.
 * @property quantization kind, e.g. "int8-ptq" or "fp32".
 */
class ModelSpec(
    val inputHeight: Int,
    val inputWidth: Int,
    val mean: List<Double>,
    val strides: List<Int>,
    val anchorSizes: List<List<Double>>,
    val variances: List<Double>,
    val antialias: Boolean,
    val scoreThreshold: Double,
    val iouThreshold: Double,
    val maxCandidates: Int,
    val maxFaces: Int,
    val quantization: String,
    val source: String,
) {
    /** The own size of the input. */
    val shape: Shape get() = Shape(inputHeight, inputWidth)

    companion object {
        const val FILE = "retinaface.json"
        private const val FORMAT_VERSION = 1.0
        private const val ANTIALIAS = "antialias" // written only where it is true
        private val LANDMARKS = listOf("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
        private val FIELDS =
            setOf(
                "input_height",
                "input_width",
                "color_order",
                "mean",
                "strides",
                "anchor_sizes",
                "variances",
                "landmark_names",
                "score_threshold",
                "iou_threshold",
                "max_candidates",
                "max_faces",
                "quantization",
                "ap",
                "source",
                "format_version",
            )

        /**
         * Reads the spec out of a whole .tflite file.
         *
         * @param name what to call the file in errors.
         * @throws SpecException not a TFLite model, or metadata absent or invalid.
         */
        fun read(
            model: ByteBuffer,
            name: String,
        ): ModelSpec {
            val isModel = model.limit() >= 8 && "TFL3".indices.all { model.get(4 + it) == "TFL3"[it].code.toByte() }
            if (!isModel) throw SpecException("$name: not a TFLite model (${model.limit()} bytes, no TFL3 at byte 4)")
            val bytes = ZipTail.read(model, FILE)
            val text = bytes?.let(::utf8)
            return fromJson(
                text ?: throw SpecException(
                    "$name: no readable $FILE in the file; export it with quantization/convert.py (or it is truncated)",
                ),
                name,
            )
        }

        private fun utf8(bytes: ByteArray): String? =
            try {
                val text: CharBuffer = Charsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes))
                text.toString()
            } catch (_: CharacterCodingException) {
                null
            }

        /**
         * Parses and checks the document, by the rules of `spec_from_json` in Python.
         *
         * @throws SpecException not JSON, unknown or missing fields, or values out of range.
         */
        fun fromJson(
            text: String,
            name: String,
        ): ModelSpec {
            val document =
                try {
                    Json.parse(text)
                } catch (e: IllegalArgumentException) {
                    throw SpecException("$name: $FILE is not valid JSON (${e.message})")
                }
            val data = document as? Map<*, *> ?: throw SpecException("$name: $FILE: expected an object")
            return Checker(data, name).spec()
        }
    }

    /** The checks, one per field; `need` gives the one-line error. */
    private class Checker(
        private val data: Map<*, *>,
        private val name: String,
    ) {
        private fun need(
            ok: Boolean,
            what: () -> String,
        ) {
            if (!ok) throw SpecException("$name: $FILE: ${what()}")
        }

        private fun whole(
            value: Any?,
            most: Int,
        ): Int? = (value as? Double)?.takeIf { it > 0 && it <= most && it == Math.floor(it) }?.toInt()

        private fun numbers(value: Any?): List<Double>? {
            val list = value as? List<*> ?: return null
            return list.map { (it as? Double)?.takeIf { number -> !number.isInfinite() } ?: return null }
        }

        private fun positiveInt(
            key: String,
            most: Int,
        ): Int {
            val value = whole(data[key], most)
            need(value != null) { "$key is ${data[key]}, expected a whole number from 1 to $most" }
            return value!!
        }

        private fun side(key: String): Int {
            val value = positiveInt(key, 8192)
            need(value % 32 == 0) { "$key is $value, expected a multiple of 32 up to 8192" }
            return value
        }

        private fun fraction(key: String): Double {
            val value = data[key] as? Double
            need(value != null && value > 0 && value < 1) { "$key is ${data[key]}, expected a number in (0, 1)" }
            return value!!
        }

        private fun text(key: String): String {
            val value = data[key] as? String
            need(value != null) { "$key is ${data[key]}, expected text" }
            return value!!
        }

        private fun strides(): List<Int> {
            val value = (data["strides"] as? List<*>)?.map { whole(it, 256) ?: 0 }.orEmpty()
            need(value.size in 1..8 && value.all { it > 0 } && value == value.distinct().sorted()) {
                "strides are ${data["strides"]}, expected increasing whole numbers"
            }
            return value
        }

        private fun anchorSizes(levels: Int): List<List<Double>> {
            val value = (data["anchor_sizes"] as? List<*>)?.map { numbers(it).orEmpty() }.orEmpty()
            val ok = value.all { level -> level.size in 1..16 && level.all { it > 0 && it <= 8192 } }
            need(ok && value.size == levels) {
                "anchor_sizes are ${data["anchor_sizes"]}, expected a list of sizes in pixels for each of $levels strides"
            }
            return value
        }

        fun spec(): ModelSpec {
            val version = data["format_version"]
            need(version == FORMAT_VERSION) { "format_version is $version, this runtime reads 1" }
            val found = data.keys - ANTIALIAS
            need(found == FIELDS) { "fields missing: ${FIELDS - found}, unknown: ${found - FIELDS}" }
            val antialias = if (ANTIALIAS in data.keys) data[ANTIALIAS] else false
            need(antialias is Boolean) { "antialias is $antialias, expected true or false" }
            need(data["color_order"] == "BGR") { "color_order is ${data["color_order"]}, expected BGR" }
            need(data["landmark_names"] == LANDMARKS) { "landmark_names are not $LANDMARKS" }
            need(data["ap"] is Map<*, *>) { "ap is ${data["ap"]}, expected an object" }
            val mean = numbers(data["mean"]).orEmpty()
            need(mean.size == 3 && mean.all { it in 0.0..255.0 }) {
                "mean is ${data["mean"]}, expected 3 numbers in 0-255"
            }
            val variances = numbers(data["variances"]).orEmpty()
            need(variances.size == 2 && variances.all { it > 0 && it <= 10 }) {
                "variances are ${data["variances"]}, expected 2 positive numbers"
            }
            val strides = strides()
            return ModelSpec(
                inputHeight = side("input_height"),
                inputWidth = side("input_width"),
                mean = mean,
                strides = strides,
                anchorSizes = anchorSizes(strides.size),
                variances = variances,
                antialias = antialias as Boolean,
                scoreThreshold = fraction("score_threshold"),
                iouThreshold = fraction("iou_threshold"),
                maxCandidates = positiveInt("max_candidates", 1_000_000),
                maxFaces = positiveInt("max_faces", 1_000_000),
                quantization = text("quantization"),
                source = text("source"),
            )
        }
    }
}
