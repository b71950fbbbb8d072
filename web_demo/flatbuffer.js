/**
 * The tensors that a .tflite file's signature names: shape, type and quantization.
 *
 * LiteRT's JavaScript interface gives no quantization parameters. This reads them out of the file: just enough of the
 * flatbuffer format (tables, vectors, strings) and of TensorFlow Lite's schema. A stranger's file: every offset is
 * checked, since a DataView throws beyond its end, no vector is longer than the file, and of what many tables may share
 * (names, shapes) only the first few elements are read.
 */

export class ModelError extends Error {
  name = 'ModelError';
}

/**
 * @typedef {object} TensorInfo
 * @property {number[]} shape
 * @property {string} type "int8", "float32", or the number of another type in the schema
 * @property {number} scale of the quantization, 0 where there is none
 * @property {number} zeroPoint
 */

/**
 * @typedef {object} Signature
 * @property {Map<string, TensorInfo>} inputs by name
 * @property {Map<string, TensorInfo>} outputs by name
 */

// Field numbers of TensorFlow Lite's schema.
const MODEL = { subgraphs: 2, signatures: 7 };
const SUBGRAPH = { tensors: 0 };
const TENSOR = { shape: 0, type: 1, quantization: 4 };
const QUANTIZATION = { scale: 2, zeroPoint: 3 };
const SIGNATURE = { inputs: 0, outputs: 1, subgraph: 4 };
const TENSOR_MAP = { name: 0, tensor: 1 };
const MOST_DIMENSIONS = 8;
const MOST_CHARACTERS = 256;
const TYPES = new Map([
  [0, 'float32'],
  [9, 'int8'],
]);

/** One table: its fields by number. */
class Table {
  /**
   * @param {DataView} view the whole file
   * @param {number} at where the table starts
   */
  constructor(view, at) {
    this.view = view;
    this.at = at;
    this.vtable = at - view.getInt32(at, true);
    this.vtableSize = view.getUint16(this.vtable, true);
  }

  /**
   * @param {number} field
   * @returns {number} where its value lies, 0 if it is absent
   */
  offset(field) {
    const entry = 4 + 2 * field;
    if (entry + 2 > this.vtableSize) return 0;
    const relative = this.view.getUint16(this.vtable + entry, true);
    return relative && this.at + relative;
  }

  /** @param {number} field */
  table(field) {
    const at = this.offset(field);
    return at ? new Table(this.view, at + this.view.getUint32(at, true)) : null;
  }

  /** @param {number} field */
  int8(field) {
    const at = this.offset(field);
    return at ? this.view.getInt8(at) : 0;
  }

  /** @param {number} field */
  uint32(field) {
    const at = this.offset(field);
    return at ? this.view.getUint32(at, true) : 0;
  }

  /** @param {number} field */
  string(field) {
    const { start, length } = this.vector(field, 1);
    const bytes = new Uint8Array(this.view.buffer, this.view.byteOffset + start, Math.min(length, MOST_CHARACTERS));
    return new TextDecoder().decode(bytes);
  }

  /**
   * @template T
   * @param {number} field
   * @param {number} width bytes per element
   * @param {(at: number) => T} read
   * @param {number} [most] elements to read
   * @returns {T[]}
   */
  list(field, width, read, most = Infinity) {
    const { start, length } = this.vector(field, width);
    return Array.from({ length: Math.min(length, most) }, (_, i) => read(start + i * width));
  }

  /** @param {number} field */
  tables(field) {
    return this.list(field, 4, (at) => new Table(this.view, at + this.view.getUint32(at, true)));
  }

  /**
   * @param {number} field
   * @param {number} width bytes per element
   * @returns {{start: number, length: number}}
   * @throws {RangeError} longer than the file
   */
  vector(field, width) {
    const at = this.offset(field);
    if (!at) return { start: 0, length: 0 };
    const start = at + this.view.getUint32(at, true);
    const length = this.view.getUint32(start, true);
    if (start + 4 + length * width > this.view.byteLength) throw new RangeError('vector is longer than the file');
    return { start: start + 4, length };
  }
}

/**
 * @param {Uint8Array} model the .tflite file
 * @param {string} name what to call it in errors
 * @returns {Signature} of the one signature
 * @throws {ModelError} damaged, or not exactly one signature with one input `image`
 */
export function readSignature(model, name) {
  const view = new DataView(model.buffer, model.byteOffset, model.byteLength);
  let count, inputs, outputs;
  try {
    const root = new Table(view, view.getUint32(0, true));
    const signatures = root.tables(MODEL.signatures);
    count = signatures.length;
    if (count === 1) {
      const subgraph = root.tables(MODEL.subgraphs)[signatures[0].uint32(SIGNATURE.subgraph)];
      const tensors = subgraph.tables(SUBGRAPH.tensors);
      inputs = named(signatures[0].tables(SIGNATURE.inputs), tensors);
      outputs = named(signatures[0].tables(SIGNATURE.outputs), tensors);
    }
  } catch (error) {
    // RangeError: an offset outside the file; TypeError: an index for which there is no table.
    throw new ModelError(`${name}: the model's signature cannot be read (${/** @type {Error} */ (error).message})`);
  }
  if (!inputs || !outputs) {
    throw new ModelError(`${name}: the model has ${count} signatures, expected 1 with the input 'image'`);
  }
  if (inputs.size !== 1 || !inputs.has('image')) {
    throw new ModelError(`${name}: the model's inputs are ${listed(inputs)}, expected 'image'`);
  }
  return { inputs, outputs };
}

/**
 * @param {Map<string, TensorInfo>} tensors
 * @returns {string} their names for an error: short and printable, whatever the file says
 */
export function listed(tensors) {
  const names = [...tensors.keys()].join(', ').replace(/[^\x20-\x7e]/g, '?');
  return `[${names.length > 200 ? `${names.slice(0, 200)}…` : names}]`;
}

/**
 * @param {Table[]} maps entries of a signature
 * @param {Table[]} tensors of the subgraph
 */
function named(maps, tensors) {
  return new Map(maps.map((map) => [map.string(TENSOR_MAP.name), info(tensors[map.uint32(TENSOR_MAP.tensor)])]));
}

/**
 * @param {Table} tensor
 * @returns {TensorInfo}
 */
function info(tensor) {
  const { view } = tensor;
  const type = tensor.int8(TENSOR.type);
  const quantization = tensor.table(TENSOR.quantization);
  const scales = quantization?.list(QUANTIZATION.scale, 4, (at) => view.getFloat32(at, true), 1) ?? [];
  const zeroPoints = quantization?.list(QUANTIZATION.zeroPoint, 8, (at) => Number(view.getBigInt64(at, true)), 1) ?? [];
  return {
    shape: tensor.list(TENSOR.shape, 4, (at) => view.getInt32(at, true), MOST_DIMENSIONS),
    type: TYPES.get(type) ?? `type ${type}`,
    scale: scales[0] ?? 0,
    zeroPoint: zeroPoints[0] ?? 0,
  };
}
