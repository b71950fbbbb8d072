package org.retinaface.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import java.io.ByteArrayOutputStream
import java.nio.ByteBuffer
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

class ModelSpecTest {
    @Test
    fun readsEveryField() {
        val spec = ModelSpec.fromJson(specJson(), "m")
        assertEquals(64, spec.inputHeight)
        assertEquals(96, spec.inputWidth)
        assertEquals(listOf(104.0, 117.0, 123.0), spec.mean)
        assertEquals(listOf(8, 16, 32), spec.strides)
        assertEquals(listOf(listOf(16.0, 32.0), listOf(64.0, 128.0), listOf(256.0, 512.0)), spec.anchorSizes)
        assertEquals(listOf(0.1, 0.2), spec.variances)
        assertEquals(0.5, spec.scoreThreshold, 0.0)
        assertEquals(0.4, spec.iouThreshold, 0.0)
        assertEquals(5000, spec.maxCandidates)
        assertEquals(750, spec.maxFaces)
        assertEquals("int8-ptq", spec.quantization)
        assertEquals("größe \"x\"", spec.source)
    }

    @Test
    fun antialiasMayBeMissing() {
        assertFalse(ModelSpec.fromJson(specJson(), "m").antialias)
        for (value in listOf(true, false)) {
            val text = specJson().replace("\"max_faces\"", "\"antialias\": $value, \"max_faces\"")
            assertEquals(value, ModelSpec.fromJson(text, "m").antialias)
        }
        for (value in listOf("null", "1", "\"true\"")) {
            val text = specJson().replace("\"max_faces\"", "\"antialias\": $value, \"max_faces\"")
            val error = assertThrows(value, SpecException::class.java) { ModelSpec.fromJson(text, "m") }
            assertTrue(error.message, error.message!!.startsWith("m: retinaface.json: antialias is "))
        }
    }

    @Test
    fun wrongFieldsAreNamedInOneLine() {
        val wrong =
            mapOf(
                "\"input_height\": 64" to "\"input_height\": 65",
                "\"input_width\": 96" to "\"input_width\": 0",
                "\"color_order\": \"BGR\"" to "\"color_order\": \"RGB\"",
                "\"mean\": [104, 117, 123]" to "\"mean\": [104, 117, 1e999]",
                "\"strides\": [8, 16, 32]" to "\"strides\": [16, 8, 32]",
                "\"anchor_sizes\": [[16, 32]" to "\"anchor_sizes\": [[]",
                "\"variances\": [0.1, 0.2]" to "\"variances\": [0.1, 0]",
                "\"score_threshold\": 0.5" to "\"score_threshold\": 1",
                "\"iou_threshold\": 0.4" to "\"iou_threshold\": true",
                "\"max_faces\": 750" to "\"max_faces\": 7.5",
                "\"max_candidates\": 5000" to "\"max_candidates\": -1",
                "\"quantization\": \"int8-ptq\"" to "\"quantization\": null",
                "\"format_version\": 1" to "\"format_version\": 2",
            )
        for ((right, bad) in wrong) {
            val text = specJson().replace(right, bad)
            assertTrue(right, text != specJson())
            val error = assertThrows(bad, SpecException::class.java) { ModelSpec.fromJson(text, "m.tflite") }
            val field = right.substringAfter('"').substringBefore('"')
            assertTrue(error.message, error.message!!.startsWith("m.tflite: retinaface.json: $field"))
            assertEquals(1, error.message!!.lines().size)
        }
    }

    @Test
    fun missingAndUnknownFieldsAreNamed() {
        val text = specJson().replace("max_faces", "max_face")
        val error = assertThrows(SpecException::class.java) { ModelSpec.fromJson(text, "m") }
        assertEquals("m: retinaface.json: fields missing: [max_faces], unknown: [max_face]", error.message)
    }

    @Test
    fun brokenJsonSaysWhere() {
        for (text in listOf("", "{", "[1,]", "{\"a\" 1}", "{} x", "nul", "\"\\q\"", "01", "[".repeat(100))) {
            val error = assertThrows(text, SpecException::class.java) { ModelSpec.fromJson(text, "m") }
            assertTrue(error.message, error.message!!.startsWith("m: retinaface.json is not valid JSON ("))
        }
    }

    @Test
    fun jsonValues() {
        assertEquals(
            listOf(1.0, -2.5e3, true, false, null, emptyList<Any>(), emptyMap<String, Any>()),
            Json.parse(VALUES),
        )
        assertEquals("a\n\t\"\\/é", Json.parse("\"a\\n\\t\\\"\\\\\\/\\u00e9\""))
    }

    @Test
    fun specIsFoundBehindTheModel() {
        for (method in listOf(ZipEntry.STORED, ZipEntry.DEFLATED)) {
            val spec = ModelSpec.read(ByteBuffer.wrap(modelFile(method)), "m")
            assertEquals(96, spec.inputWidth)
        }
    }

    @Test
    fun damagedFilesGiveAClearError() {
        val whole = modelFile(ZipEntry.DEFLATED)
        for (length in 8 until whole.size) {
            val cut = ByteBuffer.wrap(whole.copyOf(length))
            val error = assertThrows(SpecException::class.java) { ModelSpec.read(cut, "m") }
            assertTrue(error.message, error.message!!.startsWith("m: no readable retinaface.json in the file"))
        }
        val notModel = assertThrows(SpecException::class.java) { ModelSpec.read(ByteBuffer.wrap(ByteArray(20)), "m") }
        assertEquals("m: not a TFLite model (20 bytes, no TFL3 at byte 4)", notModel.message)
        assertNull(ZipTail.read(ByteBuffer.wrap(whole), "another.json"))
    }

    @Test
    fun everyChangedByteIsNoticedOrHarmless() {
        val whole = modelFile(ZipEntry.STORED)
        for (i in MODEL_SIZE until whole.size) {
            val bytes = whole.clone()
            bytes[i] = (bytes[i] + 1).toByte()
            val read = ZipTail.read(ByteBuffer.wrap(bytes), ModelSpec.FILE) ?: continue
            assertArrayEquals("byte $i", specJson().toByteArray(), read)
        }
    }

    private fun modelFile(method: Int): ByteArray {
        val archive = ByteArrayOutputStream()
        archive.write(ByteArray(MODEL_SIZE) { if (it in 4..7) "TFL3"[it - 4].code.toByte() else 1 })
        val zip = ByteArrayOutputStream()
        ZipOutputStream(zip).use {
            val content = specJson().toByteArray()
            val entry = ZipEntry(ModelSpec.FILE)
            if (method == ZipEntry.STORED) {
                entry.method = method
                entry.size = content.size.toLong()
                entry.crc =
                    java.util.zip
                        .CRC32()
                        .apply { update(content) }
                        .value
            }
            it.putNextEntry(entry)
            it.write(content)
        }
        return archive.toByteArray() + shifted(zip.toByteArray())
    }

    /** Moves the archive's offsets by the model's size, as Python's zipfile does when it appends. */
    private fun shifted(zip: ByteArray): ByteArray {
        val bytes = ByteBuffer.wrap(zip).order(java.nio.ByteOrder.LITTLE_ENDIAN)
        val end = zip.size - 22
        val directory = bytes.getInt(end + 16)
        bytes.putInt(end + 16, directory + MODEL_SIZE)
        bytes.putInt(directory + 42, bytes.getInt(directory + 42) + MODEL_SIZE)
        return zip
    }

    private companion object {
        const val MODEL_SIZE = 100
        const val VALUES = " [1, -2.5e3 , true,false, null, [], { } ] "
    }
}

internal fun specJson(): String =
    """
    {"input_height": 64, "input_width": 96, "color_order": "BGR", "mean": [104, 117, 123], "strides": [8, 16, 32],
     "anchor_sizes": [[16, 32], [64, 128], [256, 512]], "variances": [0.1, 0.2],
     "landmark_names": ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"],
     "score_threshold": 0.5, "iou_threshold": 0.4, "max_candidates": 5000, "max_faces": 750,
     "quantization": "int8-ptq", "ap": {}, "source": "größe \"x\"", "format_version": 1}
    """.trimIndent()
