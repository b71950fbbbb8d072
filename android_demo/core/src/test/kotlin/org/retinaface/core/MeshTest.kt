package org.retinaface.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import java.io.ByteArrayOutputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import kotlin.math.cos
import kotlin.math.sin

class MeshTest {
    private val spec = ModelSpec.fromJson(specJson(), "test")

    /** float16 of some numbers that have few digits. */
    private val halves =
        mapOf(0f to 0, 1f to 0x3c00, -2f to 0xc000, 0.5f to 0x3800, 0.25f to 0x3400, -0.25f to 0xb400, 3f to 0x4200)

    /** A mean face whose first vertices are given, and one shape likewise; all others are 0. */
    private fun bytes(
        mean: List<Float>,
        shape: List<Float>,
    ): ByteArray {
        val buffer = ByteBuffer.allocate(2 * 2 * 3 * VERTICES).order(ByteOrder.LITTLE_ENDIAN)
        mean.forEachIndexed { i, value -> buffer.putShort(2 * i, halves.getValue(value).toShort()) }
        shape.forEachIndexed { i, value -> buffer.putShort(2 * (3 * VERTICES + i), halves.getValue(value).toShort()) }
        return buffer.array()
    }

    private fun basis(
        mean: List<Float> = listOf(0.5f, -0.25f, 0.25f, -2f, 1f, 0f, 1f, 3f, -0.25f),
        shape: List<Float> = listOf(1f, 0f, -2f),
    ) = MeshBasis.fromBytes(bytes(mean, shape), "m")

    private fun file(contents: ByteArray): ByteArray {
        val zip = ByteArrayOutputStream()
        ZipOutputStream(zip).use {
            it.putNextEntry(ZipEntry(MeshBasis.FILE))
            it.write(contents)
        }
        return zip.toByteArray()
    }

    /** The outputs of [Outputs] and mesh outputs of one coefficient, 0 but for one anchor of level 16. */
    private class MeshOutputs(
        faces: Outputs,
        coefficient: Float,
    ) {
        private val cells = listOf(8 to 96, 16 to 24, 32 to 6)
        val infos =
            faces.infos +
                cells.map { (stride, cells) ->
                    "mesh_$stride" to TensorInfo(listOf(1, cells, 2), ElementType.FLOAT32, 0f, 0)
                }
        val buffers =
            faces.buffers +
                cells.map { (stride, cells) ->
                    "mesh_$stride" to ByteBuffer.allocate(cells * 2 * 4).order(ByteOrder.nativeOrder())
                }

        init {
            buffers.getValue("mesh_16").putFloat(3 * 4, coefficient)
        }
    }

    /** Answers every picture alike. */
    private class FixedModel(
        override val outputs: Map<String, TensorInfo>,
        private val answer: Map<String, ByteBuffer>,
    ) : FaceModel {
        override val input = TensorInfo(listOf(1, 64, 96, 3), ElementType.INT8, 1f, 0)

        override fun resize(shape: Shape) = false

        override fun run(input: ByteBuffer) = answer

        override fun close() = Unit
    }

    private fun meshes(
        basis: MeshBasis,
        outputs: MeshOutputs,
        anchor: Int,
        vararg box: Float,
    ) = MeshDecoder(basis, spec, spec.shape, outputs.infos, "m").decode(outputs.buffers, anchor, box, 0, 0.5)

    private fun angles(pose: Pose) = floatArrayOf(pose.yaw, pose.pitch, pose.roll)

    @Test
    fun halvesAreRead() {
        val buffer = ByteBuffer.allocate(2 * 2 * 3 * VERTICES).order(ByteOrder.LITTLE_ENDIAN)
        listOf(0x0001, 0x8001, 0x03ff, 0x0400, 0x3c01, 0x7bff, 0xfbff, 0x8000).forEach { buffer.putShort(it.toShort()) }
        val found = MeshBasis.fromBytes(buffer.array(), "m").inBoxUnits(floatArrayOf(0f))
        val tiny = Math.scalb(1.0, -24)
        val wanted = doubleArrayOf(tiny, -tiny, 1023 * tiny, 1024 * tiny, 1 + 1 / 1024.0, 65504.0, -65504.0, 0.0)
        assertArrayEquals(wanted, found.copyOf(8), 0.0)
    }

    @Test
    fun theBasisIsFoundBesideTheSpec() {
        val whole = file(bytes(listOf(1f), listOf(-2f)))
        val basis = MeshBasis.read(ByteBuffer.wrap(whole), "m")!!
        assertEquals(1, basis.coefficients)
        assertArrayEquals(doubleArrayOf(0.0, 0.0), basis.inBoxUnits(floatArrayOf(0.5f)).copyOf(2), 0.0)
        assertNull(MeshBasis.read(ByteBuffer.wrap(ByteArray(100)), "m"))
        val other = whole.map { if (it == 'f'.code.toByte()) 'g'.code.toByte() else it }.toByteArray()
        assertNull(MeshBasis.read(ByteBuffer.wrap(other), "m"))
        whole[45] = (whole[45] + 1).toByte() // among the contents
        val error = assertThrows(SpecException::class.java) { MeshBasis.read(ByteBuffer.wrap(whole), "m") }
        assertEquals("m: no readable mesh.f16 in the file, though it is listed", error.message)
    }

    @Test
    fun wrongBasesAreRefused() {
        val one = 2 * 3 * VERTICES
        for (size in listOf(0, one, 2 * one - 1, 66 * one)) {
            val error =
                assertThrows(SpecException::class.java) {
                    MeshBasis.read(ByteBuffer.wrap(file(ByteArray(size))), "m")
                }
            assertEquals(
                "m: mesh.f16 has $size bytes, expected 2808 for each of 2 to 65 shapes of 468 vertices",
                error.message,
            )
        }
        for (bits in listOf(0x7c00, 0xfc00, 0x7e00)) {
            val contents = ByteBuffer.allocate(2 * one).order(ByteOrder.LITTLE_ENDIAN).putShort(one, bits.toShort())
            val error = assertThrows(SpecException::class.java) { MeshBasis.fromBytes(contents.array(), "m") }
            assertEquals("m: mesh.f16 holds numbers that are not finite", error.message)
        }
    }

    @Test
    fun verticesByHand() {
        val outputs = MeshOutputs(Outputs(ElementType.INT8, 1f, 0), 0.5f)
        // Anchor 3 of level 16. Sides 16 and 4, so a unit of 8; centre (12, 2).
        val (mesh, _) = meshes(basis(), outputs, 192 + 3, 4f, 0f, 20f, 4f)
        assertEquals(3 * VERTICES, mesh.size)
        val first = floatArrayOf(12f + 8 * (0.5f + 0.5f), 2f - 8 * 0.25f, 8 * (0.25f - 1f))
        val second = floatArrayOf(12f - 16f, 2f + 8f, 0f)
        assertArrayEquals((first + second).map { it * 2 }.toFloatArray(), mesh.copyOf(6), 1e-5f)
        assertArrayEquals(floatArrayOf(24f, 4f, 0f), mesh.copyOfRange(9, 12), 1e-5f)
        // Another anchor has the coefficient 0.
        val (plain, pose) = meshes(basis(), outputs, 192 + 2, 4f, 0f, 20f, 4f)
        assertEquals(2 * (12f + 8 * 0.5f), plain[0], 1e-5f)
        assertArrayEquals(FloatArray(3), angles(pose), 1e-4f)
    }

    @Test
    fun coefficientsThatAreNoNumbersOrTooLarge() {
        fun firstOf(coefficient: Float): Float {
            val outputs = MeshOutputs(Outputs(ElementType.INT8, 1f, 0), coefficient)
            return meshes(basis(), outputs, 192 + 3, -1f, -1f, 1f, 1f).first[0]
        }
        assertEquals(2 * 2 * 0.5f, firstOf(Float.NaN), 1e-5f)
        assertEquals(2 * 2 * 1000.5f, firstOf(Float.POSITIVE_INFINITY), 1e-3f)
        assertEquals(2 * 2 * -999.5f, firstOf(-1e30f), 1e-3f)
    }

    @Test
    fun meshesAreFinite() {
        val outputs = MeshOutputs(Outputs(ElementType.INT8, 1f, 0), 1f)
        val (mesh, pose) = meshes(basis(), outputs, 192 + 3, 3e38f, -3e38f, 3e38f, -3e38f)
        assertTrue(mesh.all(Float::isFinite))
        assertEquals(Float.MAX_VALUE, mesh[0], 0f)
        assertTrue(angles(pose).all(Float::isFinite))
        val flat = basis(emptyList(), emptyList())
        assertArrayEquals(FloatArray(3), angles(flat.pose(DoubleArray(3 * VERTICES))), 0f)
    }

    @Test
    fun turnsInThePictureAndInDepth() {
        val mean = basis().inBoxUnits(floatArrayOf(0f))
        val (c, s) = cos(0.5) to sin(0.5)

        fun turned(
            a: Int,
            b: Int,
        ): FloatArray {
            val mesh = DoubleArray(mean.size) { 7 * mean[it] }
            for (i in mesh.indices step 3) {
                mesh[i + a] = 7 * (c * mean[i + a] - s * mean[i + b]) + 30
                mesh[i + b] = 7 * (s * mean[i + a] + c * mean[i + b]) - 5
            }
            return angles(basis().pose(mesh))
        }
        val angle = Math.toDegrees(0.5).toFloat()
        assertArrayEquals(floatArrayOf(0f, 0f, angle), turned(0, 1), 1e-4f) // x to y: clockwise, as y grows downwards
        assertArrayEquals(floatArrayOf(angle, 0f, 0f), turned(0, 2), 1e-4f) // x to depth: −z, the nose, to the right
        assertArrayEquals(floatArrayOf(0f, -angle, 0f), turned(1, 2), 1e-4f) // y to depth: the nose down
    }

    @Test
    fun axesOfPoses() {
        assertArrayEquals(floatArrayOf(1f, 0f, 0f, 1f, 0f, 0f), Pose(0f, 0f, 0f).axes(), 1e-6f)
        assertArrayEquals(floatArrayOf(0f, 0f, 0f, 1f, 1f, 0f), Pose(90f, 0f, 0f).axes(), 1e-6f)
        assertArrayEquals(floatArrayOf(1f, 0f, 0f, 0f, 0f, -1f), Pose(0f, 90f, 0f).axes(), 1e-6f)
        assertArrayEquals(floatArrayOf(0f, 1f, -1f, 0f, 0f, 0f), Pose(0f, 0f, 90f).axes(), 1e-6f)
    }

    @Test
    fun facesGetMeshesWhereTheModelHasThem() {
        val faces = Outputs(ElementType.INT8, 0.5f, 0)
        faces.set("score_16", 3, 4)
        val outputs = MeshOutputs(faces, 0.5f)

        val image = ArgbImage(192, 128)
        val model = FixedModel(outputs.infos, outputs.buffers)
        val without = FaceDetector(model, spec, "m").detect(image).faces.single()
        assertNull(without.mesh)
        assertNull(without.pose)
        val face = FaceDetector(model, spec, "m", basis = basis()).detect(image).faces.single()
        // Anchor 3 of level 16: centre (24, 8), size 128, clipped to the picture; x = (24 + 128·(0.5 + 0.5·1)) / 0.5.
        assertArrayEquals(floatArrayOf(0f, 0f), floatArrayOf(face.x1, face.y1), 0f)
        assertEquals(304f, face.mesh!![0], 1e-3f)
        assertEquals(without.x2, face.x2, 0f)
        val marks = marks(listOf(face), ViewTransform(192, 128, 96, 64), 1f)
        val points = marks.filterIsInstance<Mark.Points>().single()
        assertEquals(2 * VERTICES, points.places.size)
        assertArrayEquals(floatArrayOf(152f, face.mesh[1] / 2), points.places.copyOf(2), 1e-3f)
        assertEquals(emptyList<Mark>(), marks.filterIsInstance<Mark.Dot>())
        val axes = marks.filterIsInstance<Mark.Axis>()
        assertEquals(listOf(0, 1, 2), axes.map { it.index })
        val ends = face.pose!!.axes()
        // Half the longer side, in the view.
        val length = maxOf(face.x2, face.y2) / 4
        for ((i, axis) in axes.withIndex()) {
            val along = floatArrayOf(axis.x2 - axis.x1, axis.y2 - axis.y1)
            assertArrayEquals(floatArrayOf(ends[2 * i] * length, ends[2 * i + 1] * length), along, 1e-3f)
        }
        val bare = FixedModel(faces.infos, faces.buffers)
        val error = assertThrows(SpecException::class.java) { FaceDetector(bare, spec, "m", basis = basis()) }
        assertEquals(
            "m: output mesh_8 has null values, expected 192; export it with quantization/convert.py",
            error.message,
        )
    }
}
