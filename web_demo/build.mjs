/**
 * Makes dist/, the folder to put on any static host: the modules as they are, LiteRT's WebAssembly, the shipped models,
 * and the licences of what is not ours.
 *
 *     npm ci --ignore-scripts && npm run build
 */

import { createHash } from 'node:crypto';
import { cp, mkdir, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

import { readSpec } from './spec.js';

const HERE = new URL('./', import.meta.url);
const ROOT = new URL('../', HERE);
const DIST = new URL('dist/', HERE);
const MODELS = new URL('tflite/models/', ROOT);
const WASM = new URL('node_modules/@litertjs/core/wasm/', HERE);

const PAGES = /\.(js|html|css|svg|jpg|webmanifest)$/;
const VARIANTS = ['litert_wasm_internal', 'litert_wasm_compat_internal']; // with relaxed SIMD, and without

/** @param {URL} url */
const json = async (url) => JSON.parse(await readFile(url, 'utf8'));

/**
 * Copies the .tflite files and lists what their metadata says, the default model first.
 *
 * @param {string} first file name of the default model
 */
async function copyModels(first) {
  const names = (await readdir(MODELS)).filter((name) => name.endsWith('.tflite')).sort();
  if (!names.includes(first)) throw new Error(`package.json names the model ${first}, found ${names.join(', ')}`);
  const models = [];
  for (const name of [first, ...names.filter((other) => other !== first)]) {
    const bytes = new Uint8Array(await readFile(new URL(name, MODELS)));
    const spec = await readSpec(bytes, name);
    models.push({ file: name, bytes: bytes.length, height: spec.inputHeight, width: spec.inputWidth });
    await writeFile(new URL(`models/${name}`, DIST), bytes);
  }
  await writeFile(new URL('models.json', DIST), `${JSON.stringify(models, null, 1)}\n`);
}

/** LiteRT's files and its licence: the package names it, but holds no text of it. */
async function copyLiteRt() {
  for (const variant of VARIANTS) {
    for (const file of [`${variant}.js`, `${variant}.wasm`]) {
      await cp(new URL(file, WASM), new URL(`litert/${file}`, DIST));
    }
  }
  const { name, version, license, repository } = await json(new URL('../package.json', WASM));
  if (license !== 'Apache-2.0') throw new Error(`${name} ${version} is under ${license}, expected Apache-2.0`);
  await cp(new URL('Apache-2.0.txt', HERE), new URL('litert/LICENSE', DIST));
  await writeFile(
    new URL('litert/NOTICE', DIST),
    `${VARIANTS.join('.* and ')}.* are unchanged from the npm package ${name} ${version}\n` +
      `(${repository.url}, ${repository.directory}), Apache License 2.0: see LICENSE.\n`,
  );
}

/** The repository's own licence and notices. */
async function copyNotices() {
  for (const name of ['LICENSE', 'NOTICE']) {
    const source = new URL(name, ROOT);
    if (await stat(source).catch(() => null)) await cp(source, new URL(name, DIST));
  }
}

/** @returns {Promise<string[]>} all files of dist/, also in folders below, as paths from there */
async function list() {
  const entries = await readdir(DIST, { withFileTypes: true, recursive: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.map((entry) => relative(fileURLToPath(DIST), join(entry.parentPath, entry.name))).sort();
}

/** What the service worker needs: each file's hash, so that a changed one is fetched anew. */
async function writeIndex() {
  /** @type {Record<string, string>} */
  const files = {};
  for (const path of await list()) {
    files[path] = createHash('sha256')
      .update(await readFile(new URL(path, DIST)))
      .digest('hex')
      .slice(0, 16);
  }
  await writeFile(new URL('files.js', DIST), `self.FILES = ${JSON.stringify(files, null, 1)};\n`);
}

async function build() {
  const { config } = await json(new URL('package.json', HERE));
  await rm(DIST, { recursive: true, force: true });
  await mkdir(new URL('models/', DIST), { recursive: true });
  await mkdir(new URL('litert/', DIST));
  for (const name of (await readdir(HERE)).filter((file) => PAGES.test(file))) {
    await cp(new URL(name, HERE), new URL(name, DIST));
  }
  await copyModels(config.model);
  await copyLiteRt();
  await copyNotices();
  await writeIndex();
  const paths = await list();
  const sizes = await Promise.all(paths.map(async (path) => (await stat(new URL(path, DIST))).size));
  const megabytes = sizes.reduce((sum, size) => sum + size, 0) / 1e6;
  console.log(`web_demo/dist: ${paths.length} files, ${megabytes.toFixed(1)} MB`);
}

await build();
