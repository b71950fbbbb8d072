package org.retinaface.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.asin
import kotlin.math.atan2
import kotlin.math.cos
import kotlin.math.hypot
import kotlin.math.sin
import kotlin.math.sqrt

/** Vertices of a mesh, in the order of MediaPipe's face mesh. */
const val VERTICES = 468

private const val VALUES = 3 * VERTICES
private const val LARGEST_COEFFICIENT = 1e3f // a coefficient of 1 is a usual one

/**
 * The head's turn from the mean face to a mesh in degrees: roll · pitch · yaw, yaw first.
 *
 * @property yaw positive: the nose points to the right of the picture.
 * @property pitch positive: up.
 * @property roll positive: clockwise.
 */
class Pose(
    val yaw: Float,
    val pitch: Float,
    val roll: Float,
) {
    /**
     * Where the face's own axes point in the picture, of length 1 before they are foreshortened: x y of what is right
     * on an upright face in the picture, of down, and of the nose's direction.
     */
    fun axes(): FloatArray {
        val (y, p, r) = listOf(yaw, pitch, roll).map { Math.toRadians(it.toDouble()) }
        val upright = doubleArrayOf(cos(y), sin(p) * sin(y), 0.0, cos(p), sin(y), -sin(p) * cos(y))
        return FloatArray(6) { i ->
            val (right, down) = upright[i - i % 2] to upright[i - i % 2 + 1]
            (if (i % 2 == 0) cos(r) * right - sin(r) * down else sin(r) * right + cos(r) * down).toFloat()
        }
    }
}

/**
 * The mean face and the shapes that coefficients weigh, in units of √(w·h) of a box, relative to its centre (twin of
 * `tflite/mesh.py`).
 */
class MeshBasis private constructor(
    private val mean: FloatArray,
    private val shapes: List<FloatArray>,
) {
    private val centred = centredOf(mean)

    /** How many there are of an anchor. */
    val coefficients: Int get() = shapes.size

    /** x y z of each vertex, in box units, for [coefficients]. */
    fun inBoxUnits(coefficients: FloatArray): DoubleArray {
        val sum = DoubleArray(VALUES) { mean[it].toDouble() }
        for ((shape, weight) in shapes.zip(coefficients.asList())) {
            for (i in 0 until VALUES) sum[i] += weight.toDouble() * shape[i]
        }
        return sum
    }

    /**
     * The rotation that, with a scale and a shift, brings the mean face nearest to [mesh], x y z of each vertex in any
     * unit: the quaternion that is the eigenvector of the largest eigenvalue (Horn 1987).
     */
    fun pose(mesh: DoubleArray): Pose {
        // What x y z of the mean, in rows, have in common with x y z of the mesh. Its shift adds nothing: the mean is
        // centred.
        val (x, y, z) =
            List(3) { row ->
                DoubleArray(3) { column -> (0 until VALUES step 3).sumOf { centred[it + row] * mesh[it + column] } }
            }
        val quaternion =
            strongestEigenvector(
                arrayOf(
                    doubleArrayOf(x[0] + y[1] + z[2], y[2] - z[1], z[0] - x[2], x[1] - y[0]),
                    doubleArrayOf(y[2] - z[1], x[0] - y[1] - z[2], x[1] + y[0], z[0] + x[2]),
                    doubleArrayOf(z[0] - x[2], x[1] + y[0], y[1] - x[0] - z[2], y[2] + z[1]),
                    doubleArrayOf(x[1] - y[0], z[0] + x[2], y[2] + z[1], z[2] - x[0] - y[1]),
                ),
            )
        val (w, i, j, k) = quaternion
        return Pose(
            degrees(atan2(2 * (i * k - w * j), w * w - i * i - j * j + k * k)),
            -degrees(asin((2 * (j * k + w * i)).coerceIn(-1.0, 1.0))),
            degrees(atan2(2 * (w * k - i * j), w * w - i * i + j * j - k * k)),
        )
    }

    private fun degrees(radians: Double): Float = Math.toDegrees(radians).toFloat()

    companion object {
        const val FILE = "mesh.f16"
        private const val MOST_COEFFICIENTS = 64

        /**
         * The basis of a whole .tflite file; null where it has none.
         *
         * @param name what to call the file in errors.
         * @throws SpecException it is there, but damaged or not of a possible size.
         */
        fun read(
            model: ByteBuffer,
            name: String,
        ): MeshBasis? {
            if (!ZipTail.has(model, FILE)) return null
            val bytes =
                ZipTail.read(model, FILE)
                    ?: throw SpecException("$name: no readable $FILE in the file, though it is listed")
            return fromBytes(bytes, name)
        }

        /**
         * The contents of `mesh.f16`: little-endian float16, 1 + K shapes of 468 vertices x y z, the mean face first.
         *
         * @throws SpecException another size than that of a whole number of shapes, two at least, or a number that is
         *     not finite.
         */
        fun fromBytes(
            bytes: ByteArray,
            name: String,
        ): MeshBasis {
            val rows = bytes.size / (2 * VALUES)
            if (bytes.size % (2 * VALUES) != 0 || rows !in 2..MOST_COEFFICIENTS + 1) {
                throw SpecException(
                    "$name: $FILE has ${bytes.size} bytes, expected ${2 * VALUES} for each of 2 to " +
                        "${MOST_COEFFICIENTS + 1} shapes of $VERTICES vertices",
                )
            }
            val halves = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asShortBuffer()
            val shapes = List(rows) { FloatArray(VALUES) { i -> half(halves.get(it * VALUES + i).toInt()) } }
            if (shapes.any { shape -> !shape.all(Float::isFinite) }) {
                throw SpecException("$name: $FILE holds numbers that are not finite")
            }
            return MeshBasis(shapes[0], shapes.drop(1))
        }

        private fun centredOf(mesh: FloatArray): DoubleArray {
            val middle = DoubleArray(3) { axis -> (axis until VALUES step 3).sumOf { mesh[it].toDouble() } / VERTICES }
            return DoubleArray(VALUES) { mesh[it] - middle[it % 3] }
        }
    }
}

/** A float16 as its bits; android.util.Half is no part of a plain JVM. */
private fun half(bits: Int): Float {
    val exponent = (bits shr 10) and 31
    val fraction = bits and 1023
    val size =
        when (exponent) {
            31 -> if (fraction == 0) Float.POSITIVE_INFINITY else Float.NaN
            0 -> Math.scalb(fraction.toFloat(), -24)
            else -> Math.scalb(1024f + fraction, exponent - 25)
        }
    return if (bits and 0x8000 == 0) size else -size
}

/**
 * Jacobi's method: each turn makes one pair of numbers beside the diagonal 0.
 *
 * @param matrix symmetric, finite; overwritten.
 * @return of length 1; of a matrix of zeros the first axis.
 */
private fun strongestEigenvector(matrix: Array<DoubleArray>): DoubleArray {
    val count = matrix.size
    val least = Math.ulp(0.5) * matrix.maxOf { row -> row.maxOf { abs(it) } }
    val vectors = Array(count) { i -> DoubleArray(count) { j -> if (i == j) 1.0 else 0.0 } } // in columns
    // A matrix of four rows needs about five sweeps.
    repeat(30) {
        for (p in 0 until count) {
            for (q in p + 1 until count) if (abs(matrix[p][q]) > least) turn(matrix, vectors, p, q)
        }
    }
    val best = (0 until count).maxBy { matrix[it][it] }
    return DoubleArray(count) { vectors[it][best] }
}

/** Turns rows and columns [p] and [q] so that the number that both share is 0. */
private fun turn(
    matrix: Array<DoubleArray>,
    vectors: Array<DoubleArray>,
    p: Int,
    q: Int,
) {
    val ratio = (matrix[q][q] - matrix[p][p]) / (2 * matrix[p][q])
    val tangent = (if (ratio < 0) -1 else 1) / (abs(ratio) + hypot(ratio, 1.0))
    val cosine = 1 / hypot(tangent, 1.0)
    val sine = tangent * cosine
    for (row in matrix + vectors) {
        val (a, b) = row[p] to row[q]
        row[p] = cosine * a - sine * b
        row[q] = sine * a + cosine * b
    }
    for (i in matrix.indices) {
        val (a, b) = matrix[p][i] to matrix[q][i]
        matrix[p][i] = cosine * a - sine * b
        matrix[q][i] = sine * a + cosine * b
    }
}

/**
 * Reads the mesh outputs of one model at one input shape.
 *
 * @param infos of `mesh_S` for each stride S, among others.
 * @throws SpecException an output is missing or has not the size that [basis], [spec] and [shape] give it.
 */
class MeshDecoder(
    private val basis: MeshBasis,
    spec: ModelSpec,
    shape: Shape,
    infos: Map<String, TensorInfo>,
    name: String,
) {
    /** The output of a level and the number of its first anchor. */
    private class Level(
        val first: Int,
        val output: String,
        val info: TensorInfo,
    )

    private val levels: List<Level>

    init {
        var first = 0
        levels =
            spec.strides.zip(spec.anchorSizes).map { (stride, sizes) ->
                val output = "mesh_$stride"
                val anchors = featureSize(shape.height, stride) * featureSize(shape.width, stride) * sizes.size
                val info = infos[output]
                val wanted = anchors.toLong() * basis.coefficients
                if (info == null || info.elements.toLong() != wanted) {
                    throw SpecException(
                        "$name: output $output has ${info?.elements} values, expected $wanted; " +
                            "export it with quantization/convert.py",
                    )
                }
                Level(first, output, info).also { first += anchors }
            }
    }

    /** Of one anchor, dequantised. Numbers beyond ±1,000 are cut to that; those that are none become 0. */
    private fun coefficients(
        outputs: Map<String, ByteBuffer>,
        anchor: Int,
    ): FloatArray {
        val level = levels.last { it.first <= anchor }
        val output = Output(level.info, outputs.getValue(level.output))
        return FloatArray(basis.coefficients) { k ->
            val value = output[(anchor - level.first) * basis.coefficients + k]
            if (value.isNaN()) 0f else value.coerceIn(-LARGEST_COEFFICIENT, LARGEST_COEFFICIENT)
        }
    }

    /**
     * The mesh of one face, box centre + √(w·h) · (mean + Σ coefficient · shape), and its pose.
     *
     * @param outputs raw tensors by name.
     * @param anchor index into the anchor table.
     * @param boxes of which the one at [at] is decoded from this anchor: x1 y1 x2 y2 in input pixels, not clipped.
     * @param scale input pixels per picture pixel.
     * @return x y z of each vertex in picture pixels, finite; and the pose.
     */
    fun decode(
        outputs: Map<String, ByteBuffer>,
        anchor: Int,
        boxes: FloatArray,
        at: Int,
        scale: Double,
    ): Pair<FloatArray, Pose> {
        val units = basis.inBoxUnits(coefficients(outputs, anchor))
        val (width, height) = boxes[at + 2] - boxes[at] to boxes[at + 3] - boxes[at + 1]
        val side = sqrt(width * height)
        val centre = floatArrayOf((boxes[at] + boxes[at + 2]) * 0.5f, (boxes[at + 1] + boxes[at + 3]) * 0.5f, 0f)
        val factor = scale.toFloat()
        val mesh = FloatArray(VALUES) { finite((units[it].toFloat() * side + centre[it % 3]) / factor) }
        return mesh to basis.pose(units)
    }

    private fun finite(value: Float): Float =
        if (value.isNaN()) 0f else value.coerceIn(-Float.MAX_VALUE, Float.MAX_VALUE)
}
