package org.retinaface.demo

import android.content.res.AssetManager
import org.retinaface.core.ElementType
import org.retinaface.core.FaceModel
import org.retinaface.core.Shape
import org.retinaface.core.TensorInfo
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.Tensor
import org.tensorflow.lite.gpu.CompatibilityList
import org.tensorflow.lite.gpu.GpuDelegate
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.MappedByteBuffer
import java.nio.channels.FileChannel

/** Maps an asset into memory; it must be stored uncompressed in the APK (`openFd` throws IOException else). */
internal fun mapAsset(
    assets: AssetManager,
    name: String,
): MappedByteBuffer =
    assets.openFd(name).use { file ->
        FileInputStream(file.fileDescriptor).use { stream ->
            stream.channel.map(FileChannel.MapMode.READ_ONLY, file.startOffset, file.declaredLength)
        }
    }

/**
 * The network on LiteRT's interpreter. A GPU delegate works only on the thread that made it: create, run and close it
 * on one thread.
 *
 * @param device what it runs on, for the screen.
 */
internal class TfliteModel private constructor(
    private val interpreter: Interpreter,
    private val delegate: GpuDelegate?,
    val device: String,
) : FaceModel {
    private val signature = interpreter.signatureKeys[0]
    private val inputName = interpreter.getSignatureInputs(signature)[0]

    override var input = describeInput()
        private set
    override var outputs = describeOutputs()
        private set
    private var buffers = allocate()

    private fun describeInput(): TensorInfo = describe(interpreter.getInputTensorFromSignature(inputName, signature))

    private fun describeOutputs(): Map<String, TensorInfo> =
        interpreter.getSignatureOutputs(signature).associateWith {
            describe(interpreter.getOutputTensorFromSignature(it, signature))
        }

    private fun allocate(): Map<String, ByteBuffer> =
        outputs.mapValues { ByteBuffer.allocateDirect(it.value.byteSize).order(ByteOrder.nativeOrder()) }

    override fun resize(shape: Shape): Boolean {
        // A GPU delegate makes its programs for one shape, and the graph cannot be changed once it has.
        if (delegate != null) return false
        val before = input.shape.toIntArray()
        return try {
            resizeTo(intArrayOf(1, shape.height, shape.width, 3))
            true
        } catch (_: IllegalArgumentException) {
            resizeTo(before)
            false
        } catch (_: IllegalStateException) {
            resizeTo(before)
            false
        }
    }

    private fun resizeTo(sides: IntArray) {
        interpreter.resizeInput(0, sides)
        interpreter.allocateTensors()
        input = describeInput()
        outputs = describeOutputs()
        buffers = allocate()
    }

    override fun run(input: ByteBuffer): Map<String, ByteBuffer> {
        buffers.values.forEach { it.clear() }
        interpreter.runSignature(mapOf<String, Any>(inputName to input), HashMap<String, Any>(buffers), signature)
        buffers.values.forEach { it.clear() }
        return buffers
    }

    override fun close() {
        interpreter.close()
        delegate?.close()
    }

    private fun describe(tensor: Tensor): TensorInfo {
        val type =
            when (tensor.dataType()) {
                DataType.INT8 -> ElementType.INT8
                DataType.FLOAT32 -> ElementType.FLOAT32
                else -> throw IllegalArgumentException("tensor is ${tensor.dataType()}, expected int8 or float32")
            }
        val quantization = tensor.quantizationParams()
        return TensorInfo(tensor.shape().toList(), type, quantization.scale, quantization.zeroPoint)
    }

    companion object {
        /**
         * Opens the model on the GPU if [wantGpu] and the phone's GPU takes it, else on the CPU with XNNPACK.
         *
         * @throws LinkageError LiteRT is not in this build.
         */
        fun open(
            model: ByteBuffer,
            threads: Int,
            wantGpu: Boolean,
        ): TfliteModel = (if (wantGpu) openOnGpu(model) else null) ?: openOnCpu(model, threads, wantGpu)

        private fun openOnCpu(
            model: ByteBuffer,
            threads: Int,
            wantedGpu: Boolean,
        ): TfliteModel {
            val options = Interpreter.Options().setNumThreads(threads).setUseXNNPACK(true)
            val device = "CPU ×$threads" + if (wantedGpu) " (no GPU)" else ""
            return TfliteModel(Interpreter(model, options), null, device)
        }

        /** Null when the phone is not on the delegate's list, or driver or delegate refuse the model. */
        private fun openOnGpu(model: ByteBuffer): TfliteModel? {
            var delegate: GpuDelegate? = null
            return try {
                if (!CompatibilityList().use { it.isDelegateSupportedOnThisDevice }) return null
                delegate = GpuDelegate()
                TfliteModel(Interpreter(model, Interpreter.Options().addDelegate(delegate)), delegate, "GPU")
            } catch (_: RuntimeException) {
                delegate?.close()
                null
            } catch (_: LinkageError) {
                null // the GPU library is missing or made for another architecture; the CPU needs none of it
            }
        }
    }
}
