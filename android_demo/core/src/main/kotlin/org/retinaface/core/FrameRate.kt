package org.retinaface.core

/** Frames per second over the last [window] frames. */
class FrameRate(
    private val window: Int = 30,
) {
    private val times = ArrayDeque<Long>()

    /** Counts a frame that was finished at [nanoseconds]; returns the rate, 0 for the first frame. */
    fun tick(nanoseconds: Long): Double {
        times.addLast(nanoseconds)
        if (times.size > window + 1) times.removeFirst()
        val span = times.last() - times.first()
        return if (span > 0) (times.size - 1) * 1e9 / span else 0.0
    }
}
