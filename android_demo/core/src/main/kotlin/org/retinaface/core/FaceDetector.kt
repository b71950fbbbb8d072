package org.retinaface.core

/**
 * One face, in pixels of the picture.
 *
 * @property anchor index into the anchor table of the box that found it.
 * @property score probability.
 * @property landmarks x y of left eye, right eye, nose, left and right mouth corner (left = the left of the picture).
 * @property mesh x y z of 468 vertices ([MeshBasis]), not clipped; z grows away from the camera and is about 0 on
 *     average. Null where the model has none, as is [pose].
 */
class Face(
    val anchor: Int,
    val x1: Float,
    val y1: Float,
    val x2: Float,
    val y2: Float,
    val score: Float,
    val landmarks: FloatArray,
    val mesh: FloatArray? = null,
    val pose: Pose? = null,
)

/** Milliseconds of one image, by stage. */
class StageTimes(
    val preprocess: Double,
    val inference: Double,
    val postprocess: Double,
)

/**
 * Faces of one image, best first, and what they cost.
 *
 * @property input that the network ran at.
 */
class Detections(
    val faces: List<Face>,
    val input: Shape,
    val times: StageTimes,
)

/**
 * From a picture to faces: letterbox, table, network, decode, NMS (twin of `tflite/detector.py`).
 *
 * The network runs at the smallest shape that holds the picture at the scale of [size] ([autoShape]); one shape is kept
 * ready, the last. A camera's frames have one shape, and another takes about half the time of running the network.
 * Owns [model] and reuses its buffers; one thread at a time.
 *
 * @param name of the model in errors.
 * @param size that pictures are scaled to fit; a model that runs at its own shape only has that instead.
 * @param basis of the model's meshes; null where it has none.
 * @throws SpecException the model's tensors are not those that [spec] and [basis] describe.
 */
class FaceDetector(
    private val model: FaceModel,
    val spec: ModelSpec,
    private val name: String,
    private val size: Shape = spec.shape,
    private val basis: MeshBasis? = null,
) : AutoCloseable {
    private val fill = fillColour(spec.mean)
    private var fixed = false
    private var prepared = Prepared(spec.shape)
    private var letterbox = letterboxFor(spec.inputWidth, spec.inputHeight)

    /** What a shape of the input needs. */
    private inner class Prepared(
        val shape: Shape,
    ) {
        init {
            val wanted = listOf(1, shape.height, shape.width, 3)
            if (model.input.shape != wanted) {
                throw SpecException("$name: input is ${model.input.shape}, expected $wanted")
            }
        }

        val decoder = Decoder(spec, shape, model.outputs, name)
        val meshes = basis?.let { MeshDecoder(it, spec, shape, model.outputs, name) }
        val table = InputTable(spec.mean, model.input)
        val input = table.allocate(shape)
    }

    /** The shape of the network's input for a picture of this size. */
    fun inputShape(
        imageHeight: Int,
        imageWidth: Int,
    ): Shape = if (fixed) spec.shape else autoShape(imageHeight, imageWidth, size)

    /**
     * Finds the faces of [image].
     *
     * @param scoreThreshold probability, 0-1; the model's default when not given, as is [iouThreshold].
     */
    fun detect(
        image: ArgbImage,
        scoreThreshold: Double = spec.scoreThreshold,
        iouThreshold: Double = spec.iouThreshold,
    ): Detections {
        val start = System.nanoTime()
        prepareFor(image)
        letterbox.write(image, prepared.table, prepared.input)
        val ready = System.nanoTime()
        val outputs = model.run(prepared.input)
        val done = System.nanoTime()
        val candidates = prepared.decoder.decode(outputs, scoreThreshold)
        val meshOf: MeshOf? =
            prepared.meshes?.let { meshes ->
                { anchor, boxes, at -> meshes.decode(outputs, anchor, boxes, at, letterbox.scale) }
            }
        val faces = selectFaces(candidates, letterbox.scale, image.width, image.height, iouThreshold, spec, meshOf)
        val end = System.nanoTime()
        val times = StageTimes((ready - start) / 1e6, (done - ready) / 1e6, (end - done) / 1e6)
        return Detections(faces, prepared.shape, times)
    }

    private fun prepareFor(image: ArgbImage) {
        val wanted = inputShape(image.height, image.width)
        if (wanted != prepared.shape) {
            if (!model.resize(wanted)) {
                fixed = true
            } else {
                prepared =
                    try {
                        Prepared(wanted)
                    } catch (_: SpecException) {
                        // its constants hold a height or a width
                        fixed = true
                        model.resize(spec.shape)
                        Prepared(spec.shape)
                    }
            }
        }
        val fits = letterbox.inputWidth == prepared.shape.width && letterbox.inputHeight == prepared.shape.height
        if (!fits || letterbox.imageWidth != image.width || letterbox.imageHeight != image.height) {
            letterbox = letterboxFor(image.width, image.height)
        }
    }

    private fun letterboxFor(
        width: Int,
        height: Int,
    ) = Letterbox(width, height, prepared.shape.width, prepared.shape.height, fill, spec.antialias)

    override fun close() = model.close()
}
