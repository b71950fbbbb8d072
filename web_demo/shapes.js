/** Which input shape suits a picture: the model's own, or one with a shorter side. Twin of tflite/shapes.py. */

const MULTIPLE = 32; // pixels: the coarsest stride
// What a side may be shortened to.
const PARTS = [
  [3, 5],
  [7, 10],
  [3, 4],
];

/**
 * The shortest form of a side that is at least numerator/denominator.
 *
 * @param {number} side in pixels, a multiple of 32
 * @param {number} numerator a whole number, as is the denominator
 * @param {number} denominator
 */
function shortened(side, numerator, denominator) {
  for (const [part, whole] of PARTS) {
    const left = (side * part) % (whole * MULTIPLE);
    const found = (side * part - left) / whole + (left ? MULTIPLE : 0);
    if (found * denominator >= numerator) return found;
  }
  return side;
}

/**
 * The smallest of a model's shapes that holds the letterboxed picture at the model's own scale.
 *
 * @param {number} imageHeight of the picture in pixels, at least 1
 * @param {number} imageWidth
 * @param {number} height of the model's own input in pixels, a multiple of 32
 * @param {number} width
 * @returns {[number, number]} height and width: one is the model's own, the other 3/5, 7/10, 3/4 or all of the model's
 *   own, up to a multiple of 32
 */
export function autoShape(imageHeight, imageWidth, height, width) {
  if (height * imageWidth <= width * imageHeight) {
    return [height, shortened(width, imageWidth * height, imageHeight)];
  }
  return [shortened(height, imageHeight * width, imageWidth), width];
}
