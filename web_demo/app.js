/** The demo page: pictures in, faces on a canvas out. The detector runs in a worker (`client.js`). */

import { closeCamera, hasSeveralCameras, looksAtUser, openCamera } from './camera.js';
import { DetectorClient } from './client.js';
import { draw } from './draw.js';
import { readImage } from './image.js';
import { keepOffline, registerOffline } from './offline.js';
import { clearError, element, fillFaces, fillTimes, inWords, say, showError } from './page.js';
import { followFrames } from './player.js';
import { facesJson } from './postprocess.js';

/** @typedef {import('./postprocess.js').Face} Face */
/**
 * @typedef {object} Photo
 * @property {string} name
 * @property {Blob} file
 * @property {HTMLCanvasElement} thumbnail
 * @property {HTMLElement} text below it
 * @property {HTMLButtonElement} button around both
 */

const LONGEST_SIDE = 1600; // pixels of the canvas; the detector sees all of the picture
const THUMBNAIL = 160; // pixels likewise
const MOST_FRAMES = 36_000; // whose faces are kept: 20 minutes at 30 a second
const TABLE_EVERY = 250; // milliseconds, so that figures can be read
const RATE_OVER = 1000; // milliseconds

/** @type {HTMLCanvasElement} */
const picture = element('picture');
/** @type {HTMLVideoElement} */
const video = element('video');
/** @type {HTMLSelectElement} */
const models = element('model');
/** @type {HTMLInputElement} */
const threshold = element('threshold');
/** @type {HTMLInputElement} */
const position = element('position');

/** @type {DetectorClient | null} */
let detector = null;
let modelInUse = ''; // value of its option

/** What is on the canvas. @type {{bitmap: ImageBitmap, faces: Face[], name: string, mirror: boolean} | null} */
let shown = null;

/** Faces of all pictures so far by name; of a video's by name and time. @type {Map<string, Face[]>} */
const results = new Map();

/** @type {Photo[]} */
let photos = [];
let photo = 0; // which one is shown

/** @type {MediaStream | null} */
let stream = null;
/** @type {'user' | 'environment'} */
let facing = 'user';

/** Ends what runs: the frames of a video or camera, or a walk through the photos. */
let work = new AbortController();

// Model

/**
 * @param {string | Blob} source address or file
 * @param {string} name
 * @returns {Promise<boolean>} whether it is in use now; if not, the page says why and the old one stays
 */
async function loadModel(source, name) {
  clearError();
  say(`Loading ${name} …`);
  models.disabled = true;
  try {
    const { client, spec, mesh, fetched } = await DetectorClient.load(source, name);
    const old = detector;
    detector = client;
    old?.close();
    threshold.value = String(spec.scoreThreshold);
    showThreshold();
    element('dense').hidden = !mesh;
    keepOffline(fetched);
    say(`${name} is ready: input ${spec.inputWidth}×${spec.inputHeight}.`);
  } catch (error) {
    showError(error);
    say(detector ? 'The model in use stays.' : 'No model is loaded.');
    return false;
  } finally {
    models.disabled = false;
  }
  await lookAgain();
  return true;
}

/** @param {string} address of a shipped one */
const loadShipped = (address) => loadModel(address, address.replace('models/', ''));

async function listModels() {
  const response = await fetch('models.json');
  /** @type {{file: string, bytes: number, height: number, width: number}[]} */
  const list = await response.json();
  for (const { file, bytes, height, width } of list) {
    const label = `${file.replace(/^retinaface_|_int8|\.tflite$/g, '')}, ${width}×${height}, ${(bytes / 1e6).toFixed(1)} MB`;
    models.add(new Option(label, `models/${file}`));
  }
  models.add(new Option('your own .tflite …', 'own'));
}

models.addEventListener('change', async () => {
  const { value } = models;
  if (value === 'own') {
    models.value = modelInUse;
    element('own').click();
  } else if (await loadShipped(value)) modelInUse = value;
  else models.value = modelInUse;
});

/** @param {File} file */
async function loadOwn(file) {
  if (!(await loadModel(file, file.name))) return;
  const options = [...models.options];
  const earlier = options.find((option) => option.value === 'chosen');
  if (earlier) earlier.text = file.name;
  else models.add(new Option(file.name, 'chosen'), options[options.length - 1]);
  // An option cannot load it again, only name it: it is the one in use until another is chosen.
  models.value = modelInUse = 'chosen';
}

// One picture

/**
 * Look at one picture and show it.
 *
 * @param {ImageBitmap} bitmap handed over
 * @param {string} name key of its faces
 * @param {boolean} mirror
 * @returns {Promise<void>}
 */
async function look(bitmap, name, mirror) {
  const { signal } = work;
  const used = detector;
  if (!used) return bitmap.close();
  const start = performance.now();
  let result;
  try {
    result = await used.detect(bitmap, Number(threshold.value));
  } catch (error) {
    if (used !== detector || signal.aborted) return; // another model or picture has taken its place
    throw error;
  }
  if (signal.aborted) return result.bitmap.close();
  shown?.bitmap.close();
  shown = { bitmap: result.bitmap, faces: result.faces, name, mirror };
  results.delete(name); // the newest comes last
  // Of a video no meshes are kept: they would fill the memory.
  results.set(name, photos.length ? result.faces : result.faces.map(({ mesh, ...face }) => face));
  if (results.size > MOST_FRAMES) results.delete(results.keys().next().value ?? '');
  redraw();
  document.dispatchEvent(new CustomEvent('faces', { detail: { ...result, name, total: performance.now() - start } }));
}

/** Draw what is shown, with the settings as they are. */
function redraw() {
  if (!shown) return;
  draw(picture, shown.bitmap, shown.faces, drawing(shown.mirror), LONGEST_SIDE);
  picture.hidden = false;
  element('empty').hidden = true;
  element('save-faces').disabled = false;
  element('save-picture').disabled = false;
}

/** @param {boolean} mirror @returns {import('./draw.js').Drawing} */
function drawing(mirror) {
  const [boxes, points, blur, mesh, pose] = ['boxes', 'points', 'blur', 'mesh', 'pose'].map(
    (id) => element(id).checked,
  );
  return { boxes, points, blur, mesh, pose, mirror };
}

/** When the last pictures were done. @type {number[]} */
let moments = [];
let lastTable = 0;

document.addEventListener('faces', (event) => {
  const { faces, milliseconds, total, name } = /** @type {CustomEvent} */ (event).detail;
  const now = performance.now();
  moments = [...moments.filter((moment) => now - moment < RATE_OVER), now];
  const live = !video.paused;
  if (live && now - lastTable < TABLE_EVERY) return;
  lastTable = now;
  const text = photos.length ? `${inWords(faces.length)} in ${name}.` : `${inWords(faces.length)}.`;
  say(text);
  picture.setAttribute('aria-label', `Picture: ${text}`);
  fillFaces(faces);
  fillTimes(milliseconds, total, live ? moments.length : 0);
});

// Photos

/** Nothing runs any more. */
function stopWork() {
  work.abort();
  work = new AbortController();
  if (stream) closeCamera(stream);
  stream = null;
  video.pause();
  if (video.src) URL.revokeObjectURL(video.src);
  video.removeAttribute('src');
  video.srcObject = null;
  element('live').hidden = true;
  element('strip').hidden = true;
  photos = [];
}

/** Nothing runs any more, and the results are those of what comes. */
function begin() {
  stopWork();
  results.clear();
  moments = [];
}

/** @param {string} name @param {Set<string>} taken @returns {string} with a number where another file has it */
function free(name, taken) {
  const dot = name.lastIndexOf('.') > 0 ? name.lastIndexOf('.') : name.length;
  let candidate = name;
  for (let number = 2; taken.has(candidate); number++) candidate = `${name.slice(0, dot)}_${number}${name.slice(dot)}`;
  taken.add(candidate);
  return candidate;
}

/** @param {File[]} files */
async function openPhotos(files) {
  begin();
  const taken = new Set();
  photos = files.map((file, i) => {
    const name = free(file.name || 'picture', taken);
    const button = document.createElement('button');
    button.type = 'button';
    const thumbnail = document.createElement('canvas');
    const text = document.createElement('span');
    text.textContent = name;
    button.append(thumbnail, text);
    button.addEventListener('click', () => showPhoto(i));
    return { name, file, thumbnail, text, button };
  });
  const items = photos.map(({ button }) => {
    const item = document.createElement('li');
    item.append(button);
    return item;
  });
  element('strip').replaceChildren(...items);
  element('strip').hidden = photos.length < 2;
  photo = 0;
  await lookAtPhotos();
}

/** All of them: the shown one first, and at the end again, so that it is what one sees. */
async function lookAtPhotos() {
  work.abort();
  const { signal } = (work = new AbortController());
  const others = photos.map((_, i) => i).filter((i) => i !== photo);
  for (const i of [photo, ...others]) {
    if (!signal.aborted) await lookAtPhoto(i);
  }
  if (others.length && !signal.aborted) await lookAtPhoto(photo);
}

/** @param {number} i */
async function lookAtPhoto(i) {
  const { name, file, thumbnail, text, button } = photos[i];
  for (const other of photos) other.button.removeAttribute('aria-current');
  button.setAttribute('aria-current', 'true');
  try {
    await look(await readImage(file, name), name, false);
  } catch (error) {
    text.textContent = `${name}: not read`;
    say('');
    showError(error);
    return;
  }
  if (shown?.name !== name) return;
  text.textContent = `${name}: ${inWords(shown.faces.length).toLowerCase()}`;
  draw(thumbnail, shown.bitmap, shown.faces, { ...drawing(false), points: false, mesh: false, pose: false }, THUMBNAIL);
}

/** @param {number} i */
function showPhoto(i) {
  clearError();
  photo = i;
  lookAtPhoto(i);
}

/** After a change of model or threshold; of what plays, the next frame shows it. */
async function lookAgain() {
  if (!video.paused) return;
  if (photos.length) await lookAtPhotos();
  else if (shown) await look(await createImageBitmap(shown.bitmap), shown.name, shown.mirror).catch(showError);
}

// Video and camera

/** @param {string} name @param {boolean} mirror */
function follow(name, mirror) {
  const use = async (/** @type {ImageBitmap} */ bitmap, /** @type {number} */ seconds) => {
    if (document.activeElement !== position) position.value = String(seconds);
    await look(bitmap, `${name}#t=${seconds.toFixed(3)}`, mirror);
  };
  followFrames(video, use, work.signal).catch(showError);
}

/** @param {Record<'turn' | 'stop' | 'seek', boolean>} controls which of them there are, besides the pause */
function showControls(controls) {
  for (const [id, there] of Object.entries(controls)) element(id).hidden = !there;
  element('live').hidden = false;
}

/** @param {File} file */
async function openVideo(file) {
  begin();
  const { signal } = work;
  video.src = URL.createObjectURL(file);
  showControls({ turn: false, stop: false, seek: true });
  follow(file.name, false);
  try {
    await video.play();
  } catch (error) {
    if (signal.aborted) return; // something else was opened meanwhile
    stopWork();
    showError(`${file.name}: this browser cannot play it (${/** @type {Error} */ (error).message})`);
  }
}

async function startCamera() {
  clearError();
  say('Waiting for the camera …');
  let opened;
  try {
    opened = await openCamera(facing);
  } catch (error) {
    if (stream && !stream.active) stopWork();
    say('');
    showError(error);
    return;
  }
  begin();
  const { signal } = work;
  stream = opened;
  stream.getVideoTracks()[0].addEventListener('ended', () => {
    if (signal.aborted) return;
    stopWork();
    showError('The camera has stopped.');
  });
  video.srcObject = stream;
  follow('camera', looksAtUser(stream));
  showControls({ turn: await hasSeveralCameras(), stop: true, seek: false });
  await video.play().catch((error) => signal.aborted || showError(error));
}

element('pause').addEventListener('click', () => {
  if (video.paused) video.play().catch(showError);
  else video.pause();
});
video.addEventListener('play', () => (element('pause').textContent = 'Pause'));
video.addEventListener('pause', () => (element('pause').textContent = 'Play'));
video.addEventListener('loadedmetadata', () => {
  position.max = String(Number.isFinite(video.duration) ? video.duration : 0);
});
position.addEventListener('input', () => (video.currentTime = Number(position.value)));
element('turn').addEventListener('click', () => {
  facing = facing === 'user' ? 'environment' : 'user';
  if (stream) closeCamera(stream); // phones open one camera at a time
  startCamera();
});
element('stop').addEventListener('click', () => {
  stopWork(); // the last pictures can still be saved
  say('The camera is off.');
  element('camera').focus();
});
element('camera').addEventListener('click', startCamera);

// Files

/** @param {File[]} files chosen, dropped or pasted: a model, a video, or else photos */
function open(files) {
  clearError();
  const model = files.find((file) => file.name.endsWith('.tflite'));
  const film = files.find((file) => file.type.startsWith('video/'));
  if (model) loadOwn(model);
  else if (film) openVideo(film);
  else if (files.length) openPhotos(files);
}

for (const id of ['files', 'own']) {
  /** @type {HTMLInputElement} */
  const input = element(id);
  input.addEventListener('change', () => {
    open([...(input.files ?? [])]);
    input.value = ''; // the same file may be chosen again
  });
}
element('choose').addEventListener('click', () => element('files').click());
element('example').addEventListener('click', async () => {
  try {
    const response = await fetch('example.jpg');
    open([new File([await response.blob()], 'example.jpg', { type: 'image/jpeg' })]);
    keepOffline([response.url]);
  } catch {
    showError('The example cannot be fetched: there is no network.');
  }
});

document.addEventListener('paste', (event) => open([...(event.clipboardData?.files ?? [])]));
const stage = element('stage');
document.addEventListener('dragover', (event) => {
  event.preventDefault();
  stage.classList.add('over');
});
document.addEventListener('dragleave', () => stage.classList.remove('over'));
document.addEventListener('drop', (event) => {
  event.preventDefault();
  stage.classList.remove('over');
  open([...(event.dataTransfer?.files ?? [])]);
});

/** @param {Blob} blob @param {string} name */
function save(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000); // not before the download has started
}

/** @param {string} name @returns {string} without its ending */
const stem = (name) => name.replace(/\.\w{1,5}$/, '');

element('save-faces').addEventListener('click', () => {
  const [source] = (shown?.name ?? 'picture').split('#t=');
  const { mesh, pose } = drawing(false); // what is shown is what is saved
  save(
    new Blob([facesJson(results, { mesh, pose })], { type: 'application/json' }),
    `${photos.length > 1 ? 'faces' : stem(source)}.json`,
  );
});

element('save-picture').addEventListener('click', () => {
  if (!shown) return;
  const { bitmap, faces } = shown;
  const [source, seconds] = shown.name.split('#t=');
  const canvas = document.createElement('canvas');
  draw(canvas, bitmap, faces, drawing(false));
  canvas.toBlob((blob) => {
    if (blob) save(blob, `${[stem(source), seconds, 'faces'].filter(Boolean).join('_')}.png`);
    else showError(`${bitmap.width}×${bitmap.height} pixels are too many for this browser to save`);
  });
});

// Settings

function showThreshold() {
  element('threshold-shown').textContent = Number(threshold.value).toFixed(2);
}

threshold.addEventListener('input', showThreshold);
threshold.addEventListener('change', lookAgain);
for (const id of ['boxes', 'points', 'blur', 'mesh', 'pose']) element(id).addEventListener('change', redraw);
element('blur').addEventListener('change', () => photos.length > 1 && lookAtPhotos()); // the small pictures too

async function start() {
  showThreshold();
  if (typeof WebAssembly !== 'object') {
    say('');
    throw new Error('This browser has no WebAssembly, which runs the model: it is too old, or its settings forbid it.');
  }
  await listModels();
  registerOffline(() => (element('offline').textContent = 'From now on it works without a network, too.'));
  modelInUse = models.value;
  await loadShipped(modelInUse);
}

start().catch(showError);
