/** Draws a picture with its faces, or makes the faces unrecognisable. Twin of tflite/draw.py. */

import { poseAxes } from './mesh.js';

const BOX = '#00dc00';
const EDGE = 'rgb(0 0 0 / 60%)'; // round everything drawn, to be seen on any picture
// Left eye, right eye, nose, left and right mouth corner: told apart, so that a swap is seen at once.
const POINTS = ['#ff0000', '#ffff00', '#ff00ff', '#00a000', '#0000ff'];
const AXES = ['#ff0000', '#00ff00', '#0000ff']; // right, down, and where the nose points
const NEAREST = 255; // brightness of a mesh's nearest vertex,
const FARTHEST = 90; // and of its farthest
const BLUR_CELLS = 6; // colours left across a face: too few for a person or a program to recognise
const BLUR_MARGIN = 0.15; // of the box, added on every side: boxes end at the forehead

/**
 * @typedef {object} Drawing
 * @property {boolean} boxes
 * @property {boolean} points
 * @property {boolean} blur
 * @property {boolean} [mesh] of faces that have one the vertices, the nearer the brighter, instead of the points
 * @property {boolean} [pose] three axes on faces that have a pose
 * @property {boolean} mirror left and right change places, as in a mirror; figures stay readable
 */

/** @typedef {import('./postprocess.js').Face} Face */

/**
 * @param {HTMLCanvasElement} canvas takes the picture's shape
 * @param {ImageBitmap} bitmap
 * @param {readonly Face[]} faces in its pixels
 * @param {Drawing} drawing
 * @param {number} [longest] most pixels of the canvas' longer side; as many as the picture's by default
 */
export function draw(canvas, bitmap, faces, drawing, longest = Infinity) {
  const zoom = Math.min(1, longest / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * zoom));
  const height = Math.max(1, Math.round(bitmap.height * zoom));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  context.resetTransform();
  context.fillRect(0, 0, width, height);
  if (drawing.mirror) context.setTransform(-1, 0, 0, 1, width, 0);
  context.drawImage(bitmap, 0, 0, width, height);
  const line = Math.max(2, Math.min(width, height) / 250);
  const boxes = faces.map(({ box }) => box.map((value) => value * zoom));
  if (drawing.blur) for (const box of boxes) blur(context, box);
  if (drawing.boxes) for (const box of boxes) outline(context, box, line);
  if (drawing.points) {
    faces.forEach(({ landmarks, mesh }, i) => {
      if (drawing.mesh && mesh) return;
      const radius = Math.max(line / 2, (boxes[i][2] - boxes[i][0]) / 40);
      landmarks.forEach(([x, y], point) => dot(context, x * zoom, y * zoom, radius, POINTS[point]));
    });
  }
  faces.forEach(({ mesh, pose }, i) => {
    if (drawing.mesh && mesh) vertices(context, mesh, zoom);
    if (drawing.pose && pose) axes(context, boxes[i], pose, line);
  });
  context.resetTransform();
  if (drawing.boxes) {
    faces.forEach(({ score }, i) => {
      const left = drawing.mirror ? width - boxes[i][2] : boxes[i][0];
      label(context, score.toFixed(2), left, boxes[i][1], Math.max(12, 6 * line));
    });
  }
}

/** @param {CanvasRenderingContext2D} context @param {number[]} box @param {number} line width in pixels */
function outline(context, [x1, y1, x2, y2], line) {
  for (const [style, width] of /** @type {const} */ ([
    [EDGE, 2 * line],
    [BOX, line],
  ])) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 * @param {number} y
 * @param {number} radius
 * @param {string} colour
 */
function dot(context, x, y, radius, colour) {
  for (const [style, size] of /** @type {const} */ ([
    [EDGE, radius + 1],
    [colour, radius],
  ])) {
    context.fillStyle = style;
    context.beginPath();
    context.arc(x, y, size, 0, 2 * Math.PI);
    context.fill();
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Float32Array} mesh x y z in picture pixels
 * @param {number} zoom
 */
function vertices(context, mesh, zoom) {
  const [left, right] = extent(mesh.filter((_, i) => i % 3 === 0));
  const [near, far] = extent(mesh.filter((_, i) => i % 3 === 2));
  const side = Math.max(1, ((right - left) * zoom) / 80);
  const places = Array.from({ length: mesh.length / 3 }, (_, i) => 3 * i);
  for (const at of places.sort((a, b) => mesh[b + 2] - mesh[a + 2])) {
    const depth = (mesh[at + 2] - near) / (far - near || 1);
    const brightness = NEAREST + depth * (FARTHEST - NEAREST);
    context.fillStyle = `rgb(0 ${brightness} ${brightness})`;
    context.fillRect(mesh[at] * zoom - side / 2, mesh[at + 1] * zoom - side / 2, side, side);
  }
}

/** @param {Float32Array} values @returns {[number, number]} the least and the greatest */
const extent = (values) => [Math.min(...values), Math.max(...values)];

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number[]} box
 * @param {import('./mesh.js').Pose} pose
 * @param {number} line width in pixels
 */
function axes(context, [x1, y1, x2, y2], pose, line) {
  const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const length = Math.max(x2 - x1, y2 - y1) / 2;
  context.lineWidth = line;
  poseAxes(pose).forEach(([dx, dy], i) => {
    context.strokeStyle = AXES[i];
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + dx * length, y + dy * length);
    context.stroke();
  });
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {number} left
 * @param {number} bottom
 * @param {number} size
 */
function label(context, text, left, bottom, size) {
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.lineJoin = 'round';
  context.lineWidth = size / 4;
  context.strokeStyle = EDGE;
  context.fillStyle = BOX;
  const y = Math.max(bottom - size / 3, size);
  context.strokeText(text, left, y);
  context.fillText(text, left, y);
}

const cells = document.createElement('canvas');
cells.width = cells.height = BLUR_CELLS;

/**
 * The box with a margin, reduced to a few cells of colour: a Gaussian blur can be undone in part.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {number[]} box in canvas pixels, before the mirror
 */
function blur(context, [x1, y1, x2, y2]) {
  const { canvas } = context;
  const dx = BLUR_MARGIN * (x2 - x1);
  const dy = BLUR_MARGIN * (y2 - y1);
  const left = Math.max(Math.floor(x1 - dx), 0);
  const top = Math.max(Math.floor(y1 - dy), 0);
  const width = Math.min(Math.ceil(x2 + dx), canvas.width) - left;
  const height = Math.min(Math.ceil(y2 + dy), canvas.height) - top;
  if (width < 1 || height < 1) return; // a box clipped to nothing
  const small = /** @type {CanvasRenderingContext2D} */ (cells.getContext('2d'));
  const mirrored = context.getTransform().a < 0;
  small.imageSmoothingQuality = 'high';
  small.drawImage(
    canvas,
    mirrored ? canvas.width - left - width : left,
    top,
    width,
    height,
    0,
    0,
    BLUR_CELLS,
    BLUR_CELLS,
  );
  context.save();
  context.resetTransform();
  context.imageSmoothingEnabled = false;
  context.drawImage(cells, mirrored ? canvas.width - left - width : left, top, width, height);
  context.restore();
}
