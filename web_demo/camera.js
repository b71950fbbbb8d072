/** The camera, and what its errors mean in words. */

/** @type {Record<string, string>} */
const REASONS = {
  NotAllowedError: 'The camera was refused. Allow it in the browser’s site settings, then try again.',
  SecurityError: 'The camera is not allowed on this page.',
  NotFoundError: 'No camera was found.',
  OverconstrainedError: 'No camera was found.',
  NotReadableError: 'The camera is in use by another program, or does not answer.',
  AbortError: 'The camera does not answer.',
};

/**
 * @param {'user' | 'environment'} facing the camera towards the user or away from them, where there are both
 * @returns {Promise<MediaStream>}
 * @throws {Error} in words
 */
export async function openCamera(facing) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error('This browser gives no camera to this page: it must come over https or from localhost.');
  }
  try {
    const video = { facingMode: { ideal: facing }, width: { ideal: 1280 }, height: { ideal: 720 } };
    return await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch (error) {
    const { name, message } = /** @type {Error} */ (error);
    throw new Error(REASONS[name] ?? `The camera cannot be opened (${message}).`);
  }
}

/**
 * @param {MediaStream} stream
 * @returns {boolean} whether the picture is shown as in a mirror: unless the camera says that it looks away
 */
export function looksAtUser(stream) {
  return stream.getVideoTracks()[0].getSettings().facingMode !== 'environment';
}

/** @returns {Promise<boolean>} known only once the camera has been allowed */
export async function hasSeveralCameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter((device) => device.kind === 'videoinput').length > 1;
}

/** @param {MediaStream} stream */
export function closeCamera(stream) {
  for (const track of stream.getTracks()) track.stop();
}
