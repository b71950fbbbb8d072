/**
 * Runs a .tflite file with LiteRT's WebAssembly build, on the CPU, in one thread.
 *
 * `Tensor` of @litertjs/core 2.5.3 refuses int8 ("Element type INT8 is not supported"), and `loadLiteRt` opens a GPU
 * that is not used here. So this talks to the binding below it, which takes any type; the package's files stay as
 * published. With a release whose Tensor takes int8, `loadLiteRt`, `loadAndCompile` and `run` replace this file.
 */

import { ModelError } from './flatbuffer.js';

/** @typedef {import('@litertjs/core').LiteRt['liteRtWasm']} LiteRtWasm */
/** @typedef {Awaited<ReturnType<LiteRtWasm['compileModel']>>} CompiledModel */
/** @typedef {ReturnType<LiteRtWasm['LiteRtTensorBuffer']['createManaged']>} TensorBuffer */
/** @typedef {{delete(): void}} Deletable */
/** @typedef {import('./decode.js').Values} Values */
/** @typedef {import('./flatbuffer.js').TensorInfo} TensorInfo */

// A function of relaxed SIMD alone: local.get 0, local.get 1, i8x16.relaxed_swizzle.
const RELAXED_SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 123, 123, 1, 123, 3, 2, 1, 0, 10, 11, 1, 9, 0, 32, 0, 32, 1, 253, 128, 2,
  11,
]);
const LOG_LINES = 5; // LiteRT's last messages, kept for errors

/** A page or a worker, where scripts that are no modules leave `ModuleFactory`. */
const scope = /** @type {any} */ (globalThis);

/** @type {string[]} */
const log = [];

/** @type {Promise<LiteRtWasm> | undefined} */
let loading;

/**
 * LiteRT's WebAssembly module, loaded once per page or worker.
 *
 * @param {URL | string} folder that holds the files of @litertjs/core/wasm
 * @returns {Promise<LiteRtWasm>}
 * @throws {Error} the browser has no WebAssembly, or the files cannot be loaded
 */
export function loadLiteRt(folder) {
  loading ??= load(new URL(folder, scope.location.href)).catch((error) => {
    loading = undefined; // the network may be back at the next try
    throw error;
  });
  return loading;
}

/**
 * @param {URL} folder
 * @returns {Promise<LiteRtWasm>}
 */
async function load(folder) {
  if (typeof WebAssembly !== 'object') throw new Error('this browser has no WebAssembly, which runs the model');
  const variant = WebAssembly.validate(RELAXED_SIMD) ? 'litert_wasm_internal.js' : 'litert_wasm_compat_internal.js';
  try {
    await runScript(new URL(variant, folder).href);
    /** @type {LiteRtWasm} */
    const wasm = await scope.ModuleFactory({
      locateFile: (/** @type {string} */ file) => new URL(file, folder).href,
      print: note,
      printErr: note, // LiteRT reports what it does there, errors or not
    });
    wasm.setupLogging();
    return wasm;
  } catch (error) {
    throw new Error(`LiteRT's WebAssembly cannot be loaded (${reason(error)})`);
  }
}

/**
 * @param {string} url of a script that is no module
 * @returns {Promise<void>}
 */
function runScript(url) {
  if (typeof scope.importScripts === 'function') return Promise.resolve(scope.importScripts(url));
  return new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.src = url;
    script.onload = () => resolve();
    script.onerror = () => reject(new Error(`no script at ${url}`));
    document.head.append(script);
  });
}

/** @param {string} line */
function note(line) {
  log.push(line);
  log.splice(0, log.length - LOG_LINES);
}

/**
 * @param {unknown} error whatever was thrown; C++ exceptions are no Errors
 * @returns {string} one line
 */
function reason(error) {
  const text = error instanceof Error ? error.message : String(error);
  return [text, ...log.splice(0)].join('; ').replace(/\s+/g, ' ');
}

/** One compiled model with its input buffer. */
export class Interpreter {
  /** @type {Deletable[]} */
  #owned = [];
  #bytes = 0;

  /**
   * @param {Uint8Array} model the .tflite file
   * @param {import('./flatbuffer.js').Signature} signature what the file says of its tensors
   * @param {LiteRtWasm} wasm
   * @param {string} name what to call the model in errors
   * @throws {ModelError} LiteRT cannot load it
   */
  constructor(model, signature, wasm, name) {
    this.wasm = wasm;
    this.name = name;
    this.signature = signature;
    this.inputInfo = /** @type {TensorInfo} */ (signature.inputs.get('image'));
    log.length = 0;
    try {
      this.#bytes = wasm._malloc(model.length); // LiteRT goes on reading the weights there
      wasm.HEAPU8.set(model, this.#bytes);
      const environment = this.#own(wasm.LiteRtEnvironment.create(null));
      const loaded = this.#own(wasm.loadModel(environment, this.#bytes, model.length));
      const options = /** @type {const} */ ({ accelerator: 'wasm', cpuOptions: { numThreads: 1 } });
      // A promise in the package's JSPI build only, which is not loaded here.
      this.compiled = this.#own(/** @type {CompiledModel} */ (wasm.compileModel(environment, loaded, options)));
      const names = loaded.getSignature(0);
      this.outputNames = strings(names.outputNames());
      names.delete();
      const type = loaded.getInputTensorType(0, 0);
      const host = wasm.LiteRtTensorBufferType.HOST_MEMORY;
      this.input = this.#own(wasm.LiteRtTensorBuffer.createManaged(environment, host, type, type.bytes()));
      type.delete();
    } catch (error) {
      this.close();
      throw new ModelError(`${name}: LiteRT cannot load the model (${reason(error)})`);
    }
  }

  /**
   * Fill the input tensor.
   *
   * @param {(values: Values) => void} fill gets the tensor's memory, valid during the call only
   */
  writeInput(fill) {
    const at = this.input.lock(this.wasm.LiteRtTensorBufferLockMode.WRITE);
    try {
      fill(this.#view(at, this.input, this.inputInfo));
    } finally {
      this.input.unlock();
    }
  }

  /**
   * Run the model on what `writeInput` left.
   *
   * @returns {Map<string, Values>} the output tensors, copied, by the signature's names
   * @throws {ModelError} LiteRT fails
   */
  run() {
    try {
      const buffers = /** @type {TensorBuffer[]} */ (this.compiled.run(0, [this.input]));
      /** @type {Map<string, Values>} */
      const outputs = new Map();
      buffers.forEach((buffer, i) => {
        const info = this.signature.outputs.get(this.outputNames[i]);
        if (info && (info.type === 'int8' || info.type === 'float32')) {
          const at = buffer.lock(this.wasm.LiteRtTensorBufferLockMode.READ);
          outputs.set(this.outputNames[i], this.#view(at, buffer, info).slice());
          buffer.unlock();
        }
        buffer.delete();
      });
      return outputs;
    } catch (error) {
      throw new ModelError(`${this.name}: LiteRT cannot run the model (${reason(error)})`);
    }
  }

  /** Free the model. */
  close() {
    for (const object of this.#owned.splice(0).reverse()) object.delete();
    if (this.#bytes) this.wasm._free(this.#bytes);
    this.#bytes = 0;
  }

  /**
   * @template {Deletable} T
   * @param {T} object of the binding, freed by `close`
   * @returns {T}
   */
  #own(object) {
    this.#owned.push(object);
    return object;
  }

  /**
   * @param {number} at address in WebAssembly memory
   * @param {TensorBuffer} buffer
   * @param {TensorInfo} info
   * @returns {Values} a view, valid until the memory grows
   */
  #view(at, buffer, info) {
    const Type = info.type === 'int8' ? Int8Array : Float32Array;
    const length = info.shape.reduce((product, side) => product * side, 1);
    if (buffer.packedSize() !== length * Type.BYTES_PER_ELEMENT) {
      throw new Error(`a tensor has ${buffer.packedSize()} bytes, its signature says ${length} of type ${info.type}`);
    }
    return new Type(/** @type {ArrayBuffer} */ (this.wasm.HEAPU8.buffer), at, length);
  }
}

/**
 * @param {{size(): number, get(i: number): string, delete(): void}} vector of the binding
 * @returns {string[]}
 */
function strings(vector) {
  const texts = Array.from({ length: vector.size() }, (_, i) => vector.get(i));
  vector.delete();
  return texts;
}
