/**
 * `retinaface.json`: what a model file says about itself, zip-appended to the .tflite. Twin of tflite/spec.py, with its
 * rules and its messages.
 */

import { readZipEntry } from './zip.js';

const SPEC_FILE = 'retinaface.json';
const FORMAT_VERSION = 1;
export const LANDMARK_NAMES = ['left_eye', 'right_eye', 'nose', 'left_mouth', 'right_mouth']; // left of the picture

/** The metadata is missing, malformed or contradicts itself; the message names file, finding and expectation. */
export class SpecError extends Error {
  name = 'SpecError';
}

/**
 * @typedef {object} ModelSpec
 * @property {number} inputHeight pixels, a multiple of 32
 * @property {number} inputWidth likewise
 * @property {number[]} mean of B, G, R, subtracted from 0-255 pixels; also the letterbox fill
 * @property {number[]} strides in pixels, finest first
 * @property {number[][]} anchorSizes side lengths in pixels, per level
 * @property {number[]} variances (centre, size) factors of the box code
 * @property {boolean} antialias pictures at least twice as large as the input are halved first
 * @property {number} scoreThreshold default confidence for use, in (0, 1)
 * @property {number} iouThreshold NMS drops a box whose IoU with a kept one is greater
 * @property {number} maxCandidates boxes into NMS
 * @property {number} maxFaces boxes out of it
 * @property {string} quantization e.g. "int8-qat"
 * @property {Record<string, unknown>} ap measured AP per precision; empty when unknown
 * @property {string} source where the weights come from
 */

const FIELDS = [
  'ap',
  'anchor_sizes',
  'antialias',
  'color_order',
  'format_version',
  'input_height',
  'input_width',
  'iou_threshold',
  'landmark_names',
  'max_candidates',
  'max_faces',
  'mean',
  'quantization',
  'score_threshold',
  'source',
  'strides',
  'variances',
];

/** @param {unknown} value @returns {value is number} */
const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);
/** @param {unknown} value @param {number} most @returns {value is number} */
const isPositiveInt = (value, most) => isNumber(value) && Number.isInteger(value) && value > 0 && value <= most;
/** @param {unknown} value @param {number} length @returns {value is number[]} */
const areNumbers = (value, length) => Array.isArray(value) && value.length === length && value.every(isNumber);
/** @param {unknown} value @returns {value is Record<string, unknown>} */
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
/** @param {unknown} value @returns {string} short, for an error */
const shown = (value) => {
  if (typeof value === 'object' && value !== null)
    return Array.isArray(value) ? `a list of ${value.length}` : 'an object';
  return String(JSON.stringify(value)).slice(0, 100);
};

/**
 * Parse and check `retinaface.json`.
 *
 * @param {string} text the JSON document
 * @param {string} name file to name in errors
 * @returns {ModelSpec}
 * @throws {SpecError} not JSON, unknown or missing fields, or values out of range
 */
export function specFromJson(text, name) {
  /** @param {boolean} ok @param {string} what */
  const need = (ok, what) => {
    if (!ok) throw new SpecError(`${name}: ${SPEC_FILE}: ${what}`);
  };
  let data;
  try {
    data = JSON.parse(text);
  } catch (error) {
    throw new SpecError(`${name}: ${SPEC_FILE} is not valid JSON (${/** @type {Error} */ (error).message})`);
  }
  need(isObject(data), `expected an object, found ${shown(data)}`);
  need(
    data.format_version === FORMAT_VERSION,
    `format_version is ${shown(data.format_version)}, this runtime reads ${FORMAT_VERSION}`,
  );
  if (!Object.hasOwn(data, 'antialias')) data.antialias = false; // not written where it is false
  const found = Object.keys(data);
  const missing = FIELDS.filter((field) => !found.includes(field));
  const unknown = found.filter((field) => !FIELDS.includes(field));
  need(
    !missing.length && !unknown.length,
    `fields missing: [${missing.join(', ')}], unknown: [${unknown.join(', ').slice(0, 100)}]`,
  );

  /** @param {string} key @param {boolean} ok @param {string} expected */
  const check = (key, ok, expected) => need(ok, `${key} is ${shown(data[key])}, expected ${expected}`);
  for (const side of ['input_height', 'input_width']) {
    check(side, isPositiveInt(data[side], 8192) && data[side] % 32 === 0, 'a multiple of 32 up to 8192');
  }
  check('color_order', data.color_order === 'BGR', "'BGR'");
  const { mean, strides, anchor_sizes: sizes } = data;
  check('mean', areNumbers(mean, 3) && mean.every((m) => m >= 0 && m <= 255), '3 numbers in 0-255');
  check(
    'strides',
    Array.isArray(strides) &&
      strides.length > 0 &&
      strides.length <= 8 &&
      strides.every((s, i) => isPositiveInt(s, 256) && (i === 0 || s > strides[i - 1])),
    'increasing whole numbers',
  );
  check(
    'anchor_sizes',
    Array.isArray(sizes) &&
      sizes.length === strides.length &&
      sizes.every(
        (level) =>
          Array.isArray(level) &&
          level.length > 0 &&
          level.length <= 16 &&
          level.every((size) => isNumber(size) && size > 0 && size <= 8192),
      ),
    `a list of sizes in pixels for each of ${strides.length} strides`,
  );
  const { variances } = data;
  check('variances', areNumbers(variances, 2) && variances.every((v) => v > 0 && v <= 10), '2 positive numbers');
  const names = data.landmark_names;
  check(
    'landmark_names',
    Array.isArray(names) &&
      names.length === LANDMARK_NAMES.length &&
      names.every((name, i) => name === LANDMARK_NAMES[i]),
    LANDMARK_NAMES.join(', '),
  );
  for (const key of ['score_threshold', 'iou_threshold']) {
    check(key, isNumber(data[key]) && data[key] > 0 && data[key] < 1, 'a number in (0, 1)');
  }
  for (const key of ['max_candidates', 'max_faces']) {
    check(key, isPositiveInt(data[key], 1_000_000), 'a positive whole number');
  }
  check('antialias', typeof data.antialias === 'boolean', 'true or false');
  check('ap', isObject(data.ap), 'an object');
  for (const key of ['quantization', 'source']) check(key, typeof data[key] === 'string', 'text');

  return {
    inputHeight: data.input_height,
    inputWidth: data.input_width,
    mean,
    strides,
    anchorSizes: sizes,
    variances,
    antialias: data.antialias,
    scoreThreshold: data.score_threshold,
    iouThreshold: data.iou_threshold,
    maxCandidates: data.max_candidates,
    maxFaces: data.max_faces,
    quantization: data.quantization,
    ap: data.ap,
    source: data.source,
  };
}

/**
 * Read the spec out of a .tflite file.
 *
 * @param {Uint8Array<ArrayBuffer>} model the whole file
 * @param {string} name what to call it in errors
 * @returns {Promise<ModelSpec>}
 * @throws {SpecError} not a TFLite model, or metadata absent or invalid
 */
export async function readSpec(model, name) {
  if (String.fromCharCode(...model.subarray(4, 8)) !== 'TFL3') {
    throw new SpecError(`${name}: not a TFLite model (${model.length} bytes, no TFL3 identifier at byte 4)`);
  }
  const bytes = await readZipEntry(model, SPEC_FILE);
  let text = null;
  try {
    text = bytes && new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    // not UTF-8: damaged
  }
  if (text === null) {
    throw new SpecError(
      `${name}: no readable ${SPEC_FILE} in the file; export it with quantization/convert.py (or it is truncated)`,
    );
  }
  return specFromJson(text, name);
}
