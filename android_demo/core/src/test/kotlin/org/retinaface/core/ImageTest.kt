package org.retinaface.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertSame
import org.junit.Assert.assertThrows
import org.junit.Test
import java.nio.ByteBuffer
import java.util.Random
import kotlin.math.abs
import kotlin.math.roundToInt

class ImageTest {
    private val mean = listOf(104.0, 117.0, 123.0)

    private fun noise(
        width: Int,
        height: Int,
    ): ArgbImage {
        val random = Random(1)
        return ArgbImage(width, height, IntArray(width * height) { random.nextInt() })
    }

    private fun grey(vararg values: Int) = IntArray(values.size) { OPAQUE or values[it] * 0x010101 }

    /** The picture inside the network's input: a table that changes nothing but the sign. */
    private fun letterboxed(
        image: ArgbImage,
        width: Int,
        height: Int,
        antialias: Boolean = false,
    ): ArgbImage {
        val table = InputTable(List(3) { 0.0 }, TensorInfo(emptyList(), ElementType.INT8, 1f, -128))
        val out = table.allocate(Shape(height, width))
        Letterbox(image.width, image.height, width, height, fillColour(mean), antialias).write(image, table, out)
        assertEquals(0, out.position())

        fun byte(i: Int) = out.get(i) + 128

        fun pixel(i: Int) = OPAQUE or (byte(3 * i + 2) shl 16) or (byte(3 * i + 1) shl 8) or byte(3 * i)
        return ArgbImage(width, height, IntArray(width * height, ::pixel))
    }

    private fun value(
        image: ArgbImage,
        x: Int,
        y: Int,
        channel: Int = 0,
    ) = (image.pixels[y * image.width + x] shr (8 * channel)) and 0xff

    @Test
    fun geometry() {
        val wide = Letterbox(1000, 500, 640, 640, 0)
        assertEquals(0.64, wide.scale, 0.0)
        assertEquals(640 to 320, wide.columns to wide.rows)
        val thin = Letterbox(1, 5000, 640, 320, 0)
        assertEquals(1 to 320, thin.columns to thin.rows)
    }

    @Test
    fun shapesHoldThePicture() {
        val own = Shape(640, 640)
        assertEquals(Shape(480, 640), autoShape(480, 640, own))
        assertEquals(Shape(640, 480), autoShape(640, 480, own))
        assertEquals(Shape(384, 640), autoShape(720, 1280, own))
        assertEquals(Shape(384, 640), autoShape(1, 5000, own))
        // 6000·640 / 10000 = 384 exactly; a row more needs the next shape.
        assertEquals(Shape(384, 640), autoShape(6000, 10000, own))
        assertEquals(Shape(448, 640), autoShape(6001, 10000, own))
        assertEquals(Shape(640, 640), autoShape(7501, 10000, own))
        assertEquals(Shape(256, 320), autoShape(480, 640, Shape(320, 320)))
    }

    @Test
    fun sameSizeIsACopy() {
        val image = noise(32, 32)
        val out = letterboxed(image, 32, 32)
        assertArrayEquals(IntArray(32 * 32) { image.pixels[it] or OPAQUE }, out.pixels)
    }

    @Test
    fun theRestIsMean() {
        val out = letterboxed(noise(20, 10), 32, 64)
        for (y in 16 until 64) for (x in 0 until 32) assertEquals(117, value(out, x, y, 1))
        val tall = letterboxed(noise(10, 20), 64, 32)
        for (y in 0 until 32) for (x in 16 until 64) assertEquals(123, value(tall, x, y, 2))
        assertEquals(OPAQUE or 0x7b7568, fillColour(mean))
    }

    @Test
    fun halvingAverages() {
        val out = letterboxed(ArgbImage(4, 2, grey(0, 1, 2, 3, 4, 5, 6, 7)), 2, 1)
        // Pixels 0 1 4 5 and 2 3 6 7, rounded half up.
        assertEquals(listOf(3, 5), listOf(value(out, 0, 0), value(out, 1, 0)))
        // Each channel on its own, up to white.
        val colours = intArrayOf(0xff0003, 0xff0003, 0xff00ff, 0xff02ff)
        assertEquals(OPAQUE or 0xff0181, letterboxed(ArgbImage(2, 2, colours), 1, 1).pixels[0])
    }

    @Test
    fun antialiasHalvesAsLongAsItCan() {
        // 8×4 to 2×1: means of 2×2, then means of those.
        val image = ArgbImage(8, 4)
        image.pixels[1] = 62
        image.pixels[2] = 64
        val out = letterboxed(image, 2, 1, antialias = true)
        // (62 + 2) / 4 = 16 and 64 / 4 = 16, (16 + 16 + 2) / 4 = 8.
        assertEquals(listOf(8, 0), listOf(value(out, 0, 0), value(out, 1, 0)))
        // Nothing to halve below twice the size, and an odd rest goes.
        val odd = ArgbImage(5, 5, IntArray(25) { if (it / 5 == 4 || it % 5 == 4) -1 else 0 })
        val dropped = letterboxed(odd, 2, 2, antialias = true)
        assertArrayEquals(IntArray(4) { OPAQUE }, dropped.pixels)
        val same = letterboxed(image, 8, 4, antialias = true)
        assertArrayEquals(IntArray(32) { image.pixels[it] or OPAQUE }, same.pixels)
    }

    @Test
    fun doublingInterpolates() {
        val out = letterboxed(ArgbImage(2, 1, grey(0, 100)), 4, 2)
        assertEquals(listOf(0, 25, 75, 100), (0 until 4).map { value(out, it, 0) })
    }

    @Test
    fun anotherImageSizeIsRefused() {
        val letterbox = Letterbox(10, 10, 32, 32, 0)
        val table = InputTable(mean, TensorInfo(emptyList(), ElementType.INT8, 1f, 0))
        val out = table.allocate(Shape(32, 32))
        assertThrows(IllegalArgumentException::class.java) { letterbox.write(noise(11, 10), table, out) }
        val larger = table.allocate(Shape(64, 32))
        assertThrows(IllegalArgumentException::class.java) { letterbox.write(noise(10, 10), table, larger) }
    }

    @Test
    fun tableQuantizesHalfUp() {
        val table = InputTable(mean, TensorInfo(emptyList(), ElementType.INT8, 2f, -1))
        val input = table.allocate(Shape(1, 2))
        table.write(intArrayOf(0x7b7469, 0x0000ff), 0, 2, input)
        // (105 − 104)/2 = 0.5 → 1, (116 − 117)/2 = −0.5 → 0, 0; (255 − 104)/2 = 75.5 → 76, −58.5 → −58, −61.5 → −61.
        assertEquals(listOf(0, -1, -1, 75, -59, -62), (0 until 6).map { input.get(it).toInt() })
        assertEquals(6, input.position())
    }

    @Test
    fun tableClampsAndKeepsFloats() {
        val pixel = intArrayOf(1, 0x7b00ff)
        val small = InputTable(mean, TensorInfo(emptyList(), ElementType.INT8, 0.1f, 0))
        val bytes = small.allocate(Shape(1, 1))
        small.write(pixel, 1, 1, bytes)
        assertEquals(listOf<Byte>(127, -128, 0), (0 until 3).map { bytes.get(it) })
        val floats = InputTable(mean, TensorInfo(emptyList(), ElementType.FLOAT32, 0f, 0))
        val values = floats.allocate(Shape(1, 1))
        floats.write(pixel, 1, 1, values)
        assertEquals(listOf(151f, -117f, 0f), (0 until 3).map { values.getFloat(it * 4) })
    }

    @Test
    fun sizesMustFitThePixels() {
        assertThrows(IllegalArgumentException::class.java) { ArgbImage(2, 2, IntArray(3)) }
        assertThrows(IllegalArgumentException::class.java) { ArgbImage(0, 2) }
    }

    @Test
    fun facesBecomeSquares() {
        val image = noise(60, 40)
        val before = image.pixels.clone()
        // 20 wide, 24 high; with the margin x 7-33 and y 4-36 (whole pixels), squares of 32/6 → 6 pixels.
        pixelate(image, listOf(Face(0, 10f, 8f, 30f, 32f, 1f, FloatArray(10))))
        for (y in 0 until 40) {
            for (x in 0 until 60) {
                val at = y * 60 + x
                if (x in 7 until 33 && y in 4 until 36) {
                    val corner = (4 + (y - 4) / 6 * 6) * 60 + 7 + (x - 7) / 6 * 6
                    assertEquals("$x $y", image.pixels[corner], image.pixels[at])
                } else {
                    assertEquals("$x $y", before[at], image.pixels[at])
                }
            }
        }
        val blue = (0 until 36).map { before[(4 + it / 6) * 60 + 7 + it % 6] and 0xff }
        assertEquals(blue.sum() / 36, image.pixels[4 * 60 + 7] and 0xff)
        // Beyond the picture there is nothing to do, and nothing fails.
        val edge = Face(0, 50f, 30f, 60f, 40f, 1f, FloatArray(10))
        pixelate(image, listOf(edge, Face(0, 0f, 0f, 0f, 0f, 1f, FloatArray(10))))
    }

    /** Planes of a random image with padding between rows and between samples. */
    private fun planes(
        width: Int,
        height: Int,
        pixelStride: Int,
        padding: Int,
    ): List<YuvPlane> {
        val random = Random(width * 31L + pixelStride)
        return listOf(1, pixelStride, pixelStride).mapIndexed { i, step ->
            val columns = if (i == 0) width else (width + 1) / 2
            val rows = if (i == 0) height else (height + 1) / 2
            val stride = columns * step + padding
            // As Android does it, the last row ends with its last sample.
            val bytes = ByteArray(stride * (rows - 1) + (columns - 1) * step + 1)
            random.nextBytes(bytes)
            YuvPlane(ByteBuffer.wrap(bytes), stride, step)
        }
    }

    private fun exactBgr(
        planes: List<YuvPlane>,
        x: Int,
        y: Int,
    ): List<Int> {
        fun sample(
            i: Int,
            column: Int,
            row: Int,
        ) = (
            planes[i]
                .bytes
                .get(
                    row * planes[i].rowStride + column * planes[i].pixelStride,
                ).toInt() and 0xff
        ).toDouble()
        val luma = sample(0, x, y)
        val u = sample(1, x / 2, y / 2) - 128
        val v = sample(2, x / 2, y / 2) - 128
        return listOf(luma + 1.772 * u, luma - 0.344136 * u - 0.714136 * v, luma + 1.402 * v)
            .map { it.coerceIn(0.0, 255.0).roundToInt() }
    }

    @Test
    fun yuvWithAnyStridesAndRotation() {
        for ((width, height) in listOf(6 to 4, 7 to 5, 1 to 1)) {
            for ((pixelStride, padding) in listOf(1 to 0, 1 to 5, 2 to 0, 2 to 3)) {
                val planes = planes(width, height, pixelStride, padding)
                for (rotation in listOf(0, 90, 180, 270)) {
                    val (y, u, v) = planes
                    val out = YuvConverter().convert(y, u, v, width, height, rotation)
                    for (sensorY in 0 until height) {
                        for (sensorX in 0 until width) {
                            val (outX, outY) =
                                when (rotation) {
                                    0 -> sensorX to sensorY
                                    90 -> height - 1 - sensorY to sensorX
                                    180 -> width - 1 - sensorX to height - 1 - sensorY
                                    else -> sensorY to width - 1 - sensorX
                                }
                            exactBgr(planes, sensorX, sensorY).forEachIndexed { channel, exact ->
                                val got = value(out, outX, outY, channel)
                                assertEquals("$width×$height $rotation° ($sensorX, $sensorY)", 0, abs(got - exact) / 2)
                            }
                        }
                    }
                }
            }
        }
    }

    @Test
    fun greyAndPrimaries() {
        fun colour(
            y: Int,
            u: Int,
            v: Int,
        ): List<Int> {
            val planes = listOf(y, u, v).map { YuvPlane(ByteBuffer.wrap(byteArrayOf(it.toByte())), 1, 1) }
            val out = YuvConverter().convert(planes[0], planes[1], planes[2], 1, 1, 0)
            return (0 until 3).map { value(out, 0, 0, it) }
        }
        assertEquals(listOf(77, 77, 77), colour(77, 128, 128))
        assertEquals(listOf(0, 0, 254), colour(76, 85, 255))
        assertEquals(listOf(255, 255, 255), colour(255, 128, 128))
    }

    @Test
    fun buffersAreReused() {
        val (y, u, v) = planes(6, 4, 2, 0)
        val converter = YuvConverter()
        val first = converter.convert(y, u, v, 6, 4, 90)
        assertSame(first, converter.convert(y, u, v, 6, 4, 270, first))
        assertEquals(6, converter.convert(y, u, v, 6, 4, 0, first).width)
    }

    @Test
    fun badPlanesAndRotationsAreRefused() {
        val (y, u, v) = planes(6, 4, 1, 0)
        assertThrows(IllegalArgumentException::class.java) { YuvConverter().convert(y, u, v, 6, 4, 45) }
        assertThrows(IllegalArgumentException::class.java) { YuvConverter().convert(y, u, v, 6, 6, 0) }
    }

    @Test
    fun rotationForTheScreen() {
        assertEquals(90, uprightRotation(90, 0, frontFacing = false))
        assertEquals(0, uprightRotation(90, 90, frontFacing = false))
        assertEquals(180, uprightRotation(90, 270, frontFacing = false))
        assertEquals(270, uprightRotation(270, 0, frontFacing = true))
        assertEquals(0, uprightRotation(270, 90, frontFacing = true))
    }

    @Test
    fun cutOutPlanes() {
        val whole = planes(8, 6, 2, 3)
        val (y, u, v) = whole
        val (cutY, cutU, cutV) =
            whole.mapIndexed { i, plane ->
                val (left, top) = if (i == 0) 2 to 4 else 1 to 2
                val start = top * plane.rowStride + left * plane.pixelStride
                YuvPlane(plane.bytes, plane.rowStride, plane.pixelStride, start)
            }
        val all = YuvConverter().convert(y, u, v, 8, 6, 0)
        val part = YuvConverter().convert(cutY, cutU, cutV, 5, 2, 0)
        assertArrayEquals(IntArray(10) { all.pixels[(4 + it / 5) * 8 + 2 + it % 5] }, part.pixels)
        assertEquals(0, y.bytes.position())
    }

    @Test
    fun frameSize() {
        val sizes = listOf(1920 to 1080, 640 to 480, 480 to 480, 480 to 640, 320 to 240, 1280 to 720, 2048 to 1536)
        assertEquals(640 to 480, pickFrameSize(sizes, 4.0 / 3))
        assertEquals(2048 to 1536, pickFrameSize(sizes, 4032.0 / 3024, 1000))
        assertEquals(1280 to 720, pickFrameSize(sizes, 16.0 / 9))
        // None is large enough: the largest of the nearest aspect.
        assertEquals(2048 to 1536, pickFrameSize(sizes, 4.0 / 3, 2000))
        // None has the aspect: the nearest one.
        assertEquals(1280 to 720, pickFrameSize(sizes, 2.1))
        assertEquals(640 to 480, pickFrameSize(listOf(480 to 480, 720 to 480, 640 to 480), 1.3))
        assertEquals(null, pickFrameSize(emptyList(), 1.0))
    }

    @Test
    fun exifOrientations() {
        // Stored 2×1, pixels a b.
        val image = ArgbImage(2, 1, intArrayOf(1, 2))
        val expected =
            mapOf(1 to "1 2", 2 to "2 1", 3 to "2 1", 4 to "1 2", 5 to "1|2", 6 to "1|2", 7 to "2|1", 8 to "2|1")
        for ((orientation, text) in expected) {
            val out = upright(image, orientation)
            assertEquals("$orientation", text, out.pixels.joinToString(if (out.width == 2) " " else "|"))
        }
        for (none in listOf(0, 1, 9, -1)) assertSame(image, upright(image, none))
    }

    private companion object {
        const val OPAQUE = 0xff shl 24
    }
}
