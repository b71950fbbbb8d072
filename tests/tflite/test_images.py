from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.tflite.conftest import photo
from tflite.finding import expand_inputs
from tflite.images import LARGEST_PIXELS, ImageError, open_image, orientation_of, read_image, write_image


def encoded(image: np.ndarray, form: str = "PNG", **options: object) -> bytes:
    """A file's bytes of a grey, RGB or RGBA array."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def rgb() -> np.ndarray:
    return cv2.cvtColor(photo(20, 30, ((2, 5, 9),)), cv2.COLOR_BGR2RGB)


def test_colour_order_is_bgr(rgb: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(rgb))
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image, rgb[..., ::-1])
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG", "PPM"])
def test_every_format_opens(form: str) -> None:
    grey = np.full((16, 24, 3), 128, np.uint8)
    image = read_image(encoded(grey, form))
    assert image.shape == (16, 24, 3)
    assert np.abs(image.astype(int) - 128).max() <= 3


# Orientation → the pixels to store so that the picture is upright once it is applied.
UNDO: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


def stored(image: np.ndarray, orientation: int, form: str, **options: object) -> bytes:
    """A file that shows `image` (grey or RGB) once its orientation is applied."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(np.ascontiguousarray(UNDO[orientation](image)), form, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(rgb: np.ndarray, orientation: int) -> None:
    """Each stored file shows the same upright picture once its orientation is applied, whatever the format."""
    for form, options in (
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
    ):
        data = stored(rgb, orientation, form, **options)
        np.testing.assert_array_equal(read_image(data), rgb[..., ::-1], err_msg=form)
        with open_image(io.BytesIO(data)) as header:
            assert orientation_of(header) == orientation
    smooth = cv2.resize(rgb, (160, 96), interpolation=cv2.INTER_CUBIC)
    found = read_image(stored(smooth, orientation, "JPEG", quality=98, subsampling=0))
    assert found.shape == smooth.shape and np.abs(found[..., ::-1].astype(int) - smooth).max() < 16
    deep = np.arange(60, dtype=np.uint16).reshape(6, 10) * 1000
    np.testing.assert_array_equal(read_image(stored(deep, orientation, "TIFF"))[..., 0], deep // 256)


def test_damaged_exif_is_ignored(rgb: np.ndarray) -> None:
    np.testing.assert_array_equal(read_image(encoded(rgb, exif=b"Exif\x00\x00garbage")), rgb[..., ::-1])


def test_grey_alpha_and_palette() -> None:
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    as_color = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(encoded(grey)), as_color)
    rgba = np.concatenate((as_color, grey[..., None]), axis=2)
    np.testing.assert_array_equal(read_image(encoded(rgba)), as_color)
    buffer = io.BytesIO()
    Image.fromarray(grey).convert("P").save(buffer, "PNG", transparency=3)
    np.testing.assert_array_equal(read_image(buffer.getvalue()), as_color)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_the_high_byte(channels: int) -> None:
    deep = (np.arange(60 * channels, dtype=np.uint16).reshape(6, 10, channels) * 1000).squeeze()
    ok, data = cv2.imencode(".png", deep)
    assert ok
    image = read_image(data.tobytes())
    expected = (deep // 256).astype(np.uint8)
    expected = expected if channels == 3 else np.repeat(expected[..., None], 3, axis=2)
    assert np.abs(image.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_wide_numbers_of_8_bits_stay_and_larger_ones_are_16_bits(dtype: type) -> None:
    """TIFF's 32-bit grey, whole or floating point: up to 255 the values are grey levels already."""
    levels: np.ndarray = np.arange(0, 256, dtype=dtype).reshape(16, 16)
    np.testing.assert_array_equal(read_image(encoded(levels, "TIFF"))[..., 1], levels)
    np.testing.assert_array_equal(read_image(encoded(levels * 256, "TIFF"))[..., 1], levels)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_in_16_are_scaled_by_what_holds_them(bits: int) -> None:
    """A sensor's 10 bits lie at the bottom of 16-bit samples, in grey and in colour, in PNG and TIFF."""
    levels: np.ndarray = np.arange(256, dtype=np.uint16).reshape(16, 16)
    deep = levels << (bits - 8)
    colour = np.stack([deep, deep.T, deep[::-1]], axis=2)
    expected = np.stack([levels, levels.T, levels[::-1]], axis=2)
    for suffix in (".png", ".tiff"):
        np.testing.assert_array_equal(read_image(cv2.imencode(suffix, deep)[1].tobytes())[..., 1], levels)
        np.testing.assert_array_equal(read_image(cv2.imencode(suffix, colour)[1].tobytes()), expected)
    np.testing.assert_array_equal(read_image(encoded(deep, "TIFF"))[..., 1], levels)


def test_bits_that_the_file_names_count_more_than_its_pixels() -> None:
    dark = np.full((4, 4), 700, np.uint16)
    assert read_image(encoded(dark, "TIFF")).max() == 700 >> 2
    assert read_image(encoded(dark, "TIFF", tiffinfo={281: 4095})).max() == 700 >> 4
    assert read_image(b"P5 4 4 4095 " + dark.astype(">u2").tobytes()).max() == 700 * 65535 // 4095 // 256


def test_floating_point_up_to_1_is_the_share_of_white() -> None:
    levels = np.arange(256).reshape(16, 16)
    share = (levels / 255).astype(np.float32)
    np.testing.assert_array_equal(read_image(encoded(share, "TIFF"))[..., 1], levels)
    share[0, :4] = np.nan, np.inf, -np.inf, 1.5
    assert read_image(encoded(share, "TIFF"))[0, :4, 0].tolist() == [0, 0, 0, 255]


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["gray10in16.tif", "float01.tif"])
def test_shared_samples_of_other_depths(shared_data: Path, name: str) -> None:
    image = read_image(shared_data.parent / "cases" / name)
    assert image.shape == (600, 512, 3) and image.max() == 255 and 60 < image.mean() < 200


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (8, 6), color) for color in ((255, 0, 0), (0, 0, 255))]
    for form in ("GIF", "WEBP", "TIFF", "PNG"):
        buffer = io.BytesIO()
        options = {"lossless": True} if form == "WEBP" else {}
        frames[0].save(buffer, form, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(read_image(buffer.getvalue())[0, 0], (0, 0, 255), err_msg=form)


def test_one_pixel(rgb: np.ndarray) -> None:
    assert read_image(encoded(rgb[:1, :1])).shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, r"cannot read the file \(No such file"),
        (b"", "the file is empty"),
        (b"hello, this is text", "19 bytes of no known image format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no known image format"),
    ],
)
def test_not_an_image(content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files_are_errors(form: str, share: float) -> None:
    data = encoded(photo(100, 120), form)
    with pytest.raises(ImageError, match=r"^image: cannot decode"):
        read_image(data[: int(len(data) * share)])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 40, "optimize": True}])
def test_a_jpeg_may_lack_its_end_marker_alone(options: dict[str, object]) -> None:
    data = encoded(photo(100, 120), "JPEG", **options)
    assert data.endswith(b"\xff\xd9")
    for missing in (1, 2):
        np.testing.assert_array_equal(read_image(data[:-missing]), read_image(data))
    for missing in (8, 20, 100):
        with pytest.raises(ImageError, match="cannot decode"):
            read_image(data[:-missing])


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="Is a directory"):
        read_image(tmp_path)


def test_absurd_dimensions_are_an_error() -> None:
    """A 100-byte file that claims 60000×60000 pixels must not take gigabytes."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    with pytest.raises(ImageError, match="60000×60000 pixels are more than the 256 million"):
        read_image(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))


def test_pictures_of_phones_are_below_our_limit_and_above_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100×120 pixels here: 200 million take seconds."""
    assert LARGEST_PIXELS >= 200_000_000
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for form in ("JPEG", "PNG", "TIFF", "WEBP"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_image(encoded(photo(100, 120), form)).shape == (100, 120, 3)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_unknown_image_format(tmp_path: Path) -> None:
    for name in ("a.xyz", "a"):
        with pytest.raises(ImageError, match="cannot write this image format"):
            write_image(tmp_path / name, np.zeros((2, 2, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folders_patterns_and_files_in_order_once(tmp_path: Path) -> None:
    a, b, c, text = tmp_path / "d/a.jpg", tmp_path / "d/sub/B.PNG", tmp_path / "c.jpg", tmp_path / "d/readme.txt"
    touch(a, b, c, text)
    inputs, errors = expand_inputs([str(c), str(tmp_path / "d"), str(tmp_path / "*.jpg"), str(tmp_path / "**/*.PNG")])
    assert inputs == [(c, Path("c.jpg")), (a, Path("a.jpg")), (b, Path("sub/B.PNG"))]
    assert errors == []


def test_what_gives_no_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    inputs, errors = expand_inputs([str(tmp_path / "empty"), str(tmp_path / "*.gif"), str(tmp_path / "missing.jpg")])
    assert [line.partition(": ")[2] for line in errors] == [
        "no image in the folder, expected .jpg .jpeg .png .bmp .gif .tif .tiff .webp .ppm .pgm .jfif .jpe .mpo .avif",
        "no file matches the pattern",
    ]
    assert inputs == [(tmp_path / "missing.jpg", Path("missing.jpg"))]  # reading it gives the error


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    touch(tmp_path / "face[1].jpg")
    assert expand_inputs([str(tmp_path / "face[1].jpg")])[0] == [(tmp_path / "face[1].jpg", Path("face[1].jpg"))]


def test_equal_names_of_two_folders_stay_apart(tmp_path: Path) -> None:
    touch(tmp_path / "x/a.jpg", tmp_path / "y/a.jpg", tmp_path / "z/a.jpg")
    inputs, _ = expand_inputs([str(tmp_path / name / "a.jpg") for name in "xyz"])
    assert [str(name) for _, name in inputs] == ["a.jpg", "a_2.jpg", "a_3.jpg"]
