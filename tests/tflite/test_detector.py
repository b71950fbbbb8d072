from __future__ import annotations

import dataclasses
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tflite.conftest import HEIGHT, WIDTH, build_model, photo
from tflite.detector import STAGES, FaceDetector
from tflite.images import ImageError
from tflite.interpreter import ModelError
from tflite.postprocess import Detections
from tflite.prepared import FixedShapeError
from tflite.preprocess import shrink
from tflite.spec import ModelSpec, SpecError, attach_spec


def equal(a: Detections, b: Detections) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(Detections))


@pytest.fixture(scope="module", params=["int8", "fp32"])
def detector(request: pytest.FixtureRequest, model_dir: Path) -> FaceDetector:
    return FaceDetector(model_dir / f"{request.param}.tflite", num_threads=1)


def test_the_bright_squares_are_found(detector: FaceDetector) -> None:
    image = photo(128, 192, ((16, 32, 32), (64, 128, 32)))
    faces = detector.detect(image)
    assert len(faces) >= 2
    assert faces.boxes.shape == (len(faces), 4)
    assert faces.landmarks.shape == (len(faces), 5, 2)
    assert faces.boxes.dtype == faces.scores.dtype == faces.landmarks.dtype == np.float32
    assert (np.diff(faces.scores) <= 0).all()
    assert (faces.scores >= 0.5).all()
    centres = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    for x, y in ((48, 32), (144, 80)):
        assert np.abs(centres - (x, y)).max(axis=1).min() < 16
    inside = [(abs(x - 48) < 32 and abs(y - 32) < 32) or (abs(x - 144) < 32 and abs(y - 80) < 32) for x, y in centres]
    assert all(inside)


def test_boxes_scale_with_the_image(detector: FaceDetector) -> None:
    image = photo(128, 192)
    large = np.repeat(np.repeat(image, 3, axis=0), 3, axis=1)
    a, b = detector.detect(image, 0.8), detector.detect(large, 0.8)
    assert len(a) == len(b) > 0
    np.testing.assert_allclose(b.boxes, 3 * a.boxes, atol=6)


def test_a_file_may_ask_for_large_photos_to_be_halved(model_dir: Path) -> None:
    plain = FaceDetector(model_dir / "fp32.tflite", 1)
    spec = dataclasses.replace(plain.spec, antialias=True)
    asking = FaceDetector(attach_spec((model_dir / "bare.tflite").read_bytes(), spec), 1)
    image = photo(4 * HEIGHT, 4 * WIDTH, ((16, 32, 128), (256, 128, 160)))
    noise = np.random.default_rng(0).integers(-60, 60, image.shape)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    found, expected = asking.detect(image), plain.detect(shrink(image, HEIGHT, WIDTH))
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.boxes, 4 * expected.boxes, atol=1e-3)
    assert not equal(found, plain.detect(image))


def test_no_face(detector: FaceDetector) -> None:
    faces = detector.detect(np.zeros((50, 50, 3), np.uint8))
    assert len(faces) == 0
    assert faces.boxes.shape == (0, 4)
    assert faces.landmarks.shape == (0, 5, 2)
    assert faces.to_list() == []


def test_thresholds(detector: FaceDetector) -> None:
    image = photo()
    default = detector.detect(image)
    assert equal(default, detector.detect(image, detector.spec.score_threshold, detector.spec.iou_threshold))
    assert len(detector.detect(image, 0.01)) > len(default)
    assert len(detector.detect(image, iou_threshold=1.0)) > len(default)
    with pytest.raises(ValueError, match=r"score threshold is 2"):
        detector.detect(image, 2.0)
    with pytest.raises(ValueError, match=r"IoU threshold is -1"):
        detector.detect(image, 0.001, -1.0)


def test_int8_and_float_agree(model_dir: Path) -> None:
    image = photo()
    a, b = (FaceDetector(model_dir / f"{kind}.tflite").detect(image, 0.9) for kind in ("int8", "fp32"))
    assert len(a) == len(b)
    np.testing.assert_allclose(a.boxes, b.boxes, atol=1.0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (7, 5), (2000, 3000)])
def test_odd_sizes(detector: FaceDetector, shape: tuple[int, int]) -> None:
    faces = detector.detect(np.full((*shape, 3), 255, np.uint8), 0.02)
    assert (faces.boxes >= 0).all()
    assert (faces.boxes[:, 2] <= shape[1]).all()
    assert (faces.boxes[:, 3] <= shape[0]).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((5, 5), np.uint8), r"image is uint8 \[5, 5\], expected a uint8 BGR array"),
        (np.zeros((5, 5, 4), np.uint8), r"uint8 \[5, 5, 4\]"),
        (np.zeros((5, 5, 3), np.float32), "image is float32"),
        (np.zeros((0, 5, 3), np.uint8), "image is empty"),
        (b"photo.jpg", "image is bytes, expected a path, a Pillow image or a uint8 BGR array"),
        (None, "image is NoneType"),
        ("none.jpg", r"none.jpg: cannot read the file \(No such file"),
    ],
)
def test_wrong_images(detector: FaceDetector, image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detector.detect(image)


def test_the_image_is_not_changed(detector: FaceDetector) -> None:
    image = photo(HEIGHT, WIDTH)
    copy = image.copy()
    detector.detect(image)
    np.testing.assert_array_equal(image, copy)


def test_bytes_and_paths_give_the_same(model_dir: Path) -> None:
    path = model_dir / "int8.tflite"
    assert equal(FaceDetector(path).detect(photo()), FaceDetector(path.read_bytes()).detect(photo()))
    assert equal(FaceDetector(path).detect(photo()), FaceDetector(str(path), num_threads=2).detect(photo()))


def test_models_that_cannot_be_used(model_dir: Path, tmp_path: Path) -> None:
    good = (model_dir / "int8.tflite").read_bytes()
    bare = (model_dir / "bare.tflite").read_bytes()
    wrong = tmp_path / "m.tflite"
    cases: list[tuple[bytes | None, type[Exception], str]] = [
        (None, SpecError, "cannot read the model"),
        (b"", SpecError, "not a TFLite model"),
        (b"PK\x03\x04 a zip", SpecError, "not a TFLite model"),
        (bare, SpecError, r"no readable retinaface\.json"),
        (good[: len(good) // 2], SpecError, r"no readable retinaface\.json"),
        (attach_spec(bare, ModelSpec(input_height=64, input_width=64)), ModelError, r"shape \[1, 64, 96, 3\]"),
        (
            attach_spec(bare, ModelSpec(input_height=64, input_width=96, strides=(8, 16), anchor_sizes=((9,), (9,)))),
            ModelError,
            r"'score_8' has the shape \[1, 8, 12, 2\], its metadata needs \[1, 8, 12, 1\]",
        ),
        (
            attach_spec(bare, ModelSpec(input_height=64, input_width=96, strides=(4, 8, 16))),
            ModelError,
            "no output 'score_4'",
        ),
    ]
    for content, error, message in cases:
        wrong.unlink(missing_ok=True)
        if content is not None:
            wrong.write_bytes(content)
        with pytest.raises(error, match=message) as caught:
            FaceDetector(wrong)
        assert str(caught.value).startswith(f"{wrong}: ")
        assert "\n" not in str(caught.value)


def test_a_model_of_another_kind(tmp_path: Path) -> None:
    import tensorflow as tf

    class Other(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": x + 1}

    other = Other()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([other.serve.get_concrete_function()], other)
    path = tmp_path / "other.tflite"
    path.write_bytes(attach_spec(converter.convert(), ModelSpec()))
    with pytest.raises(ModelError, match=r"inputs are \['x'\], expected 'image'"):
        FaceDetector(path)


def test_no_threads(model_dir: Path) -> None:
    with pytest.raises(ValueError, match="num_threads is 0"):
        FaceDetector(model_dir / "int8.tflite", num_threads=0)


def test_a_path_a_pillow_image_and_an_array_give_the_same(detector: FaceDetector, tmp_path: Path) -> None:
    image = photo()
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    upright = Image.fromarray(image[..., ::-1])
    turned = upright.rotate(90, expand=True)
    turned.save(tmp_path / "a.png", exif=exif)
    expected = detector.detect(image)
    assert len(expected) and detector.detect(upright) == expected
    assert detector.detect(tmp_path / "a.png") == detector.detect(str(tmp_path / "a.png")) == expected
    with Image.open(tmp_path / "a.png") as opened:
        assert detector.detect(opened) == expected
        assert opened.size == turned.size  # the caller's own picture stays as it is
    assert detector.detect(upright.convert("L")) == detector.detect(upright.convert("L").convert("RGB"))
    (tmp_path / "half.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    with Image.open(tmp_path / "half.png") as half, pytest.raises(ImageError, match="image: cannot decode"):
        detector.detect(half)


def test_a_refused_call_leaves_the_detector_whole(detector: FaceDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while its exception is kept, whose frames know the interpreter's memory."""
    expected = detector.detect(photo())
    with pytest.raises(ValueError) as refused:
        detector.detect(photo(), 2.0)

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("tflite.decode.decode_boxes", fail)
        with pytest.raises(MemoryError) as failed:
            detector.detect(photo(), 0.01)
    assert detector.detect(photo()) == expected
    assert refused.value and failed.value


def test_stages_and_the_network_alone(detector: FaceDetector) -> None:
    faces, seconds = detector.detect_timed(photo())
    assert faces == detector.detect(photo())
    assert tuple(seconds) == STAGES
    assert all(0 < value < 1 for value in seconds.values())
    detector.invoke()
    assert detector.detect(photo()) == faces


def test_another_process_gets_its_own(detector: FaceDetector) -> None:
    copy = pickle.loads(pickle.dumps(detector))
    assert copy.name == detector.name and copy.num_threads == detector.num_threads
    assert copy.detect(photo()) == detector.detect(photo())
    copy.close()
    with pytest.raises(ValueError, match="the detector is closed"):
        pickle.dumps(copy)
    with pytest.raises(ValueError, match="the detector is closed"):
        copy.invoke()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_detects_while_a_thread_of_its_parent_does(model_dir: Path) -> None:
    """The lock may be held and the interpreter's threads are gone: the child starts with new ones."""
    detector = FaceDetector(model_dir / "int8.tflite", num_threads=2)
    expected = detector.detect(photo())
    with detector._lock:
        child = os.fork()
        if not child:
            signal.alarm(20)  # ends a child that hangs
            os._exit(0 if detector.detect(photo()) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert detector.detect(photo()) == expected


def test_repr_names_the_model(detector: FaceDetector) -> None:
    assert repr(detector) == f"FaceDetector({detector.name!r}, num_threads=1)"


def close(a: Detections, b: Detections) -> bool:
    return len(a) == len(b) > 0 and np.allclose(a.boxes, b.boxes, atol=1e-3) and np.allclose(a.scores, b.scores)


@pytest.fixture(scope="module")
def fixed_file(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32.tflite with its size among its constants."""
    path = tmp_path_factory.mktemp("fixed") / "fixed.tflite"
    spec = FaceDetector(model_dir / "fp32.tflite", 1).spec
    path.write_bytes(attach_spec(build_model(HEIGHT, WIDTH, int8=False, fixed=True), spec))
    return path


@pytest.mark.parametrize("kind", ["int8", "fp32"])
@pytest.mark.parametrize("size", [(128, 192), (64, 64), (128, 96), (96, 128)])
def test_the_same_faces_at_the_pictures_shape(kind: str, size: tuple[int, int], model_dir: Path) -> None:
    """Of cells of the picture alone, these models' outputs do not depend on what is beside or below."""
    image = photo(*size, ((32, 32, 32), (16, 64, 16)))
    own = FaceDetector(model_dir / f"{kind}.tflite", 1, input_size=None)
    auto = FaceDetector(model_dir / f"{kind}.tflite", 1)
    assert close(auto.detect(image), own.detect(image))
    assert (own.input_shape(*size), auto.input_shape(*size)[0]) == ((HEIGHT, WIDTH), HEIGHT)


def test_a_shape_that_is_asked_for(model_dir: Path) -> None:
    """Twice as large an input finds what the picture at twice its size shows."""
    image = photo(64, 96, ((16, 48, 8),))
    large = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    found = FaceDetector(model_dir / "fp32.tflite", 1, input_size=(128, 192)).detect(large)
    assert len(found) > 0
    tall = FaceDetector(model_dir / "fp32.tflite", 1, input_size=(256, 192))
    assert tall.input_shape(1, 1) == (256, 192)
    assert close(tall.detect(large), found)


def test_shapes_come_and_go(model_dir: Path) -> None:
    """More shapes than are kept, in turns: each has the faces that a detector of its own finds."""
    sizes = [(64, 96), (64, 64), (96, 64), (32, 96), (64, 96), (50, 96), (64, 64)]
    squares = ((8, 16, 16),)
    detector = FaceDetector(model_dir / "int8.tflite", 1)
    for height, width in sizes * 2:
        image = photo(height, width, squares)
        alone = FaceDetector(model_dir / "int8.tflite", 1)
        assert detector.detect(image) == alone.detect(image)
        assert detector.input_shape(height, width) == alone.input_shape(height, width)


def test_a_network_for_each_shape(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    load = FaceDetector._load
    monkeypatch.setattr(FaceDetector, "_load", lambda self: made.append(1) or load(self))
    detector = FaceDetector(attach_spec(build_model(160, 160, int8=False), ModelSpec(160, 160)), 1)
    for _ in range(2):
        for side in range(16, 161, 16):
            assert detector.input_shape(side, 160)[0] == (96 if side <= 96 else 128 if side <= 128 else 160)
            detector.detect(photo(side, 160, ()))
            detector.detect(photo(160, side, ()))
    assert len(made) == 5, "one for each shape, and none beside"


def test_the_first_picture_takes_the_interpreter_there_is(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = FaceDetector(model_dir / "int8.tflite", 1)
    monkeypatch.setattr(FaceDetector, "_load", lambda self: pytest.fail("one more interpreter"))
    detector.detect(photo(64, 64, ()))
    detector.invoke()


def test_a_file_of_one_shape_is_used_at_that(fixed_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    image = photo(64, 64, ((16, 16, 16),))
    detector = FaceDetector(fixed_file, 1)
    assert detector.detect(image) == FaceDetector(fixed_file, 1, input_size=None).detect(image)
    assert detector.input_shape(64, 64) == (HEIGHT, WIDTH)
    assert len(detector.detect(image)) > 0
    with pytest.raises(FixedShapeError, match=r"fixed\.tflite: runs at its own 64x96 only, .*64x64") as error:
        FaceDetector(fixed_file, 1, input_size=(64, 64))
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("size", ["square", (64,), (64, 96, 3), (48, 96), (32, 96), (64, 1312), (64.0, 96.0), ()])
def test_no_input_size(size: object, model_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"input size is .*, expected 'auto' or"):
        FaceDetector(model_dir / "int8.tflite", 1, input_size=size)  # type: ignore[arg-type]


def test_pickled_with_its_input_size(model_dir: Path) -> None:
    detector = FaceDetector(model_dir / "int8.tflite", 1, input_size=(64, 64))
    other = pickle.loads(pickle.dumps(detector))
    assert other.input_size == (64, 64)
    assert other.detect(photo()) == detector.detect(photo())
    assert repr(other).endswith(", input_size=(64, 64))")
