/** The page in Chromium: a camera that shows a film, a phone, the dark; its memory, its time, its weight. */

import assert from 'node:assert/strict';
import { mkdir, readFile, stat } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

import { serve } from '../../web_demo/serve.mjs';
import { DEMO, EXPECTED, ROOT, SCREENSHOTS, iou, json, launch, median, missing, report } from './lib.mjs';

const PHOTO = fileURLToPath(new URL('example.jpg', DEMO));
const FILM = fileURLToPath(new URL(`${EXPECTED}/camera.y4m`, ROOT));
const FRAMES = 60;
const RUNS = 400;
const PARTS = 4; // of the runs, with memory measured after each
const PACKED = 3.5e6; // bytes without the model
const SECONDS = 2;

const camera = await json(`${EXPECTED}/camera.json`);
const { config } = await json('web_demo/package.json');

const ready = (page) =>
  page.waitForFunction(() => /is ready/.test(document.getElementById('status')?.textContent ?? ''));
const shoot = (page, name) => page.screenshot({ path: `${SCREENSHOTS}${name}.png`, fullPage: true });

/** Gather frames: the number in the picture's squares, its faces, and where the canvas shows the box. */
function gather(page, count) {
  return page.evaluate(
    ([wanted, square, bits]) =>
      new Promise((resolve, reject) => {
        setTimeout(() => reject(new Error(`${frames.length} of ${wanted} frames in ten minutes`)), 600_000);
        const frames = [];
        const canvas = new OffscreenCanvas(bits * square, square);
        const context = canvas.getContext('2d', { willReadFrequently: true });
        const shown = /** @type {HTMLCanvasElement} */ (document.getElementById('picture'));
        document.addEventListener('faces', function listen({ detail: { bitmap, faces, memoryBytes } }) {
          context.drawImage(bitmap, 0, square - bitmap.height);
          const { data } = context.getImageData(0, square >> 1, bits * square, 1);
          const read = Array.from({ length: bits }, (_, i) => (data[4 * (i * square + (square >> 1))] > 128 ? 1 : 0));
          const parity = read.pop();
          // The box's left edge, mirrored: is it green there?
          let green = false;
          if (faces.length === 1) {
            const [x1, y1, , y2] = faces[0].box;
            const zoom = shown.width / bitmap.width;
            const at = [Math.round(shown.width - x1 * zoom) - 2, Math.round(((y1 + y2) / 2) * zoom)];
            const { data: pixels } = shown.getContext('2d').getImageData(...at, 5, 1);
            for (let i = 0; i < pixels.length; i += 4)
              green ||= pixels[i] < 60 && pixels[i + 1] > 180 && pixels[i + 2] < 60;
          }
          frames.push({
            number: read.reduce((sum, bit, i) => sum + (bit << i), 0),
            whole: read.reduce((sum, bit) => sum + bit, 0) % 2 === parity,
            boxes: faces.map((face) => face.box),
            size: [bitmap.width, bitmap.height],
            green,
            memoryBytes,
          });
          if (frames.length < wanted) return;
          document.removeEventListener('faces', listen);
          resolve(frames);
        });
      }),
    [count, camera.square, camera.bits],
  );
}

describe('camera, memory, weight', { skip: missing('chromium') }, () => {
  let served, browser;

  before(async () => {
    await mkdir(SCREENSHOTS, { recursive: true });
    served = await serve(new URL('dist/', DEMO), 0);
    browser = await launch('chromium', {
      args: [
        '--use-fake-device-for-media-stream',
        `--use-file-for-fake-video-capture=${FILM}`,
        '--enable-precise-memory-info',
      ],
    });
  });
  after(async () => {
    await browser?.close();
    served?.server.close();
  });

  test(`a face that moves: found in at least 57 of ${FRAMES} frames, and the box follows; memory stays`, async () => {
    const context = await browser.newContext({
      viewport: { width: 1280, height: 900 },
      permissions: ['camera'],
    });
    const page = await context.newPage();
    await page.addInitScript(() => {
      // Chromium's film is one camera; the page believes in two.
      const list = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
      navigator.mediaDevices.enumerateDevices = async () => [...(await list()), ...(await list())];
    });
    await page.goto(served.address);
    await ready(page);
    const frames = gather(page, FRAMES);
    await page.click('#camera');
    const seen = await frames;
    assert.ok(await page.locator('#stop').isVisible());
    await page.waitForFunction(() => document.getElementById('times').innerText.includes('pictures per second'));
    await shoot(page, 'camera');

    let right = 0;
    let mirrored = 0;
    let farthest = 0;
    let overlapping = 1;
    for (const { number, whole, boxes, size, green } of seen) {
      assert.deepEqual(size, [640, 480]);
      const [wanted] = camera.frames[number] ?? [];
      if (!whole || !wanted || boxes.length !== 1) continue;
      const overlap = iou(boxes[0], wanted.box);
      if (overlap < 0.5) continue;
      right++;
      mirrored += green ? 1 : 0;
      overlapping = Math.min(overlapping, overlap);
      const centre = (box, axis) => (box[axis] + box[axis + 2]) / 2;
      farthest = Math.max(
        farthest,
        ...[0, 1].map((axis) => Math.abs(centre(boxes[0], axis) - centre(wanted.box, axis))),
      );
    }
    const numbers = new Set(seen.map(({ number }) => number));
    report(
      'camera',
      `${right} of ${FRAMES} frames right, ${numbers.size} different ones, least IoU ${overlapping.toFixed(3)}, ` +
        `centres at most ${farthest.toFixed(1)} px from Python's, box drawn mirrored in ${mirrored}`,
    );
    assert.ok(right >= 57);
    assert.ok(numbers.size >= 10, 'the film moves');
    assert.ok(mirrored >= 57);

    // Memory, over the whole way of a frame: camera, worker, canvas. With the fastest model, to have done soon.
    const models = await json('web_demo/dist/models.json');
    const [fastest] = models.sort((a, b) => a.height * a.width - b.height * b.width || b.bytes - a.bytes);
    await page.selectOption('#model', `models/${fastest.file}`);
    await page.waitForFunction(() => !document.getElementById('model').disabled);
    const session = await context.newCDPSession(page);
    const megabytes = async () => {
      await session.send('HeapProfiler.collectGarbage');
      const { processInfo } = await (await browser.newBrowserCDPSession()).send('SystemInfo.getProcessInfo');
      const renderers = processInfo.filter(({ type }) => type === 'renderer');
      const resident = await Promise.all(
        renderers.map(async ({ id }) =>
          Number(/RssAnon:\s+(\d+)/.exec(await readFile(`/proc/${id}/status`, 'utf8'))?.[1]),
        ),
      );
      const heap = await page.evaluate(() => /** @type {any} */ (performance).memory.usedJSHeapSize / 1e6);
      return { heap, resident: Math.max(...resident) / 1e3 };
    };
    const samples = [];
    for (let part = 0; part <= PARTS; part++) {
      const [last] = (await gather(page, RUNS / PARTS)).slice(-1);
      samples.push({ wasm: last.memoryBytes / 1e6, ...(await megabytes()) });
    }
    const first = samples[0];
    const last = samples[PARTS];
    // When a worker's garbage is collected is its own affair: of two samples the smaller one.
    const least = (from) => Math.min(samples[from].resident, samples[from + 1].resident);
    const grown = { heap: last.heap - first.heap, resident: least(PARTS - 1) - least(0) };
    report(
      `memory over ${RUNS} runs`,
      `WebAssembly ${first.wasm.toFixed(1)} MB before, ${last.wasm.toFixed(1)} MB after; ` +
        `page's heap ${first.heap.toFixed(1)} MB, ${grown.heap.toFixed(2)} more; ` +
        `resident ${least(0).toFixed(0)} MB, ${grown.resident.toFixed(1)} more`,
    );
    assert.equal(last.wasm, first.wasm);
    assert.ok(grown.heap < 2 && grown.resident < 40); // a picture kept of each run would be 490

    await page.click('#turn');
    const turned = await gather(page, 5);
    report('the other camera', `${turned.length} frames of ${turned[0].size.join('×')}`);

    await page.click('#pause');
    await page.waitForFunction(() => document.getElementById('pause').textContent === 'Play');
    await page.click('#stop');
    assert.equal(await page.locator('#live').isVisible(), false);
    await context.close();
  });

  test('on a phone, and in the dark: all in sight, buttons large enough, contrast', async () => {
    for (const [name, options] of /** @type {const} */ ([
      [
        'phone',
        {
          viewport: { width: 390, height: 844 },
          deviceScaleFactor: 2,
          hasTouch: true,
          isMobile: true,
        },
      ],
      ['dark', { viewport: { width: 1280, height: 860 }, colorScheme: 'dark' }],
    ])) {
      const context = await browser.newContext(options);
      const page = await context.newPage();
      await page.goto(served.address);
      await ready(page);
      await page.setInputFiles('#files', PHOTO);
      await page.waitForFunction(() => /1 face/.test(document.getElementById('status')?.textContent ?? ''));
      await shoot(page, name);
      const figures = await page.evaluate(() => {
        const luminance = (colour) => {
          const [r, g, b] = colour.match(/\d+(\.\d+)?/g).map((v) => Number(v) / 255);
          const linear = [r, g, b].map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
          return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
        };
        const ground = (node) => {
          for (let at = node; at; at = at.parentElement) {
            const { backgroundColor } = getComputedStyle(at);
            if (!/, 0\)$|transparent/.test(backgroundColor)) return backgroundColor;
          }
          return 'rgb(255, 255, 255)';
        };
        const visible = [...document.querySelectorAll('body *')].filter(
          (node) => node.checkVisibility() && !node.disabled,
        );
        const texts = visible.filter((node) =>
          [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()),
        );
        const contrasts = texts.map((node) => {
          const [a, b] = [luminance(getComputedStyle(node).color), luminance(ground(node))].sort((x, y) => y - x);
          return (a + 0.05) / (b + 0.05);
        });
        const buttons = visible
          .filter((node) => node.matches('button, select'))
          .map((node) => node.getBoundingClientRect().height);
        const unnamed = visible.filter(
          (node) =>
            node.matches('button, select, input') &&
            !(node.textContent.trim() || node.labels?.length || node.getAttribute('aria-label')),
        );
        return {
          wider: document.documentElement.scrollWidth - innerWidth,
          contrast: Math.min(...contrasts),
          button: Math.min(...buttons),
          unnamed: unnamed.length,
        };
      });
      report(name, figures);
      assert.ok(figures.wider <= 0);
      assert.ok(figures.contrast >= 4.5);
      assert.ok(figures.button >= 44);
      assert.equal(figures.unnamed, 0);
      await context.close();
    }
  });

  test(`first faces within ${SECONDS} s of the load, from at most ${PACKED / 1e6} MB and the model`, async () => {
    const times = [];
    let sent = 0;
    for (let visit = 0; visit < 3; visit++) {
      const before = served.sent();
      const context = await browser.newContext(); // nothing is kept from one to the next
      const page = await context.newPage();
      await page.addInitScript(() => {
        addEventListener('DOMContentLoaded', () => {
          document.addEventListener('faces', () => {
            globalThis.firstFaces ??= performance.now();
          });
        });
      });
      await page.goto(served.address);
      await page.click('#example'); // the model is still on its way
      await page.waitForFunction(() => /works without a network/.test(document.getElementById('offline').textContent));
      await page.waitForFunction(() => globalThis.firstFaces);
      times.push((await page.evaluate(() => globalThis.firstFaces)) / 1000);
      sent = Math.max(sent, served.sent() - before);
      await context.close();
    }
    const model = gzipSync(await readFile(new URL(`dist/models/${config.model}`, DEMO))).length;
    const { size: example } = await stat(PHOTO);
    report('first faces after', `${times.map((time) => time.toFixed(2)).join(', ')} s`);
    report(
      'transferred',
      `${((sent - model - example) / 1e6).toFixed(2)} MB and the model's ${(model / 1e6).toFixed(2)} MB`,
    );
    assert.ok(sent - model - example <= PACKED);
    // The limit is for a machine without other work, as in CI.
    const busy = process.env.CI ? 1 : Math.max(1, loadavg()[0] / cpus().length);
    assert.ok(median(times) <= SECONDS * busy);
  });
});
