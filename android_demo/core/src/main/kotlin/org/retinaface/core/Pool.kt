package org.retinaface.core

/**
 * Objects that are used again: what one thread fills and another shows goes round instead of being made anew.
 *
 * @param most that are kept; more that come back are handed to [drop].
 */
class Pool<T : Any>(
    private val most: Int,
    private val drop: (T) -> Unit = {},
) {
    private val free = ArrayDeque<T>()

    /** A free object that [fits], or null; the others are dropped: after a change of size they are of no use. */
    fun take(fits: (T) -> Boolean): T? {
        while (true) {
            val item = synchronized(free) { free.removeFirstOrNull() } ?: return null
            if (fits(item)) return item
            drop(item)
        }
    }

    /** Gives [item] back; it must not be used any more. */
    fun giveBack(item: T) {
        val kept = synchronized(free) { free.size < most && free.add(item) }
        if (!kept) drop(item)
    }
}
