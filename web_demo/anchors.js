/** Anchor boxes: where they lie and in which order. Twin of tflite/anchors.py. */

/**
 * Cells along one side of the feature map of a stride: padded stride-2 convolutions round up.
 *
 * @param {number} inputSize pixels
 * @param {number} stride pixels
 * @returns {number}
 */
export function featureSize(inputSize, stride) {
  return Math.ceil(inputSize / stride);
}

/**
 * Square anchors of all levels, one after the other.
 *
 * @param {number} inputHeight of the network's input in pixels
 * @param {number} inputWidth likewise
 * @param {readonly number[]} strides one per level, finest first
 * @param {readonly (readonly number[])[]} sizes side lengths in pixels per level
 * @returns {Float32Array} [A, 3]: centre x, centre y, side, in input pixels; order: level, row, column, anchor
 */
export function makeAnchors(inputHeight, inputWidth, strides, sizes) {
  let count = 0;
  strides.forEach((stride, level) => {
    count += featureSize(inputHeight, stride) * featureSize(inputWidth, stride) * sizes[level].length;
  });
  const anchors = new Float32Array(count * 3);
  let to = 0;
  strides.forEach((stride, level) => {
    const rows = featureSize(inputHeight, stride);
    const columns = featureSize(inputWidth, stride);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        for (const size of sizes[level]) {
          anchors[to++] = (column + 0.5) * stride;
          anchors[to++] = (row + 0.5) * stride;
          anchors[to++] = size;
        }
      }
    }
  });
  return anchors;
}
