package org.retinaface.demo

import android.Manifest
import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Context
import android.content.Intent
import android.content.pm.PackageManager
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraManager
import android.net.Uri
import android.os.Bundle
import android.os.Handler
import android.os.Looper
import android.view.Surface
import android.view.View
import android.view.WindowManager
import android.widget.CheckBox
import android.widget.TextView
import org.retinaface.core.uprightRotation

/** The only screen: camera or a picked photo, with faces, times and four controls. */
internal class MainActivity : Activity() {
    private val main = Handler(Looper.getMainLooper())
    private lateinit var manager: CameraManager
    private lateinit var overlay: OverlayView
    private lateinit var status: TextView
    private lateinit var gpu: CheckBox

    private var detector: Detector? = null
    private var source: CameraSource? = null
    private var photo: Uri? = null
    private var front = false
    private var refused = false
    private var waitingFor: String? = null
    private var detectorRun = 0
    private var cameraRun = 0

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
        view(R.id.camera).setOnClickListener { showCamera() }
        view(R.id.flip).setOnClickListener { flip() }
        view(R.id.photo).setOnClickListener { pickPhoto() }
        gpu.setOnCheckedChangeListener { _, _ -> restart() }
        keepClearOfSystemBars(view(R.id.root))
        photo = savedInstanceState?.getParcelable(PHOTO)
        front = savedInstanceState?.getBoolean(FRONT) ?: false
    }

    /** Compiles against both shapes of findViewById: generic since API 26. */
    private fun view(id: Int): View = findViewById(id)

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putParcelable(PHOTO, photo)
        outState.putBoolean(FRONT, front)
    }

    override fun onResume() {
        super.onResume()
        manager.registerAvailabilityCallback(availability, main)
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
                gpu.isChecked,
                shown = { main.post { if (run == detectorRun) show(it) } },
                failed = { failure, message -> main.post { if (run == detectorRun) say(failure, message) } },
            )
        detector = started
        val picked = photo
        if (picked == null) startCamera() else started.offer(Work.Photo(picked))
    }

    private fun stop() {
        stopCamera()
        detectorRun++
        detector?.close()
        detector = null
    }

    private fun restart() {
        if (detector == null) return
        stop()
        start()
    }

    private fun stopCamera() {
        waitingFor = null
        cameraRun++
        source?.close()
        source = null
        window.clearFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
    }

    private fun startCamera() {
        stopCamera()
        val owner = detector ?: return
        val cameras = camerasOrNull() ?: return
        val camera = cameras.firstOrNull { it.frontFacing == front } ?: cameras.firstOrNull()
        if (camera == null) {
            status.setText(R.string.no_camera)
            return
        }
        if (checkSelfPermission(Manifest.permission.CAMERA) != PackageManager.PERMISSION_GRANTED) {
            // Asking pauses and resumes this activity: without the flag a refusal would ask for ever.
            if (refused) {
                status.setText(R.string.permission_refused)
            } else {
                requestPermissions(arrayOf(Manifest.permission.CAMERA), ASK_CAMERA)
            }
            return
        }
        front = camera.frontFacing
        status.setText(R.string.starting)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        source = openCamera(camera, owner)
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
        val run = cameraRun
        return CameraSource(
            manager,
            camera,
            frame = { image, release ->
                val rotation = uprightRotation(camera.sensorOrientation, displayDegrees(), camera.frontFacing)
                owner.offer(Work.Frame(image, rotation, camera.frontFacing, release))
            },
            lost = { reason -> main.post { if (run == cameraRun) cameraLost(camera, reason) } },
        )
    }

    private fun cameraLost(
        camera: Camera,
        reason: String?,
    ) {
        stopCamera()
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
        refused = false
        overlay.shown = null
        startCamera()
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

    private fun pickPhoto() {
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("image/*")
        try {
            startActivityForResult(intent, PICK_PHOTO)
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
        if (requestCode == PICK_PHOTO && resultCode == RESULT_OK) {
            // onResume follows and starts with the photo.
            photo = data?.data ?: photo
            overlay.shown = null
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
            if (photo == null) startCamera()
        }
    }

    private fun show(shown: Shown) {
        if (shown.isPhoto != (photo != null)) return // a late photo after the camera was asked for
        overlay.shown = shown
        val faces = resources.getQuantityString(R.plurals.faces, shown.faces.size, shown.faces.size)
        val size = arrayOf<Any>(shown.bitmap.width, shown.bitmap.height)
        val times = shown.times.run { arrayOf<Any>(shown.convertMs, preprocess, inference, postprocess) }
        val head = "$faces · ${shown.model}"
        status.text =
            if (shown.isPhoto) {
                getString(R.string.photo_status, head, *size, *times)
            } else {
                getString(R.string.camera_status, head, *size, shown.framesPerSecond, *times)
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
                Failure.RUNTIME -> getString(R.string.no_runtime)
            }
    }

    /** Newer Android draws apps behind its bars. */
    @Suppress("DEPRECATION") // its successor came with API 30
    private fun keepClearOfSystemBars(root: View) {
        root.setOnApplyWindowInsetsListener { view, insets ->
            view.setPadding(
                insets.systemWindowInsetLeft,
                insets.systemWindowInsetTop,
                insets.systemWindowInsetRight,
                insets.systemWindowInsetBottom,
            )
            insets
        }
    }

    private companion object {
        const val ASK_CAMERA = 1
        const val PICK_PHOTO = 2
        const val PHOTO = "photo"
        const val FRONT = "front"
    }
}
