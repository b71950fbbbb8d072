package org.retinaface.core

import kotlin.math.abs
import kotlin.math.ln

/**
 * Clockwise degrees that turn a sensor image upright on the screen.
 *
 * @param sensor clockwise angle of the sensor in the device, 0-270 (`SENSOR_ORIENTATION`).
 * @param display degrees by which the screen content is turned, 0-270 (`Display.getRotation`).
 */
fun uprightRotation(
    sensor: Int,
    display: Int,
    frontFacing: Boolean,
): Int = if (frontFacing) (sensor + display) % 360 else (sensor - display + 360) % 360

/** Aspects so close count as the same: 1920×1088 and 1920×1080 are. */
private const val SAME_ASPECT = 0.03

/**
 * The frame size to ask a camera for: of the sensor's own aspect, which shows all that it sees, and of those the
 * smallest (width, height) whose short side has at least [shortSide] pixels, else the largest; null when there is none.
 * More pixels than the network sees only cost time.
 *
 * @param aspect width / height of the sensor.
 */
fun pickFrameSize(
    sizes: List<Pair<Int, Int>>,
    aspect: Double,
    shortSide: Int = 480,
): Pair<Int, Int>? {
    val area = { size: Pair<Int, Int> -> size.first.toLong() * size.second }
    val distance = { size: Pair<Int, Int> -> abs(ln(size.first.toDouble() / size.second / aspect)) }
    val enough = sizes.filter { minOf(it.first, it.second) >= shortSide }
    val usable = enough.ifEmpty { sizes }
    val nearest = usable.minOfOrNull(distance) ?: return null
    val alike = usable.filter { distance(it) <= nearest + SAME_ASPECT }
    return if (enough.isEmpty()) alike.maxByOrNull(area) else alike.minByOrNull(area)
}
