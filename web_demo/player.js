/** Frames of a playing video, one after the other: those that come while one is looked at are left out. */

/**
 * @param {HTMLVideoElement} video
 * @param {(bitmap: ImageBitmap, seconds: number) => Promise<void>} use owns the bitmap
 * @param {AbortSignal} signal ends it
 * @returns {Promise<void>}
 */
export async function followFrames(video, use, signal) {
  let wake = (/** @type {number} */ _seconds) => {};
  signal.addEventListener('abort', () => wake(0), { once: true }); // once for all frames: a listener each would pile up
  for (;;) {
    const seconds = await new Promise((/** @type {(seconds: number) => void} */ resolve) => {
      wake = resolve;
      whenNewFrame(video, resolve, signal);
    });
    if (signal.aborted) return;
    if (video.videoWidth) await use(await createImageBitmap(video), seconds);
  }
}

/**
 * @param {HTMLVideoElement} video
 * @param {(seconds: number) => void} tell called with its time when a frame is there that was not there before
 * @param {AbortSignal} signal
 */
function whenNewFrame(video, tell, signal) {
  if ('requestVideoFrameCallback' in HTMLVideoElement.prototype) {
    video.requestVideoFrameCallback((_, { mediaTime }) => tell(mediaTime));
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
