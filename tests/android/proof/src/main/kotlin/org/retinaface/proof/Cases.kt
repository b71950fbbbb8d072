package org.retinaface.proof

import org.retinaface.core.ArgbImage
import org.retinaface.core.Decoder
import org.retinaface.core.ElementType
import org.retinaface.core.Face
import org.retinaface.core.FaceDetector
import org.retinaface.core.InputTable
import org.retinaface.core.Letterbox
import org.retinaface.core.MeshBasis
import org.retinaface.core.MeshDecoder
import org.retinaface.core.MeshOf
import org.retinaface.core.ModelSpec
import org.retinaface.core.Shape
import org.retinaface.core.TensorInfo
import org.retinaface.core.autoShape
import org.retinaface.core.fillColour
import org.retinaface.core.nms
import org.retinaface.core.selectFaces
import org.retinaface.core.upright
import java.io.File
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.channels.FileChannel

/** Output tensors to faces, per case. */
internal fun decodeCases(
    from: File,
    to: File,
) = Sink(to).use { sink -> decodeEach(Source(from), null, sink::faces) }

/** A basis and output tensors to faces, and for each of them its pose, axes and mesh. */
internal fun meshCases(
    from: File,
    to: File,
) {
    val source = Source(from)
    val basis = MeshBasis.fromBytes(source.bytes(source.int()), "cases")
    Sink(to).use { sink -> decodeEach(source, basis) { faces -> sink.meshes(faces) } }
}

private fun decodeEach(
    source: Source,
    basis: MeshBasis?,
    use: (List<Face>) -> Unit,
) {
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
        val candidates = Decoder(spec, spec.shape, infos, "case $it").decode(outputs, scoreThreshold)
        val meshes = basis?.let { MeshDecoder(basis, spec, spec.shape, infos, "case") }
        val meshOf: MeshOf? =
            meshes?.let { { anchor, boxes, at -> it.decode(outputs, anchor, boxes, at, scale) } }
        use(selectFaces(candidates, scale, imageWidth, imageHeight, iouThreshold, spec, meshOf))
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
            // A table that changes nothing but the sign: pixel − 128.
            val table = InputTable(List(3) { 0.0 }, TensorInfo(emptyList(), ElementType.INT8, 1f, -128))
            val out = table.allocate(Shape(height, width))
            Letterbox(image.width, image.height, width, height, fillColour(mean), antialias).write(image, table, out)
            sink.bytes(bytesOf(out).also { bytes -> bytes.indices.forEach { bytes[it] = (bytes[it] + 128).toByte() } })
        }
    }
}

/** Quantizations to input tables: for each pixel value 0-255 the int8 input of each channel. */
internal fun tableCases(
    from: File,
    to: File,
) {
    val source = Source(from)
    val everyPixel = IntArray(256) { it * 0x010101 }
    Sink(to).use { sink ->
        repeat(source.int()) {
            val mean = List(3) { source.double() }
            val table = InputTable(mean, TensorInfo(emptyList(), ElementType.INT8, source.float(), source.int()))
            val values = table.allocate(Shape(1, 256))
            table.write(everyPixel, 0, 256, values)
            values.clear()
            sink.bytes(bytesOf(values))
        }
    }
}

/** Picture and model sizes to input shapes, per case. */
internal fun shapeCases(
    from: File,
    to: File,
) {
    val source = Source(from)
    Sink(to).use { sink ->
        repeat(source.int()) {
            val (height, width) = List(2) { source.int() }
            val shape = autoShape(height, width, Shape(source.int(), source.int()))
            sink.int(shape.height)
            sink.int(shape.width)
        }
    }
}

/** Stored pictures and their EXIF orientations to upright ones, per case. */
internal fun uprightCases(
    from: File,
    to: File,
) {
    val source = Source(from)
    Sink(to).use { sink ->
        repeat(source.int()) {
            val orientation = source.int()
            sink.image(upright(source.image(), orientation))
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
                check(network.resize(Shape(source.int(), source.int()))) { "the model does not run at that shape" }
                val outputs = network.run(ByteBuffer.wrap(source.bytes(network.input.byteSize)))
                outputs.toSortedMap().values.forEach { sink.bytes(bytesOf(it)) }
            }
        }
    }
}

/** Images to what [write] writes of their faces, per case, through the whole Kotlin pipeline and the real model. */
internal fun photoCases(
    library: File,
    model: File,
    from: File,
    to: File,
    write: Sink.(List<Face>) -> Unit,
) {
    val source = Source(from)
    openDetector(library, model).use { detector ->
        Sink(to).use { sink ->
            repeat(source.int()) { sink.write(detector.detect(source.image()).faces) }
        }
    }
}

/** A detector whose spec comes out of the model file, read the way the app reads it. */
internal fun openDetector(
    library: File,
    model: File,
): FaceDetector {
    val bytes = RandomAccessFile(model, "r").use { it.channel.map(FileChannel.MapMode.READ_ONLY, 0, it.length()) }
    val spec = ModelSpec.read(bytes, model.name)
    val basis = MeshBasis.read(bytes, model.name)
    return FaceDetector(LiteRtModel(library, model), spec, model.name, basis = basis)
}
