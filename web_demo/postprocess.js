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
 */

/**
 * Back to image pixels, clip, suppress.
 *
 * @param {import('./decode.js').Candidates} candidates in input pixels
 * @param {import('./spec.js').ModelSpec} spec limits
 * @param {{width: number, height: number}} image size in pixels
 * @param {number} scale input pixels per image pixel
 * @param {number} iouThreshold 0-1
 * @returns {Face[]} by score descending. NMS orders by logit: as by score, without the ties that sigmoid makes.
 */
export function selectFaces(candidates, spec, image, scale, iouThreshold) {
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
  }));
}

/**
 * The JSON of `python -m tflite.detect --json`: an object, picture → list of faces, a face per line.
 *
 * @param {Iterable<[string, Face[]]>} results
 * @returns {string}
 */
export function facesJson(results) {
  const entries = Array.from(results, ([name, faces]) => {
    const lines = faces.map(({ box, score, landmarks }) => {
      const face = {
        box: box.map((v) => round(v, 1e3)),
        score: round(score, 1e6),
        landmarks: landmarks.map((point) => point.map((v) => round(v, 1e3))),
      };
      return `\n ${JSON.stringify(face)}`;
    });
    return `${JSON.stringify(name)}: [${lines.join(',')}]`;
  });
  return `{${entries.join(',\n')}}\n`;
}

/** @param {number} value @param {number} steps per unit */
const round = (value, steps) => Math.round(value * steps) / steps;
