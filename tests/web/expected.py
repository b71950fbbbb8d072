"""Write what Python computes, for the JavaScript tests to compare with.

    python -m tests.web.expected FOLDER

- `random_cases.bin`, `random_faces.bin`: 2,000 random network outputs and their faces; `nms_cases.bin`, `nms_kept.bin`;
  `letterbox_cases.bin`, `letterbox_pixels.bin`: in the formats of tests/android/exchange.py.
- `specs.json`: damaged metadata, and whether Python takes it; `zips.json`: model files with damaged archives, likewise;
  `bases.json`: with damaged archives whose metadata can be read, and how many coefficients their meshes have.
- `pictures/`, `pictures.json`: 20 pictures; for each model the sha256 of the network's input and of its outputs (in the
  order of their names) at the model's own shape and, where the model takes it, at the picture's; and the faces, the
  first with their meshes where the model has one.
- `tiny_*.tflite`: models of 64×96 pixels, int8, float32, of that shape only, and with a mesh, part of `pictures.json`.
- `camera.y4m`, `camera.webm`, `camera.json`: 60 frames in which a face moves, each with its number in black and white
  squares, and the box that Python finds.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
for folder in ("tests/android", "tests/android/tools"):
    sys.path.insert(0, str(ROOT / folder))

import exchange  # noqa: E402  (found through the path set above, as are the next)
import test_android_parity as parity  # noqa: E402

from tests.tflite import fuzz  # noqa: E402
from tests.tflite.conftest import HEIGHT, WIDTH, build_mesh_model, build_model, golden_basis  # noqa: E402
from tflite.detector import FaceDetector  # noqa: E402
from tflite.interpreter import load_interpreter, resize, tensor_details  # noqa: E402
from tflite.mesh import attach_basis, read_basis  # noqa: E402
from tflite.nms import nms  # noqa: E402
from tflite.preprocess import apply_table, input_table, letterbox  # noqa: E402
from tflite.shapes import auto_shape  # noqa: E402
from tflite.spec import SPEC_FILE, ModelSpec, SpecError, attach_spec, read_spec, spec_from_json  # noqa: E402

DEMO = ROOT / "web_demo"
MEAN = (104.0, 117.5, 123.0)
SQUARE = 32  # pixels of a bit of the camera's frame number
BITS = 7  # six of the number, one of parity
MESHES = 2  # faces of a picture whose meshes are written


def write_random(folder: Path) -> None:
    chance = np.random.default_rng(20261129)
    cases = [parity.random_case(chance) for _ in range(2000)]
    exchange.write_decode_cases(folder / "random_cases.bin", cases)
    with (folder / "random_faces.bin").open("wb") as out:
        for case in cases:
            faces = parity.python_faces(case)
            out.write(np.int32(len(faces)).tobytes() + faces.tobytes())


def write_nms(folder: Path) -> None:
    chance = np.random.default_rng(7)
    cases = [parity.random_nms_case(chance) for _ in range(300)]
    exchange.write_nms_cases(folder / "nms_cases.bin", cases)
    with (folder / "nms_kept.bin").open("wb") as out:
        for case in cases:
            limits = (case.iou_threshold, case.pixel_offset, case.max_candidates, case.max_faces)
            kept = nms(case.boxes, case.scores, *limits).astype("<i4")
            out.write(np.int32(len(kept)).tobytes() + kept.tobytes())


def write_letterboxes(folder: Path) -> None:
    """Scaled up, down, to half and not at all; noise and ramps, with and without the halvings."""
    chance = np.random.default_rng(5)
    sizes = [(48, 64), (64, 64), (1, 1), (1, 500), (500, 1), (128, 128), (96, 128), (37, 911), (63, 65), (480, 640)]
    sizes += [(int(height), int(width)) for height, width in chance.integers(2, 400, (14, 2))]
    cases = []
    for i, (height, width) in enumerate(sizes):
        noise = chance.integers(0, 256, (height, width, 3), dtype=np.uint8)
        ramp = np.add.outer(np.arange(height), np.arange(width))[..., None] * np.array((1, 2, 3)) % 256
        target = ((64, 64), (96, 32), (320, 224))[i % 3]
        cases += [
            (image, *target, MEAN, antialias) for image in (noise, ramp.astype(np.uint8)) for antialias in (False, True)
        ]
    exchange.write_letterbox_cases(folder / "letterbox_cases.bin", cases)
    with (folder / "letterbox_pixels.bin").open("wb") as out:
        for image, height, width, mean, antialias in cases:
            out.write(letterbox(image, height, width, mean, antialias=antialias)[0].tobytes())


def accepted(read: Any, *arguments: Any) -> bool:
    try:
        read(*arguments)
    except SpecError:
        return False
    return True


def write_specs(folder: Path, model: bytes) -> None:
    """Damaged metadata. Python alone takes `true` for 1, and NaN where it does not look: those are left out."""
    chance = random.Random(38)
    flatbuffer, text = fuzz.split(model)
    specs: list[dict[str, Any]] = []
    while len(specs) < 1000:
        document = fuzz.mutate_metadata(text, chance) if specs else text.encode()
        try:
            shown = document.decode()
            data = json.loads(shown)
        except (ValueError, RecursionError):
            continue
        if "NaN" in shown or "Infinity" in shown or (isinstance(data, dict) and data.get("format_version") is True):
            continue
        specs.append({"text": shown, "accepted": accepted(spec_from_json, shown, "file")})
    (folder / "specs.json").write_text(json.dumps(specs))

    # The archive behind a stub of the flatbuffer, as converters write it and compressed.
    stub = flatbuffer[:64]
    packed = io.BytesIO(stub)
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(SPEC_FILE, text)
    files = [attach_spec(stub, read_spec(model)), packed.getvalue()]
    files += [fuzz.mutate(files[i % 2], chance, start=len(stub)) for i in range(400)]
    zips = [{"file": base64.b64encode(data).decode(), "accepted": accepted(read_spec, data)} for data in files]
    (folder / "zips.json").write_text(json.dumps(zips))


def write_bases(folder: Path, model: bytes) -> None:
    """Whole and damaged archives with a mesh; 0 coefficients where there is none, -1 where Python refuses it."""
    chance = random.Random(16)
    stub = fuzz.split(model)[0][:64]
    basis = golden_basis()
    plain = attach_spec(stub, read_spec(model))
    packed = io.BytesIO(plain)
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mesh.f16", basis.to_bytes())
    files = [attach_basis(plain, basis), packed.getvalue(), plain]
    for size in (0, 2808, 5615, 66 * 2808):
        other = io.BytesIO(plain)
        with zipfile.ZipFile(other, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("mesh.f16", bytes(size))
        files.append(other.getvalue())
    # The archive's directory, where a byte means most, and its members.
    files += [fuzz.mutate(files[i % 2], chance, start=len(files[i % 2]) - 200 if i % 4 else 64) for i in range(300)]
    entries = []
    for data in files:
        if accepted(read_spec, data):
            try:
                found = read_basis(data)
                coefficients = found.coefficients if found else 0
            except SpecError:
                coefficients = -1
            entries.append({"file": base64.b64encode(data).decode(), "coefficients": coefficients})
    (folder / "bases.json").write_text(json.dumps(entries))


def portrait() -> np.ndarray:
    """uint8 BGR: Grace Hopper, in the public domain."""
    return np.asarray(Image.open(DEMO / "example.jpg").convert("RGB"))[..., ::-1]


def pictures() -> list[np.ndarray]:
    """One portrait scaled up and down, turned, cut, mirrored, darkened, repeated: 20 pictures, one without a face."""
    image = portrait()
    height, width = image.shape[:2]
    made = [cv2.resize(image, None, fx=f, fy=f, interpolation=cv2.INTER_AREA) for f in (0.2, 0.35, 0.5, 0.8, 1.7)]
    made += [cv2.resize(image, size) for size in ((640, 640), (320, 320), (1280, 1280), (900, 300))]
    made += [image, image[:, ::-1], image[: height // 2], image[:, width // 4 :], image // 3]
    made += [np.hstack((image,) * n) for n in (2, 3)] + [np.vstack((image,) * 2), np.tile(image, (3, 3, 1))]
    return [*made, np.rot90(image), np.full((48, 64, 3), 128, np.uint8)]


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


class Expectation:
    """One model's answers."""

    def __init__(self, path: Path) -> None:
        self.spec = read_spec(path)
        self.detector = FaceDetector(path, num_threads=1)
        self.model, self.name = path.read_bytes(), path.name

    def at(self, image: np.ndarray, height: int, width: int) -> dict[str, Any]:
        """Of an input of that shape."""
        interpreter, name = load_interpreter(self.model, 1, self.name)
        assert name.startswith("ai_edge_litert"), name
        source, outputs = tensor_details(interpreter, self.name)
        if (height, width) != (self.spec.input_height, self.spec.input_width):
            resize(interpreter, source["index"], (1, height, width, 3))
        boxed, _ = letterbox(image, height, width, self.spec.mean, antialias=self.spec.antialias)
        values = np.empty(boxed.shape, source["dtype"])
        apply_table(boxed, input_table(self.spec.mean, *source["quantization"], source["dtype"]), values)
        interpreter.set_tensor(source["index"], values[None])
        interpreter.invoke()
        found = [interpreter.get_tensor(outputs[name]["index"]) for name in sorted(outputs)]
        return {"input": digest(values), "outputs": digest(*found), "values": sum(output.size for output in found)}

    def of(self, image: np.ndarray) -> dict[str, Any]:
        own = self.spec.input_height, self.spec.input_width
        faces = self.detector.detect(np.ascontiguousarray(image))
        answer = {**self.at(image, *own), "faces": faces.to_list()}
        if faces.mesh is not None and faces.pose is not None:
            answer["meshes"] = [mesh.reshape(-1).tolist() for mesh in faces.mesh[:MESHES]]
            answer["poses"] = faces.pose[:MESHES].tolist()
        if self.name.startswith("retinaface_"):  # no constant of a shipped file holds a height or a width
            answer["auto"] = self.at(image, *auto_shape(*image.shape[:2], *own))
        return answer


def write_tiny(folder: Path) -> list[Path]:
    """Models with inputs that are no squares, two float32, one of which runs at its own shape only, one with a mesh."""
    paths = []
    for kind, fixed in (("int8", False), ("float32", False), ("float32", True)):
        spec = ModelSpec(
            input_height=HEIGHT, input_width=WIDTH, quantization=kind, antialias=True, score_threshold=0.02
        )
        path = folder / f"tiny_{kind}{'_fixed' if fixed else ''}.tflite"
        path.write_bytes(attach_spec(build_model(HEIGHT, WIDTH, kind == "int8", fixed), spec))
        paths.append(path)
    path = folder / "tiny_mesh.tflite"
    path.write_bytes(build_mesh_model())
    return [*paths, path]


def write_pictures(folder: Path, models: list[Path]) -> None:
    (folder / "pictures").mkdir()
    expectations = {path.name: Expectation(path) for path in models}
    entries = []
    for i, image in enumerate(pictures()):
        name = f"pictures/{i:02d}.png"
        Image.fromarray(np.ascontiguousarray(image[..., ::-1])).save(folder / name)
        answers = {model: expectation.of(image) for model, expectation in expectations.items()}
        entries.append({"file": name, "height": image.shape[0], "width": image.shape[1], "models": answers})
    (folder / "pictures.json").write_text(json.dumps(entries))


def camera_frame(patch: np.ndarray, number: int) -> np.ndarray:
    """uint8 BGR 480×640: the patch on its way, the number in squares at the lower edge."""
    frame = np.full((480, 640, 3), 90, np.uint8)
    angle = 2 * np.pi * number / 60
    x, y = 2 * round(110 + 105 * np.cos(angle)), 2 * round(52 + 50 * np.sin(2 * angle))  # even: chroma is halved
    height, width = patch.shape[:2]
    frame[y : y + height, x : x + width] = patch
    bits = [number >> i & 1 for i in range(BITS - 1)]
    for i, bit in enumerate([*bits, sum(bits) % 2]):
        frame[-SQUARE:, i * SQUARE : (i + 1) * SQUARE] = 255 * bit
    return frame


def write_camera(folder: Path, model: Path) -> None:
    image = portrait()
    patch = cv2.resize(image[20:420, 100:430], (198, 240), interpolation=cv2.INTER_AREA)
    frames = []
    film = cv2.VideoWriter(str(folder / "camera.webm"), cv2.VideoWriter.fourcc(*"VP80"), 10, (640, 480))
    with (folder / "camera.y4m").open("wb") as out, FaceDetector(model, num_threads=1) as detector:
        out.write(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n")
        for number in range(60):
            frame = camera_frame(patch, number)
            film.write(frame)
            planes = cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)
            out.write(b"FRAME\n" + planes.tobytes())
            frames.append(detector.detect(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)).to_list())
    film.release()
    (folder / "camera.json").write_text(json.dumps({"square": SQUARE, "bits": BITS, "frames": frames}))


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    shipped = sorted((ROOT / "tflite" / "models").glob("*.tflite"))
    default = ROOT / "tflite" / "models" / json.loads((DEMO / "package.json").read_text())["config"]["model"]
    write_random(folder)
    write_nms(folder)
    write_letterboxes(folder)
    write_specs(folder, default.read_bytes())
    write_bases(folder, default.read_bytes())
    write_pictures(folder, [*shipped, *write_tiny(folder)])
    write_camera(folder, default)
    print(f"{folder}: {sum(path.stat().st_size for path in folder.rglob('*')) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
