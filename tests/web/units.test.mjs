/** The modules by themselves, in Node: parity with Python, and strangers' files. */

import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { test } from 'node:test';

import { DEMO, EXPECTED, ROOT, file, json, report } from './lib.mjs';
import { all, load } from './parity.js';

const { ModelError, followsInput, readSignature } = await import(new URL('flatbuffer.js', DEMO).href);
const { SpecError, readSpec, specFromJson } = await import(new URL('spec.js', DEMO).href);
const { facesJson } = await import(new URL('postprocess.js', DEMO).href);

test('golden vectors, 2,000 random outputs, NMS and letterbox as in Python', async () => {
  report('Node against Python', await all(await load(DEMO), file, EXPECTED));
});

/** Whether it is taken; any error but a SpecError of one line fails the test. */
async function taken(read) {
  try {
    await read();
    return true;
  } catch (error) {
    assert.ok(error instanceof SpecError, String(error));
    assert.match(error.message, /^file: .*$/);
    assert.ok(error.message.length < 500, error.message);
    return false;
  }
}

test('metadata: damaged documents are taken and refused as in Python', async () => {
  const documents = await json(`${EXPECTED}/specs.json`);
  let refused = 0;
  for (const { text, accepted } of documents) {
    assert.equal(await taken(() => specFromJson(text, 'file')), accepted, text);
    refused += accepted ? 0 : 1;
  }
  report('metadata', `${documents.length} documents, ${refused} refused, all as in Python`);
  assert.ok(refused > 100 && refused < documents.length - 20);
});

test('damaged archives are taken and refused as in Python', async () => {
  const archives = await json(`${EXPECTED}/zips.json`);
  const counts = {
    both: 0,
    neither: 0,
    'Python only': 0,
    'JavaScript only': 0,
  };
  for (const [i, archive] of archives.entries()) {
    const bytes = new Uint8Array(Buffer.from(archive.file, 'base64'));
    const found = await taken(() => readSpec(bytes, 'file'));
    if (i < 2) assert.ok(found && archive.accepted, 'the undamaged ones are read, stored and compressed');
    counts[found === archive.accepted ? (found ? 'both' : 'neither') : found ? 'JavaScript only' : 'Python only']++;
  }
  report('archives', counts);
  // Python's zipfile also looks at fields that say nothing of the contents, and shifts a whole archive that has moved.
  assert.ok(counts['Python only'] + counts['JavaScript only'] <= archives.length / 20);
  assert.ok(counts.neither > 100);
});

test('damaged flatbuffers: a signature or a ModelError, at once', async () => {
  const whole = new Uint8Array(await file(`${EXPECTED}/tiny_int8.tflite`));
  let state = 38;
  const random = (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const counts = { signature: 0, error: 0 };
  const start = performance.now();
  for (let i = 0; i < 5000; i++) {
    const damaged = whole.slice(0, i % 5 ? whole.length : random(whole.length));
    for (let change = 0; change < 1 + (i % 20) && damaged.length; change++) {
      damaged[random(damaged.length)] = [0, 1, 0x7f, 0x80, 0xff, random(256)][random(6)];
    }
    try {
      readSignature(damaged, 'file');
      counts.signature++;
    } catch (error) {
      assert.ok(error instanceof ModelError, error.stack);
      assert.doesNotMatch(error.message, /\n/);
      counts.error++;
    }
  }
  const milliseconds = (performance.now() - start) / 5000;
  report('flatbuffers', {
    ...counts,
    'milliseconds each': Number(milliseconds.toFixed(3)),
  });
  assert.ok(counts.signature > 500 && counts.error > 500);
  assert.ok(milliseconds < 5);
});

test('models whose constants hold no height or width', async () => {
  const follows = async (path) => followsInput(new Uint8Array(await file(path)));
  for (const { name } of await readdir(new URL('tflite/models/', ROOT), { withFileTypes: true })) {
    if (name.endsWith('.tflite')) assert.equal(await follows(`tflite/models/${name}`), true, name);
  }
  assert.equal(await follows(`${EXPECTED}/tiny_int8.tflite`), true);
  assert.equal(await follows(`${EXPECTED}/tiny_float32_fixed.tflite`), false);
  assert.equal(followsInput(new Uint8Array(100)), false);
});

test('faces as JSON, rounded as in Python', () => {
  const face = {
    box: [1.00049, 2.0006, 30, 40.12345],
    score: 0.12345649,
    landmarks: [[5, 6.0004]],
    anchor: 7,
  };
  const text = facesJson([
    ['a"b.jpg', [face, face]],
    ['c.jpg#t=1.000', []],
  ]);
  const line = '{"box":[1,2.001,30,40.123],"score":0.123456,"landmarks":[[5,6]]}';
  assert.equal(text, `{"a\\"b.jpg": [\n ${line},\n ${line}],\n"c.jpg#t=1.000": []}\n`);
});
