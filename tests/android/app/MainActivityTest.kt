package org.retinaface.demo

import android.app.Activity
import android.app.AlertDialog
import android.content.Intent
import android.content.res.AssetManager
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Insets
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.media.ExifInterface
import android.media.Image
import android.media.ImageReader
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.os.Looper
import android.util.AttributeSet
import android.view.View
import android.view.WindowInsets
import android.widget.CheckBox
import android.widget.SeekBar
import android.widget.TextView
import android.widget.Toast
import org.junit.After
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.gpu.CompatibilityList
import org.tensorflow.lite.gpu.GpuDelegate
import java.awt.image.BufferedImage
import java.io.File
import java.io.FileNotFoundException
import java.lang.reflect.Proxy
import javax.imageio.ImageIO

/** The activity on fakes of Android and of LiteRT, with the real detector's thread in between. */
class MainActivityTest {
    @get:Rule
    val folder = TemporaryFolder()
    private val manager = CameraManager()
    private val activity = MainActivity()
    private var device = CameraDevice()

    @Before
    fun reset() {
        Looper.reset()
        Activity.services["camera"] = manager
        Activity.allowed = true
        Activity.mayAskAgain = true
        Activity.cache = folder.root
        AssetManager.model = File(System.getProperty("model"))
        Build.VERSION.SDK_INT = 36
        Interpreter.fixed = false
        CompatibilityList.supported = false
        GpuDelegate.broken = false
        ExifInterface.orientation = 1
        BitmapFactory.largest = 0
        manager.cameras["0"] = facts()
        manager.cameras["1"] = facts(front = true)
        prepare(activity)
    }

    @After
    fun everythingIsFreed() {
        activity.pause()
        waitFor { Interpreter.open == 0 }
    }

    private fun prepare(
        activity: MainActivity,
        state: Bundle? = null,
    ) {
        val none = arrayOf<Class<*>>(AttributeSet::class.java)
        val attributes = Proxy.newProxyInstance(javaClass.classLoader, none) { _, _, _ -> null } as AttributeSet
        activity.views[R.id.overlay] = OverlayView(activity, attributes)
        for (id in listOf(R.id.gpu, R.id.half, R.id.blur)) activity.views[id] = CheckBox(activity)
        for (id in listOf(R.id.status, R.id.threshold_label)) activity.views[id] = TextView(activity)
        activity.views[R.id.threshold] = SeekBar(activity)
        val plain =
            listOf(R.id.root, R.id.allow, R.id.camera, R.id.flip, R.id.photo, R.id.film, R.id.more, R.id.panel) +
                listOf(R.id.save, R.id.share, R.id.licences)
        for (id in plain) activity.views[id] = View(activity)
        activity.create(state)
    }

    private fun waitFor(condition: () -> Boolean) {
        val deadline = System.nanoTime() + 20_000_000_000
        while (true) {
            Looper.runAll()
            if (condition()) return
            if (System.nanoTime() > deadline) throw AssertionError("it did not happen; the screen says: $status")
            Thread.sleep(2)
        }
    }

    private fun tap(id: Int) {
        activity.views.getValue(id).tap()
        Looper.runAll()
    }

    private fun check(
        id: Int,
        checked: Boolean = true,
    ) {
        (activity.views[id] as CheckBox).isChecked = checked
    }

    private val overlay get() = activity.views[R.id.overlay] as OverlayView
    private val status get() = (activity.views[R.id.status] as TextView).text.toString()
    private val allowIsShown get() = activity.views.getValue(R.id.allow).visibility == View.VISIBLE

    private fun startCamera() {
        manager.opening = null
        activity.resume()
        answerCamera()
    }

    private fun answerCamera() {
        Looper.runAll()
        assertNotNull(manager.opening)
        device = CameraDevice()
        manager.callback.onOpened(device)
        device.session.onConfigured(CameraCaptureSession(device))
        Looper.runAll()
    }

    private fun frame(): Image {
        val before = overlay.shown
        val image = ImageReader.last.deliver()
        waitFor { overlay.shown !== before }
        return image
    }

    private fun png(
        width: Int,
        height: Int,
    ): File {
        val file = folder.newFile()
        ImageIO.write(BufferedImage(width, height, BufferedImage.TYPE_INT_RGB), "png", file)
        return file
    }

    private fun pickPhoto(file: File) {
        tap(R.id.photo)
        answerPicker(file.path)
    }

    private fun answerPicker(address: String) {
        activity.pause()
        activity.answer(activity.started.last().request, Activity.RESULT_OK, Intent(null, Uri.parse(address)))
        activity.resume()
    }

    private fun showPhoto(file: File): Shown {
        pickPhoto(file)
        waitFor { overlay.shown != null }
        return overlay.shown!!
    }

    @Test
    fun framesReachTheScreen() {
        startCamera()
        val image = frame()
        assertTrue(image.closed)
        val shown = overlay.shown!!
        // The sensor's 640×480 turned by 90°, at a shape of its own.
        assertEquals(480 to 640, shown.bitmap.width to shown.bitmap.height)
        assertArrayEquals(intArrayOf(1, 640, 480, 3), Interpreter.lastShape)
        assertEquals(1, shown.faces.size)
        assertTrue(status, status.startsWith("camera_status[1 faces · int8-qat · CPU ×"))
        assertTrue(!shown.mirrored && !shown.isPhoto)
        activity.pause()
        Looper.runAll()
        assertEquals(1, device.closed)
        assertNull(manager.availability)
    }

    @Test
    fun bitmapsGoRound() {
        startCamera()
        repeat(30) {
            frame()
            overlay.frame()
            // What is on the screen can be read: it was not handed out again.
            assertEquals(480 * 640, pixelsOf(overlay.shown!!.bitmap).pixels.size)
            if (it == 5) Bitmap.made = 0
        }
        assertEquals(0, Bitmap.made)
    }

    @Test
    fun theFrontCameraIsMirrored() {
        startCamera()
        frame()
        tap(R.id.flip)
        assertEquals("1", manager.opening)
        answerCamera()
        frame()
        assertTrue(overlay.shown!!.mirrored)
    }

    @Test
    fun refusedOnceIsAskedWhenWanted() {
        Activity.allowed = false
        activity.resume()
        assertEquals(1, activity.asked.size)
        // The question pauses and resumes the activity.
        activity.pause()
        activity.onRequestPermissionsResult(1, arrayOf("camera"), intArrayOf(-1))
        activity.resume()
        assertEquals("permission_refused", status)
        assertEquals(1, activity.asked.size)
        assertTrue(!allowIsShown && manager.opening == null)
        tap(R.id.camera)
        assertEquals(2, activity.asked.size)
        // Interrupted, not refused.
        activity.onRequestPermissionsResult(1, emptyArray(), IntArray(0))
        assertEquals(2, activity.asked.size)
        Activity.allowed = true
        activity.onRequestPermissionsResult(1, arrayOf("camera"), intArrayOf(0))
        answerCamera()
        frame()
    }

    @Test
    fun refusedForGoodLeadsToTheSettings() {
        Activity.allowed = false
        Activity.mayAskAgain = false
        activity.resume()
        activity.onRequestPermissionsResult(1, arrayOf("camera"), intArrayOf(-1))
        assertEquals("permission_refused_for_good", status)
        assertTrue(allowIsShown)
        tap(R.id.allow)
        val intent = activity.started.single()
        assertEquals("android.settings.APPLICATION_DETAILS_SETTINGS", intent.action)
        assertEquals("package:org.retinaface.demo", intent.data.toString())
        activity.pause()
        Activity.allowed = true
        startCamera()
        assertTrue(!allowIsShown)
        frame()
    }

    @Test
    fun photosWorkWithoutTheCamera() {
        Activity.allowed = false
        activity.resume()
        activity.onRequestPermissionsResult(1, arrayOf("camera"), intArrayOf(-1))
        assertEquals(300 to 200, showPhoto(png(300, 200)).bitmap.run { width to height })
        assertTrue(status, status.startsWith("photo_status[1 faces"))
        assertArrayEquals(intArrayOf(1, 448, 640, 3), Interpreter.lastShape)
        assertEquals(1, activity.asked.size)
    }

    @Test
    fun photosAreTurnedAndSampled() {
        activity.resume()
        ExifInterface.orientation = 6
        val shown = showPhoto(png(5000, 40))
        // A quarter of it: half would still be 2,500 pixels.
        assertEquals(10 to 1250, shown.bitmap.width to shown.bitmap.height)
        assertEquals(12500, BitmapFactory.largest)
        // Sizes, pixels, orientation; never the whole file.
        assertEquals(mapOf("descriptor" to 2, "stream" to 1), activity.resolver.opened)
        ExifInterface.orientation = -1
        overlay.shown = null
        assertEquals(30 to 20, showPhoto(png(30, 20)).bitmap.run { width to height })
    }

    @Test
    fun photosThatCannotBeShown() {
        activity.resume()
        val text = folder.newFile().apply { writeText("not a picture") }
        pickPhoto(text)
        waitFor { status == "photo_failed[it is no picture that Android reads]" }
        pickPhoto(File(folder.root, "gone.png"))
        waitFor { status.startsWith("photo_failed[") && "gone.png" in status }
        activity.resolver.refusal = SecurityException("the grant has ended")
        pickPhoto(text)
        waitFor { status == "photo_failed[the grant has ended]" }
        activity.resolver.refusal = null
        activity.resolver.error = OutOfMemoryError("64 MB")
        pickPhoto(text)
        waitFor { status == "no_memory" }
        activity.resolver.error = null
        showPhoto(png(64, 64))
    }

    @Test
    fun pickersOfBothKinds() {
        activity.resume()
        tap(R.id.photo)
        tap(R.id.film)
        Build.VERSION.SDK_INT = 30
        tap(R.id.photo)
        val picked = activity.started.map { it.action.substringAfterLast('.') to it.type }
        assertEquals(
            listOf("PICK_IMAGES" to "image/*", "PICK_IMAGES" to "video/*", "OPEN_DOCUMENT" to "image/*"),
            picked,
        )
        // Nothing was chosen.
        activity.answer(activity.started.last().request, 0, null)
        assertNull(activity.onBack)
    }

    @Test
    fun backFromAPhotoLeadsToTheCamera() {
        activity.resume()
        showPhoto(png(64, 64))
        manager.opening = null
        activity.onBack!!.onBackInvoked()
        answerCamera()
        assertNull(activity.onBack)
        frame()
        assertTrue(!overlay.shown!!.isPhoto)
    }

    @Test
    fun backBeforeAndroid13() {
        Build.VERSION.SDK_INT = 32
        activity.resume()
        showPhoto(png(64, 64))
        assertNull(activity.onBack)
        manager.opening = null
        activity.onBackPressed()
        answerCamera()
        assertTrue(!activity.finished)
        activity.onBackPressed()
        assertTrue(activity.finished)
    }

    @Test
    fun aCameraThatWasTakenComesBack() {
        startCamera()
        manager.callback.onDisconnected(device)
        waitFor { status == "camera_lost" }
        manager.opening = null
        manager.availability!!.onCameraAvailable("7")
        Looper.runAll()
        assertNull(manager.opening)
        manager.availability!!.onCameraAvailable("0")
        answerCamera()
        frame()
        manager.callback.onError(device, CameraDevice.StateCallback.ERROR_CAMERA_DEVICE)
        waitFor { status == "camera_failed[error 4]" }
    }

    @Test
    fun withoutACamera() {
        manager.cameras.clear()
        activity.resume()
        assertEquals("no_camera", status)
        tap(R.id.flip)
        assertEquals("no_camera", status)
        manager.cameras["0"] = facts()
        tap(R.id.flip)
        assertEquals("no_such_camera", status)
    }

    @Test
    fun halfTheSize() {
        startCamera()
        check(R.id.half)
        answerCamera()
        frame()
        // 480×640 at half the scale is 240×320.
        assertArrayEquals(intArrayOf(1, 320, 256, 3), Interpreter.lastShape)
        assertTrue(status, ", 480, 640, 256, 320, " in status)
    }

    @Test
    fun theGpuRunsAtTheModelsOwnShape() {
        CompatibilityList.supported = true
        check(R.id.gpu)
        startCamera()
        frame()
        assertTrue(status, " · GPU" in status)
        assertArrayEquals(intArrayOf(1, 640, 640, 3), Interpreter.lastShape)
    }

    @Test
    fun withoutAGpuTheCpuRuns() {
        GpuDelegate.broken = true
        for (supported in listOf(true, false)) {
            CompatibilityList.supported = supported
            check(R.id.gpu)
            startCamera()
            frame()
            assertTrue(status, "(no GPU)" in status)
            activity.pause()
        }
    }

    @Test
    fun modelsThatCannotBeResizedRunAtTheirOwnShape() {
        Interpreter.fixed = true
        startCamera()
        frame()
        frame()
        assertArrayEquals(intArrayOf(1, 640, 640, 3), Interpreter.lastShape)
    }

    @Test
    fun theThresholdIsTheUsers() {
        activity.resume()
        val file = png(64, 64)
        assertEquals(1, showPhoto(file).faces.size)
        val bar = activity.views[R.id.threshold] as SeekBar
        val label = activity.views[R.id.threshold_label] as TextView
        // The face has 0.88; moving the bar looks at the photo again.
        for ((value, count) in listOf(90 to 0, 80 to 1, 0 to 1)) {
            val before = overlay.shown
            bar.move(value)
            waitFor { overlay.shown !== before }
            assertEquals(count, overlay.shown!!.faces.size)
            assertEquals(if (value == 0) "threshold_own" else "threshold_value[$value]", label.text)
        }
        bar.move(90)
        activity.pause()
        activity.resume()
        waitFor { overlay.shown!!.faces.isEmpty() }
    }

    @Test
    fun picturesAreShared() {
        activity.resume()
        tap(R.id.share)
        assertEquals("nothing_to_export", status)
        val noise = folder.newFile()
        val stored = BufferedImage(64, 64, BufferedImage.TYPE_INT_RGB)
        for (i in 0 until 64 * 64) stored.setRGB(i % 64, i / 64, if (i * 7919 % 5 > 1) 0xffffff else 0)
        ImageIO.write(stored, "png", noise)
        showPhoto(noise)
        val files =
            listOf(false, true).map { blurred ->
                check(R.id.blur, blurred)
                activity.started.clear()
                tap(R.id.share)
                waitFor { activity.started.isNotEmpty() }
                PictureFile.of(activity).readBytes()
            }
        assertNotEquals(files[0].toList(), files[1].toList())
        val sent = activity.started.single().inside
        assertEquals("android.intent.action.SEND" to "image/jpeg", sent.action to sent.type)
        assertEquals(Intent.FLAG_GRANT_READ_URI_PERMISSION, sent.flags)
        assertEquals("content://org.retinaface.demo.pictures/picture.jpg", sent.extras[Intent.EXTRA_STREAM].toString())
        assertEquals(64, ImageIO.read(PictureFile.of(activity)).width)
        // The pixels on the screen are still those of the photo.
        assertEquals(stored.getRGB(3, 0), pixelsOf(overlay.shown!!.bitmap).pixels[3])
        val provider = PictureProvider()
        assertThrows(FileNotFoundException::class.java) { provider.openFile(PictureFile.address(), "w") }
    }

    @Test
    fun picturesAreSaved() {
        activity.resume()
        showPhoto(png(64, 48))
        tap(R.id.save)
        waitFor { activity.started.any { it.action == Intent.ACTION_CREATE_DOCUMENT } }
        val place = folder.newFile()
        activity.answer(activity.started.last().request, Activity.RESULT_OK, Intent(null, Uri.parse(place.path)))
        waitFor { Toast.shown == "saved" }
        assertEquals(64 to 48, ImageIO.read(place).run { width to height })
        activity.answer(activity.started.last().request, Activity.RESULT_OK, Intent(null, Uri.parse("/no/such/place")))
        waitFor { Toast.shown.startsWith("export_failed[") }
    }

    @Test
    fun filmsPlayToTheirEnd() {
        activity.resume()
        tap(R.id.film)
        answerPicker("5")
        waitFor { status == "film_ended" && overlay.shown != null }
        assertEquals(480 to 640, overlay.shown!!.bitmap.run { width to height })
        assertNotNull(activity.onBack)
        tap(R.id.film)
        answerPicker("-1")
        waitFor { status == "film_failed[no such film]" }
    }

    @Test
    fun whatIsShownOutlivesTheActivity() {
        activity.resume()
        showPhoto(png(64, 48))
        val state = Bundle()
        activity.save(state)
        val next = MainActivity()
        prepare(next, state)
        next.resume()
        val view = next.views[R.id.overlay] as OverlayView
        waitFor { view.shown != null }
        assertEquals(64 to 48, view.shown!!.bitmap.run { width to height })
        next.pause()
    }

    @Test
    fun nothingHidesBehindBarsOrTheCamerasHole() {
        val insets =
            object : WindowInsets() {
                override fun getInsets(types: Int): Insets =
                    Insets().apply {
                        left = 80
                        bottom = 20
                    }

                override fun getSystemWindowInsetTop(): Int = 7
            }
        val root = activity.views.getValue(R.id.root)
        root.insets.onApplyWindowInsets(root, insets)
        assertArrayEquals(intArrayOf(80, 0, 0, 20), root.padding)
        Build.VERSION.SDK_INT = 29
        root.insets.onApplyWindowInsets(root, insets)
        assertArrayEquals(intArrayOf(0, 7, 0, 0), root.padding)
    }

    @Test
    fun panelAndLicences() {
        val panel = activity.views.getValue(R.id.panel)
        tap(R.id.more)
        assertEquals(View.VISIBLE, panel.visibility)
        tap(R.id.more)
        assertEquals(View.GONE, panel.visibility)
        tap(R.id.licences)
        assertEquals("licences.txt", AlertDialog.shown)
    }
}
