/** Chromium and Firefox compute what Python computes, from the file to the faces; and how fast. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { serve } from '../../web_demo/serve.mjs';
import { EXPECTED, ROOT, iou, json, launch, median, missing, report, threadTimes } from './lib.mjs';

const FACE_TOLERANCE = 0.5; // pixels
const RUNS = 10; // of the network in a turn

const pictures = await json(`${EXPECTED}/pictures.json`);
const { config } = await json('web_demo/package.json');

/**
 * Whether WebAssembly gets this CPU's int8 dot products. Browsers use AVX-VNNI, not AVX512-VNNI, which LiteRT in Python
 * uses as well: without the former, the network takes several times as long in a browser.
 */
function hasDotProduct() {
  return /\b(avx_vnni|asimddp)\b/.test(readFileSync('/proc/cpuinfo', 'utf8'));
}

/** A page at the repository's root. */
async function openPage(browser, address) {
  const page = await browser.newPage();
  await page.goto(`${address}tests/web/blank.html`);
  return page;
}

for (const name of /** @type {const} */ (['chromium', 'firefox'])) {
  describe(name, { skip: missing(name) }, () => {
    let served, browser, page, dist, expected, models;

    before(async () => {
      served = await serve(ROOT, 0);
      browser = await launch(name);
      page = await openPage(browser, served.address);
      dist = `${served.address}web_demo/dist/`;
      expected = `${served.address}${EXPECTED}/`;
      models = Object.fromEntries(
        Object.keys(pictures[0].models).map((model) => [
          model,
          model.startsWith('tiny_') ? expected + model : `${dist}models/${model}`,
        ]),
      );
      report(name, browser.version());
    });
    after(async () => {
      await browser?.close();
      served?.server.close();
    });

    test('golden vectors, 2,000 random outputs, NMS and letterbox', async () => {
      const figures = await page.evaluate(
        async ([root, demo, folder]) => {
          const { all, load } = await import(`${root}tests/web/parity.js`);
          return all(await load(demo), async (path) => (await fetch(root + path)).arrayBuffer(), folder);
        },
        [served.address, dist, EXPECTED],
      );
      report(`${name} against Python`, figures);
      assert.ok(figures.golden.cases >= 200 && figures.random.cases === 2000 && figures.random.faces > 20_000);
    });

    /**
     * @param {import('playwright-core').Page} where
     * @param {number} count of pictures
     * @param {boolean} exact float32 too
     */
    const compare = async (where, count, exact) => {
      const found = await where.evaluate(
        async ([root, ...rest]) => (await import(`${root}tests/web/inpage.js`)).answers(...rest),
        [served.address, dist, expected, pictures.slice(0, count), models],
      );
      const figures = {};
      for (const [i, { models: wanted }] of pictures.slice(0, count).entries()) {
        for (const [model, answer] of Object.entries(wanted)) {
          const figure = (figures[model] ??= {
            inputs: 0,
            outputs: 0,
            shapes: 0,
            values: 0,
            faces: 0,
            pixels: 0,
          });
          const got = found[i][model];
          figure.inputs += got.input === answer.input ? 1 : 0;
          figure.outputs += got.outputs === answer.outputs ? 1 : 0;
          figure.values += got.values;
          if (answer.auto && (exact || !model.includes('float32'))) {
            assert.deepEqual([got.auto.input, got.auto.outputs], [answer.auto.input, answer.auto.outputs], 'own shape');
            figure.shapes++;
          }
          assert.equal(got.faces.length, answer.faces.length, `${pictures[i].file}, ${model}`);
          answer.faces.forEach((face, k) => {
            const values = [...got.faces[k].box, ...got.faces[k].landmarks.flat()];
            const differences = [...face.box, ...face.landmarks.flat()].map((value, j) => Math.abs(value - values[j]));
            figure.pixels = Math.max(figure.pixels, ...differences);
            assert.ok(Math.abs(face.score - got.faces[k].score) < 1e-4);
            figure.faces++;
          });
          (answer.meshes ?? []).forEach((mesh, k) => {
            mesh.forEach((value, j) => {
              const difference = Math.abs(value - got.meshes[k][j]);
              assert.ok(difference <= Math.max(1e-3, 1e-6 * Math.abs(value)), `${pictures[i].file}, mesh ${k}: ${j}`);
              figure.vertices = Math.max(figure.vertices ?? 0, difference);
            });
            ['yaw', 'pitch', 'roll'].forEach((name, j) => {
              assert.ok(Math.abs(answer.poses[k][j] - got.faces[k].pose[name]) < 1e-2);
            });
            figure.meshes = (figure.meshes ?? 0) + 1;
          });
        }
      }
      for (const [model, figure] of Object.entries(figures)) {
        report(`${name}, ${model}, of ${count} pictures byte-equal`, figure);
        assert.equal(figure.inputs, count, `${model}: inputs`);
        if (exact || !model.includes('float32')) assert.equal(figure.outputs, count, `${model}: outputs`);
        assert.ok(figure.pixels < FACE_TOLERANCE, `${model}: faces ${figure.pixels} px apart`);
      }
      return figures;
    };

    test('20 pictures: inputs and outputs byte-equal, the same faces, for every model', async () => {
      assert.equal(pictures.length, 20);
      const figures = await compare(page, pictures.length, true);
      for (const { file } of await json('web_demo/dist/models.json')) assert.ok(figures[file].faces >= 20, file);
      assert.ok(figures['tiny_mesh.tflite'].meshes >= 20);
    });

    test('the same without relaxed SIMD', async () => {
      const older = await openPage(browser, served.address);
      await older.evaluate(() => {
        WebAssembly.validate = () => false;
      });
      await compare(older, 3, false); // float32 is rounded after each product, int8 is the same
      const loaded = await older.evaluate(() => performance.getEntriesByType('resource').map((entry) => entry.name));
      assert.ok(loaded.some((address) => address.endsWith('litert_wasm_compat_internal.wasm')));
      assert.ok(!loaded.some((address) => address.endsWith('litert_wasm_internal.wasm')));
      await older.close();
    });

    test('a JPEG is decoded as by Pillow', async () => {
      const figures = await page.evaluate(
        async ([root, ...rest]) => (await import(`${root}tests/web/inpage.js`)).jpeg(...rest),
        [served.address, dist, `${dist}example.jpg`, `${expected}pictures/09.png`],
      );
      report(`${name}, JPEG`, figures);
      assert.ok(figures.most <= 2);
    });

    test('files that cannot be used: one line that says why', async () => {
      const messages = await page.evaluate(
        async ([root, ...rest]) => (await import(`${root}tests/web/inpage.js`)).refusals(...rest),
        [served.address, dist, models[config.model]],
      );
      report(`${name}, refusals`, JSON.stringify(messages, null, 1));
      assert.match(messages.text, /^SpecError: notes\.txt: not a TFLite model \(6 bytes/);
      assert.match(messages.empty, /^SpecError: empty\.tflite: not a TFLite model \(0 bytes/);
      assert.match(messages.cut, /^SpecError: cut\.tflite: no readable retinaface\.json/);
      assert.match(messages.zeroed, /^ModelError: zeroed\.tflite: /);
      assert.match(messages.absent, /^Error: no_such\.tflite: cannot be fetched \(404/);
      assert.match(
        messages.huge,
        /^ModelError: huge\.tflite: the file has 270000000 bytes, expected a model of at most/,
      );
      assert.match(
        messages.wide,
        /^ImageError: wide\.png: the picture has 12000×9000 pixels, expected at most 100 million/,
      );
      assert.match(messages.picture, /^ImageError: notes\.txt: cannot decode 6 bytes/);
      assert.match(messages.nothing, /^ImageError: nothing\.png: the file is empty/);
      assert.match(messages.pixels, /^RangeError: image is 1×1 with 3 bytes/);
      assert.match(messages.threshold, /^RangeError: score threshold is 2/);
      for (const message of Object.values(messages)) assert.doesNotMatch(message, /\n/);
    });

    test('the example page finds the face', async () => {
      const faces = new Promise((resolve) =>
        page.on('console', async (line) => resolve(await line.args()[0]?.jsonValue())),
      );
      await page.goto(`${dist}example.html`);
      const found = await faces;
      const [wanted] = pictures[9].models[config.model].faces;
      report(`${name}, example.html`, `${found.length} face, IoU ${iou(found[0].box, wanted.box).toFixed(4)}`);
      assert.equal(found.length, 1);
      assert.ok(iou(found[0].box, wanted.box) > 0.95);
    });

    test('time of the network, as a multiple of its time in Python', async () => {
      const python = process.env.PYTHON ?? fileURLToPath(new URL('.venv/bin/python', ROOT));
      const model = fileURLToPath(new URL(`tflite/models/${config.model}`, ROOT));
      const cwd = fileURLToPath(ROOT);
      const native = spawn(python, ['-m', 'tests.web.native_time', model], {
        cwd,
        stdio: ['pipe', 'pipe', 'ignore'],
      });
      const lines = createInterface({ input: native.stdout });
      const timing = await openPage(browser, served.address);
      const times = { native: [], browser: [] };
      // CPU time, in turns: other work on the machine then disturbs neither.
      for (let turn = 0; turn < 8; turn++) {
        native.stdin.write(`${RUNS}\n`);
        times.native.push(Number((await once(lines, 'line'))[0]));
        const earlier = threadTimes();
        await timing.evaluate(
          async ([root, ...rest]) => (await import(`${root}tests/web/inpage.js`)).run(...rest),
          [served.address, dist, models[config.model], RUNS],
        );
        const busiest = Math.max(...[...threadTimes()].map(([thread, time]) => time - (earlier.get(thread) ?? 0)));
        times.browser.push(busiest / 1e6 / RUNS);
      }
      native.stdin.end();
      await timing.close();
      const ratio = median(times.browser.slice(2)) / median(times.native.slice(2)); // the first ones still compile
      const dot = hasDotProduct() ? 'with' : 'without';
      report(
        `${name}, invoke`,
        `${median(times.browser).toFixed(1)} ms of CPU, Python ${median(times.native).toFixed(1)}, ` +
          `ratio ${ratio.toFixed(2)} on a CPU ${dot} int8 dot products for browsers`,
      );
      assert.ok(ratio <= (hasDotProduct() ? 3 : 10));
    });
  });
}
