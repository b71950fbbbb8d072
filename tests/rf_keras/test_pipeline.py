"""Batches: pixels and labels stay together, order and seeds hold, and bad files are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow as tf

from rf_keras.augment_config import PRESETS, AugmentConfig
from rf_keras.labels import Sample, format_label, read_labels
from rf_keras.pipeline import (
    DataConfig,
    distribute_batches,
    make_batches,
    read_folders,
    sample_stream,
    unreadable_images,
)
from rf_keras.synthetic import make_dataset
from tests.rf_keras.labels.pictures import ways_to_store
from tflite.images import read_image
from tflite.preprocess import letterbox

GREEN = (0, 200, 0)  # BGR
# Left eye red, right eye blue, nose yellow, left mouth corner white, right one black.
DOTS = ((0, 0, 255), (255, 0, 0), (0, 255, 255), (255, 255, 255), (0, 0, 0))


def painted_face(folder: Path, suffix: str = ".png") -> list[Sample]:
    """Two green squares on violet: one with five coloured dots as landmarks, one without known landmarks."""
    image = np.full((180, 260, 3), (150, 60, 150), np.uint8)
    boxes = np.array([[90, 60, 150, 130], [190, 20, 220, 50]], np.float32)
    landmarks = np.full((2, 5, 2), -1, np.float32)
    landmarks[0] = [[105, 80], [135, 80], [120, 95], [105, 115], [135, 115]]
    for x1, y1, x2, y2 in boxes.astype(int):
        image[y1:y2, x1:x2] = GREEN
    for (x, y), colour in zip(landmarks[0].astype(int), DOTS, strict=True):
        image[y - 4 : y + 4, x - 4 : x + 4] = colour
    path = folder / f"painted{suffix}"
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    return [Sample(path, boxes, landmarks)]


def batches(samples: Sequence[Sample], config: DataConfig, stream: Any, **kwargs: Any) -> list[dict[str, np.ndarray]]:
    return list(make_batches(samples, config, np.asarray(stream), **kwargs).as_numpy_iterator())


def uncoloured(preset: str) -> AugmentConfig:
    return replace(PRESETS[preset], brightness=0.0, contrast=(1.0, 1.0), saturation=(1.0, 1.0), hue=0.0)


def is_like(pixels: np.ndarray, colour: Sequence[int], tolerance: int = 90) -> np.ndarray:
    return np.abs(pixels.astype(int) - colour).max(axis=-1) < tolerance


@pytest.mark.parametrize(
    ("preset", "suffix"),
    [("none", ".jpg"), ("light", ".png"), ("scale", ".jpg"), ("scale", ".png"), ("reference", ".jpg")],
)
def test_boxes_and_landmarks_lie_on_their_pixels(tmp_path: Path, preset: str, suffix: str) -> None:
    samples = painted_face(tmp_path, suffix)
    config = DataConfig(size=160, batch=32, augment=uncoloured(preset), seed=3)
    (batch,) = batches(samples, config, np.zeros(32, int))
    assert batch["image"].shape == (32, 160, 160, 3) and batch["image"].dtype == np.uint8
    mirrored = 0
    for image, boxes, points, count in zip(
        *(batch[key] for key in ("image", "boxes", "landmarks", "count")), strict=True
    ):
        assert count in (1, 2)
        for box, marks in zip(boxes[:count], points[:count], strict=True):
            inner = np.rint(box + 0.12 * np.array([1, 1, -1, -1]) * np.tile(box[2:] - box[:2], 2)).astype(int)
            known = (marks != -1).any()
            x1, y1, x2, y2 = inner
            if not known:
                assert is_like(image[y1:y2, x1:x2], GREEN).mean() > 0.95
            # Just outside the box there is no green: one row or column beyond each side that is not the image's edge.
            for edge, fixed in ((box[0] - 3, False), (box[2] + 3, False), (box[1] - 3, True), (box[3] + 3, True)):
                at = round(float(edge))
                if 0 <= at < 160:
                    line = image[at, x1:x2] if fixed else image[y1:y2, at]
                    assert not is_like(line, GREEN, 60).any()
            if known:
                spots = np.rint(marks - 0.5).astype(int)
                inside = ((spots >= 2) & (spots < 158)).all(axis=1)
                flipped = inside[0] and is_like(image[spots[0, 1], spots[0, 0]], DOTS[1])
                mirrored += bool(flipped)
                order = (1, 0, 2, 4, 3) if flipped else range(5)
                for (x, y), visible, dot in zip(spots, inside, order, strict=True):
                    assert not visible or is_like(image[y, x], DOTS[dot])
        for at in range(count, boxes.shape[0]):
            assert (boxes[at] == 0).all() and (points[at] == -1).all()
    assert mirrored == 0 if preset == "none" else 4 < mirrored < 28


def assert_same_samples(images: Sequence[np.ndarray], boxes: Sequence[np.ndarray], folder: Path, size: int) -> None:
    """What is trained on is the same, bit for bit, for plain JPEGs and for each picture stored in another way."""
    sets: dict[str, list[str]] = {"plain": [], "way": []}
    for number, (image, faces) in enumerate(zip(images, boxes, strict=True)):
        files = list(ways_to_store(image).items())
        marks = np.full((len(faces), 5, 2), -1, np.float32)
        for kind, (suffix, data) in (("plain", files[0]), ("way", files[number % len(files)])):
            path = folder / kind / "images" / f"{number}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            sets[kind] += [f"# {path.name}", *format_label(faces, marks)]
    found = {}
    for kind, lines in sets.items():
        (folder / kind / "label.txt").write_text("\n".join(lines))
        samples = read_labels(folder / kind)
        assert sum(sample.plain for sample in samples) == (len(images) if kind == "plain" else len(images) // 12)
        assert [sample.size for sample in samples] == [image.shape[1::-1] for image in images]
        config = DataConfig(size=size, batch=12, augment=PRESETS["scale"], seed=5)
        found[kind] = batches(samples, config, np.arange(len(images)))
    assert same(found["plain"], found["way"])
    assert sum(int(batch["count"].sum()) for batch in found["plain"]) >= len(images) // 2


def test_orientation_and_format_do_not_change_what_is_trained_on(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", 4, seed=9, size=160)
    samples = read_labels(tmp_path / "data")
    images = [read_image(samples[i % 4].image)[: 100 + 3 * i, :, ::-1] for i in range(12)]
    assert_same_samples(images, [np.array([[20, 30, 60, 80]], np.float32)] * 12, tmp_path, 96)


@pytest.mark.shared_data
def test_48_shared_photos_are_the_same_however_they_are_stored(shared_data: Path, tmp_path: Path) -> None:
    samples = [sample for sample in read_labels(shared_data / "groups") if len(sample.boxes)][:48]
    images = [np.ascontiguousarray(read_image(sample.image)[..., ::-1]) for sample in samples]
    assert_same_samples(images, [sample.boxes for sample in samples], tmp_path, 160)


def test_what_is_to_be_ignored_is_painted_over_but_for_faces(tmp_path: Path) -> None:
    image = np.full((192, 256, 3), (150, 60, 150), np.uint8)
    boxes = np.array([[90, 60, 150, 130], [190, 20, 220, 50]], np.float32)
    for x1, y1, x2, y2 in boxes.astype(int):
        image[y1:y2, x1:x2] = GREEN
    cv2.imwrite(str(tmp_path / "a.png"), image)
    regions = np.array([[80, 40, 230, 50], [185, 15, 225, 40], [140, 60, 160, 130]], np.float32)
    sample = Sample(tmp_path / "a.png", boxes, np.full((2, 5, 2), -1, np.float32), regions)
    config = DataConfig(size=256, batch=1, augment=PRESETS["none"])
    (batch,) = batches([sample], config, [0])
    painted = (batch["image"][0] == np.round(config.fill)).all(axis=2)
    expected = np.zeros((256, 256), bool)
    expected[192:] = True  # below the picture
    for x1, y1, x2, y2 in regions.astype(int):
        expected[y1:y2, x1:x2] = True
    for x1, y1, x2, y2 in boxes.astype(int):
        expected[y1:y2, x1:x2] = False
    np.testing.assert_array_equal(painted, expected)
    np.testing.assert_array_equal(batch["boxes"][0], boxes)
    # Likewise in every crop, scale and mirror image: of the violet nothing is left, of the green all.
    everything = replace(sample, ignored=np.array([[0, 0, 256, 192]], np.float32))
    scaled = replace(config, size=96, batch=32, augment=uncoloured("scale"))
    (batch,) = batches([everything], scaled, np.zeros(32, int))
    assert is_like(batch["image"], (150, 60, 150), 30).mean() < 0.002
    assert is_like(batch["image"], GREEN).any(axis=(1, 2)).all()


def test_letterbox_equals_the_device_side(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", 2, seed=5, size=96)
    samples = read_labels(tmp_path / "data")
    image = read_image(samples[0].image)[:70]
    path = tmp_path / "wide.png"
    cv2.imwrite(str(path), image)
    wide = Sample(path, np.array([[10, 10, 40, 50]], np.float32), np.full((1, 5, 2), -1, np.float32))
    config = DataConfig(size=160, batch=1, augment=PRESETS["none"])
    (batch,) = batches([wide], config, [0])
    expected, scale = letterbox(image, 160, 160, config.fill)
    assert np.abs(batch["image"][0].astype(int) - expected).max() <= 1
    np.testing.assert_allclose(batch["boxes"][0], wide.boxes * scale, rtol=0.01)


def test_colour_formats_and_images_without_faces(tmp_path: Path) -> None:
    none = np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32)
    grey = np.full((40, 50), 90, np.uint8)
    files = {
        "grey.jpg": grey,
        "grey.png": grey,
        "rgba.png": np.full((40, 50, 4), 90, np.uint8),
        "one.png": grey[:1, :1],
    }
    samples = []
    for name, image in files.items():
        cv2.imwrite(str(tmp_path / name), image)
        samples.append(Sample(tmp_path / name, *none))
    for preset in ("none", "scale"):
        (batch,) = batches(samples, DataConfig(size=64, batch=4, augment=uncoloured(preset)), range(4))
        assert batch["count"].tolist() == [0, 0, 0, 0]
        assert batch["boxes"].shape == (4, 1, 4) and batch["landmarks"].shape == (4, 1, 5, 2)
        assert all((np.abs(image.astype(int) - 90).max(axis=-1) <= 2).any() for image in batch["image"])


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return read_labels(make_dataset(tmp_path_factory.mktemp("faces") / "data", 12, seed=4, size=128))


def same(first: Sequence[dict[str, np.ndarray]], second: Sequence[dict[str, np.ndarray]]) -> bool:
    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)
        for a, b in zip(first, second, strict=True)
    )


def test_threads_do_not_change_the_batches_but_the_seed_does(faces: list[Sample]) -> None:
    config = DataConfig(size=96, batch=4, augment=PRESETS["scale"], seed=7, threads=1)
    stream = sample_stream([12], None, 7, 24)
    first = batches(faces, config, stream)
    assert len(first) == 6
    assert same(first, batches(faces, replace(config, threads=7), stream))
    assert not same(first, batches(faces, replace(config, seed=8), stream))


def test_a_resume_goes_on_with_the_same_items(faces: list[Sample]) -> None:
    config = DataConfig(size=96, batch=4, augment=PRESETS["scale"], seed=1)
    stream = sample_stream([12], None, 1, 30)
    whole = batches(faces, config, stream)
    assert same(whole[3:], batches(faces, config, stream, start=12))
    # The same sample at another place of the stream looks different.
    twice = batches(faces, config, [0, 0, 0, 0])[0]["image"]
    assert not np.array_equal(twice[0], twice[1])


def test_sizes_take_turns(faces: list[Sample]) -> None:
    config = DataConfig(size=96, more_sizes=(64, 160), batch=4, augment=PRESETS["scale"], seed=1)
    stream = sample_stream([12], None, 1, 30)
    whole = batches(faces, config, stream)
    assert [batch["image"].shape[1:3] for batch in whole] == [(96, 96), (64, 64), (160, 160)] * 2 + [(96, 96)]
    # Each batch is what a run of that size alone would have in its place, however the work is cut.
    alone = {size: batches(faces, replace(config, size=size, more_sizes=()), stream) for size in (96, 64, 160)}
    assert same(whole, [alone[size][at] for at, size in enumerate([96, 64, 160] * 2 + [96])])
    assert same(whole[1:], batches(faces, config, stream, start=4))
    share = batches(faces, config, stream, worker=(1, 2))
    assert all(np.array_equal(part["image"], batch["image"][2:]) for part, batch in zip(share, whole, strict=True))


def test_mixing_changes_images_alone_and_the_same_ones_after_a_resume(faces: list[Sample]) -> None:
    config = DataConfig(size=96, batch=4, augment=replace(PRESETS["scale"], mix_share=0.3), seed=1)
    stream = sample_stream([12], None, 1, 120)
    mixed = batches(faces, config, stream)
    plain = batches(faces, replace(config, augment=PRESETS["scale"]), stream)
    changed = 0
    for one, other in zip(mixed, plain, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[key], other[key]) for key in one if key != "image")
        changed += int((one["image"] != other["image"]).any(axis=(1, 2, 3)).sum())
    assert 20 <= changed <= 52  # 0.3 × 120, and three standard deviations
    assert same(mixed[20:], batches(faces, config, stream, start=80))


def test_last_batch_is_kept_on_request(faces: list[Sample]) -> None:
    config = DataConfig(size=96, batch=5, augment=PRESETS["none"])
    assert [len(b["count"]) for b in batches(faces, config, range(12))] == [5, 5]
    assert [len(b["count"]) for b in batches(faces, config, range(12), drop_remainder=False)] == [5, 5, 2]


def test_workers_share_each_batch(faces: list[Sample]) -> None:
    config = DataConfig(size=96, batch=4, augment=PRESETS["reference"], seed=2)
    stream = sample_stream([12], None, 2, 14)
    whole = batches(faces, config, stream, start=4)
    parts = [batches(faces, config, stream, start=4, worker=(index, 2)) for index in range(2)]
    assert [len(part) for part in parts] == [2, 2]
    for step, batch in enumerate(whole):
        shares = [part[step] for part in parts]
        np.testing.assert_array_equal(np.concatenate([share["image"] for share in shares]), batch["image"])
        np.testing.assert_array_equal(np.concatenate([share["count"] for share in shares]), batch["count"])


def test_replicas_of_a_worker_get_its_share_one_after_the_other(faces: list[Sample]) -> None:
    config = DataConfig(size=96, batch=8, augment=PRESETS["none"])
    parts = batches(faces, config, range(12), worker=(1, 2), replicas=2)
    whole = batches(faces, config, range(12))
    assert len(parts) == 2 and len(whole) == 1
    np.testing.assert_array_equal(np.concatenate([part["image"] for part in parts]), whole[0]["image"][4:])


def test_distribute_batches_gives_each_replica_its_rows(faces: list[Sample]) -> None:
    config = DataConfig(size=96, batch=4, augment=PRESETS["none"])
    plain = batches(faces, config, range(12))
    spread = distribute_batches(tf.distribute.get_strategy(), faces, config, np.arange(12))
    assert same(plain, [{key: value.numpy() for key, value in batch.items()} for batch in spread])


def test_bad_requests_are_errors(faces: list[Sample]) -> None:
    config = DataConfig(size=96, batch=4)
    with pytest.raises(ValueError, match=r"worker 0 of 3 .* batches of 4"):
        make_batches(faces, config, np.arange(12), worker=(0, 3))
    with pytest.raises(ValueError, match="samples 0 to 12, expected 0 to 11"):
        make_batches(faces, config, np.arange(13))
    with pytest.raises(ValueError, match="size is 100"):
        DataConfig(size=100)
    with pytest.raises(ValueError, match="size is 33"):
        DataConfig(more_sizes=(64, 33))
    with pytest.raises(ValueError, match="batch 0"):
        DataConfig(batch=0)


def test_stream_shows_everything_once_per_pass_in_new_order() -> None:
    stream = sample_stream([4, 3], None, 0, 21)
    assert stream.dtype == np.int64
    passes = stream.reshape(3, 7)
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert len({tuple(one) for one in passes}) == 3
    np.testing.assert_array_equal(stream, sample_stream([4, 3], None, 0, 21))
    np.testing.assert_array_equal(stream[:10], sample_stream([4, 3], None, 0, 10))
    assert not np.array_equal(stream, sample_stream([4, 3], None, 1, 21))


def test_stream_mixes_folders_by_weight() -> None:
    stream = sample_stream([10, 1000, 5], [1, 3, 0], 0, 4000)
    first, second = stream[stream < 10], stream[(stream >= 10) & (stream < 1010)]
    assert len(first) + len(second) == 4000
    assert abs(len(first) - 1000) < 100
    assert sorted(first[:10]) == list(range(10)) and sorted(first[10:20]) == list(range(10))
    assert len(set(second[:1000])) == 1000
    np.testing.assert_array_equal(stream[:50], sample_stream([10, 1000, 5], [1, 3, 0], 0, 50))


@pytest.mark.parametrize(
    ("sizes", "weights"),
    [([], None), ([3, 0], None), ([3], [1, 2]), ([3, 3], [1, -1]), ([3], [0]), ([3], [float("nan")])],
)
def test_stream_refuses_bad_folders_and_weights(sizes: list[int], weights: list[float] | None) -> None:
    with pytest.raises(ValueError, match="expected"):
        sample_stream(sizes, weights, 0, 5)


def test_unreadable_images_are_named(tmp_path: Path) -> None:
    good = painted_face(tmp_path, ".jpg")[0]
    samples = [good]
    data = good.image.read_bytes()
    for name, content in {"empty.jpg": b"", "cut.jpg": data[: len(data) // 2], "text.jpg": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
        samples.append(Sample(tmp_path / name, good.boxes, good.landmarks))
    assert [path.name for path in unreadable_images(samples)] == ["empty.jpg", "cut.jpg", "text.jpg"]
    for index in (1, 2):
        with pytest.raises(tf.errors.InvalidArgumentError):
            batches(samples, DataConfig(size=64, batch=1), [index])


@pytest.mark.shared_data
def test_real_photos_of_several_folders(shared_data: Path) -> None:
    samples, sizes = read_folders([shared_data / "wider" / "train", shared_data / "masks", shared_data / "scenes"])
    assert sizes == [2207, 427, 700] and len(samples) == sum(sizes)
    stream = sample_stream(sizes, [2, 1, 1], 0, 32)
    for batch in batches(samples, DataConfig(size=128, batch=16, augment=PRESETS["scale"]), stream):
        assert (batch["boxes"] >= 0).all() and (batch["boxes"] <= 128).all()
        assert batch["count"].max() == batch["boxes"].shape[1]
        assert batch["image"].std(axis=(1, 2, 3)).min() > 1
