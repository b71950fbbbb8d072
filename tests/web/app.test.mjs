/** The page itself, as a visitor uses it. */

import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { serve } from '../../web_demo/serve.mjs';
import { DEMO, EXPECTED, ROOT, SCREENSHOTS, iou, json, launch, missing, report } from './lib.mjs';

const PHOTO = fileURLToPath(new URL('example.jpg', DEMO));
const FILM = fileURLToPath(new URL(`${EXPECTED}/camera.webm`, ROOT));
const pictures = await json(`${EXPECTED}/pictures.json`);
const { config } = await json('web_demo/package.json');
const [portrait] = pictures[9].models[config.model].faces;
const picture = (/** @type {number} */ i) => fileURLToPath(new URL(`${EXPECTED}/${pictures[i].file}`, ROOT));

// A camera that may not be used, and none that could be. Chromium asks for permission only where there is a camera.
const REFUSING = {
  chromium: { args: ['--use-fake-device-for-media-stream'] },
  firefox: {
    firefoxUserPrefs: {
      'media.navigator.streams.fake': true,
      'permissions.default.camera': 2,
    },
  },
};
const ALLOWING = {
  chromium: {},
  firefox: { firefoxUserPrefs: { 'permissions.default.camera': 1 } },
};

/** The next result, or the next that fits. Start it before what causes it. */
const nextFaces = (page, fits = () => true) =>
  page.evaluate(
    (source) =>
      new Promise((resolve, reject) => {
        setTimeout(() => reject(new Error('no faces for a minute')), 60_000);
        const test = new Function(`return ${source}`)();
        document.addEventListener(
          'faces',
          function listen({ detail: { faces, name, total, milliseconds, memoryBytes } }) {
            if (!test(name)) return;
            document.removeEventListener('faces', listen);
            resolve({
              faces: faces.map((face) => ({ ...face, mesh: face.mesh?.length })),
              name,
              total,
              milliseconds,
              memoryBytes,
              now: performance.now(),
            });
          },
        );
      }),
    fits.toString(),
  );

/** A page whose requests and errors are watched. */
async function visit(browser, address, options = {}) {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 860 },
    ...options,
  });
  const page = await context.newPage();
  const requests = [];
  const errors = [];
  context.on('request', (request) => requests.push(request.url()));
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (line) => {
    if (line.type() === 'error') errors.push(line.text());
  });
  await page.goto(address);
  return { context, page, requests, errors };
}

const ready = (page) =>
  page.waitForFunction(() => /is ready/.test(document.getElementById('status')?.textContent ?? ''));
/** All photos have been looked at: no face was found for a while. */
const settled = (page) =>
  page.evaluate(
    (quiet) =>
      new Promise((resolve) => {
        let timer = setTimeout(resolve, quiet);
        document.addEventListener('faces', () => {
          clearTimeout(timer);
          timer = setTimeout(resolve, quiet);
        });
      }),
    1500,
  );
const shoot = (page, name) => page.screenshot({ path: `${SCREENSHOTS}${name}.png`, fullPage: true });

for (const name of /** @type {const} */ (['chromium', 'firefox'])) {
  describe(`page in ${name}`, { skip: missing(name) }, () => {
    let served, browser;

    before(async () => {
      await mkdir(SCREENSHOTS, { recursive: true });
      served = await serve(new URL('dist/', DEMO), 0);
      browser = await launch(name);
    });
    after(async () => {
      await browser?.close();
      served?.server.close();
    });

    test('a photo: its face, its figures, its JSON; nothing goes to another place', async () => {
      const { context, page, requests, errors } = await visit(browser, served.address);
      await ready(page);
      const [result] = await Promise.all([nextFaces(page), page.setInputFiles('#files', PHOTO)]);
      assert.equal(result.faces.length, 1);
      assert.ok(iou(result.faces[0].box, portrait.box) > 0.99);
      await page.waitForFunction(() => document.getElementById('status')?.textContent === '1 face in example.jpg.');
      assert.deepEqual(Object.keys(result.milliseconds), ['read', 'letterbox', 'table', 'invoke', 'decode', 'nms']);
      assert.equal(await page.locator('#faces tbody tr').count(), 1);
      assert.equal(await page.locator('#picture').getAttribute('aria-label'), 'Picture: 1 face in example.jpg.');

      if (name === 'chromium') {
        await checkDownloads(page);
        await shoot(page, 'photo');
      }
      const origins = [...new Set(requests.filter((url) => /^https?:/.test(url)).map((url) => new URL(url).origin))];
      report(`${name}, requests`, `${requests.length} to ${origins.join(', ')}`);
      assert.deepEqual(origins, [new URL(served.address).origin]);
      assert.deepEqual(errors, []);
      await context.close();
    });

    test('errors in words: no model, no picture, no wasm', async () => {
      const { context, page } = await visit(browser, served.address);
      await ready(page);
      const alert = page.locator('#error:not([hidden])');
      await page.setInputFiles('#own', {
        name: 'holiday.tflite',
        mimeType: 'text/plain',
        buffer: Buffer.from('no model'),
      });
      await alert.waitFor();
      assert.match(
        await alert.innerText(),
        /^holiday\.tflite: not a TFLite model \(8 bytes, no TFL3 identifier at byte 4\)$/,
      );
      if (name === 'chromium') await shoot(page, 'error');
      await page.setInputFiles('#files', {
        name: 'torn.jpg',
        mimeType: 'image/jpeg',
        buffer: Buffer.from('no picture'),
      });
      await page.waitForFunction(() => /torn/.test(document.getElementById('error')?.textContent ?? ''));
      assert.match(await alert.innerText(), /^torn\.jpg: cannot decode 10 bytes/);
      const [result] = await Promise.all([nextFaces(page), page.setInputFiles('#files', PHOTO)]);
      assert.equal(result.faces.length, 1, 'the model from before is still there');
      assert.equal(await alert.count(), 0, 'the error is gone');

      await page.addInitScript(() => delete globalThis.WebAssembly);
      await page.reload();
      await alert.waitFor();
      assert.match(await alert.innerText(), /^This browser has no WebAssembly/);
      await context.close();
    });

    test('several photos, another model, the threshold, blur', async () => {
      const { context, page, errors } = await visit(browser, served.address);
      await ready(page);
      const last = nextFaces(page, (file) => file === '19.png');
      await page.setInputFiles('#files', [picture(16), picture(19), PHOTO]);
      assert.equal((await last).faces.length, 0);
      await page.waitForFunction(() => document.getElementById('status')?.textContent === '2 faces in 16.png.');
      assert.equal(await page.locator('#strip button').count(), 3);
      assert.equal(await page.locator('#strip [aria-current] span').innerText(), '16.png: 2 faces');

      await page.locator('#strip button').nth(2).focus();
      const [third] = await Promise.all([nextFaces(page), page.keyboard.press('Enter')]);
      assert.equal(third.name, 'example.jpg');

      const small = (await json('web_demo/dist/models.json')).find(({ file }) => /mnet025_320/.test(file)).file;
      const again = nextFaces(page, (file) => file === 'example.jpg');
      await page.selectOption('#model', `models/${small}`);
      const wanted = pictures[9].models[small].faces[0];
      assert.ok(iou((await again).faces[0].box, wanted.box) > 0.99);
      await settled(page);

      await page.locator('#threshold').focus();
      const [none] = await Promise.all([nextFaces(page, (file) => file === '19.png'), page.keyboard.press('End')]);
      assert.equal(none.faces.length, 0);
      assert.equal(await page.locator('#threshold-shown').innerText(), '0.99');

      await settled(page);

      const clear = await colours(page);
      await page.check('#blur');
      await settled(page);
      const blurred = await colours(page);
      if (name === 'chromium') await shoot(page, 'blur');
      report(`${name}, colours in the middle of the face`, `${clear} as it is, ${blurred} blurred`);
      assert.ok(blurred < clear / 4);
      assert.deepEqual(errors, []);
      await context.close();
    });

    test('a model with a mesh: drawn and saved on request', async () => {
      const { context, page, errors } = await visit(browser, served.address);
      await ready(page);
      assert.equal(await page.locator('#dense').isVisible(), false);
      await page.setInputFiles('#own', fileURLToPath(new URL(`${EXPECTED}/tiny_mesh.tflite`, ROOT)));
      await page.locator('#dense').waitFor();
      const wanted = pictures[9].models['tiny_mesh.tflite'];
      const [result] = await Promise.all([nextFaces(page), page.setInputFiles('#files', picture(9))]);
      assert.equal(result.faces.length, wanted.faces.length);
      assert.equal(result.faces[0].mesh, 3 * 468);
      const shown = () => page.evaluate(() => document.getElementById('picture').toDataURL());
      const drawings = [await shown()];
      const [dense] = Object.values(await savedFaces(page))[0];
      assert.equal(dense.mesh.length, 468);
      dense.mesh.flat().forEach((value, i) => assert.ok(Math.abs(value - wanted.meshes[0][i]) < 0.006));
      assert.deepEqual(Object.keys(dense.pose), ['yaw', 'pitch', 'roll']);
      for (const id of ['mesh', 'pose']) {
        await page.uncheck(`#${id}`);
        drawings.push(await shown());
      }
      assert.equal(new Set(drawings).size, 3);
      assert.deepEqual(Object.keys(Object.values(await savedFaces(page))[0][0]), ['box', 'score', 'landmarks']);
      assert.deepEqual(errors, []);
      await context.close();
    });

    test('the camera refused, and no camera, in words', async () => {
      for (const [kind, options, message] of /** @type {const} */ ([
        ['refused', REFUSING[name], 'The camera was refused. Allow it in the browser’s site settings, then try again.'],
        ['none', ALLOWING[name], 'No camera was found.'],
      ])) {
        const other = await launch(name, options);
        const { context, page } = await visit(other, served.address);
        await ready(page);
        if (name === 'chromium' && kind === 'none') await context.grantPermissions(['camera']);
        await page.click('#camera');
        const alert = page.locator('#error:not([hidden])');
        await alert.waitFor();
        report(`${name}, camera ${kind}`, await alert.innerText());
        assert.equal(await alert.innerText(), message);
        assert.equal(await page.locator('#live').isVisible(), false);
        await other.close();
      }
    });

    test('a picture dropped, and one pasted', async () => {
      const { context, page } = await visit(browser, served.address);
      await ready(page);
      for (const kind of ['drop', 'paste']) {
        const there = nextFaces(page);
        await page.evaluate(async (type) => {
          const blob = await (await fetch('example.jpg')).blob();
          const data = new DataTransfer();
          data.items.add(new File([blob], `${type}.jpg`, { type: 'image/jpeg' }));
          const event = new Event(type, { bubbles: true, cancelable: true });
          Object.defineProperty(event, type === 'drop' ? 'dataTransfer' : 'clipboardData', { value: data });
          document.getElementById('stage').dispatchEvent(event);
        }, kind);
        const { name: file, faces } = await there;
        report(`${name}, ${kind}`, `${faces.length} face in ${file}`);
        assert.equal(file, `${kind}.jpg`);
        assert.equal(faces.length, 1);
      }
      await context.close();
    });

    test('a video: frames with their faces, pause, position', async () => {
      const { context, page, errors } = await visit(browser, served.address);
      await ready(page);
      await page.setInputFiles('#files', FILM);
      await page.waitForFunction(() => document.getElementById('pause').textContent === 'Play', null, {
        timeout: 60_000,
      });
      const film = await page.evaluate(() => {
        const video = /** @type {HTMLVideoElement} */ (document.getElementById('video'));
        return { seconds: video.duration, width: video.videoWidth };
      });
      const faces = Object.entries(await savedFaces(page));
      const { frames } = await json(`${EXPECTED}/camera.json`);
      const right = faces.filter(([key, found]) => {
        const [, seconds] = /^camera\.webm#t=(\d+\.\d{3})$/.exec(key);
        const wanted = frames[Math.round((Number(seconds) * frames.length) / film.seconds)];
        return found.length === 1 && wanted && iou(found[0].box, wanted[0].box) > 0.5;
      });
      report(`${name}, video`, `${faces.length} frames of ${film.seconds.toFixed(1)} s, ${right.length} right`);
      assert.ok(faces.length >= 5 && right.length >= 0.95 * faces.length);

      const there = nextFaces(page, (frame) => /#t=(0\.9|1\.[01])/.test(frame));
      await page.fill('#position', '1');
      report(`${name}, video, position 1 s`, (await there).name);
      const alert = page.locator('#error:not([hidden])');
      await page.setInputFiles('#files', {
        name: 'torn.webm',
        mimeType: 'video/webm',
        buffer: Buffer.from('no video'),
      });
      await alert.waitFor();
      assert.match(await alert.innerText(), /^torn\.webm: this browser cannot play it/);
      assert.deepEqual(
        errors.filter((text) => !/media|decode|source/i.test(text)),
        [],
      );
      await context.close();
    });

    test('without a network after the first visit', async () => {
      const own = await serve(new URL('dist/', DEMO), 0);
      const { context, page, errors } = await visit(browser, own.address);
      await page.waitForFunction(() =>
        /works without a network/.test(document.getElementById('offline')?.textContent ?? ''),
      );
      own.server.closeAllConnections();
      await new Promise((resolve) => own.server.close(resolve));
      await page.reload();
      await ready(page);
      const [result] = await Promise.all([nextFaces(page), page.setInputFiles('#files', PHOTO)]);
      assert.equal(result.faces.length, 1);
      report(`${name}, without a server`, `${result.faces.length} face`);
      assert.deepEqual(errors, []);
      await context.close();
    });
  });
}

/** What the button saves, also in Firefox, which reports no downloads to the tests. */
async function savedFaces(page) {
  const text = await page.evaluate(async () => {
    const make = URL.createObjectURL;
    const saved = new Promise((resolve) => {
      URL.createObjectURL = (blob) => {
        blob.text().then(resolve);
        return make(blob);
      };
    });
    document.getElementById('save-faces').click();
    URL.createObjectURL = make;
    return saved;
  });
  return JSON.parse(text);
}

/** What the two buttons save. Firefox reports no downloads to the tests. */
async function checkDownloads(page) {
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#save-faces')]);
  assert.equal(download.suggestedFilename(), 'example.json');
  const saved = JSON.parse(await readFile(await download.path(), 'utf8'));
  assert.deepEqual(Object.keys(saved), ['example.jpg']);
  assert.deepEqual(Object.keys(saved['example.jpg'][0]), ['box', 'score', 'landmarks']);
  const numbers = (face) => [...face.box, ...face.landmarks.flat()];
  const off = Math.max(...numbers(saved['example.jpg'][0]).map((value, i) => Math.abs(value - numbers(portrait)[i])));
  report('saved JSON', `${off.toFixed(4)} px from Python's`);
  assert.ok(off < 0.5);
  const [image] = await Promise.all([page.waitForEvent('download'), page.click('#save-picture')]);
  assert.equal(image.suggestedFilename(), 'example_faces.png');
}

/** How many colours there are in a square in the middle of the first face on the canvas. */
function colours(page) {
  return page.evaluate(([x1, y1, x2, y2]) => {
    const canvas = /** @type {HTMLCanvasElement} */ (document.getElementById('picture'));
    const side = 60;
    const at = [(x1 + x2 - side) / 2, (y1 + y2 - side) / 2];
    const { data } = canvas.getContext('2d').getImageData(at[0], at[1], side, side);
    const seen = new Set();
    for (let i = 0; i < data.length; i += 4) seen.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
    return seen.size;
  }, portrait.box);
}
