/** Files to have without a network: the service worker (`sw.js`) keeps them. */

/** @type {Promise<ServiceWorkerRegistration | null>} */
let registered = Promise.resolve(null);

/**
 * Start the service worker, where the browser has one for this page (https or localhost).
 *
 * @param {() => void} kept called when all that the page needs is there
 */
export function registerOffline(kept) {
  if (!navigator.serviceWorker) return;
  navigator.serviceWorker.addEventListener('message', kept);
  registered = navigator.serviceWorker
    .register('sw.js', { updateViaCache: 'none' })
    .then(() => navigator.serviceWorker.ready)
    .catch(() => null); // private windows may refuse: the page works all the same while there is a network
}

/** @param {string[]} addresses of files besides the page's own, which are kept anyway */
export async function keepOffline(addresses) {
  (await registered)?.active?.postMessage({ keep: addresses });
}
