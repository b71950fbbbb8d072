/**
 * Change one thing in the JavaScript decode, NMS, letterbox or table at a time: the parity checks must notice each.
 *
 *     python -m tests.web.expected build/web_test
 *     node tests/web/mutation.mjs
 *
 * Prints a line per mutant with what killed it; exits with 1 if one survives.
 */

import { cp, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { DEMO, EXPECTED, file } from './lib.mjs';
import { all, load } from './parity.js';

/** File, what occurs there exactly once, and what stands there instead. */
const MUTANTS = [
  ['decode.js', 'Math.log(1000 / 16)', 'Math.log(1000 / 15)'],
  ['decode.js', '(value - info.zeroPoint) * fround', 'value * fround'],
  ['decode.js', '!(dequantize(least, info) >= wanted)', '!(dequantize(least, info) > wanted)'],
  ['decode.js', 'if (values[row] >= least)', 'if (values[row] > least)'],
  ['decode.js', 'probability / (1 - probability)', 'probability / (1.001 - probability)'],
  ['decode.js', 'fround(Math.exp(exponent))) * 0.5)', 'fround(Math.exp(exponent))) * 0.4999)'],
  ['decode.js', 'fround(growth * sizeVariance)', 'fround(growth * centreVariance)'],
  ['decode.js', 'this.anchors[anchor * 3 + axis] +', 'this.anchors[anchor * 3] +'],
  ['decode.js', 'this.anchors[anchor * 3 + (i % 2)] +', 'this.anchors[anchor * 3 + (i < 5 ? 0 : 1)] +'],
  ['decode.js', 'fround(fround(shift * variance) * size)', 'fround(shift * variance) * size * 1.0001'],
  ['decode.js', 'const anchor = level.first + candidate.row', 'const anchor = candidate.row'],
  ['decode.js', '.sort((a, b) => a - b).map((i) => found[i])', '.map((i) => found[i])'],
  ['decode.js', 'if (!box.every(Number.isFinite) || ', 'if ('],
  ['decode.js', '(value >= 0 ? 1 : exponential)', '1'],
  ['anchors.js', '(column + 0.5) * stride', 'column * stride'],
  ['anchors.js', '(row + 0.5) * stride', '(row + 0.49) * stride'],
  ['nms.js', '> threshold);', '>= threshold);'],
  ['nms.js', 'fround(iouThreshold)', 'fround(iouThreshold) + 0.01'],
  ['nms.js', 'fround(areas[k] + area) - inter', 'fround(areas[k] + area)'],
  ['nms.js', '|| a - b', '|| b - a'],
  ['nms.js', 'fround(high - low) + pixelOffset', 'fround(high - low)'],
  ['nms.js', '.slice(0, maxCandidates)', ''],
  ['nms.js', 'if (kept.length === maxFaces) break;', ''],
  ['nms.js', 'Math.max(width, 0) * Math.max(height, 0)', 'width * height'],
  ['mesh.js', '2 * (w * z - x * y)', '2 * (x * y - w * z)'],
  ['mesh.js', '2 * (x * z - w * y)', '2 * (x * z + w * y)'],
  ['mesh.js', 'pitch: -DEGREES', 'pitch: DEGREES'],
  ['mesh.js', 'Math.sqrt(fround(fround(x2 - x1) * fround(y2 - y1)))', 'fround(x2 - x1) * fround(y2 - y1)'],
  ['mesh.js', 'Number.isNaN(value) ? 0 : Math.min(Math.max(value, -LARGEST_C', 'Math.min(Math.max(value, -LARGEST_C'],
  ['mesh.js', 'const LARGEST_COEFFICIENT = 1e3;', 'const LARGEST_COEFFICIENT = 1e4;'],
  ['mesh.js', 'values[(anchor - first) * count + k]', 'values[anchor * count + k]'],
  ['mesh.js', '(1024 + fraction)', '(1023 + fraction)'],
  ['mesh.js', 'matrix[i][i] > matrix[best][best]', 'matrix[i][i] < matrix[best][best]'],
  ['mesh.js', 'value - middle[i % 3]', 'value'],
  ['mesh.js', '[sinYaw, -sinPitch * cosYaw]', '[sinYaw, sinPitch * cosYaw]'],
  [
    'postprocess.js',
    'candidates.boxes.subarray(k * 4, k * 4 + 4)',
    'boxes.subarray(k * 4, k * 4 + 4).map((v) => v * factor)',
  ],
  ['postprocess.js', 'limits[i % 2])', 'limits[0])'],
  ['postprocess.js', '(v) => fround(v / factor)', '(v) => fround(v)'],
  [
    'letterbox.js',
    'Math.min(height / imageHeight, width / imageWidth)',
    'Math.max(height / imageHeight, width / imageWidth)',
  ],
  ['letterbox.js', 'Math.floor(imageWidth * scale + 0.5)', 'Math.floor(imageWidth * scale)'],
  ['letterbox.js', 'Math.fround((i + 0.5) * step - 0.5)', 'Math.fround(i * step)'],
  ['letterbox.js', 'const ONE = 2048;', 'const ONE = 2000;'],
  ['letterbox.js', 'Math.min(Math.max(index + 1, 0), last)', 'Math.min(Math.max(index, 0), last)'],
  ['letterbox.js', 'if (second !== lowerRow) this', 'if (lowerRow < 0) this'],
  ['letterbox.js', 'return down + (down % 2);', 'return down + 1;'],
  ['letterbox.js', '(sum + 2) >> 2;\n', 'sum >> 2;\n'],
  ['letterbox.js', 'source[at + stride + 4] + 2) >> 2', 'source[at + stride + 4]) >> 2'],
  ['letterbox.js', 'this.out[i] = fill[i % 3];', 'this.out[i] = fill[0];'],
  ['letterbox.js', 'const BGR = [2, 1, 0];', 'const BGR = [0, 1, 2];'],
  ['letterbox.js', 'while (antialias && ', 'while ('],
  ['letterbox.js', 'value / input.scale + 0.5', 'value / input.scale + 0.4'],
  ['shapes.js', '[3, 5]', '[2, 5]'],
  ['shapes.js', '[3, 4]', '[7, 8]'],
  ['shapes.js', '[7, 10]', '[8, 11]'],
  ['shapes.js', '(left ? MULTIPLE : 0)', 'MULTIPLE'],
  ['shapes.js', '>= numerator', '> numerator'],
  ['shapes.js', 'height * imageWidth <= width * imageHeight', 'imageWidth <= imageHeight'],
];

/** @param {URL} folder of modules @returns {Promise<string | null>} what the checks say, null if nothing */
async function complaint(folder) {
  try {
    await all(await load(folder), file, EXPECTED);
    return null;
  } catch (error) {
    return /** @type {Error} */ (error).message;
  }
}

const sources = (await readdir(DEMO)).filter((name) => name.endsWith('.js'));
const work = await mkdtemp(join(tmpdir(), 'mutants-'));
let alive = 0;
try {
  const unchanged = await complaint(DEMO);
  if (unchanged) throw new Error(`the modules as they are fail already: ${unchanged}`);
  for (const [i, [name, old, now]] of MUTANTS.entries()) {
    const folder = join(work, String(i)); // a folder each: a module is loaded once per address
    for (const source of sources) await cp(new URL(source, DEMO), join(folder, source));
    await writeFile(join(folder, 'package.json'), '{"type": "module"}');
    const text = await readFile(join(folder, name), 'utf8');
    const count = text.split(old).length - 1;
    if (count !== 1) throw new Error(`${name}: ${JSON.stringify(old)} occurs ${count} times, expected once`);
    await writeFile(
      join(folder, name),
      text.replace(old, () => now),
    );
    const found = await complaint(pathToFileURL(`${folder}/`));
    if (!found) alive++;
    const change = `${name}: ${old.trim()} → ${now.trim() || 'nothing'}`;
    console.log(found ? `killed   ${change} (${found.slice(0, 80)})` : `SURVIVES ${change}`);
  }
} finally {
  await rm(work, { recursive: true });
}
console.log(`${MUTANTS.length - alive} of ${MUTANTS.length} mutants killed`);
process.exitCode = alive ? 1 : 0;
