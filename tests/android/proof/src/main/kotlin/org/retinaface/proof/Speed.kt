package org.retinaface.proof

import org.retinaface.core.ArgbImage
import org.retinaface.core.ElementType
import org.retinaface.core.InputTable
import org.retinaface.core.Letterbox
import org.retinaface.core.Shape
import org.retinaface.core.TensorInfo
import org.retinaface.core.YuvConverter
import org.retinaface.core.YuvPlane
import org.retinaface.core.autoShape
import org.retinaface.core.fillColour
import org.retinaface.core.upright
import java.lang.management.ManagementFactory
import java.nio.ByteBuffer
import java.util.Random

/** Prints the least milliseconds of a camera frame's way into the network, and of turning a photo. */
internal fun speed() {
    val random = Random(1)

    fun plane(
        width: Int,
        height: Int,
        step: Int,
    ): YuvPlane {
        val bytes = ByteBuffer.allocateDirect(width * step * height)
        while (bytes.hasRemaining()) bytes.put(random.nextInt().toByte())
        return YuvPlane(bytes, width * step, step)
    }
    val (y, u, v) = listOf(plane(640, 480, 1), plane(320, 240, 2), plane(320, 240, 2))
    val mean = listOf(104.0, 117.0, 123.0)
    val shape = autoShape(640, 480, Shape(640, 640))
    val table = InputTable(mean, TensorInfo(emptyList(), ElementType.INT8, 1f, -5))
    val input = table.allocate(shape)
    val letterbox = Letterbox(480, 640, shape.width, shape.height, fillColour(mean), antialias = true)
    val converter = YuvConverter()
    var frame: ArgbImage? = null
    val frameTime =
        least {
            val image = converter.convert(y, u, v, 640, 480, 90, frame).also { frame = it }
            letterbox.write(image, table, input)
        }
    val photo = ArgbImage(2048, 1536, IntArray(2048 * 1536) { random.nextInt() })
    println("frame %.3f ms".format(frameTime))
    println("turn %.3f ms".format((2..8).maxOf { least(30) { upright(photo, it) } }))
}

/** Of the processor, so that what else runs on the machine does not count. */
private val clock = ManagementFactory.getThreadMXBean()

private fun least(
    rounds: Int = 400,
    work: () -> Unit,
): Double =
    (0 until rounds).minOf {
        val start = clock.currentThreadCpuTime
        work()
        (clock.currentThreadCpuTime - start) / 1e6
    }
