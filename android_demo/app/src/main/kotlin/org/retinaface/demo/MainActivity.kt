package org.retinaface.demo

import android.Manifest
import android.app.Activity
import android.app.AlertDialog
import android.content.ActivityNotFoundException
import android.content.Context
import android.content.Intent
import android.content.pm.PackageManager
import android.graphics.Bitmap
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraManager
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.os.Handler
import android.os.Looper
import android.provider.MediaStore
import android.view.Surface
import android.view.View
import android.view.WindowInsets
import android.view.WindowManager
import android.widget.CheckBox
import android.widget.SeekBar
import android.widget.TextView
import android.widget.Toast
import android.window.OnBackInvokedCallback
import android.window.OnBackInvokedDispatcher
import org.retinaface.core.uprightRotation
import java.io.IOException

/** The only screen: camera, a picked photo or a film, with faces, times and controls. */
internal class MainActivity : Activity() {
    private val main = Handler(Looper.getMainLooper())
    private lateinit var manager: CameraManager
    private lateinit var overlay: OverlayView
    private lateinit var status: TextView
    private lateinit var gpu: CheckBox
    private lateinit var half: CheckBox
    private lateinit var blur: CheckBox
    private lateinit var threshold: SeekBar
    private lateinit var allow: View

    private var detector: Detector? = null
    private var source: AutoCloseable? = null
    private var photo: Uri? = null
    private var film: Uri? = null
    private var front = false
    private var refused = false
    private var waitingFor: String? = null
    private var detectorRun = 0
    private var sourceRun = 0
    private var back: Any? = null // an OnBackInvokedCallback, a class that came with Android 13

    /** Tells when a camera that another app took is free again. */
    private val availability =
        object : CameraManager.AvailabilityCallback() {
            override fun onCameraAvailable(cameraId: String) {
                if (cameraId == waitingFor) {
                    waitingFor = null
                    startCamera()
                }
            }
        }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        manager = getSystemService(Context.CAMERA_SERVICE) as CameraManager
        overlay = view(R.id.overlay) as OverlayView
        status = view(R.id.status) as TextView
        gpu = view(R.id.gpu) as CheckBox
        half = view(R.id.half) as CheckBox
        blur = view(R.id.blur) as CheckBox
        threshold = view(R.id.threshold) as SeekBar
        allow = view(R.id.allow)
        view(R.id.camera).setOnClickListener { showCamera() }
        view(R.id.flip).setOnClickListener { flip() }
        view(R.id.photo).setOnClickListener { pick("image/*", PICK_PHOTO) }
        view(R.id.film).setOnClickListener { pick("video/*", PICK_FILM) }
        view(R.id.more).setOnClickListener { toggle(view(R.id.panel)) }
        view(R.id.save).setOnClickListener { export(::save) }
        view(R.id.share).setOnClickListener { export(::share) }
        view(R.id.licences).setOnClickListener { showLicences() }
        allow.setOnClickListener { openSettings() }
        gpu.setOnCheckedChangeListener { _, _ -> restart() }
        half.setOnCheckedChangeListener { _, _ -> restart() }
        threshold.setOnSeekBarChangeListener(Thresholds())
        keepClearOfSystemBars(view(R.id.root))
        photo = savedInstanceState?.getParcelable(PHOTO)
        film = savedInstanceState?.getParcelable(FILM)
        front = savedInstanceState?.getBoolean(FRONT) ?: false
    }

    /** Compiles against both shapes of findViewById: generic since API 26. */
    private fun view(id: Int): View = findViewById(id)

    private fun toggle(panel: View) {
        panel.visibility = if (panel.visibility == View.VISIBLE) View.GONE else View.VISIBLE
    }

    /** Steps of a hundredth; at the far left, and until it is moved, the model's own threshold. */
    private inner class Thresholds : SeekBar.OnSeekBarChangeListener {
        override fun onProgressChanged(
            bar: SeekBar,
            progress: Int,
            fromUser: Boolean,
        ) {
            val label = view(R.id.threshold_label) as TextView
            label.text =
                if (progress == 0) getString(R.string.threshold_own) else getString(R.string.threshold_value, progress)
            detector?.threshold = chosenThreshold()
        }

        override fun onStartTrackingTouch(bar: SeekBar) = Unit

        override fun onStopTrackingTouch(bar: SeekBar) {
            photo?.let { detector?.offer(Work.Photo(it)) }
        }
    }

    private fun chosenThreshold(): Double? = threshold.progress.takeIf { it > 0 }?.let { it / 100.0 }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putParcelable(PHOTO, photo)
        outState.putParcelable(FILM, film)
        outState.putBoolean(FRONT, front)
    }

    override fun onResume() {
        super.onResume()
        manager.registerAvailabilityCallback(availability, main)
        // Allowed in the settings, perhaps.
        if (isCameraAllowed()) refused = false
        start()
    }

    override fun onPause() {
        // Others may want the camera, and a paused app has no use for the model's memory.
        stop()
        manager.unregisterAvailabilityCallback(availability)
        super.onPause()
    }

    private fun start() {
        // What a detector that was replaced meanwhile still has to say must not appear.
        val run = ++detectorRun
        val started =
            Detector(
                applicationContext,
                Settings(gpu.isChecked, half.isChecked),
                shown = { main.post { if (run == detectorRun) show(it) } },
                failed = { failure, message -> main.post { if (run == detectorRun) say(failure, message) } },
            )
        started.threshold = chosenThreshold()
        detector = started
        startSource()
    }

    private fun startSource() {
        updateBack()
        allow.visibility = View.GONE
        val picked = photo
        val played = film
        when {
            picked != null -> {
                stopSource()
                detector?.offer(Work.Photo(picked))
            }

            played != null -> {
                startFilm(played)
            }

            else -> {
                startCamera()
            }
        }
    }

    private fun stop() {
        stopSource()
        detectorRun++
        detector?.close()
        detector = null
    }

    private fun restart() {
        if (detector == null) return
        stop()
        start()
    }

    private fun stopSource() {
        waitingFor = null
        sourceRun++
        source?.close()
        source = null
        window.clearFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
    }

    private fun startFilm(uri: Uri) {
        stopSource()
        val owner = detector ?: return
        val run = sourceRun
        status.setText(R.string.starting)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        source =
            FilmSource(
                applicationContext,
                uri,
                frame = { image, rotation, release -> owner.offer(Work.Frame(image, rotation, false, release)) },
                ended = { reason -> main.post { if (run == sourceRun) filmEnded(reason) } },
            )
    }

    /** The last picture stays. */
    private fun filmEnded(reason: String?) {
        stopSource()
        if (reason ==
            null
        ) {
            status.setText(R.string.film_ended)
        } else {
            status.text = getString(R.string.film_failed, reason)
        }
    }

    private fun isCameraAllowed() = checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED

    private fun startCamera() {
        stopSource()
        val owner = detector ?: return
        val cameras = camerasOrNull() ?: return
        val camera = cameras.firstOrNull { it.frontFacing == front } ?: cameras.firstOrNull()
        if (camera == null) {
            status.setText(R.string.no_camera)
            return
        }
        if (!isCameraAllowed()) {
            // Asking pauses and resumes this activity: without the flag a refusal would ask for ever.
            if (refused) sayRefused() else requestPermissions(arrayOf(Manifest.permission.CAMERA), ASK_CAMERA)
            return
        }
        front = camera.frontFacing
        status.setText(R.string.starting)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        source = openCamera(camera, owner)
    }

    /** Once Android does not ask any more, only its settings help. */
    private fun sayRefused() {
        val forGood = !shouldShowRequestPermissionRationale(Manifest.permission.CAMERA)
        status.setText(if (forGood) R.string.permission_refused_for_good else R.string.permission_refused)
        allow.visibility = if (forGood) View.VISIBLE else View.GONE
    }

    private fun openSettings() {
        val address = Uri.fromParts("package", packageName, null)
        startActivity(Intent(android.provider.Settings.ACTION_APPLICATION_DETAILS_SETTINGS, address))
    }

    private fun camerasOrNull(): List<Camera>? =
        try {
            findCameras(manager)
        } catch (e: CameraAccessException) {
            status.text = getString(R.string.camera_failed, e.message)
            null
        } catch (e: IllegalArgumentException) {
            status.text = getString(R.string.camera_failed, e.message) // unplugged between two questions
            null
        }

    private fun openCamera(
        camera: Camera,
        owner: Detector,
    ): CameraSource {
        val run = sourceRun
        return CameraSource(
            manager,
            camera,
            frame = { image, release ->
                val rotation = uprightRotation(camera.sensorOrientation, displayDegrees(), camera.frontFacing)
                owner.offer(Work.Frame(image, rotation, camera.frontFacing, release))
            },
            lost = { reason -> main.post { if (run == sourceRun) cameraLost(camera, reason) } },
        )
    }

    private fun cameraLost(
        camera: Camera,
        reason: String?,
    ) {
        stopSource()
        if (reason == null) {
            waitingFor = camera.id
            status.setText(R.string.camera_lost)
        } else {
            status.text = getString(R.string.camera_failed, reason)
        }
    }

    @Suppress("DEPRECATION") // its successor came with API 30
    private fun displayDegrees(): Int =
        when (windowManager.defaultDisplay.rotation) {
            Surface.ROTATION_90 -> 90
            Surface.ROTATION_180 -> 180
            Surface.ROTATION_270 -> 270
            else -> 0
        }

    private fun showCamera() {
        photo = null
        film = null
        refused = false
        overlay.shown = null
        startSource()
    }

    private fun flip() {
        val cameras = camerasOrNull() ?: return
        if (cameras.size < 2) {
            status.setText(if (cameras.isEmpty()) R.string.no_camera else R.string.no_such_camera)
            return
        }
        front = !front
        showCamera()
    }

    // Back, from a photo or film, leads to the camera, and from there out of the app.

    private fun updateBack() {
        if (Build.VERSION.SDK_INT < ANDROID_13) return
        val wanted = photo != null || film != null
        val registered = back as? OnBackInvokedCallback
        if (wanted && registered == null) {
            val callback = OnBackInvokedCallback { showCamera() }
            onBackInvokedDispatcher.registerOnBackInvokedCallback(OnBackInvokedDispatcher.PRIORITY_DEFAULT, callback)
            back = callback
        } else if (!wanted && registered != null) {
            onBackInvokedDispatcher.unregisterOnBackInvokedCallback(registered)
            back = null
        }
    }

    /** Before Android 13; newer ones call what [updateBack] registered. */
    override fun onBackPressed() {
        if (photo != null || film != null) showCamera() else super.onBackPressed()
    }

    private fun pick(
        type: String,
        request: Int,
    ) {
        try {
            if (Build.VERSION.SDK_INT >= ANDROID_13) {
                startActivityForResult(Intent(MediaStore.ACTION_PICK_IMAGES).setType(type), request)
            } else {
                val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType(type)
                startActivityForResult(intent, request)
            }
        } catch (_: ActivityNotFoundException) {
            status.setText(R.string.no_picker)
        }
    }

    override fun onActivityResult(
        requestCode: Int,
        resultCode: Int,
        data: Intent?,
    ) {
        super.onActivityResult(requestCode, resultCode, data)
        val uri = data?.data
        if (resultCode != RESULT_OK || uri == null) return
        when (requestCode) {
            PICK_PHOTO, PICK_FILM -> {
                // onResume follows and starts with it.
                photo = uri.takeIf { requestCode == PICK_PHOTO }
                film = uri.takeIf { requestCode == PICK_FILM }
                overlay.shown = null
            }

            SAVE -> {
                copyTo(uri)
            }
        }
    }

    override fun onRequestPermissionsResult(
        requestCode: Int,
        permissions: Array<String>,
        grantResults: IntArray,
    ) {
        super.onRequestPermissionsResult(requestCode, permissions, grantResults)
        // An empty answer means that the question was interrupted, not refused.
        if (requestCode == ASK_CAMERA && grantResults.isNotEmpty()) {
            refused = grantResults[0] != PackageManager.PERMISSION_GRANTED
            if (photo == null && film == null) startCamera()
        }
    }

    /** Writes the picture on the screen into its file and then calls [then]. */
    private fun export(then: () -> Unit) {
        val shown = overlay.shown
        if (shown == null) {
            status.setText(R.string.nothing_to_export)
            return
        }
        try {
            val picture = PictureFile.render(shown, blur.isChecked)
            inBackground(then) { write(picture) }
        } catch (e: OutOfMemoryError) {
            say(Failure.MEMORY, e.message ?: e.javaClass.simpleName)
        }
    }

    private fun write(picture: Bitmap) {
        PictureFile.write(picture, PictureFile.of(this))
        picture.recycle()
    }

    /** Does file work on a thread of its own, then [done] on the main one; a failure is told on the screen. */
    private fun inBackground(
        done: () -> Unit,
        work: () -> Unit,
    ) {
        Thread {
            try {
                work()
                main.post { if (!isDestroyed) done() }
            } catch (e: IOException) {
                main.post { toast(getString(R.string.export_failed, e.message)) }
            }
        }.start()
    }

    private fun save() {
        val intent =
            Intent(Intent.ACTION_CREATE_DOCUMENT)
                .addCategory(Intent.CATEGORY_OPENABLE)
                .setType(PictureFile.TYPE)
                .putExtra(Intent.EXTRA_TITLE, "faces.jpg")
        try {
            startActivityForResult(intent, SAVE)
        } catch (_: ActivityNotFoundException) {
            status.setText(R.string.no_picker)
        }
    }

    private fun copyTo(uri: Uri) =
        inBackground({ toast(getString(R.string.saved)) }) {
            val stream = contentResolver.openOutputStream(uri) ?: throw IOException("it cannot be opened")
            stream.use { to -> PictureFile.of(this).inputStream().use { it.copyTo(to) } }
        }

    /** The status line would be written over by the next picture. */
    private fun toast(text: String) = Toast.makeText(this, text, Toast.LENGTH_LONG).show()

    private fun share() {
        val intent =
            Intent(Intent.ACTION_SEND)
                .setType(PictureFile.TYPE)
                .putExtra(Intent.EXTRA_STREAM, PictureFile.address())
                .addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
        startActivity(Intent.createChooser(intent, null))
    }

    private fun showLicences() {
        val text = assets.open(LICENCES).use { it.readBytes() }.toString(Charsets.UTF_8)
        AlertDialog
            .Builder(this)
            .setTitle(R.string.licences)
            .setMessage(text)
            .show()
    }

    private fun show(shown: Shown) {
        if (shown.isPhoto != (photo != null)) { // a late photo after the camera was asked for
            shown.giveBack()
            return
        }
        overlay.shown = shown
        if (film != null && source == null) return // the film's last picture, and that it has ended is told already
        val faces = resources.getQuantityString(R.plurals.faces, shown.faces.size, shown.faces.size)
        val head = "$faces · ${shown.model}"
        val sizes = shown.run { arrayOf<Any>(bitmap.width, bitmap.height, input.width, input.height) }
        val times = shown.times.run { arrayOf<Any>(shown.convertMs, preprocess, inference, postprocess) }
        status.text =
            if (shown.isPhoto) {
                getString(R.string.photo_status, head, *sizes, *times)
            } else {
                getString(R.string.camera_status, head, *sizes, shown.framesPerSecond, *times)
            }
    }

    private fun say(
        failure: Failure,
        message: String,
    ) {
        status.text =
            when (failure) {
                Failure.PHOTO -> getString(R.string.photo_failed, message)
                Failure.FRAME -> getString(R.string.frame_failed, message)
                Failure.MEMORY -> getString(R.string.no_memory)
                Failure.RUNTIME -> getString(R.string.no_runtime)
            }
    }

    /** Newer Android draws apps behind its bars and, turned on its side, behind the camera's hole. */
    @Suppress("DEPRECATION") // its successor came with API 30
    private fun keepClearOfSystemBars(root: View) {
        root.setOnApplyWindowInsetsListener { view, insets ->
            if (Build.VERSION.SDK_INT >= ANDROID_11) {
                val kept = insets.getInsets(WindowInsets.Type.systemBars() or WindowInsets.Type.displayCutout())
                view.setPadding(kept.left, kept.top, kept.right, kept.bottom)
            } else {
                view.setPadding(
                    insets.systemWindowInsetLeft,
                    insets.systemWindowInsetTop,
                    insets.systemWindowInsetRight,
                    insets.systemWindowInsetBottom,
                )
            }
            insets
        }
    }

    private companion object {
        const val ANDROID_11 = 30
        const val ANDROID_13 = 33
        const val ASK_CAMERA = 1
        const val PICK_PHOTO = 2
        const val PICK_FILM = 3
        const val SAVE = 4
        const val PHOTO = "photo"
        const val FILM = "film"
        const val FRONT = "front"
        const val LICENCES = "licences.txt"
    }
}
