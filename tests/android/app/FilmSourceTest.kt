package org.retinaface.demo

import android.app.Activity
import android.media.MediaCodec
import android.media.MediaExtractor
import android.net.Uri
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicInteger

class FilmSourceTest {
    private val seen = AtomicInteger()
    private val ended = ArrayList<String?>()
    private val done = CountDownLatch(1)

    private fun play(
        film: String,
        each: () -> Unit = {},
    ): FilmSource =
        FilmSource(
            Activity(),
            Uri.parse(film),
            frame = { image, rotation, release ->
                assertEquals(90, rotation)
                assertEquals(640, image.planes[0].rowStride)
                seen.incrementAndGet()
                each()
                release()
            },
            ended = {
                ended.add(it)
                done.countDown()
            },
        )

    @After
    fun everythingIsFreed() {
        val deadline = System.nanoTime() + 10_000_000_000
        while (MediaCodec.open + MediaExtractor.open > 0 && System.nanoTime() < deadline) Thread.sleep(5)
        assertEquals(0, MediaCodec.open + MediaExtractor.open)
    }

    @Test
    fun everyFrameAtItsOwnTime() {
        val start = System.nanoTime()
        play("10")
        assertTrue(done.await(20, TimeUnit.SECONDS))
        assertEquals(listOf<String?>(null), ended)
        assertTrue("${seen.get()}", seen.get() in 1..10)
        // Ten frames, a hundredth of a second apart.
        assertTrue(System.nanoTime() - start >= 90_000_000)
    }

    @Test
    fun framesAreLeftOutWhenReadingThemIsSlow() {
        play("20") { Thread.sleep(100) }
        assertTrue(done.await(20, TimeUnit.SECONDS))
        assertTrue("${seen.get()}", seen.get() in 1..10)
    }

    @Test
    fun nothingIsToldAfterClosing() {
        val first = CountDownLatch(1)
        val go = CountDownLatch(1)
        val source =
            play("1000") {
                first.countDown()
                go.await(20, TimeUnit.SECONDS)
            }
        assertTrue(first.await(20, TimeUnit.SECONDS))
        source.close()
        go.countDown()
        everythingIsFreed()
        assertFalse(done.await(50, TimeUnit.MILLISECONDS))
        assertEquals(1, seen.get())
    }

    @Test
    fun filmsThatCannotBePlayed() {
        val reasons = mapOf("-1" to "no such film", "0" to "it has no pictures", "x" to "For input string: \"x\"")
        for ((film, reason) in reasons) {
            val told = CountDownLatch(1)
            FilmSource(Activity(), Uri.parse(film), { _, _, release -> release() }) {
                ended.add(it)
                told.countDown()
            }
            assertTrue(told.await(20, TimeUnit.SECONDS))
            assertEquals(reason, ended.last())
        }
    }
}
