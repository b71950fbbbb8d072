/**
 * Reads small entries of a zip archive that is appended to other bytes, as a model's metadata is.
 *
 * A stranger's file: every offset is checked (a DataView throws beyond its end), and nothing larger than 1 MiB comes
 * out.
 */

const END_SIZE = 22;
const END_SIGNATURE = 0x06054b50;
const CENTRAL_SIZE = 46;
const CENTRAL_SIGNATURE = 0x02014b50;
const LOCAL_SIZE = 30;
const LOCAL_SIGNATURE = 0x04034b50;
const MAX_COMMENT = 0xffff;
const MAX_ENTRY = 1 << 20;

/**
 * @param {Uint8Array<ArrayBuffer>} bytes the whole file; offsets in the archive count from its start
 * @param {string} name of the entry
 * @returns {Promise<Uint8Array | null>} its contents, or null: no archive, no such entry, damaged, or larger than 1 MiB
 */
export async function readZipEntry(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    const end = findEnd(view);
    const central = end === null ? null : findEntry(bytes, view, end, name);
    return central === null ? null : await extract(bytes, view, central);
  } catch (error) {
    if (error instanceof RangeError) return null; // an offset points outside the file: truncated
    throw error;
  }
}

/**
 * Whether the archive lists an entry, damaged or not.
 *
 * @param {Uint8Array<ArrayBuffer>} bytes the whole file
 * @param {string} name of the entry
 * @returns {boolean}
 */
export function hasZipEntry(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    const end = findEnd(view);
    return end !== null && findEntry(bytes, view, end, name) !== null;
  } catch (error) {
    if (error instanceof RangeError) return false; // an offset points outside the file: truncated
    throw error;
  }
}

/**
 * @param {DataView} view
 * @returns {number | null}
 */
function findEnd(view) {
  const last = view.byteLength - END_SIZE;
  for (let at = last; at >= Math.max(0, last - MAX_COMMENT); at--) {
    if (view.getUint32(at, true) === END_SIGNATURE) return at;
  }
  return null;
}

/**
 * @param {Uint8Array} bytes
 * @param {DataView} view
 * @param {number} end
 * @param {string} name
 * @returns {number | null}
 */
function findEntry(bytes, view, end, name) {
  const wanted = new TextEncoder().encode(name);
  let at = view.getUint32(end + 16, true);
  for (let entry = view.getUint16(end + 10, true); entry > 0; entry--) {
    if (view.getUint32(at, true) !== CENTRAL_SIGNATURE) return null;
    const length = view.getUint16(at + 28, true);
    const start = at + CENTRAL_SIZE;
    if (length === wanted.length && wanted.every((byte, i) => bytes[start + i] === byte)) return at;
    at = start + length + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
  return null;
}

/**
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {DataView} view
 * @param {number} central
 * @returns {Promise<Uint8Array | null>}
 */
async function extract(bytes, view, central) {
  const method = view.getUint16(central + 10, true);
  const crc = view.getUint32(central + 16, true);
  const packedSize = view.getUint32(central + 20, true);
  const size = view.getUint32(central + 24, true);
  const local = view.getUint32(central + 42, true);
  if (size > MAX_ENTRY || packedSize > MAX_ENTRY || view.getUint32(local, true) !== LOCAL_SIGNATURE) return null;
  const start = local + LOCAL_SIZE + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
  if (start + packedSize > bytes.length) return null;
  const packed = bytes.subarray(start, start + packedSize);
  const contents = method === 0 ? packed : method === 8 ? await inflate(packed, size) : null;
  return contents !== null && contents.length === size && crc32(contents) === crc ? contents : null;
}

/**
 * @param {Uint8Array<ArrayBuffer>} packed
 * @param {number} size the most bytes to unpack
 * @returns {Promise<Uint8Array | null>} null when damaged or larger
 */
async function inflate(packed, size) {
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate-raw')).getReader();
  const contents = new Uint8Array(size);
  let at = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return contents.subarray(0, at);
      if (at + value.length > size) {
        await reader.cancel();
        return null;
      }
      contents.set(value, at);
      at += value.length;
    }
  } catch {
    return null; // browsers name damaged data in different ways
  }
}

/**
 * The checksum of zip archives (reflected polynomial 0xedb88320), bit by bit: the entry is small.
 *
 * @param {Uint8Array} bytes
 * @returns {number}
 */
function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
