package org.retinaface.proof

import org.retinaface.core.BgrImage
import org.retinaface.core.Decoder
import org.retinaface.core.ElementType
import org.retinaface.core.FaceDetector
import org.retinaface.core.InputTable
import org.retinaface.core.Letterbox
import org.retinaface.core.ModelSpec
import org.retinaface.core.TensorInfo
import org.retinaface.core.fillColour
import org.retinaface.core.nms
import org.retinaface.core.selectFaces
import java.io.File
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.channels.FileChannel

/** Output tensors to faces, per case. */
internal fun decodeCases(
    from: File,
    to: File,
) {
    val source = Source(from)
    Sink(to).use { sink ->
        repeat(source.int()) {
            val spec = ModelSpec.fromJson(source.text(), "case $it")
            val scoreThreshold = source.double()
            val iouThreshold = source.double()
            val imageHeight = source.int()
            val imageWidth = source.int()
            val scale = source.double()
            val infos = LinkedHashMap<String, TensorInfo>()
            val outputs = LinkedHashMap<String, ByteBuffer>()
            repeat(source.int()) {
                val name = source.text()
                val type = ElementType.entries[source.int()]
                val count = source.int()
                infos[name] = TensorInfo(listOf(1, count), type, source.float(), source.int())
                outputs[name] = ByteBuffer.wrap(source.bytes(count * type.bytes))
            }
            val candidates = Decoder(spec, infos, "case $it").decode(outputs, scoreThreshold)
            sink.faces(selectFaces(candidates, scale, imageWidth, imageHeight, iouThreshold, spec))
        }
    }
}

/** Boxes and scores to kept indices, per case. */
internal fun nmsCases(
    from: File,
    to: File,
) {
    val source = Source(from)
    Sink(to).use { sink ->
        repeat(source.int()) {
            val count = source.int()
            val iouThreshold = source.double()
            val pixelOffset = source.int()
            val maxCandidates = source.int()
            val maxFaces = source.int()
            val boxes = source.floats(count * 4)
            val kept = nms(boxes, source.floats(count), iouThreshold, pixelOffset, maxCandidates, maxFaces)
            sink.int(kept.size)
            kept.forEach(sink::int)
        }
    }
}

/** Images to letterboxed images, per case. */
internal fun letterboxCases(
    from: File,
    to: File,
) {
    val source = Source(from)
    Sink(to).use { sink ->
        repeat(source.int()) {
            val height = source.int()
            val width = source.int()
            val antialias = source.int() != 0
            val mean = List(3) { source.double() }
            val image = source.image()
            val out = BgrImage(width, height)
            Letterbox(image.width, image.height, width, height, antialias).apply(image, fillColour(mean), out)
            sink.bytes(out.data)
        }
    }
}

/** Quantizations to input tables: for each pixel value 0-255 the int8 input of each channel. */
internal fun tableCases(
    from: File,
    to: File,
) {
    val source = Source(from)
    val everyPixel = BgrImage(256, 1, ByteArray(256 * 3) { (it / 3).toByte() })
    Sink(to).use { sink ->
        repeat(source.int()) {
            val mean = List(3) { source.double() }
            val info = TensorInfo(listOf(1, 1, 256, 3), ElementType.INT8, source.float(), source.int())
            val table = InputTable(mean, info)
            val values = table.allocate()
            table.fill(everyPixel, values)
            sink.bytes(bytesOf(values))
        }
    }
}

/** Raw network inputs to raw outputs, per case, in the order of the outputs' sorted names. */
internal fun networkCases(
    library: File,
    model: File,
    from: File,
    to: File,
) {
    val source = Source(from)
    LiteRtModel(library, model).use { network ->
        Sink(to).use { sink ->
            repeat(source.int()) {
                val outputs = network.run(ByteBuffer.wrap(source.bytes(network.input.byteSize)))
                outputs.toSortedMap().values.forEach { sink.bytes(bytesOf(it)) }
            }
        }
    }
}

/** Images to faces, per case, through the whole Kotlin pipeline and the real model. */
internal fun photoCases(
    library: File,
    model: File,
    from: File,
    to: File,
) {
    val source = Source(from)
    openDetector(library, model).use { detector ->
        Sink(to).use { sink ->
            repeat(source.int()) { sink.faces(detector.detect(source.image()).faces) }
        }
    }
}

/** A detector whose spec comes out of the model file, read the way the app reads it. */
internal fun openDetector(
    library: File,
    model: File,
): FaceDetector {
    val bytes = RandomAccessFile(model, "r").use { it.channel.map(FileChannel.MapMode.READ_ONLY, 0, it.length()) }
    return FaceDetector(LiteRtModel(library, model), ModelSpec.read(bytes, model.name), model.name)
}
