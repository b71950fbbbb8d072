/** Which input shape suits a picture: a rectangle of multiples of 32 pixels. Twin of tflite/shapes.py. */

const MULTIPLE = 32; // pixels: the coarsest stride
const SMALLEST = 64;

/**
 * The smallest multiple of 32 that is at least numerator/denominator, both positive whole numbers; without rounding.
 *
 * @param {number} numerator
 * @param {number} denominator
 */
function upToMultiple(numerator, denominator) {
  const block = denominator * MULTIPLE;
  return ((numerator - (numerator % block)) / block + (numerator % block ? 1 : 0)) * MULTIPLE;
}

/**
 * The smallest rectangle that holds the letterboxed picture at the model's own scale.
 *
 * @param {number} imageHeight of the picture in pixels, at least 1
 * @param {number} imageWidth
 * @param {number} height of the model's own input in pixels, a multiple of 32
 * @param {number} width
 * @returns {[number, number]} height and width: one is the model's own, the other from 64 to the model's own
 */
export function autoShape(imageHeight, imageWidth, height, width) {
  if (height * imageWidth <= width * imageHeight) {
    return [height, Math.min(Math.max(upToMultiple(imageWidth * height, imageHeight), SMALLEST), width)];
  }
  return [Math.min(Math.max(upToMultiple(imageHeight * width, imageWidth), SMALLEST), height), width];
}
