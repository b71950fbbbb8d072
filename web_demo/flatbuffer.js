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
 * @property {number} shapeAt where the file holds it: int32, little-endian
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
const MODEL = { operatorCodes: 1, subgraphs: 2, buffers: 4, signatures: 7 };
const SUBGRAPH = { tensors: 0, operators: 3 };
const OPERATOR_CODE = { upTo127: 0, code: 3 };
const OPERATOR = { code: 0, inputs: 1 };
const TENSOR = { shape: 0, type: 1, buffer: 2, quantization: 4 };
const BUFFER = { data: 0 };
const QUANTIZATION = { scale: 2, zeroPoint: 3 };
const SIGNATURE = { inputs: 0, outputs: 1, subgraph: 4 };
const TENSOR_MAP = { name: 0, tensor: 1 };
const MOST_DIMENSIONS = 8;
const MOST_CHARACTERS = 256;
const TYPES = new Map([
  [0, 'float32'],
  [9, 'int8'],
]);

// Operators that take their output's height and width from their input's: ADD, AVERAGE_POOL_2D, CONCATENATION, CONV_2D,
// DEPTHWISE_CONV_2D, DEPTH_TO_SPACE, DEQUANTIZE, LOGISTIC, MAX_POOL_2D, MUL, RELU, PAD, SHAPE, LEAKY_RELU, QUANTIZE.
const FOLLOWS_INPUT = new Set([0, 1, 2, 3, 4, 5, 6, 14, 17, 18, 19, 34, 77, 98, 114]);
const RESHAPE = 22; // if its new shape is computed, not a constant
const STRIDED_SLICE = 45; // of a shape, not of a picture

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
 * Whether no constant of the model holds a height or a width, so that it runs at other shapes (`withSides`). LiteRT does
 * not notice a constant that contradicts them: the outputs would be wrong.
 *
 * @param {Uint8Array} model the .tflite file
 * @returns {boolean} false, too, where an operator is not known here
 */
export function followsInput(model) {
  const view = new DataView(model.buffer, model.byteOffset, model.byteLength);
  try {
    const root = new Table(view, view.getUint32(0, true));
    const codes = root
      .tables(MODEL.operatorCodes)
      .map((code) => Math.max(code.int8(OPERATOR_CODE.upTo127), code.uint32(OPERATOR_CODE.code)));
    const buffers = root.tables(MODEL.buffers);
    const subgraphs = root.tables(MODEL.subgraphs);
    const tensors = subgraphs[0].tables(SUBGRAPH.tensors);
    /** @param {number} index of a tensor */
    const isConstant = (index) => buffers[tensors[index].uint32(TENSOR.buffer)].vector(BUFFER.data, 1).length > 0;
    /** @param {number} index */
    const rank = (index) => tensors[index].vector(TENSOR.shape, 4).length;
    return (
      subgraphs.length === 1 &&
      subgraphs[0].tables(SUBGRAPH.operators).every((operator) => {
        const code = codes[operator.uint32(OPERATOR.code)];
        const inputs = operator.list(OPERATOR.inputs, 4, (at) => view.getInt32(at, true), MOST_DIMENSIONS);
        if (code === RESHAPE) return inputs.length === 2 && !isConstant(inputs[1]);
        if (code === STRIDED_SLICE) return rank(inputs[0]) === 1;
        return FOLLOWS_INPUT.has(code);
      })
    );
  } catch {
    return false; // damaged, as `readSignature` says
  }
}

/**
 * A copy of a model whose input and outputs have other heights and widths. LiteRT computes all shapes in between from
 * these (`followsInput`); its JavaScript interface cannot resize a loaded model.
 *
 * @param {Uint8Array} model the .tflite file
 * @param {Signature} signature of it
 * @param {Map<string, readonly [number, number]>} sides name → height and width of four-dimensional tensors
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function withSides(model, signature, sides) {
  const copy = new Uint8Array(model);
  const view = new DataView(copy.buffer);
  for (const [name, info] of [...signature.inputs, ...signature.outputs]) {
    const [height, width] = sides.get(name) ?? [];
    if (height === undefined || width === undefined || info.shape.length !== 4) continue;
    view.setInt32(info.shapeAt + 4, height, true);
    view.setInt32(info.shapeAt + 8, width, true);
  }
  return copy;
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
    shapeAt: tensor.vector(TENSOR.shape, 4).start,
    type: TYPES.get(type) ?? `type ${type}`,
    scale: scales[0] ?? 0,
    zeroPoint: zeroPoints[0] ?? 0,
  };
}
