package org.retinaface.core

import com.google.gson.stream.JsonReader
import com.google.gson.stream.JsonToken
import java.io.IOException
import java.io.StringReader

/** JSON as plain values: objects become [Map], arrays [List], numbers [Double], plus [String], [Boolean] and null. */
internal object Json {
    private const val MAX_DEPTH = 64

    /**
     * Reads one document with Gson's strict reader, which also tells numbers from texts of digits.
     *
     * @throws IllegalArgumentException not JSON, more than one document, or nested too deep; one line says what.
     */
    fun parse(text: String): Any? {
        val reader = JsonReader(StringReader(text))
        try {
            val result = value(reader, 0)
            require(reader.peek() == JsonToken.END_DOCUMENT) { "text after the document" }
            return result
        } catch (e: IOException) {
            throw IllegalArgumentException(e.message?.lines()?.first())
        }
    }

    private fun value(
        reader: JsonReader,
        depth: Int,
    ): Any? {
        require(depth <= MAX_DEPTH) { "nested deeper than $MAX_DEPTH at ${reader.path}" }
        return when (reader.peek()) {
            JsonToken.BEGIN_OBJECT -> obj(reader, depth)
            JsonToken.BEGIN_ARRAY -> array(reader, depth)
            JsonToken.STRING -> reader.nextString()
            JsonToken.BOOLEAN -> reader.nextBoolean()
            JsonToken.NULL -> null.also { reader.nextNull() }
            else -> reader.nextString().toDouble() // nextDouble would refuse 1e999
        }
    }

    private fun obj(
        reader: JsonReader,
        depth: Int,
    ): Map<String, Any?> {
        val result = LinkedHashMap<String, Any?>()
        reader.beginObject()
        while (reader.hasNext()) result[reader.nextName()] = value(reader, depth + 1)
        reader.endObject()
        return result
    }

    private fun array(
        reader: JsonReader,
        depth: Int,
    ): List<Any?> {
        val result = ArrayList<Any?>()
        reader.beginArray()
        while (reader.hasNext()) result.add(value(reader, depth + 1))
        reader.endArray()
        return result
    }
}
