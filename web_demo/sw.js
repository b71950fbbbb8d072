/**
 * Keeps the page's files, so that it works without a network after the first visit. `build.mjs` writes files.js: path →
 * hash. A file is kept under its path and hash, so a new version fetches only what has changed.
 */

const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));
worker.importScripts('files.js');

/** @type {Record<string, string>} */
const FILES = /** @type {any} */ (self).FILES;
const CACHE = 'retinaface';
// Megabytes that not every visitor needs: kept when the page says that they are used.
const ON_DEMAND = /^(litert|models)\/|^example\./;

/** @param {string} path from the page's folder */
const keyOf = (path) => new Request(new URL(`${path}?${FILES[path]}`, worker.registration.scope));

/** @param {string} address @returns {string} its path from the page's folder */
function pathOf(address) {
  const { origin, pathname } = new URL(address);
  const scope = new URL(worker.registration.scope);
  if (origin !== scope.origin || !pathname.startsWith(scope.pathname)) return '';
  return pathname.slice(scope.pathname.length) || 'index.html';
}

/** @param {string} path @returns {Promise<Response>} */
async function keep(path) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(keyOf(path));
  if (kept) return kept;
  const response = await fetch(new Request(new URL(path, worker.registration.scope), { cache: 'no-cache' }));
  if (response.ok) await cache.put(keyOf(path), response.clone());
  return response;
}

async function forgetOld() {
  const cache = await caches.open(CACHE);
  const wanted = new Set(Object.keys(FILES).map((path) => keyOf(path).url));
  for (const request of await cache.keys()) if (!wanted.has(request.url)) await cache.delete(request);
}

worker.addEventListener('install', (event) => {
  const pages = Object.keys(FILES).filter((path) => !ON_DEMAND.test(path) && path !== 'sw.js');
  event.waitUntil(Promise.all(pages.map(keep)).then(() => worker.skipWaiting()));
});

worker.addEventListener('activate', (event) => event.waitUntil(forgetOld().then(() => worker.clients.claim())));

worker.addEventListener('message', (event) => {
  /** @type {string[]} */
  const addresses = event.data.keep;
  const paths = addresses.map(pathOf).filter((path) => path in FILES);
  event.waitUntil(Promise.all(paths.map(keep)).then(() => event.source?.postMessage({ kept: paths.length })));
});

worker.addEventListener('fetch', (event) => {
  const path = pathOf(event.request.url);
  if (event.request.method === 'GET' && path in FILES) event.respondWith(keep(path));
});
