/** From a file to pixels, the way a viewer shows the picture. Twin of tflite's reading of images. */

/** The picture cannot be read; the message is one line that names file, finding and expectation. */
export class ImageError extends Error {
  name = 'ImageError';
}

const MOST_PIXELS = 100e6; // of a picture: four bytes each, more than once on the way

/** @typedef {OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D} Context */

/** @type {Context | null} */
let context = null;

/**
 * Read a picture: EXIF orientation is applied, of an animation the first frame counts.
 *
 * @param {Blob} file in any format that the browser reads
 * @param {string} name what to call it in errors
 * @returns {Promise<ImageBitmap>} with the colours as stored, as Python reads them: no colour profile is applied
 * @throws {ImageError} damaged, no picture, or more than 100 megapixels
 */
export async function readImage(file, name = file instanceof File ? file.name : 'image') {
  if (!file.size) throw new ImageError(`${name}: the file is empty, expected an image`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
  } catch (error) {
    const reason = /** @type {Error} */ (error).message;
    throw new ImageError(`${name}: cannot decode ${file.size} bytes (${reason}), expected a complete image`);
  }
  const { width, height } = bitmap;
  if (width * height <= MOST_PIXELS) return bitmap;
  bitmap.close();
  throw new ImageError(
    `${name}: the picture has ${width}×${height} pixels, expected at most ${MOST_PIXELS / 1e6} million`,
  );
}

/**
 * @param {ImageBitmap} bitmap
 * @returns {ImageData} R, G, B, alpha; transparent parts on black
 * @throws {ImageError} too large for this browser's canvas
 */
export function pixelsOf(bitmap) {
  const { width, height } = bitmap;
  context ??= makeContext();
  try {
    const { canvas } = context;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, width, height);
  } catch (error) {
    throw new ImageError(`cannot read ${width}×${height} pixels (${/** @type {Error} */ (error).message})`);
  }
}

/** @returns {Context} in memory, since its pixels are read and never shown */
function makeContext() {
  const canvas = typeof OffscreenCanvas === 'function' ? new OffscreenCanvas(1, 1) : document.createElement('canvas');
  const made = canvas.getContext('2d', { alpha: false, willReadFrequently: true });
  if (!made) throw new ImageError('this browser gives no canvas to read pixels from');
  return /** @type {Context} */ (made);
}
