package org.retinaface.core

/** Growing arrays of primitives: boxed lists would make garbage in every frame. */
internal class IntList {
    private var values = IntArray(64)
    private var size = 0

    fun add(value: Int) {
        if (size == values.size) values = values.copyOf(size * 2)
        values[size++] = value
    }

    fun toArray(): IntArray = values.copyOf(size)
}

internal class FloatList {
    private var values = FloatArray(64)
    private var size = 0

    fun add(value: Float) {
        if (size == values.size) values = values.copyOf(size * 2)
        values[size++] = value
    }

    fun toArray(): FloatArray = values.copyOf(size)
}
