package org.retinaface.demo

import android.content.Context
import android.graphics.Bitmap
import android.media.Image
import android.net.Uri
import org.retinaface.core.ArgbImage
import org.retinaface.core.Detections
import org.retinaface.core.Face
import org.retinaface.core.FaceDetector
import org.retinaface.core.FrameRate
import org.retinaface.core.LatestWorker
import org.retinaface.core.MeshBasis
import org.retinaface.core.ModelSpec
import org.retinaface.core.Pool
import org.retinaface.core.Shape
import org.retinaface.core.StageTimes
import org.retinaface.core.YuvConverter
import org.retinaface.core.YuvPlane
import java.io.IOException

/** Something to look for faces in. */
internal sealed class Work {
    /** A camera's or film's image; [release] must be called once, as soon as its pixels are not needed any more. */
    class Frame(
        val image: Image,
        val rotation: Int,
        val mirrored: Boolean,
        val release: () -> Unit,
    ) : Work()

    /** A picked photo. */
    class Photo(
        val uri: Uri,
    ) : Work()
}

/**
 * A picture with its faces, ready to be shown.
 *
 * @property convertMs milliseconds from Android's picture to upright pixels.
 * @property framesPerSecond means nothing for photos.
 * @property giveBack to be called when [bitmap] is not drawn any more: it is used again.
 */
internal class Shown(
    val isPhoto: Boolean,
    val bitmap: Bitmap,
    val faces: List<Face>,
    val mirrored: Boolean,
    val model: String,
    val input: Shape,
    val convertMs: Double,
    val times: StageTimes,
    val framesPerSecond: Double,
    val giveBack: () -> Unit,
)

/** Why there is nothing to show. */
internal enum class Failure { PHOTO, FRAME, MEMORY, RUNTIME }

/**
 * How faces are looked for.
 *
 * @property half pictures are scaled to half of the model's own size: a quarter of the work, small faces are missed.
 */
internal class Settings(
    val gpu: Boolean,
    val half: Boolean,
)

/**
 * Owns the model and the one thread that uses it; always works on the newest picture.
 *
 * @param shown told on the worker thread, as is [failed].
 */
internal class Detector(
    private val context: Context,
    private val settings: Settings,
    private val shown: (Shown) -> Unit,
    private val failed: (Failure, String) -> Unit,
) : AutoCloseable {
    private val photos = PhotoReader(context.contentResolver)
    private val converter = YuvConverter()
    private var frame: ArgbImage? = null

    // One is on the screen, one on its way there, one was replaced and may still be drawn, and one is being filled.
    private val bitmaps = Pool<Bitmap>(4) { it.recycle() }
    private val rate = FrameRate()
    private var faces: FaceDetector? = null
    private var name = ""
    private var broken = false

    /** The smallest score that counts, 0-1; null for the model's own. */
    @Volatile
    var threshold: Double? = null

    private val worker =
        LatestWorker<Work>(
            "detector",
            process = ::process,
            discard = { if (it is Work.Frame) it.release() },
            failed = { failed(Failure.FRAME, it.message ?: it.javaClass.simpleName) },
            finish = { faces?.close() },
        )

    /** Takes [work] over; what waited before it is dropped. */
    fun offer(work: Work) = worker.offer(work)

    /** Stops after the picture in work and then frees the model, without waiting for it. */
    override fun close() = worker.close()

    private fun process(work: Work) {
        try {
            val detector = openedOrNull()
            when (work) {
                is Work.Frame -> processFrame(work, detector)
                is Work.Photo -> if (detector != null) processPhoto(work, detector)
            }
        } catch (e: OutOfMemoryError) {
            frame = null
            failed(Failure.MEMORY, e.message ?: e.javaClass.simpleName)
        }
    }

    private fun processFrame(
        work: Work.Frame,
        detector: FaceDetector?,
    ) {
        val start = System.nanoTime()
        val image =
            try {
                if (detector == null) return
                converted(work)
            } finally {
                work.release()
            }
        val convertMs = (System.nanoTime() - start) / 1e6
        show(work, image, detect(detector, image), work.mirrored, convertMs)
    }

    /** Upright pixels of the visible part; overwritten by the next call. */
    private fun converted(work: Work.Frame): ArgbImage {
        val image = work.image
        val crop = image.cropRect
        val (y, u, v) =
            image.planes.mapIndexed { i, plane ->
                val step = if (i == 0) 1 else 2
                val start = crop.top / step * plane.rowStride + crop.left / step * plane.pixelStride
                YuvPlane(plane.buffer, plane.rowStride, plane.pixelStride, start)
            }
        return converter
            .convert(y, u, v, crop.width(), crop.height(), work.rotation, frame)
            .also { frame = it }
    }

    private fun processPhoto(
        work: Work.Photo,
        detector: FaceDetector,
    ) {
        try {
            val start = System.nanoTime()
            val image = photos.read(work.uri)
            val convertMs = (System.nanoTime() - start) / 1e6
            show(work, image, detect(detector, image), mirrored = false, convertMs)
        } catch (e: IOException) {
            failed(Failure.PHOTO, e.message ?: e.javaClass.simpleName)
        } catch (e: SecurityException) {
            failed(Failure.PHOTO, e.message ?: e.javaClass.simpleName)
        }
    }

    private fun detect(
        detector: FaceDetector,
        image: ArgbImage,
    ): Detections = detector.detect(image, threshold ?: detector.spec.scoreThreshold)

    private fun show(
        work: Work,
        image: ArgbImage,
        found: Detections,
        mirrored: Boolean,
        convertMs: Double,
    ) {
        val width = image.width
        val height = image.height
        val bitmap =
            bitmaps.take { it.width == width && it.height == height }
                ?: Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888)
        bitmap.setPixels(image.pixels, 0, width, 0, 0, width, height)
        shown(
            Shown(
                isPhoto = work is Work.Photo,
                bitmap = bitmap,
                faces = found.faces,
                mirrored = mirrored,
                model = name,
                input = found.input,
                convertMs = convertMs,
                times = found.times,
                framesPerSecond = rate.tick(System.nanoTime()),
                giveBack = { bitmaps.giveBack(bitmap) },
            ),
        )
    }

    /** The detector, opened by the first picture; null for good, after one message, when it cannot be opened. */
    private fun openedOrNull(): FaceDetector? {
        if (faces == null && !broken) {
            broken = true
            try {
                faces = open()
                broken = false
            } catch (e: IOException) {
                failed(Failure.FRAME, "$MODEL: ${e.message}")
            } catch (e: LinkageError) {
                failed(Failure.RUNTIME, e.message ?: e.javaClass.simpleName)
            }
        }
        return faces
    }

    private fun open(): FaceDetector {
        val buffer = mapAsset(context.assets, MODEL)
        val spec = ModelSpec.read(buffer, MODEL)
        val basis = MeshBasis.read(buffer, MODEL)
        val threads = Runtime.getRuntime().availableProcessors().coerceIn(1, MAX_THREADS)
        val model = TfliteModel.open(buffer, threads, settings.gpu)
        name = "${spec.quantization} · ${model.device}"
        val size = if (settings.half) spec.shape.run { Shape(height / 2, width / 2) } else spec.shape
        return try {
            FaceDetector(model, spec, MODEL, size, basis)
        } catch (e: RuntimeException) {
            model.close()
            throw e
        }
    }

    private companion object {
        const val MODEL = "retinaface.tflite"
        const val MAX_THREADS = 4
    }
}
