/** Frames of a playing video, one after the other: those that come while one is looked at are left out. */

/**
 * @param {HTMLVideoElement} video
 * @param {(bitmap: ImageBitmap, seconds: number) => Promise<void>} use owns the bitmap
 * @param {AbortSignal} signal ends it
 * @returns {Promise<void>}
 */
export async function followFrames(video, use, signal) {
  /** @type {number | null} */
  let fresh = null; // time of the newest frame that was not looked at; of a paused video no other will come
  let wake = () => {};
  const listen = () =>
    whenNewFrame(video, signal, (seconds) => {
      fresh = seconds;
      wake();
      listen();
    });
  signal.addEventListener('abort', () => wake(), { once: true });
  listen();
  while (!signal.aborted) {
    if (fresh === null) {
      await new Promise((/** @type {(nothing: void) => void} */ resolve) => (wake = resolve));
      continue;
    }
    const seconds = fresh;
    fresh = null;
    if (video.videoWidth) await use(await createImageBitmap(video), seconds);
  }
}

/**
 * @param {HTMLVideoElement} video
 * @param {AbortSignal} signal after which nothing is told
 * @param {(seconds: number) => void} tell called with its time when a frame is there that was not there before
 */
function whenNewFrame(video, signal, tell) {
  if (signal.aborted) return;
  if ('requestVideoFrameCallback' in HTMLVideoElement.prototype) {
    video.requestVideoFrameCallback((_, { mediaTime }) => signal.aborted || tell(mediaTime));
    return;
  }
  const before = video.currentTime;
  const look = () => {
    if (signal.aborted) return;
    if (video.currentTime !== before) tell(video.currentTime);
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}
