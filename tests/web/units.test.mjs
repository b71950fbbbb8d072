/** The modules by themselves, in Node: parity with Python, and strangers' files. */

import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { test } from 'node:test';

import { DEMO, EXPECTED, ROOT, file, json, report } from './lib.mjs';
import { all, load } from './parity.js';

const { ModelError, followsInput, readSignature } = await import(new URL('flatbuffer.js', DEMO).href);
const { SpecError, readSpec, specFromJson } = await import(new URL('spec.js', DEMO).href);
const { MeshBasis, MeshDecoder, readBasis } = await import(new URL('mesh.js', DEMO).href);
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

test('meshes of damaged archives are taken and refused as in Python', async () => {
  const archives = await json(`${EXPECTED}/bases.json`);
  const counts = { taken: 0, none: 0, refused: 0, 'not as in Python': 0 };
  for (const [i, archive] of archives.entries()) {
    const bytes = new Uint8Array(Buffer.from(archive.file, 'base64'));
    let basis;
    const found = (await taken(async () => (basis = await readBasis(bytes, 'file')))) ? (basis?.coefficients ?? 0) : -1;
    if (i < 7) assert.equal(found, archive.coefficients, 'the undamaged ones');
    if (found !== archive.coefficients) counts['not as in Python']++;
    counts[found > 0 ? 'taken' : found === 0 ? 'none' : 'refused']++;
  }
  report('archives with a mesh', counts);
  assert.ok(counts['not as in Python'] <= archives.length / 20);
  assert.ok(counts.taken > 2 && counts.none > 0 && counts.refused > 10);
});

test('a basis: every kind of float16, and numbers that are not finite', () => {
  const bytes = new Uint8Array(2 * 2808);
  const view = new DataView(bytes.buffer);
  [0x0001, 0x8001, 0x03ff, 0x0400, 0x3c01, 0x7bff, 0xfbff].forEach((bits, i) => view.setUint16(2 * i, bits, true));
  const tiny = 2 ** -24;
  const { mean, coefficients } = new MeshBasis(bytes, 'file');
  assert.equal(coefficients, 1);
  assert.deepEqual([...mean.subarray(0, 8)], [tiny, -tiny, 1023 * tiny, 1024 * tiny, 1 + 1 / 1024, 65504, -65504, 0]);
  for (const bits of [0x7c00, 0xfc00, 0x7e00]) {
    view.setUint16(2808, bits, true);
    assert.throws(() => new MeshBasis(bytes, 'file'), /^SpecError: file: mesh\.f16 holds numbers that are not finite$/);
  }
});

test('meshes are finite, and their outputs must be there', () => {
  const bytes = new Uint8Array(2 * 2808);
  bytes[1] = 0x3c; // 1
  const basis = new MeshBasis(bytes, 'file');
  const spec = { inputHeight: 64, inputWidth: 64, strides: [64], anchorSizes: [[32]] };
  const info = { shape: [1, 1, 1, 1], type: 'float32', scale: 0, zeroPoint: 0 };
  const decoder = new MeshDecoder(basis, spec, new Map([['mesh_64', info]]), 'file');
  const outputs = new Map([['mesh_64', new Float32Array([1])]]);
  const { mesh, pose } = decoder.decode(outputs, 0, new Float32Array([3e38, -3e38, 3e38, -3e38]), 0.5);
  assert.ok(mesh.every(Number.isFinite) && Object.values(pose).every(Number.isFinite));
  assert.deepEqual([...mesh.subarray(0, 3)], [2 ** 128 - 2 ** 104, -(2 ** 128 - 2 ** 104), 0]);
  assert.throws(
    () => new MeshDecoder(basis, spec, new Map([['box_64', info]]), 'file'),
    /^ModelError: file: no output 'mesh_64', the model has \[box_64\]$/,
  );
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
  const dense = {
    ...face,
    mesh: new Float32Array([1, 2.004, -3.126, 4, 5, 6]),
    pose: { yaw: 1.234, pitch: -5, roll: 0 },
  };
  const asked = JSON.parse(facesJson([['d', [dense, face]]], { mesh: true, pose: true })).d;
  assert.deepEqual(asked[0].pose, { yaw: 1.23, pitch: -5, roll: 0 });
  assert.deepEqual(asked[0].mesh, [
    [1, 2, -3.13],
    [4, 5, 6],
  ]);
  assert.deepEqual(Object.keys(asked[1]), ['box', 'score', 'landmarks']);
  assert.deepEqual(Object.keys(JSON.parse(facesJson([['d', [dense]]])).d[0]), ['box', 'score', 'landmarks']);
  assert.equal(text, `{"a\\"b.jpg": [\n ${line},\n ${line}],\n"c.jpg#t=1.000": []}\n`);
});
