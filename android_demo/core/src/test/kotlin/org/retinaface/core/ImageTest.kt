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
    ) = BgrImage(width, height, ByteArray(width * height * 3).also { Random(1).nextBytes(it) })

    private fun letterboxed(
        image: BgrImage,
        width: Int,
        height: Int,
    ): BgrImage {
        val out = BgrImage(width, height)
        Letterbox(image.width, image.height, width, height).apply(image, fillColour(mean), out)
        return out
    }

    private fun value(
        image: BgrImage,
        x: Int,
        y: Int,
        channel: Int = 0,
    ) = image.data[(y * image.width + x) * 3 + channel].toInt() and 0xff

    @Test
    fun geometry() {
        val wide = Letterbox(1000, 500, 640, 640)
        assertEquals(0.64, wide.scale, 0.0)
        assertEquals(640 to 320, wide.columns to wide.rows)
        val thin = Letterbox(1, 5000, 640, 320)
        assertEquals(1 to 320, thin.columns to thin.rows)
    }

    @Test
    fun sameSizeIsACopy() {
        val image = noise(32, 32)
        assertArrayEquals(image.data, letterboxed(image, 32, 32).data)
    }

    @Test
    fun theRestIsMean() {
        val out = letterboxed(noise(20, 10), 32, 64)
        for (y in 16 until 64) for (x in 0 until 32) assertEquals(117, value(out, x, y, 1))
        val tall = letterboxed(noise(10, 20), 64, 32)
        for (y in 0 until 32) for (x in 16 until 64) assertEquals(123, value(tall, x, y, 2))
    }

    @Test
    fun halvingAverages() {
        val image = BgrImage(4, 2, ByteArray(24) { (it / 3).toByte() })
        val out = letterboxed(image, 2, 1)
        // Pixels 0 1 4 5 and 2 3 6 7, rounded half up.
        assertEquals(listOf(3, 5), listOf(value(out, 0, 0), value(out, 1, 0)))
    }

    @Test
    fun antialiasHalvesAsLongAsItCan() {
        // 8×4 to 2×1: means of 2×2, then means of those.
        val image = BgrImage(8, 4, ByteArray(96))
        image.data[3] = 62
        image.data[6] = 64
        val out = BgrImage(2, 1)
        Letterbox(8, 4, 2, 1, antialias = true).apply(image, fillColour(mean), out)
        // (62 + 2) / 4 = 16 and 64 / 4 = 16, (16 + 16 + 2) / 4 = 8.
        assertEquals(listOf(8, 0), listOf(value(out, 0, 0), value(out, 1, 0)))
        // Nothing to halve below twice the size, and an odd rest goes.
        val odd = BgrImage(5, 5, ByteArray(75) { if (it / 15 == 4 || it / 3 % 5 == 4) -1 else 0 })
        val dropped = BgrImage(2, 2)
        Letterbox(5, 5, 2, 2, antialias = true).apply(odd, fillColour(mean), dropped)
        assertArrayEquals(ByteArray(12), dropped.data)
        val same = BgrImage(8, 4)
        Letterbox(8, 4, 8, 4, antialias = true).apply(image, fillColour(mean), same)
        assertArrayEquals(image.data, same.data)
    }

    @Test
    fun doublingInterpolates() {
        val image = BgrImage(2, 1, byteArrayOf(0, 0, 0, 100, 100, 100))
        val out = letterboxed(image, 4, 2)
        assertEquals(listOf(0, 25, 75, 100), (0 until 4).map { value(out, it, 0) })
    }

    @Test
    fun anotherImageSizeIsRefused() {
        val letterbox = Letterbox(10, 10, 32, 32)
        val out = BgrImage(32, 32)
        assertThrows(IllegalArgumentException::class.java) { letterbox.apply(noise(11, 10), fillColour(mean), out) }
        assertThrows(
            IllegalArgumentException::class.java,
        ) { letterbox.apply(noise(10, 10), fillColour(mean), noise(9, 9)) }
    }

    @Test
    fun tableQuantizesHalfUp() {
        val info = TensorInfo(listOf(1, 1, 2, 3), ElementType.INT8, 2f, -1)
        val table = InputTable(mean, info)
        val input = table.allocate()
        table.fill(BgrImage(2, 1, byteArrayOf(105, 116, 123, -1, 0, 0)), input)
        // (105 − 104)/2 = 0.5 → 1, (116 − 117)/2 = −0.5 → 0, 0; (255 − 104)/2 = 75.5 → 76, −58.5 → −58, −61.5 → −61.
        assertEquals(listOf(0, -1, -1, 75, -59, -62), (0 until 6).map { input.get(it).toInt() })
        assertEquals(0, input.position())
    }

    @Test
    fun tableClampsAndKeepsFloats() {
        val small = InputTable(mean, TensorInfo(listOf(1, 1, 1, 3), ElementType.INT8, 0.1f, 0))
        val bytes = small.allocate()
        small.fill(BgrImage(1, 1, byteArrayOf(-1, 0, 123)), bytes)
        assertEquals(listOf<Byte>(127, -128, 0), (0 until 3).map { bytes.get(it) })
        val floats = InputTable(mean, TensorInfo(listOf(1, 1, 1, 3), ElementType.FLOAT32, 0f, 0))
        val values = floats.allocate()
        floats.fill(BgrImage(1, 1, byteArrayOf(-1, 0, 123)), values)
        assertEquals(listOf(151f, -117f, 0f), (0 until 3).map { values.getFloat(it * 4) })
    }

    @Test
    fun argbBecomesBgr() {
        val image = BgrImage.fromArgb(1, 1, intArrayOf(0x11223344))
        assertArrayEquals(byteArrayOf(0x44, 0x33, 0x22), image.data)
        val pixels = IntArray(1)
        image.toArgb(pixels)
        assertEquals(0xff223344.toInt(), pixels[0])
        assertThrows(IllegalArgumentException::class.java) { image.toArgb(IntArray(2)) }
        assertThrows(IllegalArgumentException::class.java) { BgrImage(2, 2, ByteArray(3)) }
        assertThrows(IllegalArgumentException::class.java) { BgrImage(0, 2) }
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
    fun frameSize() {
        val sizes = listOf(1920 to 1080, 640 to 480, 480 to 640, 320 to 240, 1280 to 720)
        assertEquals(640 to 480, pickFrameSize(sizes))
        assertEquals(1920 to 1080, pickFrameSize(sizes, 2000))
        assertEquals(null, pickFrameSize(emptyList()))
    }

    @Test
    fun exifOrientations() {
        // Stored 2×1, pixels a b.
        val image = BgrImage(2, 1, byteArrayOf(1, 1, 1, 2, 2, 2))
        val expected =
            mapOf(1 to "1 2", 2 to "2 1", 3 to "2 1", 4 to "1 2", 5 to "1|2", 6 to "1|2", 7 to "2|1", 8 to "2|1")
        for ((orientation, text) in expected) {
            val out = Exif.upright(image, orientation)
            val pixels = (0 until 2).map { out.data[it * 3].toInt() }
            assertEquals("$orientation", text, pixels.joinToString(if (out.width == 2) " " else "|"))
        }
        assertSame(image, Exif.upright(image, 9))
    }

    @Test
    fun exifTag() {
        for (bigEndian in listOf(true, false)) {
            for (orientation in 1..8) assertEquals(orientation, Exif.orientation(jpeg(orientation, bigEndian)))
        }
        assertEquals(1, Exif.orientation(jpeg(9, true)))
        val whole = jpeg(6, true)
        for (length in 0 until whole.size - 8) assertEquals(1, Exif.orientation(whole.copyOf(length)))
        assertEquals(1, Exif.orientation("GIF89a".toByteArray()))
    }

    private fun jpeg(
        orientation: Int,
        bigEndian: Boolean,
    ): ByteArray {
        fun u16(value: Int) =
            if (bigEndian) {
                byteArrayOf((value shr 8).toByte(), value.toByte())
            } else {
                byteArrayOf(
                    value.toByte(),
                    (
                        value shr
                            8
                    ).toByte(),
                )
            }

        fun u32(value: Int) = if (bigEndian) u16(value shr 16) + u16(value) else u16(value) + u16(value shr 16)
        val tiff =
            (if (bigEndian) "MM" else "II").toByteArray() + u16(42) + u32(8) + u16(1) +
                u16(0x0112) + u16(3) + u32(1) + u16(orientation) + u16(0)
        val body = "Exif".toByteArray() + byteArrayOf(0, 0) + tiff
        val start = byteArrayOf(-1, 0xd8.toByte(), -1, 0xe0.toByte(), 0, 4, 0, 0, -1, 0xe1.toByte())
        return start + byteArrayOf(0, (body.size + 2).toByte()) + body
    }
}
