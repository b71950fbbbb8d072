package org.retinaface.proof

import com.sun.jna.Library
import com.sun.jna.Memory
import com.sun.jna.Native
import com.sun.jna.NativeLong
import com.sun.jna.Pointer
import com.sun.jna.ptr.NativeLongByReference
import com.sun.jna.ptr.PointerByReference
import org.retinaface.core.ElementType
import org.retinaface.core.FaceModel
import org.retinaface.core.Shape
import org.retinaface.core.TensorInfo
import org.retinaface.core.featureSize
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * The part of LiteRT's C API (2.3) that runs a model on the CPU; size_t is [NativeLong].
 *
 * Every call returns 0 or an error status. Handles are opaque pointers.
 */
@Suppress("FunctionName")
private interface LiteRtApi : Library {
    fun LiteRtCreateEnvironment(
        count: Int,
        options: Pointer?,
        environment: PointerByReference,
    ): Int

    fun LiteRtCreateModelFromFile(
        environment: Pointer,
        path: String,
        model: PointerByReference,
    ): Int

    fun LiteRtCreateOptions(options: PointerByReference): Int

    fun LiteRtSetOptionsHardwareAccelerators(
        options: Pointer,
        accelerators: Int,
    ): Int

    fun LiteRtCreateCompiledModel(
        environment: Pointer,
        model: Pointer,
        options: Pointer,
        compiled: PointerByReference,
    ): Int

    fun LiteRtGetModelSignature(
        model: Pointer,
        index: NativeLong,
        signature: PointerByReference,
    ): Int

    fun LiteRtGetNumSignatureOutputs(
        signature: Pointer,
        count: NativeLongByReference,
    ): Int

    fun LiteRtGetSignatureOutputName(
        signature: Pointer,
        index: NativeLong,
        name: PointerByReference,
    ): Int

    fun LiteRtGetSignatureInputTensorByIndex(
        signature: Pointer,
        index: NativeLong,
        tensor: PointerByReference,
    ): Int

    fun LiteRtGetSignatureOutputTensorByIndex(
        signature: Pointer,
        index: NativeLong,
        tensor: PointerByReference,
    ): Int

    fun LiteRtGetRankedTensorType(
        tensor: Pointer,
        type: Memory,
    ): Int

    fun LiteRtGetQuantizationTypeId(
        tensor: Pointer,
        id: Memory,
    ): Int

    fun LiteRtGetPerTensorQuantization(
        tensor: Pointer,
        quantization: Memory,
    ): Int

    fun LiteRtCreateManagedTensorBuffer(
        environment: Pointer,
        kind: Int,
        type: Memory,
        size: NativeLong,
        buffer: PointerByReference,
    ): Int

    fun LiteRtLockTensorBuffer(
        buffer: Pointer,
        address: PointerByReference,
        mode: Int,
    ): Int

    fun LiteRtUnlockTensorBuffer(buffer: Pointer): Int

    fun LiteRtRunCompiledModel(
        compiled: Pointer,
        signature: NativeLong,
        inputCount: NativeLong,
        inputs: Array<Pointer>,
        outputCount: NativeLong,
        outputs: Array<Pointer>,
    ): Int

    fun LiteRtCompiledModelResizeInputTensorNonStrict(
        compiled: Pointer,
        signature: NativeLong,
        input: NativeLong,
        sides: IntArray,
        rank: NativeLong,
    ): Int

    fun LiteRtDestroyTensorBuffer(buffer: Pointer)

    fun LiteRtDestroyCompiledModel(compiled: Pointer)

    fun LiteRtDestroyOptions(options: Pointer)

    fun LiteRtDestroyModel(model: Pointer)

    fun LiteRtDestroyEnvironment(environment: Pointer)
}

/**
 * A [FaceModel] on the desktop: the libLiteRt.so of the Python package ai-edge-litert, called through JNA.
 *
 * @param library path of libLiteRt.so.
 * @throws IllegalStateException a call failed; the message names it and its status.
 */
class LiteRtModel(
    library: File,
    model: File,
) : FaceModel {
    private class Tensor(
        val info: TensorInfo,
        val type: Memory,
        val buffer: Pointer,
    )

    private val api = Native.load(library.path, LiteRtApi::class.java)
    private val environment = created("CreateEnvironment") { api.LiteRtCreateEnvironment(0, null, it) }
    private val handle = created("CreateModelFromFile") { api.LiteRtCreateModelFromFile(environment, model.path, it) }
    private val options = created("CreateOptions") { api.LiteRtCreateOptions(it) }
    private val compiled =
        created("CreateCompiledModel") {
            check("SetOptionsHardwareAccelerators", api.LiteRtSetOptionsHardwareAccelerators(options, CPU))
            api.LiteRtCreateCompiledModel(environment, handle, options, it)
        }
    private val signature = created("GetModelSignature") { api.LiteRtGetModelSignature(handle, FIRST, it) }
    private var inputTensor =
        tensor(created("GetInput") { api.LiteRtGetSignatureInputTensorByIndex(signature, FIRST, it) })
    private val outputTensors = LinkedHashMap<String, Tensor>()

    init {
        val count = NativeLongByReference()
        check("GetNumSignatureOutputs", api.LiteRtGetNumSignatureOutputs(signature, count))
        for (i in 0 until count.value.toLong()) {
            val name = created("GetOutputName") { api.LiteRtGetSignatureOutputName(signature, NativeLong(i), it) }
            val found =
                created("GetOutput") { api.LiteRtGetSignatureOutputTensorByIndex(signature, NativeLong(i), it) }
            outputTensors[name.getString(0)] = tensor(found)
        }
    }

    override val input: TensorInfo get() = inputTensor.info
    override val outputs: Map<String, TensorInfo> get() = outputTensors.mapValues { it.value.info }

    override fun resize(shape: Shape): Boolean {
        val sides = intArrayOf(1, shape.height, shape.width, 3)
        val rank = NativeLong(sides.size.toLong())
        val status = api.LiteRtCompiledModelResizeInputTensorNonStrict(compiled, FIRST, FIRST, sides, rank)
        if (status != 0) return false
        inputTensor = resized(inputTensor, sides.toList())
        for ((name, tensor) in outputTensors) {
            val stride = name.substringAfter('_').toInt()
            val (height, width) = listOf(shape.height, shape.width).map { featureSize(it, stride) }
            outputTensors[name] = resized(tensor, listOf(1, height, width, tensor.info.shape.last()))
        }
        return true
    }

    /** The tensor with other sides and memory of their size. */
    private fun resized(
        tensor: Tensor,
        shape: List<Int>,
    ): Tensor {
        api.LiteRtDestroyTensorBuffer(tensor.buffer)
        shape.forEachIndexed { i, side -> tensor.type.setInt(8L + 4 * i, side) }
        return allocated(tensor.info.run { TensorInfo(shape, type, scale, zeroPoint) }, tensor.type)
    }

    override fun run(input: ByteBuffer): Map<String, ByteBuffer> {
        require(input.remaining() == this.input.byteSize) {
            "input has ${input.remaining()} bytes, expected ${this.input.byteSize}"
        }
        locked(inputTensor, WRITE) { it.put(input.duplicate()) }
        val results = outputTensors.values.map { it.buffer }.toTypedArray()
        val status =
            api.LiteRtRunCompiledModel(
                compiled,
                FIRST,
                NativeLong(1),
                arrayOf(inputTensor.buffer),
                NativeLong(results.size.toLong()),
                results,
            )
        check("RunCompiledModel", status)
        return outputTensors.mapValues { (_, tensor) ->
            val copy = ByteBuffer.allocate(tensor.info.byteSize).order(ByteOrder.nativeOrder())
            locked(tensor, READ) { copy.put(it) }
            copy.clear()
            copy
        }
    }

    override fun close() {
        (outputTensors.values + inputTensor).forEach { api.LiteRtDestroyTensorBuffer(it.buffer) }
        api.LiteRtDestroyCompiledModel(compiled)
        api.LiteRtDestroyOptions(options)
        api.LiteRtDestroyModel(handle)
        api.LiteRtDestroyEnvironment(environment)
    }

    private fun check(
        call: String,
        status: Int,
    ) = check(status == 0) { "LiteRt$call failed with status $status" }

    private fun created(
        call: String,
        make: (PointerByReference) -> Int,
    ): Pointer {
        val reference = PointerByReference()
        check(call, make(reference))
        return checkNotNull(reference.value) { "LiteRt$call gave no handle" }
    }

    /** LiteRtRankedTensorType: element type, then rank in the low 7 bits, then the sides; 72 bytes in all. */
    private fun tensor(tensor: Pointer): Tensor {
        val type = Memory(72)
        check("GetRankedTensorType", api.LiteRtGetRankedTensorType(tensor, type))
        val shape = List(type.getInt(4) and 0x7f) { type.getInt(8L + 4 * it) }
        val element =
            when (val id = type.getInt(0)) {
                9 -> ElementType.INT8
                1 -> ElementType.FLOAT32
                else -> error("tensor of element type $id, expected int8 or float32")
            }
        val quantization = Memory(16)
        quantization.clear()
        val id = Memory(4)
        check("GetQuantizationTypeId", api.LiteRtGetQuantizationTypeId(tensor, id))
        if (id.getInt(0) == PER_TENSOR) {
            check("GetPerTensorQuantization", api.LiteRtGetPerTensorQuantization(tensor, quantization))
        }
        val info = TensorInfo(shape, element, quantization.getFloat(0), quantization.getLong(8).toInt())
        return allocated(info, type)
    }

    private fun allocated(
        info: TensorInfo,
        type: Memory,
    ): Tensor {
        val size = NativeLong(info.byteSize.toLong())
        val buffer =
            created("CreateManagedTensorBuffer") {
                api.LiteRtCreateManagedTensorBuffer(environment, HOST_MEMORY, type, size, it)
            }
        return Tensor(info, type, buffer)
    }

    private fun locked(
        tensor: Tensor,
        mode: Int,
        use: (ByteBuffer) -> Unit,
    ) {
        val address = created("LockTensorBuffer") { api.LiteRtLockTensorBuffer(tensor.buffer, it, mode) }
        use(address.getByteBuffer(0, tensor.info.byteSize.toLong()))
        check("UnlockTensorBuffer", api.LiteRtUnlockTensorBuffer(tensor.buffer))
    }

    private companion object {
        const val CPU = 1
        const val HOST_MEMORY = 1
        const val PER_TENSOR = 1
        const val READ = 0
        const val WRITE = 1
        val FIRST = NativeLong(0)
    }
}
