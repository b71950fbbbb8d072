package org.retinaface.core

import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/**
 * One thread that always works on the newest item: what arrives meanwhile replaces what waits, so a slow phone drops
 * frames instead of falling behind.
 *
 * @param process runs on the worker thread.
 * @param discard gives back an item that was replaced or never processed; called from any thread.
 * @param failed told on the worker thread when [process] throws; the worker goes on with the next item.
 */
class LatestWorker<T : Any>(
    name: String,
    private val process: (T) -> Unit,
    private val discard: (T) -> Unit,
    private val failed: (RuntimeException) -> Unit,
    private val finish: () -> Unit = {},
) : AutoCloseable {
    private val lock = ReentrantLock()
    private val changed = lock.newCondition()
    private var waiting: T? = null
    private var closed = false
    private val thread = Thread(::loop, name).apply { start() }

    /** Hands over [item]; returns at once. After [close] it is discarded. */
    fun offer(item: T) {
        val old =
            lock.withLock {
                if (closed) {
                    item
                } else {
                    waiting.also {
                        waiting = item
                        changed.signalAll()
                    }
                }
            }
        old?.let(discard)
    }

    /** Stops after the item in work; returns at once. `finish` then runs on the worker thread as its last act. */
    override fun close() {
        val old =
            lock.withLock {
                closed = true
                changed.signalAll()
                waiting.also { waiting = null }
            }
        old?.let(discard)
    }

    /** Waits until the thread has ended, at most [milliseconds]; true if it has. */
    fun join(milliseconds: Long): Boolean {
        thread.join(milliseconds)
        return !thread.isAlive
    }

    private fun next(): T? =
        lock.withLock {
            while (waiting == null && !closed) changed.await()
            waiting.also { waiting = null }
        }

    private fun loop() {
        try {
            while (true) {
                val item = next() ?: return
                try {
                    process(item)
                } catch (e: RuntimeException) {
                    failed(e)
                }
            }
        } finally {
            finish()
        }
    }
}
