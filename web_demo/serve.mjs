/**
 * Serves a folder on localhost, as a static host would: right types, compressed, revalidated.
 *
 *     node serve.mjs [FOLDER] [PORT]
 */

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';

/** @type {Record<string, string>} */
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.webmanifest': 'application/manifest+json',
  '.svg': 'image/svg+xml',
  '.jpg': 'image/jpeg',
  '.png': 'image/png',
  '.wasm': 'application/wasm', // needed: browsers compile while it arrives
  '.tflite': 'application/octet-stream',
};
const COMPRESSED = new Set(['.html', '.js', '.css', '.json', '.webmanifest', '.svg', '.wasm', '.tflite']);

/**
 * @typedef {object} Served
 * @property {import('node:http').Server} server
 * @property {string} address e.g. http://localhost:8000/
 * @property {() => number} sent bytes of bodies sent so far
 */

/**
 * @param {URL} folder to serve, ending in /
 * @param {number} port 0 for any free one
 * @returns {Promise<Served>}
 */
export function serve(folder, port) {
  /** @type {Map<string, {body: Buffer, packed: Buffer | null, tag: string}>} */
  const cache = new Map();
  let sent = 0;

  /** @param {URL} file */
  async function load(file) {
    const body = await readFile(file);
    const tag = `"${createHash('sha256').update(body).digest('hex').slice(0, 32)}"`;
    const known = cache.get(file.href);
    if (known?.tag === tag) return known;
    const entry = { body, packed: COMPRESSED.has(extname(file.pathname)) ? await promisify(gzip)(body) : null, tag };
    cache.set(file.href, entry);
    return entry;
  }

  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost');
    const file = new URL(`.${pathname}${pathname.endsWith('/') ? 'index.html' : ''}`, folder);
    const entry = file.href.startsWith(folder.href) ? await load(file).catch(() => null) : null;
    if (!entry) {
      response.writeHead(404, { 'Content-Type': 'text/plain' }).end('no such file\n');
      return;
    }
    /** @type {Record<string, string | number>} */
    const headers = { ETag: entry.tag, 'Cache-Control': 'no-cache', Vary: 'Accept-Encoding' };
    if (request.headers['if-none-match'] === entry.tag) {
      response.writeHead(304, headers).end();
      return;
    }
    const gzipped = entry.packed && /\bgzip\b/.test(String(request.headers['accept-encoding'] ?? ''));
    const body = gzipped && entry.packed ? entry.packed : entry.body;
    if (gzipped) headers['Content-Encoding'] = 'gzip';
    headers['Content-Type'] = TYPES[extname(file.pathname)] ?? 'application/octet-stream';
    headers['Content-Length'] = body.length;
    sent += body.length;
    response.writeHead(200, headers).end(request.method === 'HEAD' ? undefined : body);
  });
  return new Promise((resolve, reject) => {
    server.on('error', reject);
    server.listen(port, 'localhost', () => {
      const bound = /** @type {import('node:net').AddressInfo} */ (server.address()).port;
      resolve({ server, address: `http://localhost:${bound}/`, sent: () => sent });
    });
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [folder = fileURLToPath(new URL('dist/', import.meta.url)), port = '8000'] = process.argv.slice(2);
  const { address } = await serve(pathToFileURL(`${folder}/`), Number(port));
  console.log(`${address} (Ctrl-C ends)`);
}
