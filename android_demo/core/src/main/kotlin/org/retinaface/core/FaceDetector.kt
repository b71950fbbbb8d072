package org.retinaface.core

/**
 * One face, in pixels of the picture.
 *
 * @property anchor index into the anchor table of the box that found it.
 * @property score probability.
 * @property landmarks x y of left eye, right eye, nose, left and right mouth corner (left = the left of the picture).
 */
class Face(
    val anchor: Int,
    val x1: Float,
    val y1: Float,
    val x2: Float,
    val y2: Float,
    val score: Float,
    val landmarks: FloatArray,
)

/** Milliseconds of one image, by stage. */
class StageTimes(
    val preprocess: Double,
    val inference: Double,
    val postprocess: Double,
)

/** Faces of one image, best first, and what they cost. */
class Detections(
    val faces: List<Face>,
    val times: StageTimes,
)

/**
 * From a picture to faces: letterbox, table, network, decode, NMS (twin of `tflite/detector.py`).
 *
 * Owns [model] and reuses its buffers; one thread at a time.
 *
 * @param name of the model in errors.
 * @throws SpecException the model's tensors are not those that [spec] describes.
 */
class FaceDetector(
    private val model: FaceModel,
    val spec: ModelSpec,
    name: String,
) : AutoCloseable {
    init {
        val wanted = listOf(1, spec.inputHeight, spec.inputWidth, 3)
        if (model.input.shape != wanted) {
            throw SpecException("$name: input is ${model.input.shape}, expected $wanted")
        }
    }

    private val decoder = Decoder(spec, model.outputs, name)
    private val table = InputTable(spec.mean, model.input)
    private val fill = fillColour(spec.mean)
    private val canvas = BgrImage(spec.inputWidth, spec.inputHeight)
    private val input = table.allocate()
    private var letterbox = letterboxFor(spec.inputWidth, spec.inputHeight)

    /**
     * Finds the faces of [image].
     *
     * @param scoreThreshold probability, 0-1; the model's default when not given, as is [iouThreshold].
     */
    fun detect(
        image: BgrImage,
        scoreThreshold: Double = spec.scoreThreshold,
        iouThreshold: Double = spec.iouThreshold,
    ): Detections {
        val start = System.nanoTime()
        if (letterbox.imageWidth != image.width || letterbox.imageHeight != image.height) {
            letterbox = letterboxFor(image.width, image.height)
        }
        letterbox.apply(image, fill, canvas)
        table.fill(canvas, input)
        val ready = System.nanoTime()
        val outputs = model.run(input)
        val done = System.nanoTime()
        val candidates = decoder.decode(outputs, scoreThreshold)
        val faces = selectFaces(candidates, letterbox.scale, image.width, image.height, iouThreshold, spec)
        val end = System.nanoTime()
        return Detections(faces, StageTimes((ready - start) / 1e6, (done - ready) / 1e6, (end - done) / 1e6))
    }

    private fun letterboxFor(
        width: Int,
        height: Int,
    ) = Letterbox(width, height, spec.inputWidth, spec.inputHeight, spec.antialias)

    override fun close() = model.close()
}
