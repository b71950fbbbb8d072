/** From candidates to faces in image pixels. Twin of tflite/postprocess.py. */

import { sigmoid } from './decode.js';
import { nms } from './nms.js';

const { fround } = Math;

/**
 * @typedef {object} Face
 * @property {number[]} box x1, y1, x2, y2 in image pixels, clipped to the image
 * @property {number} score probability, 0-1
 * @property {number[][]} landmarks [x, y] in image pixels, not clipped: left eye, right eye, nose, left and right mouth
 *   corner, left being the left of the picture
 * @property {number} anchor index of the anchor it comes from
 * @property {Float32Array} [mesh] of a model that has one: [468, 3], see `Mesh` in mesh.js
 * @property {import('./mesh.js').Pose} [pose] likewise
 */

/**
 * @callback MeshOf
 * @param {number} anchor index into the anchor table
 * @param {Float32Array} box x1 y1 x2 y2 in input pixels, not clipped
 * @returns {import('./mesh.js').Mesh} in image pixels
 */

/**
 * Back to image pixels, clip, suppress.
 *
 * @param {import('./decode.js').Candidates} candidates in input pixels
 * @param {import('./spec.js').ModelSpec} spec limits
 * @param {{width: number, height: number}} image size in pixels
 * @param {number} scale input pixels per image pixel
 * @param {number} iouThreshold 0-1
 * @param {MeshOf} [meshOf] of a model with a mesh, asked for the faces that are left
 * @returns {Face[]} by score descending. NMS orders by logit: as by score, without the ties that sigmoid makes.
 */
export function selectFaces(candidates, spec, image, scale, iouThreshold, meshOf) {
  const factor = fround(scale);
  const limits = [image.width, image.height];
  const boxes = candidates.boxes.map((value, i) => Math.min(Math.max(fround(value / factor), 0), limits[i % 2]));
  const kept = nms(boxes, candidates.logits, iouThreshold, spec);
  return kept.map((k) => ({
    box: Array.from(boxes.subarray(k * 4, k * 4 + 4)),
    score: sigmoid(candidates.logits[k]),
    landmarks: Array.from({ length: 5 }, (_, point) =>
      Array.from(candidates.landmarks.subarray(k * 10 + point * 2, k * 10 + point * 2 + 2), (v) => fround(v / factor)),
    ),
    anchor: candidates.anchors[k],
    ...meshOf?.(candidates.anchors[k], candidates.boxes.subarray(k * 4, k * 4 + 4)),
  }));
}

/**
 * The JSON of `python -m tflite.detect --json`: an object, picture → list of faces, a face per line.
 *
 * @param {Iterable<[string, Face[]]>} results
 * @param {object} [options]
 * @param {boolean} [options.mesh] with the meshes, [[x, y, z]×468], of faces that have one
 * @param {boolean} [options.pose] with the poses, {yaw, pitch, roll}, likewise
 * @returns {string}
 */
export function facesJson(results, { mesh: withMesh = false, pose: withPose = false } = {}) {
  const entries = Array.from(results, ([name, faces]) => {
    const lines = faces.map(({ box, score, landmarks, mesh, pose }) => {
      /** @type {Record<string, unknown>} */
      const face = {
        box: box.map((v) => round(v, 1e3)),
        score: round(score, 1e6),
        landmarks: landmarks.map((point) => point.map((v) => round(v, 1e3))),
      };
      if (withPose && pose) {
        face.pose = { yaw: round(pose.yaw, 100), pitch: round(pose.pitch, 100), roll: round(pose.roll, 100) };
      }
      if (withMesh && mesh) {
        face.mesh = Array.from({ length: mesh.length / 3 }, (_, i) =>
          Array.from(mesh.subarray(3 * i, 3 * i + 3), (v) => round(v, 100)),
        );
      }
      return `\n ${JSON.stringify(face)}`;
    });
    return `${JSON.stringify(name)}: [${lines.join(',')}]`;
  });
  return `{${entries.join(',\n')}}\n`;
}

/** @param {number} value @param {number} steps per unit */
const round = (value, steps) => Math.round(value * steps) / steps;
