package org.retinaface.demo

import android.content.Context
import android.graphics.Bitmap
import android.media.Image
import android.net.Uri
import org.retinaface.core.BgrImage
import org.retinaface.core.Detections
import org.retinaface.core.Face
import org.retinaface.core.FaceDetector
import org.retinaface.core.FrameRate
import org.retinaface.core.LatestWorker
import org.retinaface.core.ModelSpec
import org.retinaface.core.StageTimes
import java.io.IOException

/** Something to look for faces in. */
internal sealed class Work {
    /** A camera image; [release] must be called exactly once, as soon as its pixels are not needed any more. */
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
 * @property convertMs milliseconds from Android's picture to upright BGR.
 * @property framesPerSecond means nothing for photos.
 */
internal class Shown(
    val isPhoto: Boolean,
    val bitmap: Bitmap,
    val faces: List<Face>,
    val mirrored: Boolean,
    val model: String,
    val convertMs: Double,
    val times: StageTimes,
    val framesPerSecond: Double,
)

/** Why there is nothing to show. */
internal enum class Failure { PHOTO, FRAME, RUNTIME }

/**
 * Owns the model and the one thread that uses it; always works on the newest picture.
 *
 * @param shown told on the worker thread, as is [failed].
 */
internal class Detector(
    private val context: Context,
    private val wantGpu: Boolean,
    private val shown: (Shown) -> Unit,
    private val failed: (Failure, String) -> Unit,
) : AutoCloseable {
    private val preprocessor = Preprocessor()
    private val rate = FrameRate()
    private var faces: FaceDetector? = null
    private var name = ""
    private var broken = false

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
        val detector = openedOrNull()
        when (work) {
            is Work.Frame -> processFrame(work, detector)
            is Work.Photo -> if (detector != null) processPhoto(work, detector)
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
                preprocessor.fromCamera(work.image, work.rotation)
            } finally {
                work.release()
            }
        val convertMs = (System.nanoTime() - start) / 1e6
        val found = detector.detect(image)
        show(work, image, found, work.mirrored, convertMs)
    }

    private fun processPhoto(
        work: Work.Photo,
        detector: FaceDetector,
    ) {
        try {
            val start = System.nanoTime()
            val image = preprocessor.fromPhoto(context.contentResolver, work.uri)
            val convertMs = (System.nanoTime() - start) / 1e6
            show(work, image, detector.detect(image), mirrored = false, convertMs)
        } catch (e: IOException) {
            failed(Failure.PHOTO, e.message ?: e.javaClass.simpleName)
        } catch (e: SecurityException) {
            failed(Failure.PHOTO, e.message ?: e.javaClass.simpleName)
        }
    }

    private fun show(
        work: Work,
        image: BgrImage,
        found: Detections,
        mirrored: Boolean,
        convertMs: Double,
    ) {
        val bitmap = preprocessor.toBitmap(image)
        val isPhoto = work is Work.Photo
        val perSecond = rate.tick(System.nanoTime())
        shown(Shown(isPhoto, bitmap, found.faces, mirrored, name, convertMs, found.times, perSecond))
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
        val threads = Runtime.getRuntime().availableProcessors().coerceIn(1, MAX_THREADS)
        val model = TfliteModel.open(buffer, threads, wantGpu)
        name = "${spec.quantization} · ${model.device}"
        return try {
            FaceDetector(model, spec, MODEL)
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
