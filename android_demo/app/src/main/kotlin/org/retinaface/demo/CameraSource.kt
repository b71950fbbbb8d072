package org.retinaface.demo

import android.annotation.SuppressLint
import android.graphics.ImageFormat
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.hardware.camera2.CaptureRequest
import android.media.Image
import android.media.ImageReader
import android.os.Handler
import android.os.HandlerThread
import org.retinaface.core.pickFrameSize

/**
 * A camera of the phone.
 *
 * @property continuousFocus it can follow what it sees; a fixed focus cannot, and such a request is refused by some.
 * @property sensorOrientation clockwise degrees that turn its images upright when the phone is in its natural position.
 * @property size of its images: width, height.
 */
internal class Camera(
    val id: String,
    val frontFacing: Boolean,
    val sensorOrientation: Int,
    val size: Pair<Int, Int>,
    val continuousFocus: Boolean,
)

private const val USUAL_ASPECT = 4.0 / 3

/** The cameras that give YUV images, at most one per side, the back one first. */
internal fun findCameras(manager: CameraManager): List<Camera> =
    manager.cameraIdList
        .mapNotNull { id -> describe(manager, id) }
        .sortedBy { it.frontFacing }
        .distinctBy { it.frontFacing }

private fun describe(
    manager: CameraManager,
    id: String,
): Camera? {
    val facts = manager.getCameraCharacteristics(id)
    val map = facts.get(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP) ?: return null
    val sizes = map.getOutputSizes(ImageFormat.YUV_420_888) ?: return null
    val sensor = facts.get(CameraCharacteristics.SENSOR_INFO_ACTIVE_ARRAY_SIZE)
    val aspect =
        if (sensor == null ||
            sensor.height() == 0
        ) {
            USUAL_ASPECT
        } else {
            sensor.width().toDouble() / sensor.height()
        }
    val size = pickFrameSize(sizes.map { it.width to it.height }, aspect) ?: return null
    val front = facts.get(CameraCharacteristics.LENS_FACING) == CameraCharacteristics.LENS_FACING_FRONT
    val focus = facts.get(CameraCharacteristics.CONTROL_AF_AVAILABLE_MODES) ?: IntArray(0)
    return Camera(
        id,
        front,
        facts.get(CameraCharacteristics.SENSOR_ORIENTATION) ?: 0,
        size,
        continuousFocus = CaptureRequest.CONTROL_AF_MODE_CONTINUOUS_PICTURE in focus,
    )
}

/**
 * One opened camera, from construction to [close]; everything happens on a thread of its own.
 *
 * @param frame takes over an image and must call the function that comes with it once, which frees the image.
 * @param lost the camera is gone (`null`: another app took it) or failed (what happened); told once, from that thread.
 */
internal class CameraSource(
    private val manager: CameraManager,
    private val camera: Camera,
    private val frame: (Image, () -> Unit) -> Unit,
    private val lost: (String?) -> Unit,
) : AutoCloseable {
    private val thread = HandlerThread("camera").apply { start() }
    private val handler = Handler(thread.looper)

    // One in work, one waiting, one arriving, and one that acquireLatestImage holds while it drops older ones.
    private val reader = ImageReader.newInstance(camera.size.first, camera.size.second, ImageFormat.YUV_420_888, 4)
    private var device: CameraDevice? = null
    private var imagesOut = 0
    private var closed = false

    init {
        reader.setOnImageAvailableListener({ deliver() }, handler)
        handler.post { open() }
    }

    /** Returns at once; frames still being read stay valid until they are released. */
    override fun close() {
        handler.post { shutDown() }
    }

    // The activity asks for the permission before it makes a CameraSource; if it is taken away, open throws.
    @SuppressLint("MissingPermission")
    private fun open() =
        guarded {
            manager.openCamera(
                camera.id,
                object : CameraDevice.StateCallback() {
                    override fun onOpened(camera: CameraDevice) {
                        if (closed) camera.close() else startSession(camera)
                    }

                    override fun onDisconnected(camera: CameraDevice) {
                        camera.close()
                        fail(null)
                    }

                    override fun onError(
                        camera: CameraDevice,
                        error: Int,
                    ) {
                        camera.close()
                        fail(if (error in IN_USE) null else "error $error")
                    }
                },
                handler,
            )
        }

    @Suppress("DEPRECATION") // its successor came with API 28
    private fun startSession(opened: CameraDevice) =
        guarded {
            device = opened
            opened.createCaptureSession(
                listOf(reader.surface),
                object : CameraCaptureSession.StateCallback() {
                    override fun onConfigured(session: CameraCaptureSession) {
                        if (!closed) guarded { session.setRepeatingRequest(request(opened), null, handler) }
                    }

                    override fun onConfigureFailed(session: CameraCaptureSession) = fail("no session")
                },
                handler,
            )
        }

    private fun request(opened: CameraDevice): CaptureRequest =
        opened
            .createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW)
            .apply {
                addTarget(reader.surface)
                if (camera.continuousFocus) {
                    set(CaptureRequest.CONTROL_AF_MODE, CaptureRequest.CONTROL_AF_MODE_CONTINUOUS_PICTURE)
                }
            }.build()

    private fun deliver() {
        val image = (if (closed) null else reader.acquireLatestImage()) ?: return
        imagesOut++
        frame(image) {
            // Any thread; the count belongs to this object's own.
            image.close()
            handler.post {
                imagesOut--
                finishIfIdle()
            }
        }
    }

    /** Runs a camera call; whatever it throws means that the camera is gone. */
    private fun guarded(call: () -> Unit) {
        try {
            call()
        } catch (e: CameraAccessException) {
            fail(if (e.reason == CameraAccessException.CAMERA_IN_USE) null else e.message ?: "reason ${e.reason}")
        } catch (e: SecurityException) {
            fail(e.message ?: "not allowed")
        } catch (e: IllegalStateException) {
            fail(e.message ?: "closed") // the device went away between two calls
        } catch (e: IllegalArgumentException) {
            fail(e.message ?: "unknown camera")
        }
    }

    private fun fail(reason: String?) {
        if (closed) return
        shutDown()
        lost(reason)
    }

    private fun shutDown() {
        if (closed) return
        closed = true
        device?.close()
        finishIfIdle()
    }

    /** Closing the reader pulls the memory away from images that are still read, so that waits for the last one. */
    private fun finishIfIdle() {
        if (closed && imagesOut == 0) {
            reader.close()
            thread.quitSafely()
        }
    }

    private companion object {
        val IN_USE =
            setOf(
                CameraDevice.StateCallback.ERROR_CAMERA_IN_USE,
                CameraDevice.StateCallback.ERROR_MAX_CAMERAS_IN_USE,
            )
    }
}
