/**
 * `FaceDetector`: one model file in, faces of pictures out. Twin of tflite/detector.py.
 *
 *     import { FaceDetector } from './detector.js';
 *     import { readImage, pixelsOf } from './image.js';
 *
 *     const detector = await FaceDetector.load('models/retinaface.tflite');
 *     const faces = detector.detect(pixelsOf(await readImage(file)));
 */

import { featureSize } from './anchors.js';
import { Decoder, checkTensor } from './decode.js';
import { ModelError, followsInput, readSignature, withSides } from './flatbuffer.js';
import { Letterbox, applyTable, inputTable } from './letterbox.js';
import { Interpreter, loadLiteRt } from './litert.js';
import { MeshDecoder, readBasis } from './mesh.js';
import { selectFaces } from './postprocess.js';
import { autoShape } from './shapes.js';
import { readSpec } from './spec.js';

/** @typedef {import('./postprocess.js').Face} Face */
/** @typedef {import('./letterbox.js').Pixels} Pixels */
/** @typedef {import('./flatbuffer.js').TensorInfo} TensorInfo */

const MOST_BYTES = 256e6; // of a model; WebAssembly gets a copy

/** Where the build puts LiteRT: beside this file. */
const LITERT = new URL('litert/', import.meta.url);

/** Shapes that are kept ready: a camera's, and a photo's between. Each has its own copy of the weights. */
const MOST_SHAPES = 2;

/**
 * @typedef {object} Prepared a model at one input shape
 * @property {import('./spec.js').ModelSpec} spec its input sides are those of the shape
 * @property {Interpreter} interpreter
 * @property {Decoder} decoder
 * @property {MeshDecoder | null} meshes
 * @property {Letterbox} [letterbox] of the last picture's size, kept as a video's pictures are all alike
 */

export class FaceDetector {
  #model;
  #signature;
  #wasm;
  #table;
  #ownShapeOnly;
  /** @type {Map<string, Prepared>} by shape, the one used last at the end */
  #prepared = new Map();

  /**
   * Use `FaceDetector.load`.
   *
   * @param {import('./spec.js').ModelSpec} spec
   * @param {import('./flatbuffer.js').Signature} signature
   * @param {Uint8Array} model
   * @param {import('./litert.js').LiteRtWasm} wasm
   * @param {string} name
   * @param {'auto' | 'own'} inputSize
   * @param {import('./mesh.js').MeshBasis | null} basis
   */
  constructor(spec, signature, model, wasm, name, inputSize, basis) {
    /** The model's metadata: input size, default thresholds, … */
    this.spec = spec;
    /** Of the model's meshes; null where it has none. */
    this.basis = basis;
    this.name = name;
    this.#model = model;
    this.#signature = signature;
    this.#wasm = wasm;
    this.#ownShapeOnly = inputSize === 'own' || !followsInput(model);
    this.#table = inputTable(spec.mean, /** @type {TensorInfo} */ (signature.inputs.get('image')));
    this.#at(spec.inputHeight, spec.inputWidth);
  }

  /**
   * @param {string | URL | Blob | ArrayBuffer} source a .tflite file written by quantization/convert.py: its address, a
   *   chosen file, or its bytes
   * @param {object} [options]
   * @param {URL | string} [options.litert] folder of LiteRT's WebAssembly files, `litert/` beside this file by default
   * @param {string} [options.name] what to call the model in errors
   * @param {'auto' | 'own'} [options.inputSize] "auto": the model's own input or, where the picture fits, one with a side
   *   shortened to 3/5, 7/10 or 3/4: less time for the same faces; "own": always the model's own. A file that runs at
   *   its own shape only, because its constants hold it, does so.
   * @returns {Promise<FaceDetector>}
   * @throws {import('./spec.js').SpecError} no TFLite model, or its metadata is missing or invalid
   * @throws {import('./flatbuffer.js').ModelError} LiteRT cannot load it, or its tensors contradict the metadata
   * @throws {Error} the file or LiteRT cannot be fetched, or the browser has no WebAssembly
   */
  static async load(source, { litert = LITERT, name = nameOf(source), inputSize = 'auto' } = {}) {
    const runtime = loadLiteRt(litert); // while the model is on its way
    runtime.catch(() => {}); // reported below, unless the model's own error comes first
    const model = new Uint8Array(await bytesOf(source, name));
    const spec = await readSpec(model, name);
    const basis = await readBasis(model, name);
    const signature = readSignature(model, name);
    const image = /** @type {TensorInfo} */ (signature.inputs.get('image'));
    checkTensor(name, 'image', image, [1, spec.inputHeight, spec.inputWidth, 3]);
    return new FaceDetector(spec, signature, model, await runtime, name, inputSize, basis);
  }

  /**
   * Find the faces of one picture.
   *
   * @param {Pixels} image ImageData, or R, G, B, alpha bytes with width and height; alpha is not looked at
   * @param {object} [options]
   * @param {number} [options.scoreThreshold] smallest probability, 0-1; the model's own by default
   * @param {number} [options.iouThreshold] of two boxes overlapping more, the weaker is dropped; the model's own by
   *   default
   * @param {(stage: 'letterbox' | 'table' | 'invoke' | 'decode' | 'nms') => void} [options.mark] called at the end of
   *   each stage
   * @returns {Face[]} by score descending, in image pixels; with mesh and pose where the model has a mesh
   * @throws {RangeError} the image has no pixels or other than it says, or a threshold is outside 0-1
   * @throws {import('./flatbuffer.js').ModelError} LiteRT fails
   */
  detect(image, { scoreThreshold, iouThreshold, mark = () => {} } = {}) {
    const { data, width, height } = image;
    if (!(width >= 1 && height >= 1 && data.length === width * height * 4)) {
      throw new RangeError(`image is ${width}×${height} with ${data.length} bytes, expected four for each pixel`);
    }
    const prepared = this.#for(image);
    const letterbox = letterboxFor(prepared, image);
    const pixels = letterbox.apply(image);
    mark('letterbox');
    prepared.interpreter.writeInput((input) => applyTable(pixels, this.#table, input));
    mark('table');
    const outputs = prepared.interpreter.run();
    mark('invoke');
    const found = prepared.decoder.decode(outputs, scoreThreshold ?? this.spec.scoreThreshold);
    mark('decode');
    const { meshes } = prepared;
    const { scale } = letterbox;
    /** @type {import('./postprocess.js').MeshOf | undefined} */
    const meshOf = meshes ? (anchor, box) => meshes.decode(outputs, anchor, box, scale) : undefined;
    const faces = selectFaces(found, this.spec, image, scale, iouThreshold ?? this.spec.iouThreshold, meshOf);
    mark('nms');
    return faces;
  }

  /** Run once on a blank picture: the first call allocates and packs weights and takes longer. */
  warmUp() {
    const { inputHeight: height, inputWidth: width } = this.spec;
    this.detect({ data: new Uint8Array(height * width * 4), height, width });
  }

  /** Bytes of WebAssembly memory, all detectors of this page or worker together; it never shrinks. */
  get memoryBytes() {
    return this.#wasm.HEAPU8.length;
  }

  /** Free the model; the detector cannot be used afterwards. */
  close() {
    for (const { interpreter } of this.#prepared.values()) interpreter.close();
    this.#prepared.clear();
  }

  /**
   * @param {Pixels} image
   * @returns {Prepared} the model at the shape that suits the picture
   */
  #for({ height, width }) {
    const { inputHeight, inputWidth } = this.spec;
    if (this.#ownShapeOnly) return this.#at(inputHeight, inputWidth);
    return this.#at(...autoShape(height, width, inputHeight, inputWidth));
  }

  /**
   * @param {number} height of the input
   * @param {number} width
   * @returns {Prepared}
   * @throws {ModelError} LiteRT cannot load the model at this shape, or its tensors contradict the metadata
   */
  #at(height, width) {
    const key = `${height}x${width}`;
    let found = this.#prepared.get(key);
    if (!found) {
      const spec = { ...this.spec, inputHeight: height, inputWidth: width };
      const own = height === this.spec.inputHeight && width === this.spec.inputWidth;
      const model = own ? this.#model : withSides(this.#model, this.#signature, sidesOf(spec, this.#signature));
      const signature = own ? this.#signature : readSignature(model, this.name);
      const decoder = new Decoder(spec, signature.outputs, this.name);
      const meshes = this.basis && new MeshDecoder(this.basis, spec, signature.outputs, this.name);
      for (const [old, { interpreter }] of this.#prepared) {
        if (this.#prepared.size < MOST_SHAPES) break;
        interpreter.close();
        this.#prepared.delete(old);
      }
      found = { spec, decoder, meshes, interpreter: new Interpreter(model, signature, this.#wasm, this.name) };
    }
    this.#prepared.delete(key);
    this.#prepared.set(key, found);
    return found;
  }
}

/**
 * @param {import('./spec.js').ModelSpec} spec
 * @param {import('./flatbuffer.js').Signature} signature
 * @returns {Map<string, [number, number]>} tensor → height and width, for all outputs that are named after a stride
 */
export function sidesOf({ inputHeight, inputWidth, strides }, { outputs }) {
  /** @type {Map<string, [number, number]>} */
  const sides = new Map([['image', [inputHeight, inputWidth]]]);
  for (const output of outputs.keys()) {
    const stride = Number(output.split('_').at(-1));
    if (strides.includes(stride)) {
      sides.set(output, [featureSize(inputHeight, stride), featureSize(inputWidth, stride)]);
    }
  }
  return sides;
}

/**
 * @param {Prepared} prepared
 * @param {Pixels} image
 * @returns {Letterbox}
 */
function letterboxFor(prepared, { height, width }) {
  const last = prepared.letterbox;
  if (last && last.imageHeight === height && last.imageWidth === width) return last;
  const { inputHeight, inputWidth, mean, antialias } = prepared.spec;
  prepared.letterbox = new Letterbox(height, width, inputHeight, inputWidth, mean, antialias);
  return prepared.letterbox;
}

/** @param {string | URL | Blob | ArrayBuffer} source */
function nameOf(source) {
  if (source instanceof ArrayBuffer) return 'model';
  if (source instanceof Blob) return source instanceof File ? source.name : 'model';
  return String(source);
}

/**
 * @param {string | URL | Blob | ArrayBuffer} source
 * @param {string} name
 * @returns {Promise<ArrayBuffer>}
 */
async function bytesOf(source, name) {
  if (source instanceof ArrayBuffer) return source;
  if (source instanceof Blob) {
    if (source.size > MOST_BYTES) {
      throw new ModelError(`${name}: the file has ${source.size} bytes, expected a model of at most ${MOST_BYTES}`);
    }
    return source.arrayBuffer();
  }
  let response;
  try {
    response = await fetch(source);
  } catch (error) {
    throw new Error(`${name}: cannot be fetched (${/** @type {Error} */ (error).message})`);
  }
  if (!response.ok) throw new Error(`${name}: cannot be fetched (${response.status} ${response.statusText})`);
  return response.arrayBuffer();
}
