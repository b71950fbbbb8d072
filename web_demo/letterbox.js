/**
 * From the pixels of a picture to the network's input: letterbox, and one table from pixel to input value. Twin of
 * tflite/preprocess.py.
 *
 * Computes what OpenCV's `resize` with INTER_LINEAR computes on 8-bit images (11-bit coefficients; halving exactly
 * means averaging 2×2), so that the network gets the same bytes as in Python. A canvas scales in ways of its own.
 */

/**
 * @typedef {object} Pixels what ImageData is
 * @property {Uint8ClampedArray | Uint8Array} data R, G, B, alpha of every pixel, row by row; alpha is not looked at
 * @property {number} width in pixels
 * @property {number} height in pixels
 */

const ONE = 2048; // of the interpolation weights
const BGR = [2, 1, 0]; // where the network's channels lie in R, G, B, alpha

/**
 * Size of the picture inside the input, and the scale = min(H/h, W/w).
 *
 * @param {number} imageHeight in pixels, ≥ 1, as are the others
 * @param {number} imageWidth
 * @param {number} height of the input
 * @param {number} width of the input
 * @returns {{rows: number, columns: number, scale: number}} letterboxed = scale · original
 */
export function letterboxSize(imageHeight, imageWidth, height, width) {
  const scale = Math.min(height / imageHeight, width / imageWidth);
  const rows = Math.min(Math.max(Math.floor(imageHeight * scale + 0.5), 1), height);
  const columns = Math.min(Math.max(Math.floor(imageWidth * scale + 0.5), 1), width);
  return { rows, columns, scale };
}

/**
 * The network's input value for each pixel value: mean and quantization in one table.
 *
 * @param {readonly number[]} mean of B, G, R, 0-255, subtracted from the pixel
 * @param {import('./flatbuffer.js').TensorInfo} input type "int8" or "float32", and its quantization
 * @returns {Int8Array | Float32Array} [256, 3]: pixel, channel
 */
export function inputTable(mean, input) {
  const table = input.type === 'int8' ? new Int8Array(256 * 3) : new Float32Array(256 * 3);
  for (let i = 0; i < table.length; i++) {
    const value = Math.floor(i / 3) - mean[i % 3];
    const quantized = Math.floor(value / input.scale + 0.5) + input.zeroPoint;
    table[i] = input.type === 'int8' ? Math.min(Math.max(quantized, -128), 127) : value;
  }
  return table;
}

/**
 * Replace each pixel value by its entry in the table.
 *
 * @param {Uint8Array} pixels [H, W, 3]
 * @param {Int8Array | Float32Array} table of `inputTable`
 * @param {Int8Array | Float32Array} out [H, W, 3], the network's input
 */
export function applyTable(pixels, table, out) {
  for (let i = 0; i < pixels.length; i += 3) {
    out[i] = table[pixels[i] * 3];
    out[i + 1] = table[pixels[i + 1] * 3 + 1];
    out[i + 2] = table[pixels[i + 2] * 3 + 2];
  }
}

/**
 * Scales pictures of one size into an input of one size: to fit, aligned to the top left, bilinear, the rest filled
 * with the rounded mean. Its buffers are used again for the next picture.
 */
export class Letterbox {
  /**
   * @param {number} imageHeight of the pictures in pixels
   * @param {number} imageWidth
   * @param {number} height of the input in pixels
   * @param {number} width
   * @param {readonly number[]} mean of B, G, R
   * @param {boolean} antialias halve the picture (means of 2×2 pixels, halves up) while it is at least twice as large
   *   as it will be: bilinear interpolation skips pixels then, and small faces with them. An odd last row or column is
   *   dropped.
   */
  constructor(imageHeight, imageWidth, height, width, mean, antialias) {
    const { rows, columns, scale } = letterboxSize(imageHeight, imageWidth, height, width);
    this.imageHeight = imageHeight;
    this.imageWidth = imageWidth;
    this.scale = scale;
    this.rows = rows;
    this.columns = columns;
    this.width = width;
    this.halvings = 0;
    while (antialias && imageWidth >> this.halvings >= 2 * columns && imageHeight >> this.halvings >= 2 * rows) {
      this.halvings++;
    }
    this.sourceHeight = imageHeight >> this.halvings;
    this.sourceWidth = imageWidth >> this.halvings;
    /** Once-halved pictures; each further halving writes over it. */
    this.shrunk = new Uint8Array(this.halvings ? (imageHeight >> 1) * (imageWidth >> 1) * 4 : 0);
    this.across = new Taps(columns, this.sourceWidth, true);
    this.down = new Taps(rows, this.sourceHeight, false);
    this.upper = new Int32Array(columns * 3);
    this.lower = new Int32Array(columns * 3);
    /** uint8 [height, width, 3], B, G, R: the result. */
    this.out = new Uint8Array(height * width * 3);
    const fill = mean.map((value) => Math.floor(value + 0.5));
    for (let i = 0; i < this.out.length; i++) this.out[i] = fill[i % 3]; // the picture's part is written over each time
  }

  /**
   * @param {Pixels} image of the size that was announced
   * @returns {Uint8Array} [height, width, 3], B, G, R; valid until the next call
   */
  apply(image) {
    let source = image.data;
    for (let step = 0; step < this.halvings; step++) {
      const width = this.imageWidth >> step;
      halve(source, width, this.shrunk, width >> 1, this.imageHeight >> (step + 1));
      source = this.shrunk;
    }
    if (this.rows === this.sourceHeight && this.columns === this.sourceWidth) this.#copy(source);
    else if (2 * this.rows === this.sourceHeight && 2 * this.columns === this.sourceWidth) this.#average(source);
    else this.#interpolate(source);
    return this.out;
  }

  /** @param {Pixels['data']} source */
  #copy(source) {
    for (let row = 0; row < this.rows; row++) {
      let to = row * this.width * 3;
      let from = row * this.columns * 4;
      for (let column = 0; column < this.columns; column++, from += 4) {
        for (const channel of BGR) this.out[to++] = source[from + channel];
      }
    }
  }

  /** @param {Pixels['data']} source */
  #average(source) {
    const stride = this.sourceWidth * 4;
    for (let row = 0; row < this.rows; row++) {
      let to = row * this.width * 3;
      for (let column = 0; column < this.columns; column++) {
        for (const channel of BGR) this.out[to++] = mean4(source, 2 * row * stride + column * 8 + channel, stride);
      }
    }
  }

  /** @param {Pixels['data']} source */
  #interpolate(source) {
    const { down, out, columns } = this;
    let upperRow = -1;
    let lowerRow = -1;
    for (let row = 0; row < this.rows; row++) {
      const first = down.first[row];
      const second = down.second[row];
      if (first === lowerRow) {
        [this.upper, this.lower] = [this.lower, this.upper];
        [upperRow, lowerRow] = [lowerRow, upperRow];
      }
      if (first !== upperRow) this.#scaleRow(source, first, this.upper);
      upperRow = first;
      if (second !== lowerRow) this.#scaleRow(source, second, this.lower);
      lowerRow = second;
      const { upper, lower } = this;
      const weight0 = down.weight0[row];
      const weight1 = down.weight1[row];
      const to = row * this.width * 3;
      for (let i = 0; i < columns * 3; i++) {
        const sum = ((weight0 * (upper[i] >> 4)) >> 16) + ((weight1 * (lower[i] >> 4)) >> 16);
        out[to + i] = (sum + 2) >> 2;
      }
    }
  }

  /**
   * @param {Pixels['data']} source
   * @param {number} row of it
   * @param {Int32Array} into [columns, 3], B, G, R
   */
  #scaleRow(source, row, into) {
    const { first, second, weight0, weight1 } = this.across;
    const start = row * this.sourceWidth * 4;
    for (let column = 0, to = 0; column < this.columns; column++, to += 3) {
      const left = start + first[column] * 4;
      const right = start + second[column] * 4;
      const w0 = weight0[column];
      const w1 = weight1[column];
      into[to] = source[left + 2] * w0 + source[right + 2] * w1;
      into[to + 1] = source[left + 1] * w0 + source[right + 1] * w1;
      into[to + 2] = source[left] * w0 + source[right] * w1;
    }
  }
}

/**
 * Means of 2×2 pixels, R, G, B only. `into` may be `source`: what is written lies before what is still to be read.
 *
 * @param {Pixels['data']} source four bytes per pixel, as is the result
 * @param {number} sourceWidth in pixels
 * @param {Uint8Array} into
 * @param {number} columns of the result
 * @param {number} rows of the result
 */
function halve(source, sourceWidth, into, columns, rows) {
  const stride = sourceWidth * 4;
  for (let row = 0, to = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, to += 4) {
      const from = 2 * row * stride + column * 8;
      for (let channel = 0; channel < 3; channel++) into[to + channel] = mean4(source, from + channel, stride);
    }
  }
}

/**
 * @param {Pixels['data']} source
 * @param {number} at one channel of the upper left of 2×2 pixels
 * @param {number} stride bytes per row
 * @returns {number} their mean, halves up
 */
function mean4(source, at, stride) {
  return (source[at] + source[at + 4] + source[at + stride] + source[at + stride + 4] + 2) >> 2;
}

/** For each target position the two source positions and their weights, in 1/2048. */
class Taps {
  /**
   * @param {number} targetSize in pixels
   * @param {number} sourceSize in pixels
   * @param {boolean} clampWeights OpenCV moves positions beyond the border to it across, but only clamps the rows down
   */
  constructor(targetSize, sourceSize, clampWeights) {
    this.first = new Int32Array(targetSize);
    this.second = new Int32Array(targetSize);
    this.weight0 = new Int32Array(targetSize);
    this.weight1 = new Int32Array(targetSize);
    const step = 1 / (targetSize / sourceSize);
    const last = sourceSize - 1;
    for (let i = 0; i < targetSize; i++) {
      const position = Math.fround((i + 0.5) * step - 0.5);
      let index = Math.floor(position);
      let fraction = Math.fround(position - index);
      if (clampWeights && (index < 0 || index >= last)) {
        index = Math.min(Math.max(index, 0), last);
        fraction = 0;
      }
      this.first[i] = Math.min(Math.max(index, 0), last);
      this.second[i] = Math.min(Math.max(index + 1, 0), last);
      this.weight0[i] = roundHalfEven(Math.fround(1 - fraction) * ONE);
      this.weight1[i] = roundHalfEven(fraction * ONE);
    }
  }
}

/**
 * @param {number} value
 * @returns {number} the nearest whole number; of two equally near ones the even one
 */
function roundHalfEven(value) {
  const down = Math.floor(value);
  if (value - down !== 0.5) return Math.round(value);
  return down + (down % 2);
}
