package org.retinaface.demo

import android.content.Context
import android.media.Image
import android.media.MediaCodec
import android.media.MediaCodecInfo
import android.media.MediaExtractor
import android.media.MediaFormat
import android.net.Uri
import java.io.IOException
import java.util.concurrent.Semaphore

/**
 * A video file, played at its own speed once; where looking for faces takes longer, frames are left out.
 *
 * @param frame takes over an image and the clockwise degrees that turn it upright, and must call the function that comes
 *   with it once, which frees the image.
 * @param ended told once, from the film's own thread: null at its end, else what happened. Not told after [close].
 */
internal class FilmSource(
    private val context: Context,
    private val uri: Uri,
    private val frame: (Image, Int, () -> Unit) -> Unit,
    private val ended: (String?) -> Unit,
) : AutoCloseable {
    private val released = Semaphore(0)

    @Volatile
    private var closed = false

    init {
        Thread(::play, "film").start()
    }

    /** Returns at once; a frame still being read stays valid until it is released. */
    override fun close() {
        closed = true
    }

    private fun play() {
        val failure =
            try {
                open()
                null
            } catch (e: IOException) {
                e.message ?: e.javaClass.simpleName
            } catch (e: RuntimeException) {
                // codecs have many ways to refuse a file
                e.message ?: e.javaClass.simpleName
            }
        if (!closed) ended(failure)
    }

    private fun open() {
        val extractor = MediaExtractor()
        try {
            extractor.setDataSource(context, uri, null)
            val track =
                (0 until extractor.trackCount).firstOrNull { typeOf(extractor.getTrackFormat(it)).startsWith("video/") }
                    ?: throw IOException("it has no pictures")
            extractor.selectTrack(track)
            decode(extractor, extractor.getTrackFormat(track))
        } finally {
            extractor.release()
        }
    }

    private fun typeOf(format: MediaFormat): String = format.getString(MediaFormat.KEY_MIME) ?: ""

    private fun decode(
        extractor: MediaExtractor,
        format: MediaFormat,
    ) {
        val turned = format.containsKey(MediaFormat.KEY_ROTATION)
        val rotation = if (turned) format.getInteger(MediaFormat.KEY_ROTATION) else 0
        format.setInteger(MediaFormat.KEY_COLOR_FORMAT, MediaCodecInfo.CodecCapabilities.COLOR_FormatYUV420Flexible)
        val codec = MediaCodec.createDecoderByType(typeOf(format))
        try {
            codec.configure(format, null, null, 0)
            codec.start()
            run(extractor, codec, rotation)
        } finally {
            codec.release()
        }
    }

    private fun run(
        extractor: MediaExtractor,
        codec: MediaCodec,
        rotation: Int,
    ) {
        val info = MediaCodec.BufferInfo()
        var fed = false
        var start: Long? = null
        while (!closed) {
            if (!fed) fed = feed(extractor, codec)
            val index = codec.dequeueOutputBuffer(info, WAIT_US)
            if (index < 0) continue
            val at = info.presentationTimeUs * 1000
            val zero = start ?: (System.nanoTime() - at).also { start = it }
            hand(codec.getOutputImage(index), zero + at, rotation)
            codec.releaseOutputBuffer(index, false)
            if (info.flags and MediaCodec.BUFFER_FLAG_END_OF_STREAM != 0) return
        }
    }

    /** Fills one of the decoder's buffers, if one is free; true when that was the last. */
    private fun feed(
        extractor: MediaExtractor,
        codec: MediaCodec,
    ): Boolean {
        val index = codec.dequeueInputBuffer(WAIT_US)
        val buffer = (if (index >= 0) codec.getInputBuffer(index) else null) ?: return false
        val size = extractor.readSampleData(buffer, 0)
        val end = size < 0
        val flags = if (end) MediaCodec.BUFFER_FLAG_END_OF_STREAM else 0
        codec.queueInputBuffer(index, 0, maxOf(size, 0), maxOf(extractor.sampleTime, 0), flags)
        if (!end) extractor.advance()
        return end
    }

    /** Waits until the frame is [due] and then until it was read, since its memory is the decoder's; drops a late one. */
    private fun hand(
        image: Image?,
        due: Long,
        rotation: Int,
    ) {
        val early = due - System.nanoTime()
        if (image == null || early < -LATE_NS) return
        if (early > 0) Thread.sleep(early / 1_000_000, (early % 1_000_000).toInt())
        if (closed) return
        frame(image, rotation) { released.release() }
        released.acquireUninterruptibly()
    }

    private companion object {
        const val WAIT_US = 10_000L
        const val LATE_NS = 50_000_000L
    }
}
