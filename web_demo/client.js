/** The page's side of `worker.js`: one model in one worker. Closing it gives back all of its memory. */

/**
 * @typedef {object} Loaded
 * @property {import('./spec.js').ModelSpec} spec
 * @property {boolean} mesh whether faces get a mesh and a pose
 * @property {string[]} fetched addresses of what the worker needed
 */

/**
 * @typedef {object} Result
 * @property {import('./postprocess.js').Face[]} faces
 * @property {Record<string, number>} milliseconds of the stages read, letterbox, table, invoke, decode, nms
 * @property {ImageBitmap} bitmap the picture, handed back
 * @property {number} memoryBytes of WebAssembly
 */

export class DetectorClient {
  #worker = new Worker(new URL('worker.js', import.meta.url));
  /** @type {Map<number, {resolve: (result: any) => void, reject: (error: Error) => void}>} */
  #waiting = new Map();
  #messages = 0;
  /** @type {Error | null} */
  #failure = null;

  /** Use `DetectorClient.load`. */
  constructor() {
    this.#worker.addEventListener('message', ({ data: { id, result, error } }) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(result);
      else waiting?.reject(new Error(error));
    });
    this.#worker.addEventListener('error', (event) => {
      event.preventDefault();
      this.#fail(`the worker stopped (${event.message || 'its script cannot be loaded'})`);
    });
  }

  /**
   * @param {string | Blob} source address or file of a .tflite
   * @param {string} name what to call it in errors
   * @returns {Promise<{client: DetectorClient} & Loaded>} once it has run
   * @throws {Error} in words: no model, no WebAssembly, cannot be fetched, …
   */
  static async load(source, name) {
    const client = new DetectorClient();
    try {
      return { client, ...(await client.#send({ load: source, name })) };
    } catch (error) {
      client.close();
      throw error;
    }
  }

  /**
   * @param {ImageBitmap} bitmap handed over; it comes back with the result
   * @param {number} scoreThreshold 0-1
   * @returns {Promise<Result>}
   * @throws {Error} in words
   */
  detect(bitmap, scoreThreshold) {
    return this.#send({ detect: bitmap, scoreThreshold }, [bitmap]);
  }

  close() {
    this.#worker.terminate();
    this.#fail('the model was closed');
  }

  /**
   * @param {object} message
   * @param {Transferable[]} [transfer]
   * @returns {Promise<any>}
   */
  #send(message, transfer = []) {
    if (this.#failure) return Promise.reject(this.#failure);
    const id = this.#messages++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, ...message }, transfer);
    });
  }

  /** @param {string} message */
  #fail(message) {
    this.#failure = new Error(message);
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
  }
}
