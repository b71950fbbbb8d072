/** Greedy non-maximum suppression. Twin of tflite/nms.py: float32 (`Math.fround`) in the same order. */

const { fround } = Math;

/**
 * @param {ArrayLike<number>} scores none is NaN
 * @returns {number[]} their positions by score descending, equal scores by position ascending
 */
export function orderByScore(scores) {
  return Array.from(scores, (_, i) => i).sort((a, b) => scores[b] - scores[a] || a - b);
}

/**
 * Keep a box unless its IoU with a better kept one is greater than the threshold.
 *
 * @param {Float32Array} boxes [N, 4], x1 y1 x2 y2, finite
 * @param {ArrayLike<number>} scores [N], any increasing measure of confidence
 * @param {number} iouThreshold 0-1
 * @param {object} [limits]
 * @param {number} [limits.pixelOffset] 0 for continuous coordinates; 1 counts a box from pixel a to pixel b as
 *   b − a + 1 wide
 * @param {number} [limits.maxCandidates] of more boxes only so many of the highest score take part
 * @param {number} [limits.maxFaces] at most so many indices are returned
 * @returns {number[]} indices into the boxes, by score descending, equal scores by index ascending; two empty boxes
 *   do not overlap
 * @throws {RangeError} a threshold outside 0-1
 */
export function nms(boxes, scores, iouThreshold, { pixelOffset = 0, maxCandidates = 5000, maxFaces = 750 } = {}) {
  if (!(iouThreshold >= 0 && iouThreshold <= 1)) throw new RangeError(`IoU threshold is ${iouThreshold}, expected 0-1`);
  const threshold = fround(iouThreshold);
  /** @param {number} low @param {number} high */
  const side = (low, high) => fround(fround(high - low) + pixelOffset);
  const order = orderByScore(scores).slice(0, maxCandidates);
  /** @type {number[]} */
  const kept = [];
  /** @type {number[]} */
  const areas = [];
  for (const index of order) {
    if (kept.length === maxFaces) break;
    const [x1, y1, x2, y2] = boxes.subarray(index * 4, index * 4 + 4);
    const area = fround(side(x1, x2) * side(y1, y2));
    const free = kept.every((other, k) => {
      const at = other * 4;
      const width = side(Math.max(x1, boxes[at]), Math.min(x2, boxes[at + 2]));
      const height = side(Math.max(y1, boxes[at + 1]), Math.min(y2, boxes[at + 3]));
      const inter = fround(Math.max(width, 0) * Math.max(height, 0));
      return !(fround(inter / fround(fround(areas[k] + area) - inter)) > threshold); // 0/0 of two empty boxes is NaN
    });
    if (free) {
      kept.push(index);
      areas.push(area);
    }
  }
  return kept;
}
