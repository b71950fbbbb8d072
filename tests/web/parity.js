/**
 * JavaScript against Python: the same checks for Node, Chromium and Firefox. Each takes the demo's modules and what
 * tests/web/expected.py wrote, throws at the first difference, and returns figures to print.
 */

const PIXELS = 1e-4; // tolerance of boxes and points, or 1e-6 of the value where it is larger than 100
const SCORES = 1e-6;
const VERTICES = 1e-3; // tolerance of meshes in pixels, or 1e-6 of the value where it is larger than 1,000
const DEGREES = 1e-3;
const AXES = 1e-5;
const WIDTHS = { score: 1, box: 4, landmark: 10 };

/** Import the demo's modules from where they lie. */
export async function load(base) {
  const names = ['anchors', 'decode', 'flatbuffer', 'letterbox', 'mesh', 'nms', 'postprocess', 'shapes', 'spec'];
  const modules = await Promise.all(names.map((name) => import(new URL(`${name}.js`, base).href)));
  return Object.assign({}, ...modules);
}

/** Reads the little-endian files of tests/android/exchange.py. */
class Reader {
  constructor(buffer) {
    this.buffer = buffer;
    this.view = new DataView(buffer);
    this.at = 0;
  }
  int = () => this.view.getInt32((this.at += 4) - 4, true);
  float = () => this.view.getFloat32((this.at += 4) - 4, true);
  double = () => this.view.getFloat64((this.at += 8) - 8, true);
  bytes = (count) => new Uint8Array(this.buffer.slice(this.at, (this.at += count)));
  floats = (count) => new Float32Array(this.buffer.slice(this.at, (this.at += 4 * count)));
  text = () => new TextDecoder().decode(this.bytes(this.int()));
  list = (read) => Array.from({ length: this.int() }, read);
  done = () => this.at === this.buffer.byteLength;
}

function check(ok, what) {
  if (!ok) throw new Error(what);
}

function faceList(reader) {
  return reader.list(() => ({
    anchor: reader.int(),
    score: reader.float(),
    box: [...reader.floats(4)],
    points: [...reader.floats(10)],
  }));
}

/** The same anchors in the same order; boxes and points within the tolerance. Returns the largest difference. */
function compare(found, wanted, name) {
  const anchors = (faces) => faces.map((face) => face.anchor).join();
  check(anchors(found) === anchors(wanted), `${name}: anchors ${anchors(found)}, expected ${anchors(wanted)}`);
  let worst = 0;
  found.forEach((face, i) => {
    check(
      Math.abs(face.score - wanted[i].score) <= SCORES,
      `${name}: score ${face.score}, expected ${wanted[i].score}`,
    );
    const values = [...face.box, ...face.landmarks.flat()];
    [...wanted[i].box, ...wanted[i].points].forEach((value, k) => {
      if (values[k] === value) return; // infinities too
      const difference = Math.abs(values[k] - value);
      check(difference <= Math.max(PIXELS, 1e-6 * Math.abs(value)), `${name}: ${values[k]}, expected ${value}`);
      worst = Math.max(worst, difference);
    });
  });
  return worst;
}

/** Decode and NMS of one network output, with meshes where there is a decoder of them. */
function facesOf(modules, { spec, infos, outputs, threshold, overlap, image, scale }, meshes) {
  const candidates = new modules.Decoder(spec, infos, 'case').decode(outputs, threshold);
  check(
    candidates.anchors.every((anchor, i) => i === 0 || anchor > candidates.anchors[i - 1]),
    'candidates out of order',
  );
  return {
    candidates,
    faces: modules.selectFaces(
      candidates,
      spec,
      image,
      scale,
      overlap,
      meshes && ((anchor, box) => meshes.decode(outputs, anchor, box, scale)),
    ),
  };
}

function shape(spec, stride, anchors, width) {
  return [1, Math.ceil(spec.inputHeight / stride), Math.ceil(spec.inputWidth / stride), anchors * width];
}

const product = (sides) => sides.reduce((a, b) => a * b);

/** A case of golden.json with its tensors. */
function goldenCase(entry, data) {
  const spec = {
    inputHeight: entry.input[0],
    inputWidth: entry.input[1],
    strides: entry.strides,
    anchorSizes: entry.anchor_sizes,
    variances: entry.variances,
    maxCandidates: entry.max_candidates,
    maxFaces: entry.max_faces,
  };
  const infos = new Map();
  const outputs = new Map();
  const Type = entry.dtype === 'int8' ? Int8Array : Float32Array;
  for (const [name, [offset, scale, zeroPoint]] of Object.entries(entry.tensors)) {
    const [kind, stride] = name.split('_');
    const info = { shape: shape(spec, Number(stride), 2, WIDTHS[kind]), type: entry.dtype, scale, zeroPoint };
    infos.set(name, info);
    outputs.set(name, new Type(data, offset, product(info.shape)));
  }
  const image = { height: entry.image[0], width: entry.image[1] };
  const { score_threshold: threshold, iou_threshold: overlap, scale } = entry;
  return { spec, infos, outputs, threshold, overlap, image, scale, Type };
}

/** tests/golden: `index` is golden.json, `data` golden.bin. */
export function golden(modules, index, data) {
  let worst = 0;
  let faces = 0;
  for (const entry of index.cases) {
    const golden = goldenCase(entry, data);
    entry.min_quantized.forEach((least, i) => {
      const found = modules.minQuantizedScore(entry.score_threshold, golden.infos.get(`score_${entry.strides[i]}`));
      check(found === least, `${entry.name}: smallest score ${found}, expected ${least}`);
    });
    const { candidates, faces: found } = facesOf(modules, golden);
    const { expected } = entry;
    check(
      candidates.anchors.length === expected.candidates,
      `${entry.name}: ${candidates.anchors.length} candidates, expected ${expected.candidates}`,
    );
    const floats = (offset, width) => new Float32Array(data, offset, expected.count * width);
    const boxes = floats(expected.boxes, 4);
    const points = floats(expected.landmarks, 10);
    const scores = floats(expected.scores, 1);
    const wanted = Array.from(new Int32Array(data, expected.anchors, expected.count), (anchor, i) => ({
      anchor,
      score: scores[i],
      box: [...boxes.subarray(i * 4, i * 4 + 4)],
      points: [...points.subarray(i * 10, i * 10 + 10)],
    }));
    worst = Math.max(worst, compare(found, wanted, entry.name));
    faces += found.length;
  }
  for (const { mean, scale, zero_point: zeroPoint, values } of index.tables) {
    const table = modules.inputTable(mean, {
      type: 'int8',
      scale,
      zeroPoint,
      shape: [],
    });
    check(
      values.flat().every((value, i) => table[i] === value),
      `input table of scale ${scale} differs`,
    );
  }
  for (const { image, input, scale, resized } of index.letterbox) {
    const found = modules.letterboxSize(...image, ...input);
    check(found.rows === resized[0] && found.columns === resized[1] && found.scale === scale, `letterbox of ${image}`);
  }
  for (const { image, own, input } of index.shapes) {
    const found = modules.autoShape(...image, ...own);
    check(found.join() === input.join(), `shape for ${image} in ${own}: ${found}, expected ${input}`);
  }
  return { cases: index.cases.length, faces, worst };
}

const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

/** tests/golden/mesh.json: meshes, poses and axes of the first faces of some cases of golden.json. */
export function meshes(modules, file, index, data) {
  const basis = new modules.MeshBasis(fromBase64(file.basis), 'golden');
  const worst = { pixels: 0, degrees: 0 };
  let faces = 0;
  for (const entry of file.cases) {
    const golden = goldenCase(
      index.cases.find(({ name }) => name === entry.case),
      data,
    );
    for (const [name, [text, scale, zeroPoint]] of Object.entries(entry.tensors)) {
      const sides = shape(golden.spec, Number(name.split('_')[1]), 2, basis.coefficients);
      const type = golden.Type === Int8Array ? 'int8' : 'float32';
      golden.infos.set(name, { shape: sides, type, scale, zeroPoint });
      golden.outputs.set(name, new golden.Type(fromBase64(text).buffer));
    }
    const decoder = new modules.MeshDecoder(basis, golden.spec, golden.infos, 'golden');
    const { faces: found } = facesOf(modules, golden, decoder);
    const wanted = new Float32Array(fromBase64(entry.meshes).buffer);
    const size = wanted.length / entry.poses.length;
    entry.poses.forEach((angles, i) => {
      const { mesh, pose } = found[i];
      check(mesh.length === size, `${entry.case}: a mesh of ${mesh.length} values, expected ${size}`);
      mesh.forEach((value, k) => {
        const right = wanted[i * size + k];
        const difference = Math.abs(value - right);
        const off = !(difference <= Math.max(VERTICES, 1e-6 * Math.abs(right)));
        check(!off, `${entry.case}, face ${i}, value ${k}: ${value}, expected ${right}`);
        if (Math.abs(right) < 1000) worst.pixels = Math.max(worst.pixels, difference);
      });
      angles.forEach((angle, k) => {
        const difference = Math.abs([pose.yaw, pose.pitch, pose.roll][k] - angle);
        check(
          difference <= DEGREES,
          `${entry.case}, face ${i}, angle ${k}: ${Object.values(pose)}, expected ${angles}`,
        );
        worst.degrees = Math.max(worst.degrees, difference);
      });
      const axes = modules.poseAxes(pose).flat();
      entry.axes[i].flat().forEach((value, k) => {
        check(Math.abs(axes[k] - value) <= AXES, `${entry.case}, face ${i}: axes ${axes}, expected ${entry.axes[i]}`);
      });
      faces++;
    });
  }
  return { cases: file.cases.length, faces, ...worst };
}

/** 2,000 random outputs: random_cases.bin and random_faces.bin. */
export function randomOutputs(modules, casesFile, facesFile) {
  const cases = new Reader(casesFile);
  const answers = new Reader(facesFile);
  let worst = 0;
  let faces = 0;
  const count = cases.int();
  for (let number = 0; number < count; number++) {
    const spec = modules.specFromJson(cases.text(), 'case');
    const [threshold, overlap] = [cases.double(), cases.double()];
    const image = { height: cases.int(), width: cases.int() };
    const scale = cases.double();
    const infos = new Map();
    const outputs = new Map();
    cases.list(() => {
      const name = cases.text();
      const [kind, stride] = name.split('_');
      const type = cases.int() === 0 ? 'int8' : 'float32';
      const size = cases.int();
      const [quantizationScale, zeroPoint] = [cases.float(), cases.int()];
      const anchors = spec.anchorSizes[spec.strides.indexOf(Number(stride))].length;
      infos.set(name, {
        shape: shape(spec, Number(stride), anchors, WIDTHS[kind]),
        type,
        scale: quantizationScale,
        zeroPoint,
      });
      outputs.set(name, type === 'int8' ? new Int8Array(cases.bytes(size).buffer) : cases.floats(size));
    });
    const { faces: found } = facesOf(modules, { spec, infos, outputs, threshold, overlap, image, scale });
    worst = Math.max(worst, compare(found, faceList(answers), `case ${number}`));
    faces += found.length;
  }
  check(cases.done() && answers.done(), 'files of random outputs are longer than what was read');
  return { cases: count, faces, worst };
}

/** NMS alone: nms_cases.bin and nms_kept.bin. */
export function suppression(modules, casesFile, keptFile) {
  const cases = new Reader(casesFile);
  const answers = new Reader(keptFile);
  const count = cases.int();
  for (let number = 0; number < count; number++) {
    const size = cases.int();
    const threshold = cases.double();
    const limits = {
      pixelOffset: cases.int(),
      maxCandidates: cases.int(),
      maxFaces: cases.int(),
    };
    const boxes = cases.floats(size * 4);
    const kept = modules.nms(boxes, cases.floats(size), threshold, limits).join();
    const wanted = answers.list(answers.int).join();
    check(kept === wanted, `case ${number}: kept ${kept}, expected ${wanted}`);
  }
  return { cases: count };
}

/** Letterbox against OpenCV: letterbox_cases.bin and letterbox_pixels.bin. */
export function letterboxes(modules, casesFile, pixelsFile) {
  const cases = new Reader(casesFile);
  const answers = new Reader(pixelsFile);
  const count = cases.int();
  let values = 0;
  for (let number = 0; number < count; number++) {
    const [height, width, antialias] = [cases.int(), cases.int(), cases.int() === 1];
    const mean = [cases.double(), cases.double(), cases.double()];
    const image = {
      height: cases.int(),
      width: cases.int(),
      data: new Uint8Array(),
    };
    const bgr = cases.bytes(image.height * image.width * 3);
    image.data = new Uint8Array(image.height * image.width * 4);
    for (let i = 0; i < image.height * image.width; i++) {
      for (let channel = 0; channel < 3; channel++) image.data[i * 4 + channel] = bgr[i * 3 + 2 - channel];
    }
    const letterbox = new modules.Letterbox(image.height, image.width, height, width, mean, antialias);
    letterbox.apply(image); // the second time its buffers are no longer new
    const found = letterbox.apply(image);
    const wanted = answers.bytes(height * width * 3);
    const different = found.findIndex((value, i) => value !== wanted[i]);
    check(
      different < 0,
      `case ${number}, ${image.width}×${image.height} in ${width}×${height}: byte ${different} is ` +
        `${found[different]}, expected ${wanted[different]}`,
    );
    values += wanted.length;
  }
  check(cases.done() && answers.done(), 'files of letterboxes are longer than what was read');
  return { cases: count, values };
}

/** Everything above; `fetchFile(path)` gives a file of the repository as an ArrayBuffer. */
export async function all(modules, fetchFile, expected) {
  const json = async (path) => JSON.parse(new TextDecoder().decode(await fetchFile(path)));
  const files = (...names) => Promise.all(names.map((name) => fetchFile(`${expected}/${name}`)));
  const index = await json('tests/golden/golden.json');
  const data = await fetchFile('tests/golden/golden.bin');
  return {
    golden: golden(modules, index, data),
    meshes: meshes(modules, await json('tests/golden/mesh.json'), index, data),
    random: randomOutputs(modules, ...(await files('random_cases.bin', 'random_faces.bin'))),
    nms: suppression(modules, ...(await files('nms_cases.bin', 'nms_kept.bin'))),
    letterbox: letterboxes(modules, ...(await files('letterbox_cases.bin', 'letterbox_pixels.bin'))),
  };
}
