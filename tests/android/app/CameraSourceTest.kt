package org.retinaface.demo

import android.graphics.Rect
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.hardware.camera2.CaptureRequest
import android.hardware.camera2.params.StreamConfigurationMap
import android.media.Image
import android.media.ImageReader
import android.os.Looper
import android.util.Size
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test

/** A camera's facts: 4:3, YUV in four sizes, upright when the phone lies on its side. */
internal fun facts(
    front: Boolean = false,
    focus: IntArray? = intArrayOf(0, CaptureRequest.CONTROL_AF_MODE_CONTINUOUS_PICTURE),
    sizes: StreamConfigurationMap? =
        StreamConfigurationMap(Size(480, 480), Size(1920, 1080), Size(640, 480), Size(4032, 3024)),
) = CameraCharacteristics().apply {
    facts[CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP] = sizes
    facts[CameraCharacteristics.LENS_FACING] = if (front) CameraCharacteristics.LENS_FACING_FRONT else 1
    facts[CameraCharacteristics.SENSOR_ORIENTATION] = 90
    facts[CameraCharacteristics.SENSOR_INFO_ACTIVE_ARRAY_SIZE] = Rect(0, 0, 4032, 3024)
    facts[CameraCharacteristics.CONTROL_AF_AVAILABLE_MODES] = focus
}

class CameraSourceTest {
    private val manager = CameraManager()
    private val lost = ArrayList<String?>()
    private val frames = ArrayList<Pair<Image, () -> Unit>>()
    private val device = CameraDevice()

    @Before
    fun reset() {
        Looper.reset()
        manager.cameras["0"] = facts()
    }

    private fun make(): CameraSource {
        val camera = findCameras(manager).first()
        val source = CameraSource(manager, camera, { image, release -> frames.add(image to release) }, { lost.add(it) })
        Looper.runAll()
        return source
    }

    private fun running(): CameraSource {
        val source = make()
        manager.callback.onOpened(device)
        device.session.onConfigured(CameraCaptureSession(device))
        Looper.runAll()
        return source
    }

    private fun close(source: CameraSource) {
        source.close()
        Looper.runAll()
    }

    private fun deliver(): Image = ImageReader.last.deliver().also { Looper.runAll() }

    private fun release(index: Int) {
        frames[index].second()
        Looper.runAll()
    }

    @Test
    fun framesAreDeliveredAndFreed() {
        val source = running()
        assertEquals("0", manager.opening)
        assertEquals(640 to 480, ImageReader.last.run { width to height })
        val focus = device.repeating.settings[CaptureRequest.CONTROL_AF_MODE]
        assertEquals(CaptureRequest.CONTROL_AF_MODE_CONTINUOUS_PICTURE, focus)
        repeat(3) {
            val image = deliver()
            assertEquals(it + 1, frames.size)
            release(it)
            assertTrue(image.closed)
        }
        close(source)
        assertTrue(device.closed == 1 && ImageReader.last.closed)
        assertEquals(emptyList<String?>(), lost)
    }

    @Test
    fun aFixedFocusIsNotAskedToMove() {
        for (modes in listOf(intArrayOf(0), null)) {
            manager.cameras["0"] = facts(focus = modes)
            running()
            assertEquals(emptyMap<Any, Any>(), device.repeating.settings)
        }
    }

    @Test
    fun oneCameraPerSide() {
        manager.cameras.clear()
        manager.cameras["front"] = facts(front = true)
        manager.cameras["depth"] = facts(sizes = null)
        manager.cameras["back"] = facts()
        manager.cameras["wide"] = facts()
        assertEquals(listOf("back", "front"), findCameras(manager).map { it.id })
        assertEquals(listOf(false, true), findCameras(manager).map { it.frontFacing })
    }

    @Test
    fun closedWhileItOpens() {
        val source = make()
        close(source)
        assertTrue(ImageReader.last.closed)
        manager.callback.onOpened(device)
        assertEquals(1, device.closed)
        assertNull(device.session)
        assertEquals(emptyList<String?>(), lost)
    }

    @Test
    fun framesOutliveTheCamera() {
        val source = running()
        val image = deliver()
        close(source)
        assertFalse(ImageReader.last.closed)
        assertEquals(640, image.planes[0].rowStride)
        release(0)
        assertTrue(image.closed && ImageReader.last.closed)
        assertThrows(IllegalStateException::class.java) { image.planes }
    }

    @Test
    fun disconnectedIsToldOnce() {
        running()
        manager.callback.onDisconnected(device)
        manager.callback.onError(device, CameraDevice.StateCallback.ERROR_CAMERA_DEVICE)
        Looper.runAll()
        assertEquals(listOf<String?>(null), lost)
        assertTrue(device.closed > 0 && ImageReader.last.closed)
    }

    @Test
    fun inUseMeansWaitAndOtherErrorsSaySo() {
        val expected = mapOf(1 to null, 2 to null, CameraDevice.StateCallback.ERROR_CAMERA_DEVICE to "error 4")
        for ((error, told) in expected) {
            make()
            manager.callback.onError(device, error)
            Looper.runAll()
            assertEquals(told, lost.removeAt(0))
        }
        val thrown =
            mapOf(
                CameraAccessException(CameraAccessException.CAMERA_IN_USE, "busy") to null,
                CameraAccessException(CameraAccessException.CAMERA_DISABLED, "by policy") to "by policy",
                SecurityException("not now") to "not now",
                IllegalArgumentException("unplugged") to "unplugged",
            )
        for ((error, told) in thrown) {
            manager.refusal = error
            make()
            assertEquals(told, lost.removeAt(0))
            assertTrue(ImageReader.last.closed)
        }
        assertEquals(0, lost.size)
    }

    @Test
    fun sessionsThatFail() {
        make()
        manager.callback.onOpened(device)
        device.session.onConfigureFailed(CameraCaptureSession(device))
        Looper.runAll()
        assertEquals(listOf<String?>("no session"), lost)
        // The device goes away between two calls.
        val other = CameraDevice()
        make()
        manager.callback.onOpened(other)
        other.close()
        other.session.onConfigured(CameraCaptureSession(other))
        Looper.runAll()
        assertEquals("CameraDevice was already closed", lost[1])
    }

    @Test
    fun lateCallbacksDoNothing() {
        val source = make()
        manager.callback.onOpened(device)
        source.close()
        ImageReader.last.deliver() // arrives behind the closing
        Looper.runAll()
        device.session.onConfigured(CameraCaptureSession(device))
        device.session.onConfigureFailed(CameraCaptureSession(device))
        manager.callback.onDisconnected(device)
        Looper.runAll()
        assertNull(device.repeating)
        assertEquals(0, frames.size)
        assertEquals(emptyList<String?>(), lost)
    }

    @Test
    fun aSlowReaderNeverHoldsTooManyImages() {
        running()
        deliver() // in work
        deliver() // waiting
        for (newest in 2..20) {
            repeat(3) { ImageReader.last.deliver() } // a burst: the newest counts
            Looper.runAll()
            assertEquals(newest + 1, frames.size)
            release(newest - 1) // replaced
        }
        release(0)
        release(20)
        assertEquals(0, ImageReader.last.out)
    }
}
