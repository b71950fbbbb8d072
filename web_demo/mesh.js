/**
 * Dense faces: 468 vertices from the coefficients of one anchor, and the head's pose from the vertices. Twin of
 * tflite/mesh.py.
 *
 * A model with a mesh has three outputs more, `mesh_S` for each stride S, [1, H/S, W/S, anchors·K], and a second member in
 * its archive, `mesh.f16`: little-endian float16, 1 + K shapes of 468 vertices x y z, the mean face first.
 */

import { featureSize } from './anchors.js';
import { checkTensor, dequantize, get } from './decode.js';
import { ModelError, listed } from './flatbuffer.js';
import { SpecError } from './spec.js';
import { hasZipEntry, readZipEntry } from './zip.js';

const { fround } = Math;

const MESH_FILE = 'mesh.f16';
export const VERTICES = 468;
const VALUES = 3 * VERTICES;
const MOST_COEFFICIENTS = 64;
const LARGEST_COEFFICIENT = 1e3; // a coefficient of 1 is a usual one
const LARGEST_FLOAT = 2 ** 128 - 2 ** 104;
const SWEEPS = 30; // of Jacobi's method; a matrix of four rows needs about five
const DEGREES = 180 / Math.PI;

/** @typedef {{first: number, tensor: string, info: TensorInfo}} Level its first anchor, and its output */
/** @typedef {import('./decode.js').Values} Values */
/** @typedef {import('./flatbuffer.js').TensorInfo} TensorInfo */

/**
 * @typedef {object} Pose degrees of the rotation roll · pitch · yaw, yaw first, from the mean face to the mesh
 * @property {number} yaw positive: the nose points to the right of the picture
 * @property {number} pitch positive: up
 * @property {number} roll positive: clockwise
 */

/**
 * @typedef {object} Mesh
 * @property {Float32Array} mesh [468, 3], x y z in image pixels, not clipped, in the order of MediaPipe's face mesh; z grows
 *   away from the camera and is about 0 on average over a face
 * @property {Pose} pose
 */

/** The mean face and the shapes that coefficients weigh, in units of √(w·h) of a box, relative to its centre. */
export class MeshBasis {
  /**
   * @param {Uint8Array} bytes of `mesh.f16`
   * @param {string} name of the model in errors
   * @throws {SpecError} another size than that of a whole number of shapes, two at least, or a number that is not finite
   */
  constructor(bytes, name) {
    const rows = bytes.length / (2 * VALUES);
    if (!(Number.isInteger(rows) && rows >= 2 && rows <= MOST_COEFFICIENTS + 1)) {
      throw new SpecError(
        `${name}: ${MESH_FILE} has ${bytes.length} bytes, expected ${2 * VALUES} for each of 2 to ` +
          `${MOST_COEFFICIENTS + 1} shapes of ${VERTICES} vertices`,
      );
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const numbers = Float32Array.from({ length: rows * VALUES }, (_, i) => half(view.getUint16(2 * i, true)));
    if (!numbers.every(Number.isFinite)) {
      throw new SpecError(`${name}: ${MESH_FILE} holds numbers that are not finite`);
    }
    /** K, of an anchor. */
    this.coefficients = rows - 1;
    this.mean = numbers.subarray(0, VALUES);
    this.shapes = Array.from({ length: rows - 1 }, (_, k) => numbers.subarray((k + 1) * VALUES, (k + 2) * VALUES));
    this.centred = centredOf(this.mean);
  }

  /**
   * @param {ArrayLike<number>} coefficients [K]
   * @returns {Float64Array} [468, 3], in box units
   */
  inBoxUnits(coefficients) {
    const sum = Float64Array.from(this.mean);
    this.shapes.forEach((shape, k) => {
      const weight = coefficients[k];
      for (let i = 0; i < VALUES; i++) sum[i] += weight * shape[i];
    });
    return sum;
  }

  /**
   * The rotation that, with a scale and a shift, brings the mean face nearest to the mesh.
   *
   * @param {ArrayLike<number>} mesh [468, 3], in any unit
   * @returns {Pose}
   *
   * Source: Horn 1987, the rotation as the quaternion that is the eigenvector of the largest eigenvalue.
   */
  pose(mesh) {
    // What x y z of the mean, in rows, have in common with x y z of the mesh. Its shift adds nothing: the mean is centred.
    const sums = new Float64Array(9);
    for (let i = 0; i < VALUES; i += 3) {
      for (let row = 0; row < 3; row++) {
        for (let column = 0; column < 3; column++) sums[3 * row + column] += this.centred[i + row] * mesh[i + column];
      }
    }
    const [xx, xy, xz, yx, yy, yz, zx, zy, zz] = sums;
    const [w, x, y, z] = strongestEigenvector([
      [xx + yy + zz, yz - zy, zx - xz, xy - yx],
      [yz - zy, xx - yy - zz, xy + yx, zx + xz],
      [zx - xz, xy + yx, yy - xx - zz, yz + zy],
      [xy - yx, zx + xz, yz + zy, zz - xx - yy],
    ]);
    return {
      yaw: DEGREES * Math.atan2(2 * (x * z - w * y), w * w - x * x - y * y + z * z),
      pitch: -DEGREES * Math.asin(Math.min(Math.max(2 * (y * z + w * x), -1), 1)),
      roll: DEGREES * Math.atan2(2 * (w * z - x * y), w * w - x * x + y * y - z * z),
    };
  }
}

/**
 * Where the face's own axes point in the picture, of length 1 before they are foreshortened.
 *
 * @param {Pose} pose
 * @returns {number[][]} [x, y] of what is right on an upright face in the picture, of down, and of the nose's direction
 */
export function poseAxes({ yaw, pitch, roll }) {
  const [sinYaw, sinPitch, sinRoll] = [yaw, pitch, roll].map((angle) => Math.sin(angle / DEGREES));
  const [cosYaw, cosPitch, cosRoll] = [yaw, pitch, roll].map((angle) => Math.cos(angle / DEGREES));
  const axes = [
    [cosYaw, sinPitch * sinYaw],
    [0, cosPitch],
    [sinYaw, -sinPitch * cosYaw],
  ];
  return axes.map(([x, y]) => [cosRoll * x - sinRoll * y, sinRoll * x + cosRoll * y]);
}

/**
 * @param {Uint8Array<ArrayBuffer>} model the whole file
 * @param {string} name what to call it in errors
 * @returns {Promise<MeshBasis | null>} null where it has none
 * @throws {SpecError} it is there, but damaged or not of a possible size
 */
export async function readBasis(model, name) {
  if (!hasZipEntry(model, MESH_FILE)) return null;
  const bytes = await readZipEntry(model, MESH_FILE);
  if (!bytes) throw new SpecError(`${name}: no readable ${MESH_FILE} in the file, though it is listed`);
  return new MeshBasis(bytes, name);
}

/** Reads the mesh outputs of one model at one input shape. */
export class MeshDecoder {
  /**
   * @param {MeshBasis} basis
   * @param {import('./spec.js').ModelSpec} spec
   * @param {Map<string, TensorInfo>} infos of `mesh_S` for each stride S, shapes [1, H/S, W/S, anchors·K]
   * @param {string} name what to call the model in errors
   * @throws {ModelError} an output is missing, or contradicts basis or metadata
   */
  constructor(basis, { inputHeight, inputWidth, strides, anchorSizes }, infos, name) {
    this.basis = basis;
    let first = 0;
    this.levels = strides.map((stride, i) => {
      const tensor = `mesh_${stride}`;
      const info = infos.get(tensor);
      if (!info) throw new ModelError(`${name}: no output '${tensor}', the model has ${listed(infos)}`);
      const [rows, columns] = [featureSize(inputHeight, stride), featureSize(inputWidth, stride)];
      const anchors = anchorSizes[i].length;
      checkTensor(name, tensor, info, [1, rows, columns, anchors * basis.coefficients]);
      const level = { first, tensor, info };
      first += rows * columns * anchors;
      return level;
    });
  }

  /**
   * @param {Map<string, Values>} outputs raw tensors by name
   * @param {number} anchor index into the anchor table
   * @returns {number[]} [K], dequantised. Numbers beyond ±1,000 are cut to that; those that are none become 0.
   */
  coefficients(outputs, anchor) {
    const { first, tensor, info } = /** @type {Level} */ (this.levels.findLast((level) => level.first <= anchor));
    const values = get(outputs, tensor);
    const count = this.basis.coefficients;
    return Array.from({ length: count }, (_, k) => {
      const value = dequantize(values[(anchor - first) * count + k], info);
      return Number.isNaN(value) ? 0 : Math.min(Math.max(value, -LARGEST_COEFFICIENT), LARGEST_COEFFICIENT);
    });
  }

  /**
   * The mesh of one face: box centre + √(w·h) · (mean + Σ coefficient · shape).
   *
   * @param {Map<string, Values>} outputs raw tensors by name
   * @param {number} anchor index into the anchor table
   * @param {Float32Array} box x1 y1 x2 y2 in input pixels as decoded at this anchor, not clipped
   * @param {number} scale input pixels per image pixel
   * @returns {Mesh} all of it finite
   */
  decode(outputs, anchor, [x1, y1, x2, y2], scale) {
    const units = this.basis.inBoxUnits(this.coefficients(outputs, anchor));
    const side = fround(Math.sqrt(fround(fround(x2 - x1) * fround(y2 - y1))));
    const centre = [fround(fround(x1 + x2) * 0.5), fround(fround(y1 + y2) * 0.5), 0];
    const factor = fround(scale);
    const mesh = new Float32Array(VALUES);
    for (let i = 0; i < VALUES; i++) {
      mesh[i] = finite(fround(fround(fround(fround(units[i]) * side) + centre[i % 3]) / factor));
    }
    return { mesh, pose: this.basis.pose(units) };
  }
}

/**
 * @param {number} bits of a float16
 * @returns {number}
 */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
}

/**
 * @param {Float32Array} mesh [468, 3]
 * @returns {Float64Array} shifted so that its middle is 0
 */
function centredOf(mesh) {
  const middle = [0, 0, 0];
  mesh.forEach((value, i) => (middle[i % 3] += value / VERTICES));
  return Float64Array.from(mesh, (value, i) => value - middle[i % 3]);
}

/** @param {number} value @returns {number} 0 for what is no number, the largest float32 for infinity */
function finite(value) {
  return Number.isNaN(value) ? 0 : Math.min(Math.max(value, -LARGEST_FLOAT), LARGEST_FLOAT);
}

/**
 * Jacobi's method: each turn makes one pair of numbers beside the diagonal 0.
 *
 * @param {number[][]} matrix symmetric, finite; overwritten
 * @returns {number[]} of length 1; of a matrix of zeros the first axis
 */
function strongestEigenvector(matrix) {
  const count = matrix.length;
  const least = (Number.EPSILON / 2) * Math.max(...matrix.flat().map(Math.abs));
  const vectors = matrix.map((row, i) => row.map((_, j) => (i === j ? 1 : 0))); // in columns
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    let turned = false;
    for (let p = 0; p < count; p++) {
      for (let q = p + 1; q < count; q++) {
        const [a, b, beside] = [matrix[p][p], matrix[q][q], matrix[p][q]];
        if (Math.abs(beside) <= least) continue;
        turned = true;
        const ratio = (b - a) / (2 * beside);
        const tangent = (ratio < 0 ? -1 : 1) / (Math.abs(ratio) + Math.hypot(ratio, 1));
        const cosine = 1 / Math.hypot(tangent, 1);
        const sine = tangent * cosine;
        for (const row of [...matrix, ...vectors]) {
          [row[p], row[q]] = [cosine * row[p] - sine * row[q], sine * row[p] + cosine * row[q]];
        }
        for (let i = 0; i < count; i++) {
          [matrix[p][i], matrix[q][i]] = [
            cosine * matrix[p][i] - sine * matrix[q][i],
            sine * matrix[p][i] + cosine * matrix[q][i],
          ];
        }
      }
    }
    if (!turned) break;
  }
  let best = 0;
  for (let i = 1; i < count; i++) if (matrix[i][i] > matrix[best][best]) best = i;
  return vectors.map((row) => row[best]);
}
