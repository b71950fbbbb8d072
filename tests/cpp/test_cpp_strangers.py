"""Damaged model files and pictures: an error of one line or a result, and never a sanitizer's report."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from pathlib import Path

import cv2
import pytest
from PIL import Image

from tests.cpp.build import Driver, write_texts
from tests.tflite import fuzz
from tflite.images import read_image
from tflite.mesh import MESH_FILE, read_basis
from tflite.shipped import find_model
from tflite.spec import SPEC_FILE, ModelSpec, SpecError, attach_spec, read_spec

FLATBUFFER = b"\x1c\x00\x00\x00TFL3" + bytes(24)  # what reading metadata looks at
COUNT = 2000


def answers(driver: Driver, folder: Path, command: str, files: list[bytes]) -> list[str]:
    write_texts(folder / "cases.bin", files)
    lines = driver(command, folder / "cases.bin", folder / "lines.txt").decode("utf-8", "replace").splitlines()
    assert len(lines) == len(files)
    return lines


def python_line(model: bytes) -> str | None:
    """What the C++ driver must say of a model file; None where Python refuses it."""
    try:
        spec = read_spec(model)
    except SpecError:
        return None
    thresholds = f"{spec.score_threshold:.17g} {spec.iou_threshold:.17g}"
    limits = f"{spec.max_candidates} {spec.max_faces} {len(spec.strides)}"
    return f"ok {spec.input_height} {spec.input_width} {int(spec.antialias)} {thresholds} {limits}"


def test_metadata_of_damaged_models(driver: Driver, tmp_path: Path) -> None:
    """Documents with other values: accepted exactly where Python accepts them. Damaged archives: no crash."""
    chance = random.Random(3)
    text = fuzz.split(find_model(None).read_bytes())[1]
    whole = attach_spec(FLATBUFFER, read_spec(find_model(None)))
    documents = [fuzz.mutate_metadata(text, chance) for _ in range(COUNT // 2)]
    models = [fuzz.with_metadata(FLATBUFFER, document) for document in documents]
    models += [fuzz.mutate(whole, chance, start=len(FLATBUFFER)) for _ in range(COUNT // 2)]
    lines = answers(driver, tmp_path, "metadata", [whole, *models])
    assert lines.pop(0) == python_line(whole)
    accepted = 0
    for model, line in zip(models, lines, strict=True):
        wanted = python_line(model)
        if wanted is not None and line.startswith("ok"):
            assert line == wanted
            accepted += 1
    for document, model, line in zip(documents, models, lines, strict=False):
        if not any(word in document for word in (b"NaN", b"Infinity")):  # Python's reader takes them for numbers
            assert (python_line(model) is not None) == line.startswith("ok"), (document, line)
    assert accepted > 20 and sum(line.startswith("error") for line in lines) > COUNT // 2


def test_a_changed_byte(driver: Driver, tmp_path: Path) -> None:
    """Other text in the metadata, which the archive's checksum does not fit."""
    whole = attach_spec(FLATBUFFER, ModelSpec(source="made of this"))
    changed = whole.replace(b"made of this", b"made of that")
    assert len(changed) == len(whole) and changed != whole and python_line(changed) is None
    first, second = answers(driver, tmp_path, "metadata", [whole, changed])
    assert first == python_line(whole) and second.startswith("error")


def test_strides_that_do_not_increase(driver: Driver, tmp_path: Path) -> None:
    spec = json.loads(fuzz.split(find_model(None).read_bytes())[1])
    for strides in ([8, 8, 32], [8, 32, 16]):
        model = fuzz.with_metadata(FLATBUFFER, json.dumps({**spec, "strides": strides}).encode())
        (line,) = answers(driver, tmp_path, "metadata", [model])
        assert python_line(model) is None and line.endswith("strides do not increase")


def deflated(text: str, level: int) -> bytes:
    buffer = io.BytesIO(FLATBUFFER)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        archive.writestr("another.txt", "x" * 100)
        archive.writestr(SPEC_FILE, text)
    return buffer.getvalue()


def test_deflated_metadata(driver: Driver, tmp_path: Path) -> None:
    """Blocks that are stored, of the fixed code and of codes of their own; damaged ones, too."""
    chance = random.Random(5)
    spec = json.loads(fuzz.split(find_model(None).read_bytes())[1])
    spec["source"] = "".join(chance.choice("abcdefg \u00e4\u4e2d") for _ in range(20_000)) + "yes" * 5000
    files = [
        deflated(json.dumps(spec, ensure_ascii=ascii_only), level) for ascii_only in (0, 1) for level in (0, 1, 6, 9)
    ]
    spec["source"] = "short"
    files.append(deflated(json.dumps({**spec, "ap": {}}), 9))
    lines = answers(driver, tmp_path, "metadata", files)
    assert lines == [python_line(file) for file in files]
    damaged = [fuzz.mutate(file, chance, start=len(FLATBUFFER)) for file in files for _ in range(100)]
    lines = answers(driver, tmp_path, "metadata", damaged)
    assert sum(line.startswith("error") for line in lines) > len(damaged) // 2


def test_archives_that_ask_for_too_much(driver: Driver, tmp_path: Path) -> None:
    spec = json.loads(fuzz.split(find_model(None).read_bytes())[1])
    large = deflated(json.dumps({**spec, "source": "x" * (1 << 20)}), 9)
    deep = fuzz.with_metadata(FLATBUFFER, b"[" * 100_000)
    bomb = fuzz.with_metadata(FLATBUFFER, json.dumps({**spec, "anchor_sizes": [[8] * 17] * 3}).encode())
    files = [large, deep, bomb, b"", b"TFL3", FLATBUFFER]
    assert all(line.startswith("error") for line in answers(driver, tmp_path, "metadata", files))


def python_basis_line(model: bytes) -> str:
    """What the C++ driver must say of the mesh of a model file."""
    try:
        basis = read_basis(model)
    except SpecError:
        return "error"
    return f"ok {basis.coefficients}" if basis else "none"


def test_bases_of_models(driver: Driver, tmp_path: Path) -> None:
    """Whole ones, of other sizes, not finite; damaged archives: no crash, and nearly always Python's answer."""
    chance = random.Random(11)
    plain = attach_spec(FLATBUFFER, ModelSpec())
    contents = [bytes(size) for size in (2 * 2808, 5 * 2808, 65 * 2808, 0, 2808, 5615, 66 * 2808)]
    contents.append(bytes(2808) + b"\x00\x7c" + bytes(2806))
    models = [plain, FLATBUFFER, b""]
    for data in contents:
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            buffer = io.BytesIO(plain)
            with zipfile.ZipFile(buffer, "a", method) as archive:
                archive.writestr(MESH_FILE, data)
            models.append(buffer.getvalue())
    lines = answers(driver, tmp_path, "bases", models)
    assert lines[2] == "none"  # Python reads no basis of what is no archive
    for model, line in zip(models[3:], lines[3:], strict=True):
        assert line.split(":")[0].removesuffix(" model") == python_basis_line(model), line
    assert len({line for line in lines if line.startswith("ok")}) == 3
    damaged = [fuzz.mutate(models[3 + i % 4], chance, start=len(FLATBUFFER)) for i in range(COUNT // 4)]
    accepted = [model for model in damaged if python_line(model) is not None]
    lines = answers(driver, tmp_path, "bases", accepted)
    same = [
        line.split(":")[0].removesuffix(" model") == python_basis_line(m)
        for line, m in zip(lines, accepted, strict=True)
    ]
    assert len(same) > 50 and sum(same) > 0.9 * len(same)


@pytest.fixture(scope="module")
def picture_files() -> list[bytes]:
    """JPEG and PNG of all kinds that the program reads, each with an EXIF orientation of its own among them."""
    files = [seed for seed in fuzz.image_seeds() if seed[:2] == b"\xff\xd8" or seed[:4] == b"\x89PNG"]
    picture = Image.open(io.BytesIO(files[0])).convert("RGB")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", exif=exif, quality=90)
        files.append(buffer.getvalue())
    for mode in ("L", "1", "LA"):
        buffer = io.BytesIO()
        picture.convert(mode).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


def test_pictures_are_those_of_pillow(driver: Driver, picture_files: list[bytes], tmp_path: Path) -> None:
    lines = answers(driver, tmp_path, "pictures", picture_files)
    for file, line in zip(picture_files, lines, strict=True):
        if Image.open(io.BytesIO(file)).mode == "CMYK":
            assert line.startswith("error picture: cannot decode (four colours, expected grey or colour)")
            continue
        pixels = read_image(file)
        assert line == f"ok {pixels.shape[0]} {pixels.shape[1]} {zlib.crc32(pixels.tobytes())}"


def test_damaged_pictures(driver: Driver, picture_files: list[bytes], tmp_path: Path) -> None:
    chance = random.Random(9)
    damaged = [fuzz.mutate(picture_files[i % len(picture_files)], chance) for i in range(COUNT)]
    damaged += [file[: len(file) // 2] for file in picture_files]
    lines = answers(driver, tmp_path, "pictures", damaged)
    assert all(line.startswith(("ok ", "error ")) for line in lines)
    assert sum(line.startswith("ok") for line in lines) > 200
    assert all(line.startswith("error") for line in lines[COUNT:])  # cut files


def test_a_header_that_claims_a_huge_picture(driver: Driver, tmp_path: Path) -> None:
    """Refused before memory is asked for."""
    small = cv2.imencode(".png", read_image(fuzz.image_seeds()[0]))[1].tobytes()
    header = small[12:16] + struct.pack(">II", 60_000, 60_000) + small[24:29]
    huge = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    (line,) = answers(driver, tmp_path, "pictures", [huge])
    assert line.startswith("error") and "far too large" in line


def test_spec_defaults_are_read_back(driver: Driver, tmp_path: Path) -> None:
    files = [attach_spec(FLATBUFFER, ModelSpec(antialias=antialias)) for antialias in (False, True)]
    assert answers(driver, tmp_path, "metadata", files) == [python_line(file) for file in files]
