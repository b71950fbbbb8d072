package org.retinaface.proof

import org.retinaface.core.ArgbImage
import org.retinaface.core.Face
import java.io.Closeable
import java.io.DataOutputStream
import java.io.File
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel

/** Reads the little-endian numbers of an exchange file. */
internal class Source(
    file: File,
) {
    private val buffer: ByteBuffer =
        RandomAccessFile(file, "r").use { it.channel.map(FileChannel.MapMode.READ_ONLY, 0, it.length()) }

    init {
        buffer.order(ByteOrder.LITTLE_ENDIAN)
    }

    fun int(): Int = buffer.getInt()

    fun float(): Float = buffer.getFloat()

    fun double(): Double = buffer.getDouble()

    fun floats(count: Int): FloatArray = FloatArray(count) { buffer.getFloat() }

    fun bytes(count: Int): ByteArray = ByteArray(count).also { buffer.get(it) }

    fun text(): String = String(bytes(int()))

    /** B, G, R bytes. */
    fun image(): ArgbImage {
        val height = int()
        val width = int()
        val bytes = bytes(height * width * 3)
        val pixels = IntArray(height * width) { packed(bytes[it * 3], bytes[it * 3 + 1], bytes[it * 3 + 2]) }
        return ArgbImage(width, height, pixels)
    }

    private fun packed(
        blue: Byte,
        green: Byte,
        red: Byte,
    ): Int =
        (0xff shl 24) or ((red.toInt() and 0xff) shl 16) or ((green.toInt() and 0xff) shl 8) or (blue.toInt() and 0xff)
}

/** Writes an exchange file. */
internal class Sink(
    file: File,
) : Closeable {
    private val out = DataOutputStream(file.outputStream().buffered(1 shl 16))

    fun int(value: Int) = out.writeInt(Integer.reverseBytes(value))

    fun float(value: Float) = int(value.toRawBits())

    fun bytes(values: ByteArray) = out.write(values)

    fun image(image: ArgbImage) {
        int(image.height)
        int(image.width)
        for (pixel in image.pixels) {
            for (shift in 0..16 step 8) out.write(pixel shr shift)
        }
    }

    fun faces(faces: List<Face>) {
        int(faces.size)
        for (face in faces) {
            int(face.anchor)
            listOf(face.score, face.x1, face.y1, face.x2, face.y2).forEach(::float)
            face.landmarks.forEach(::float)
        }
    }

    fun meshes(faces: List<Face>) {
        int(faces.size)
        for (face in faces) {
            val (mesh, pose) = face.mesh!! to face.pose!!
            (listOf(pose.yaw, pose.pitch, pose.roll) + pose.axes().asList() + mesh.asList()).forEach(::float)
        }
    }

    override fun close() = out.close()
}

internal fun bytesOf(buffer: ByteBuffer): ByteArray = ByteArray(buffer.limit()).also { buffer.duplicate().get(it) }
