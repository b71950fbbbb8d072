/**
 * From the output tensors to candidates: integer-domain threshold, then boxes and landmarks of the survivors. Twin of
 * tflite/decode.py: float32 (`Math.fround`) in the order written there, `exp` in float64.
 */

import { featureSize, makeAnchors } from './anchors.js';
import { ModelError, listed } from './flatbuffer.js';
import { orderByScore } from './nms.js';

const { fround } = Math;

/** Largest exponent of a box size: 1000 px from a 16 px anchor. Beyond it exp overflows and the box means nothing. */
const MAX_LOG_SIZE = fround(Math.log(1000 / 16));

/** Values per anchor of each kind of output. */
const WIDTHS = { score: 1, box: 4, landmark: 10 };

/** @typedef {Int8Array | Float32Array} Values */
/** @typedef {import('./flatbuffer.js').TensorInfo} TensorInfo */

/**
 * @typedef {object} Candidates anchors above the threshold, in anchor order, in input pixels
 * @property {Int32Array} anchors [N], increasing index into the anchor table
 * @property {Float32Array} logits [N]; probability = sigmoid(logit)
 * @property {Float32Array} boxes [N, 4], x1 y1 x2 y2, not clipped
 * @property {Float32Array} landmarks [N, 10], x y of five points
 */

/**
 * log(p / (1 − p)) as float32, ∓infinity at 0 and 1.
 *
 * @param {number} probability
 * @returns {number}
 * @throws {RangeError} outside 0-1
 */
export function logit(probability) {
  if (!(probability >= 0 && probability <= 1)) {
    throw new RangeError(`score threshold is ${probability}, expected a probability in 0-1`);
  }
  return fround(Math.log(probability / (1 - probability)));
}

/**
 * Logit to probability as float32, without overflow.
 *
 * @param {number} value
 * @returns {number}
 */
export function sigmoid(value) {
  const exponential = Math.exp(-Math.abs(value));
  return fround((value >= 0 ? 1 : exponential) / (1 + exponential));
}

/**
 * (q − zero point)·scale in float32; a float32 tensor's value stays as it is.
 *
 * @param {number} value
 * @param {TensorInfo} info
 * @returns {number}
 */
export function dequantize(value, info) {
  return info.type === 'int8' ? fround((value - info.zeroPoint) * fround(info.scale)) : value;
}

/**
 * The smallest int8 whose dequantised logit is at least logit(threshold), or 128 if none is.
 *
 * @param {number} threshold probability in 0-1
 * @param {TensorInfo} info of the score tensor
 * @returns {number}
 */
export function minQuantizedScore(threshold, info) {
  const wanted = logit(threshold);
  let least = -128;
  while (least < 128 && !(dequantize(least, info) >= wanted)) least++;
  return least;
}

/** Decodes the outputs of one model. */
export class Decoder {
  /**
   * @param {import('./spec.js').ModelSpec} spec
   * @param {Map<string, TensorInfo>} infos of `score_S`, `box_S` and `landmark_S` for each stride S, shapes
   *   [1, H/S, W/S, anchors·k] with k = 1, 4, 10
   * @param {string} name what to call the model in errors
   * @throws {ModelError} an output is missing, or contradicts the metadata
   */
  constructor(spec, infos, name) {
    this.spec = spec;
    const { inputHeight, inputWidth, strides, anchorSizes } = spec;
    let first = 0;
    this.levels = strides.map((stride, i) => {
      const rows = featureSize(inputHeight, stride);
      const columns = featureSize(inputWidth, stride);
      const anchors = anchorSizes[i].length;
      /** @param {keyof typeof WIDTHS} kind */
      const output = (kind) => {
        const tensor = `${kind}_${stride}`;
        const info = infos.get(tensor);
        if (!info) throw new ModelError(`${name}: no output '${tensor}', the model has ${listed(infos)}`);
        checkTensor(name, tensor, info, [1, rows, columns, anchors * WIDTHS[kind]]);
        return { tensor, info };
      };
      const level = { first, score: output('score'), box: output('box'), landmark: output('landmark') };
      first += rows * columns * anchors;
      return level;
    });
    // Only now: the tensors have confirmed the metadata, which alone could ask for gigabytes of anchors.
    this.anchors = makeAnchors(inputHeight, inputWidth, strides, anchorSizes);
  }

  /**
   * Threshold the scores, then decode what is left.
   *
   * @param {Map<string, Values>} outputs raw tensors by name
   * @param {number} threshold probability, 0-1. Beyond `maxCandidates` those of the highest logit stay, of equal ones
   *   those with the lower anchor index.
   * @returns {Candidates} those that are finite: float tensors can hold others
   */
  decode(outputs, threshold) {
    const tensors = this.levels.map(({ first, score, box, landmark }) => ({
      first,
      scores: { values: get(outputs, score.tensor), info: score.info },
      boxes: { values: get(outputs, box.tensor), info: box.info },
      landmarks: { values: get(outputs, landmark.tensor), info: landmark.info },
    }));
    /** @type {{level: number, row: number, logit: number}[]} */
    let found = [];
    tensors.forEach(({ scores: { values, info } }, level) => {
      const least = info.type === 'int8' ? minQuantizedScore(threshold, info) : logit(threshold);
      for (let row = 0; row < values.length; row++) {
        if (values[row] >= least) found.push({ level, row, logit: dequantize(values[row], info) });
      }
    });
    if (found.length > this.spec.maxCandidates) {
      const strongest = orderByScore(found.map((candidate) => candidate.logit)).slice(0, this.spec.maxCandidates);
      found = strongest.sort((a, b) => a - b).map((i) => found[i]);
    }

    const boxes = new Float32Array(found.length * 4);
    const landmarks = new Float32Array(found.length * 10);
    const anchors = new Int32Array(found.length);
    const logits = new Float32Array(found.length);
    let count = 0;
    for (const candidate of found) {
      const level = tensors[candidate.level];
      const anchor = level.first + candidate.row;
      const box = boxes.subarray(count * 4, count * 4 + 4);
      const points = landmarks.subarray(count * 10, count * 10 + 10);
      this.#decodeBox(level.boxes, candidate.row, anchor, box);
      this.#decodeLandmarks(level.landmarks, candidate.row, anchor, points);
      if (!box.every(Number.isFinite) || !points.every(Number.isFinite)) continue; // the next one is written over it
      anchors[count] = anchor;
      logits[count++] = candidate.logit;
    }
    return {
      anchors: anchors.subarray(0, count),
      logits: logits.subarray(0, count),
      boxes: boxes.subarray(0, count * 4),
      landmarks: landmarks.subarray(0, count * 10),
    };
  }

  /**
   * centre = anchor + d·v₀·size; half a side = size·exp(min(d·v₁, log(1000/16)))·0.5.
   *
   * @param {{values: Values, info: TensorInfo}} deltas
   * @param {number} row of the anchor in its level
   * @param {number} anchor index into the anchor table
   * @param {Float32Array} box x1 y1 x2 y2, written
   */
  #decodeBox(deltas, row, anchor, box) {
    const [centreVariance, sizeVariance] = this.spec.variances.map(fround);
    const size = this.anchors[anchor * 3 + 2];
    for (let axis = 0; axis < 2; axis++) {
      const shift = dequantize(deltas.values[row * 4 + axis], deltas.info);
      const growth = dequantize(deltas.values[row * 4 + 2 + axis], deltas.info);
      const centre = fround(this.anchors[anchor * 3 + axis] + fround(fround(shift * centreVariance) * size));
      const exponent = Math.min(fround(growth * sizeVariance), MAX_LOG_SIZE);
      const half = fround(fround(size * fround(Math.exp(exponent))) * 0.5);
      box[axis] = centre - half;
      box[axis + 2] = centre + half;
    }
  }

  /**
   * Point = anchor centre + d·v₀·size.
   *
   * @param {{values: Values, info: TensorInfo}} deltas
   * @param {number} row of the anchor in its level
   * @param {number} anchor index into the anchor table
   * @param {Float32Array} points x y ×5, written
   */
  #decodeLandmarks(deltas, row, anchor, points) {
    const variance = fround(this.spec.variances[0]);
    const size = this.anchors[anchor * 3 + 2];
    for (let i = 0; i < 10; i++) {
      const shift = dequantize(deltas.values[row * 10 + i], deltas.info);
      points[i] = this.anchors[anchor * 3 + (i % 2)] + fround(fround(shift * variance) * size);
    }
  }
}

/**
 * @param {Map<string, Values>} outputs
 * @param {string} tensor
 * @returns {Values}
 */
export function get(outputs, tensor) {
  const values = outputs.get(tensor);
  if (!values) throw new ModelError(`LiteRT gave no output '${tensor}'`);
  return values;
}

/**
 * @param {string} name of the model
 * @param {string} tensor
 * @param {TensorInfo} info
 * @param {number[]} shape that the metadata asks for
 * @throws {ModelError} the tensor's shape or type does not fit
 */
export function checkTensor(name, tensor, info, shape) {
  if (info.shape.join() !== shape.join()) {
    const found = info.shape.join(', ');
    throw new ModelError(
      `${name}: tensor '${tensor}' has the shape [${found}], its metadata needs [${shape.join(', ')}]`,
    );
  }
  if (info.type !== 'int8' && info.type !== 'float32') {
    throw new ModelError(`${name}: tensor '${tensor}' is ${info.type}, expected int8 or float32`);
  }
  if (info.type === 'int8' && !(info.scale > 0 && info.scale < Infinity)) {
    throw new ModelError(`${name}: tensor '${tensor}' is int8 without a quantization scale`);
  }
}
