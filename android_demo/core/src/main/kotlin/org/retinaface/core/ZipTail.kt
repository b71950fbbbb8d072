package org.retinaface.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.CRC32
import java.util.zip.DataFormatException
import java.util.zip.Inflater

/**
 * Reads small entries of a zip archive that is appended to other bytes, straight from a (memory-mapped) buffer.
 *
 * `java.util.zip.ZipFile` wants a file of its own, and the model lies inside the APK.
 */
internal object ZipTail {
    private const val END_SIZE = 22
    private const val END_SIGNATURE = 0x06054b50
    private const val CENTRAL_SIZE = 46
    private const val CENTRAL_SIGNATURE = 0x02014b50
    private const val LOCAL_SIZE = 30
    private const val LOCAL_SIGNATURE = 0x04034b50
    private const val MAX_COMMENT = 0xffff
    private const val MAX_ENTRY = 1 shl 20

    /**
     * The entry's bytes, or null when there is no archive, no such entry, or it is damaged or larger than 1 MiB.
     *
     * Offsets in the archive count from the start of [file], as Python's `zipfile` writes them when it appends.
     */
    fun read(
        file: ByteBuffer,
        name: String,
    ): ByteArray? =
        try {
            val bytes = file.duplicate().order(ByteOrder.LITTLE_ENDIAN)
            bytes.rewind()
            findEnd(bytes)?.let { end -> findEntry(bytes, end, name) }?.let { central -> extract(bytes, central) }
        } catch (_: IndexOutOfBoundsException) {
            null // an offset points outside the file: truncated
        } catch (_: DataFormatException) {
            null
        }

    /** Whether the archive lists an entry, damaged or not. */
    fun has(
        file: ByteBuffer,
        name: String,
    ): Boolean =
        try {
            val bytes = file.duplicate().order(ByteOrder.LITTLE_ENDIAN)
            bytes.rewind()
            findEnd(bytes)?.let { end -> findEntry(bytes, end, name) } != null
        } catch (_: IndexOutOfBoundsException) {
            false // an offset points outside the file: truncated
        }

    private fun unsigned16(
        bytes: ByteBuffer,
        at: Int,
    ): Int = bytes.getShort(at).toInt() and 0xffff

    private fun findEnd(bytes: ByteBuffer): Int? {
        val last = bytes.limit() - END_SIZE
        return (last downTo maxOf(0, last - MAX_COMMENT)).firstOrNull { bytes.getInt(it) == END_SIGNATURE }
    }

    private fun findEntry(
        bytes: ByteBuffer,
        end: Int,
        name: String,
    ): Int? {
        val wanted = name.toByteArray()
        var at = bytes.getInt(end + 16)
        repeat(unsigned16(bytes, end + 10)) {
            if (bytes.getInt(at) != CENTRAL_SIGNATURE) return null
            val length = unsigned16(bytes, at + 28)
            if (length == wanted.size && wanted.indices.all { i -> bytes.get(at + CENTRAL_SIZE + i) == wanted[i] }) {
                return at
            }
            at += CENTRAL_SIZE + length + unsigned16(bytes, at + 30) + unsigned16(bytes, at + 32)
        }
        return null
    }

    private fun extract(
        bytes: ByteBuffer,
        central: Int,
    ): ByteArray? {
        val method = unsigned16(bytes, central + 10)
        val packedSize = bytes.getInt(central + 20)
        val size = bytes.getInt(central + 24)
        val local = bytes.getInt(central + 42)
        if (size !in 0..MAX_ENTRY || packedSize !in 0..MAX_ENTRY || bytes.getInt(local) != LOCAL_SIGNATURE) return null
        val start = local + LOCAL_SIZE + unsigned16(bytes, local + 26) + unsigned16(bytes, local + 28)
        if (start < 0 || start > bytes.limit() - packedSize) return null
        val packed = ByteArray(packedSize)
        bytes.position(start)
        bytes.get(packed)
        val result =
            when (method) {
                0 -> packed
                8 -> inflate(packed, size)
                else -> null
            }
        val crc = CRC32()
        result?.let(crc::update)
        return result?.takeIf { it.size == size && crc.value.toInt() == bytes.getInt(central + 16) }
    }

    private fun inflate(
        packed: ByteArray,
        size: Int,
    ): ByteArray {
        val inflater = Inflater(true)
        try {
            inflater.setInput(packed)
            val result = ByteArray(size)
            return result.copyOf(inflater.inflate(result))
        } finally {
            inflater.end()
        }
    }
}
