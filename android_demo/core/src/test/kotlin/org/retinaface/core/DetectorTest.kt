package org.retinaface.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import java.nio.ByteBuffer
import java.util.Collections
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit

class DetectorTest {
    private val spec = ModelSpec.fromJson(specJson(), "test")

    /** Answers every input with the same outputs and keeps the last input. */
    private class FixedModel(
        val fixed: Outputs,
        shape: List<Int>,
    ) : FaceModel {
        override val input = TensorInfo(shape, ElementType.INT8, 1f, 0)
        override val outputs = fixed.infos
        var last = ByteArray(0)
        var closed = false

        override fun resize(shape: Shape) = false

        override fun run(input: ByteBuffer): Map<String, ByteBuffer> {
            last = ByteArray(input.remaining()).also { input.duplicate().get(it) }
            return fixed.buffers
        }

        override fun close() {
            closed = true
        }
    }

    @Test
    fun pictureToFaces() {
        val outputs = Outputs(ElementType.INT8, 0.5f, 0)
        outputs.set("score_16", 0, 4)
        val model = FixedModel(outputs, listOf(1, 64, 96, 3))
        val detector = FaceDetector(model, spec, "test")
        for (side in listOf(192 to 128, 96 to 64, 192 to 128)) {
            val (width, height) = side
            val found = detector.detect(ArgbImage(width, height))
            val face = found.faces.single()
            val factor = width / 96f
            // Anchor 0 of level 16: centre (8, 8), size 64, zero deltas.
            assertArrayEquals(
                floatArrayOf(0f, 0f, 40f * factor, 40f * factor),
                face.run { floatArrayOf(x1, y1, x2, y2) },
                0f,
            )
            assertEquals(0.880797f, face.score, 1e-6f)
            assertTrue(found.times.preprocess > 0 && found.times.inference >= 0 && found.times.postprocess > 0)
        }
        // A black picture: 0 − mean at scale 1.
        assertArrayEquals(byteArrayOf(-104, -117, -123), model.last.copyOf(3))
        assertEquals(0, detector.detect(ArgbImage(96, 64), scoreThreshold = 0.9).faces.size)
        detector.close()
        assertTrue(model.closed)
    }

    @Test
    fun inputMustFitTheSpec() {
        val model = FixedModel(Outputs(ElementType.INT8, 1f, 0), listOf(1, 96, 64, 3))
        val error = assertThrows(SpecException::class.java) { FaceDetector(model, spec, "m") }
        assertEquals("m: input is [1, 96, 64, 3], expected [1, 64, 96, 3]", error.message)
    }

    /** A network without faces at any shape or at its own only; [follows] false: its outputs stay as they are. */
    private inner class AnyShapeModel(
        private val resizes: Boolean,
        private val follows: Boolean = true,
    ) : FaceModel {
        var shapes = listOf(spec.shape)
        override val input get() =
            shapes.last().run {
                TensorInfo(
                    listOf(1, height, width, 3),
                    ElementType.INT8,
                    1f,
                    0,
                )
            }
        override val outputs get() = infos(if (follows) shapes.last() else spec.shape)

        private fun infos(shape: Shape) =
            listOf(8, 16, 32)
                .flatMap { stride ->
                    listOf("score" to 1, "box" to 4, "landmark" to 10).map { (kind, width) ->
                        val cells = featureSize(shape.height, stride) * featureSize(shape.width, stride)
                        "${kind}_$stride" to TensorInfo(listOf(1, cells, 2 * width), ElementType.INT8, 1f, 127)
                    }
                }.toMap()

        override fun resize(shape: Shape): Boolean {
            if (resizes) shapes = shapes + shape
            return resizes
        }

        override fun run(input: ByteBuffer): Map<String, ByteBuffer> {
            assertEquals(this.input.byteSize, input.remaining())
            return outputs.mapValues { ByteBuffer.allocate(it.value.byteSize) }
        }

        override fun close() = Unit
    }

    private fun detectAll(
        model: AnyShapeModel,
        size: Shape = spec.shape,
    ): List<Shape> {
        val detector = FaceDetector(model, spec, "test", size)
        for ((width, height) in listOf(960 to 640, 640 to 640, 640 to 640, 100 to 900)) {
            assertEquals(0, detector.detect(ArgbImage(width, height)).faces.size)
        }
        return model.shapes
    }

    @Test
    fun picturesAreAnalysedAtTheirOwnShape() {
        // Own 64×96: 960×640 fills it, a square needs 64×64, and so does a narrow picture.
        assertEquals(listOf(Shape(64, 96), Shape(64, 64)), detectAll(AnyShapeModel(resizes = true)))
        val large = detectAll(AnyShapeModel(resizes = true), Shape(256, 192))
        assertEquals(listOf(Shape(64, 96), Shape(160, 192), Shape(192, 192), Shape(256, 128)), large)
    }

    @Test
    fun modelsOfOneShapeKeepIt() {
        assertEquals(listOf(spec.shape), detectAll(AnyShapeModel(resizes = false)))
        // Refused by what comes out of it: back to the own shape for good.
        val broken = detectAll(AnyShapeModel(resizes = true, follows = false))
        assertEquals(listOf(Shape(64, 96), Shape(64, 64), Shape(64, 96)), broken)
    }

    @Test
    fun thePoolLendsWhatFits() {
        val dropped = ArrayList<Int>()
        val pool = Pool<Int>(2, dropped::add)
        assertEquals(null, pool.take { true })
        listOf(1, 2, 3).forEach(pool::giveBack)
        assertEquals(listOf(3), dropped)
        assertEquals(2, pool.take { it % 2 == 0 })
        assertEquals(listOf(3, 1), dropped)
        assertEquals(null, pool.take { true })
    }

    @Test
    fun marksFollowThePicture() {
        val face = Face(0, 10f, 20f, 30f, 60f, 0.876f, FloatArray(10) { 10f + it })
        val transform = ViewTransform(100, 100, 400, 200, mirrored = true)
        assertArrayEquals(floatArrayOf(100f, 0f, 300f, 200f), transform.frame(), 0f)
        val marks = marks(listOf(face), transform, 1f)
        assertEquals(7, marks.size)
        val box = marks[0] as Mark.Box
        // Mirrored about the middle of the picture: x = 300 − 2·image x.
        assertArrayEquals(
            floatArrayOf(240f, 40f, 280f, 120f),
            floatArrayOf(box.left, box.top, box.right, box.bottom),
            0f,
        )
        val dot = marks[1] as Mark.Dot
        assertArrayEquals(floatArrayOf(280f, 22f), floatArrayOf(dot.x, dot.y), 0f)
        val label = marks[6] as Mark.Label
        assertEquals("88 %", label.text)
        assertEquals(36f, label.y, 0f)
    }

    @Test
    fun labelsStayInTheView() {
        val face = Face(0, 0f, 2f, 30f, 60f, 1f, FloatArray(10))
        val label = marks(listOf(face), ViewTransform(100, 100, 100, 100), 1f).last() as Mark.Label
        assertEquals(16f, label.y, 0f)
    }

    @Test
    fun workerKeepsOnlyTheNewest() {
        val started = CountDownLatch(1)
        val go = CountDownLatch(1)
        val done = Collections.synchronizedList(ArrayList<Int>())
        val dropped = Collections.synchronizedList(ArrayList<Int>())
        val failures = Collections.synchronizedList(ArrayList<String?>())
        val finished = CountDownLatch(1)
        val worker =
            LatestWorker<Int>(
                "test",
                process = {
                    started.countDown()
                    go.await(10, TimeUnit.SECONDS)
                    done.add(it)
                    if (it == 4) {
                        finished.countDown()
                        error("four")
                    }
                },
                discard = { dropped.add(it) },
                failed = { failures.add(it.message) },
                finish = { done.add(-1) },
            )
        worker.offer(1)
        assertTrue(started.await(10, TimeUnit.SECONDS))
        (2..4).forEach(worker::offer)
        assertEquals(listOf(2, 3), dropped.toList())
        go.countDown()
        assertTrue(finished.await(10, TimeUnit.SECONDS))
        worker.close()
        worker.offer(5)
        assertTrue(worker.join(10_000))
        assertEquals(listOf(1, 4, -1), done.toList())
        assertEquals(listOf(2, 3, 5), dropped.toList())
        assertEquals(listOf<String?>("four"), failures.toList())
    }

    @Test
    fun frameRate() {
        val rate = FrameRate(window = 2)
        assertEquals(0.0, rate.tick(0), 0.0)
        assertEquals(10.0, rate.tick(100_000_000), 1e-9)
        assertEquals(10.0, rate.tick(200_000_000), 1e-9)
        // Only the last two steps count.
        assertEquals(2 / 0.5, rate.tick(600_000_000), 1e-9)
    }
}
