/** What the tests share: paths, browsers, and a figure printed for every check. */

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

export const ROOT = new URL('../../', import.meta.url);
export const DEMO = new URL('web_demo/', ROOT);
export const EXPECTED = 'build/web_test'; // where tests/web/expected.py wrote, from the repository's root
export const SCREENSHOTS = fileURLToPath(new URL(`${EXPECTED}/screenshots/`, ROOT));

const { chromium, firefox } = createRequire(new URL('package.json', DEMO))('playwright-core');

/** Debian's own browsers. Firefox as released speaks WebDriver BiDi, not the protocol of Playwright's own build. */
const BROWSERS = {
  chromium: {
    type: chromium,
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  },
  firefox: {
    type: firefox,
    executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr',
    channel: 'moz-firefox',
  },
};

/**
 * @param {'chromium' | 'firefox'} name
 * @returns {false | string} why its tests are skipped; in CI they never are
 */
export function missing(name) {
  const { executablePath } = BROWSERS[name];
  if (existsSync(executablePath) || process.env.CI) return false;
  return `${executablePath} is not here: apt-get install chromium firefox-esr`;
}

/** @param {'chromium' | 'firefox'} name @param {object} [options] of Playwright's launch */
export function launch(name, { args = [], ...options } = {}) {
  const { type, ...where } = BROWSERS[name];
  const root = name === 'chromium' && process.getuid?.() === 0 ? ['--no-sandbox'] : []; // as in CI
  return type.launch({ ...where, args: [...root, ...args], ...options });
}

/** @param {string} path from the repository's root @returns {Promise<ArrayBuffer>} */
export async function file(path) {
  const data = await readFile(new URL(path, ROOT));
  return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
}

/** @param {string} path from the repository's root */
export const json = async (path) => JSON.parse(await readFile(new URL(path, ROOT), 'utf8'));

/** @param {string} what @param {unknown} figure */
export const report = (what, figure) =>
  console.log(`${what}: ${typeof figure === 'string' ? figure : JSON.stringify(figure)}`);

/** @param {number[]} values */
export const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

/** @param {number[]} a @param {number[]} b x1 y1 x2 y2 */
export function iou(a, b) {
  const side = (axis) => Math.max(0, Math.min(a[axis + 2], b[axis + 2]) - Math.max(a[axis], b[axis]));
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  const inter = side(0) * side(1);
  return inter / (area(a) + area(b) - inter);
}

/** @returns {Map<string, number>} nanoseconds on a CPU so far of each thread of the processes that this one started */
export function threadTimes() {
  const parents = new Map();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const status = readFileSync(`/proc/${pid}/stat`, 'utf8');
      parents.set(pid, status.slice(status.lastIndexOf(')') + 2).split(' ')[1]);
    } catch {
      // ended meanwhile
    }
  }
  const ours = (/** @type {string | undefined} */ pid) =>
    pid !== undefined && (pid === String(process.pid) || ours(parents.get(pid)));
  const times = new Map();
  for (const pid of [...parents.keys()].filter((pid) => pid !== String(process.pid) && ours(pid))) {
    try {
      for (const thread of readdirSync(`/proc/${pid}/task`)) {
        times.set(thread, Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]));
      }
    } catch {
      // ended meanwhile
    }
  }
  return times;
}
