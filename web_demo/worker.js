/**
 * Runs the detector beside the page, so that the page never stalls. A classic worker: LiteRT's loader is no module and
 * needs importScripts. `client.js` speaks to it.
 *
 * Messages in: {id, load: source, name}, {id, detect: ImageBitmap, scoreThreshold}; out: {id, result} or {id, error}.
 */

const modules = Promise.all([import('./detector.js'), import('./image.js')]);

/** @type {import('./detector.js').FaceDetector | undefined} */
let detector;

/**
 * @param {string | Blob} source
 * @param {string} name
 * @returns {Promise<import('./client.js').Loaded>}
 */
async function load(source, name) {
  const [{ FaceDetector }] = await modules;
  detector = await FaceDetector.load(source, { name });
  detector.warmUp();
  const fetched = performance.getEntriesByType('resource').map((entry) => entry.name);
  return { spec: detector.spec, mesh: detector.basis !== null, fetched };
}

/**
 * @param {ImageBitmap} bitmap
 * @param {number} scoreThreshold
 * @returns {Promise<import('./client.js').Result>}
 */
async function detect(bitmap, scoreThreshold) {
  const [, { pixelsOf }] = await modules;
  if (!detector) throw new Error('no model is loaded');
  /** @type {Record<string, number>} */
  const milliseconds = {};
  let last = performance.now();
  const mark = (/** @type {string} */ stage) => {
    const now = performance.now();
    milliseconds[stage] = now - last;
    last = now;
  };
  const pixels = pixelsOf(bitmap);
  mark('read');
  const faces = detector.detect(pixels, { scoreThreshold, mark });
  return { faces, milliseconds, bitmap, memoryBytes: detector.memoryBytes };
}

self.addEventListener('message', async ({ data }) => {
  const { id } = data;
  try {
    const result = data.detect ? await detect(data.detect, data.scoreThreshold) : await load(data.load, data.name);
    self.postMessage({ id, result }, { transfer: data.detect ? [data.detect] : [] });
  } catch (error) {
    self.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
});
