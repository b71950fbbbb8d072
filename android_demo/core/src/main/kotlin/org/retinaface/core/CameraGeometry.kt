package org.retinaface.core

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

/**
 * The frame size to ask a camera for: the smallest (width, height) whose short side has at least [shortSide] pixels, else
 * the largest; null when there is none. More pixels than the network sees only cost time.
 */
fun pickFrameSize(
    sizes: List<Pair<Int, Int>>,
    shortSide: Int = 480,
): Pair<Int, Int>? {
    val area = { size: Pair<Int, Int> -> size.first.toLong() * size.second }
    return sizes.filter { minOf(it.first, it.second) >= shortSide }.minByOrNull(area) ?: sizes.maxByOrNull(area)
}
