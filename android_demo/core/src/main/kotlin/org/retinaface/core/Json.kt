package org.retinaface.core

/**
 * A strict JSON reader: objects become [Map], arrays [List], numbers [Double], plus [String], [Boolean] and null.
 *
 * Written here because Android's org.json does not exist on a plain JVM, where this code is tested.
 */
internal class Json private constructor(
    private val text: String,
) {
    private var position = 0

    private fun fail(what: String): Nothing = throw IllegalArgumentException("$what at character $position")

    private fun skipSpace() {
        while (position < text.length && text[position] in " \t\r\n") position++
    }

    private fun peek(): Char = if (position < text.length) text[position] else fail("unexpected end")

    private fun take(expected: Char) {
        if (peek() != expected) fail("expected '$expected', found '${peek()}'")
        position++
    }

    private fun value(depth: Int): Any? {
        if (depth > MAX_DEPTH) fail("nested deeper than $MAX_DEPTH")
        skipSpace()
        return when (peek()) {
            '{' -> obj(depth)
            '[' -> array(depth)
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> number()
        }
    }

    private fun obj(depth: Int): Map<String, Any?> {
        val result = LinkedHashMap<String, Any?>()
        take('{')
        skipSpace()
        if (peek() == '}') {
            position++
            return result
        }
        while (true) {
            skipSpace()
            val key = string()
            skipSpace()
            take(':')
            result[key] = value(depth + 1)
            if (endOfList('}')) return result
        }
    }

    private fun array(depth: Int): List<Any?> {
        val result = ArrayList<Any?>()
        take('[')
        skipSpace()
        if (peek() == ']') {
            position++
            return result
        }
        while (true) {
            result.add(value(depth + 1))
            if (endOfList(']')) return result
        }
    }

    private fun endOfList(close: Char): Boolean {
        skipSpace()
        val next = peek()
        if (next != ',' && next != close) fail("expected ',' or '$close', found '$next'")
        position++
        return next == close
    }

    private fun string(): String {
        take('"')
        val result = StringBuilder()
        while (true) {
            val c = peek()
            position++
            when {
                c == '"' -> return result.toString()
                c == '\\' -> result.append(escaped())
                c < ' ' -> fail("control character in a string")
                else -> result.append(c)
            }
        }
    }

    private fun escaped(): Char {
        val c = peek()
        position++
        return when (c) {
            '"', '\\', '/' -> {
                c
            }

            'b' -> {
                '\b'
            }

            'f' -> {
                '\u000c'
            }

            'n' -> {
                '\n'
            }

            'r' -> {
                '\r'
            }

            't' -> {
                '\t'
            }

            'u' -> {
                if (position + 4 > text.length) fail("unexpected end")
                val code = text.substring(position, position + 4).toIntOrNull(16) ?: fail("bad \\u escape")
                position += 4
                code.toChar()
            }

            else -> {
                fail("unknown escape '\\$c'")
            }
        }
    }

    private fun word(
        word: String,
        meaning: Any?,
    ): Any? {
        if (!text.startsWith(word, position)) fail("expected a value")
        position += word.length
        return meaning
    }

    private fun number(): Double {
        val match = NUMBER.find(text, position)
        if (match == null || match.range.first != position) fail("expected a value")
        position = match.range.last + 1
        return match.value.toDouble()
    }

    companion object {
        private const val MAX_DEPTH = 64
        private val NUMBER = Regex("-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?")

        /**
         * Reads one document.
         *
         * @throws IllegalArgumentException not JSON; the message says what was found where.
         */
        fun parse(text: String): Any? {
            val reader = Json(text)
            val result = reader.value(0)
            reader.skipSpace()
            if (reader.position != text.length) reader.fail("text after the document")
            return result
        }
    }
}
