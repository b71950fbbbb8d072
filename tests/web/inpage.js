/** Runs in a browser's page, over the whole way from a file to its faces. */

const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, '0')).join('');

async function digest(...arrays) {
  const blob = new Blob(arrays.map((array) => array.slice()));
  return hex(await crypto.subtle.digest('SHA-256', await blob.arrayBuffer()));
}

const blobOf = async (address) => (await fetch(address)).blob();

/** Digests of the network's input and outputs for one picture, and how many values the outputs have. */
async function outputsAt(dist, wasm, bytes, spec, height, width, image) {
  const { sidesOf } = await import(`${dist}detector.js`);
  const { readSignature, withSides } = await import(`${dist}flatbuffer.js`);
  const { Letterbox, applyTable, inputTable } = await import(`${dist}letterbox.js`);
  const { Interpreter } = await import(`${dist}litert.js`);
  const own = readSignature(bytes, 'model');
  const model = withSides(bytes, own, sidesOf({ ...spec, inputHeight: height, inputWidth: width }, own));
  const signature = readSignature(model, 'model');
  const interpreter = new Interpreter(model, signature, wasm, 'model');
  const letterbox = new Letterbox(image.height, image.width, height, width, spec.mean, spec.antialias);
  let input;
  interpreter.writeInput((values) => {
    applyTable(letterbox.apply(image), inputTable(spec.mean, signature.inputs.get('image')), values);
    input = values.slice();
  });
  const outputs = [...interpreter.run()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, values]) => values);
  interpreter.close();
  return {
    input: await digest(input),
    outputs: await digest(...outputs),
    values: outputs.reduce((sum, values) => sum + values.length, 0),
  };
}

/**
 * The network's input and outputs, and the faces, for each picture and model.
 *
 * @param {string} dist address of the built demo
 * @param {string} expected address of what expected.py wrote
 * @param {{file: string}[]} pictures
 * @param {Record<string, string>} models name → address
 */
export async function answers(dist, expected, pictures, models) {
  const { FaceDetector } = await import(`${dist}detector.js`);
  const { readImage, pixelsOf } = await import(`${dist}image.js`);
  const { loadLiteRt } = await import(`${dist}litert.js`);
  const { autoShape } = await import(`${dist}shapes.js`);
  const wasm = await loadLiteRt(`${dist}litert/`);
  const result = pictures.map(() => ({}));
  const images = [];
  for (const { file } of pictures) images.push(pixelsOf(await readImage(await blobOf(expected + file), file)));
  for (const [name, address] of Object.entries(models)) {
    const bytes = new Uint8Array(await (await blobOf(address)).arrayBuffer());
    const detector = await FaceDetector.load(address);
    const { spec } = detector;
    for (const [i, image] of images.entries()) {
      const own = await outputsAt(dist, wasm, bytes, spec, spec.inputHeight, spec.inputWidth, image);
      const faces = detector.detect(image);
      const meshes = faces.slice(0, pictures[i].models[name].meshes?.length ?? 0).map(({ mesh }) => Array.from(mesh));
      result[i][name] = { ...own, faces: faces.map(({ mesh, ...face }) => face), meshes };
      const [height, width] = autoShape(image.height, image.width, spec.inputHeight, spec.inputWidth);
      if (pictures[i].models[name].auto) {
        result[i][name].auto = await outputsAt(dist, wasm, bytes, spec, height, width, image);
      }
    }
    detector.close();
  }
  return result;
}

/** How far this browser's pixels of a JPEG are from Pillow's. */
export async function jpeg(dist, address, reference) {
  const { readImage, pixelsOf } = await import(`${dist}image.js`);
  const found = pixelsOf(await readImage(await blobOf(address), 'found')).data;
  const wanted = pixelsOf(await readImage(await blobOf(reference), 'wanted')).data;
  let different = 0;
  let most = 0;
  found.forEach((value, i) => {
    different += value === wanted[i] ? 0 : 1;
    most = Math.max(most, Math.abs(value - wanted[i]));
  });
  return { values: found.length, different, most };
}

/** The messages of files that cannot be used. */
export async function refusals(dist, model) {
  const { FaceDetector } = await import(`${dist}detector.js`);
  const { readImage } = await import(`${dist}image.js`);
  const bytes = new Uint8Array(await (await blobOf(model)).arrayBuffer());
  const zeroed = bytes.slice();
  zeroed.fill(0, 8, 4096);
  const text = new File(['a text'], 'notes.txt');
  const tries = {
    text: () => FaceDetector.load(text),
    empty: () => FaceDetector.load(new File([], 'empty.tflite')),
    cut: () => FaceDetector.load(new File([bytes.slice(0, 9000)], 'cut.tflite')),
    zeroed: () => FaceDetector.load(new File([zeroed], 'zeroed.tflite')),
    absent: () => FaceDetector.load('no_such.tflite'),
    picture: () => readImage(text),
    huge: () => FaceDetector.load(new File(Array(9).fill(new Uint8Array(30e6)), 'huge.tflite')),
    wide: async () => {
      const canvas = new OffscreenCanvas(12000, 9000);
      canvas.getContext('2d').fillRect(0, 0, 1, 1);
      return readImage(await canvas.convertToBlob(), 'wide.png');
    },
    nothing: () => readImage(new File([], 'nothing.png')),
    pixels: async () =>
      (await FaceDetector.load(model)).detect({
        data: new Uint8Array(3),
        width: 1,
        height: 1,
      }),
    threshold: async () =>
      (await FaceDetector.load(model)).detect({ data: new Uint8Array(4), width: 1, height: 1 }, { scoreThreshold: 2 }),
  };
  const messages = {};
  for (const [name, attempt] of Object.entries(tries)) {
    messages[name] = await attempt().then(
      () => 'no error',
      (error) => `${error.name}: ${error.message}`,
    );
  }
  return messages;
}

/** Runs the network so many times. */
export async function run(dist, model, runs) {
  const { readSignature } = await import(`${dist}flatbuffer.js`);
  const { Interpreter, loadLiteRt } = await import(`${dist}litert.js`);
  if (!globalThis.interpreter) {
    const bytes = new Uint8Array(await (await blobOf(model)).arrayBuffer());
    globalThis.interpreter = new Interpreter(
      bytes,
      readSignature(bytes, model),
      await loadLiteRt(`${dist}litert/`),
      model,
    );
  }
  for (let i = 0; i < runs; i++) globalThis.interpreter.run();
}
