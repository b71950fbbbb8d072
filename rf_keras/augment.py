"""Augmentation of one image in TensorFlow ops: which square window is seen, its colours, its faces, its mirror image.

Every random choice is a number the caller gives (uniform in [0, 1)), so that an item's augmentation depends on its seed
alone, and tests can place a window by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rf_keras.augment_config import CLOSEUP_FACE, AugmentConfig
from rf_keras.labels import UNKNOWN

MIRRORED_LANDMARKS = (1, 0, 2, 4, 3)
COLOUR_DRAWS = 9  # random numbers that a colour function takes
CLOSEUP_DRAWS = 8  # and `choose_closeup`
CLOSEUP_MARGINS = (-0.1, 0.7)  # around its box, as shares of the box's sides; below 0 the box is cut
CLOSEUP_JITTER = 0.1  # by which the four margins differ from the one drawn


class Placement(NamedTuple):
    """The part of the image that is seen, and where it lands in the square output. All int32 scalars, in pixels.

    Both rectangles have whole pixels, so the scale differs between the axes by less than one output pixel over the
    image; boxes are moved with the scale that the pixels got.
    """

    top: tf.Tensor
    left: tf.Tensor
    height: tf.Tensor
    width: tf.Tensor
    out_top: tf.Tensor
    out_left: tf.Tensor
    out_height: tf.Tensor
    out_width: tf.Tensor


def choose_window(
    boxes: tf.Tensor, height: tf.Tensor, width: tf.Tensor, draws: tf.Tensor, config: AugmentConfig, size: int
) -> tf.Tensor:
    """The square window to show: the first drawn one that holds a face whole.

    Args:
        boxes: float32 [N, 4] in image pixels.
        height, width: int32 scalars, of the image.
        draws: float32 [crop_trials, 3] in [0, 1): scale, x, y of each candidate.
        size: output side in pixels (for `min_face`).

    Returns:
        int32 [3]: left, top, side in image pixels. Without a fitting candidate, (0, 0, long side): the image
        top-left in a square, as the reference pads it. In an image without faces any window will do: the first.
    """
    letterbox = tf.stack([0, 0, tf.maximum(height, width)])
    if not config.crop_scales:
        return letterbox
    scales = tf.constant(config.crop_scales, tf.float32)
    picked = tf.gather(scales, tf.cast(draws[:, 0] * len(config.crop_scales), tf.int32))  # [T]
    side = tf.maximum(tf.floor(picked * tf.cast(tf.minimum(height, width), tf.float32)), 1.0)
    # One formula for both cases: a smaller window lies anywhere inside the image, a larger one anywhere around it.
    extent = tf.cast(tf.stack([width, height]), tf.float32)
    origin = tf.floor(draws[:, 1:] * (extent - side[:, None]))  # [T, 2]
    end = origin + side[:, None]
    inside = tf.reduce_all(
        (boxes[None, :, :2] >= origin[:, None]) & (boxes[None, :, 2:] <= end[:, None]), axis=-1
    )  # [T, N]
    if config.min_face:
        shorter = tf.reduce_min(boxes[:, 2:] - boxes[:, :2], axis=-1)  # [N]
        inside &= shorter[None] * size >= config.min_face * side[:, None]
    fits = tf.reduce_any(inside, axis=-1) | tf.equal(tf.shape(boxes)[0], 0)  # [T]
    first = tf.argmax(fits)
    window = tf.cast(tf.concat([origin[first], side[first][None]], 0), tf.int32)
    return tf.where(fits[first], window, letterbox)


def choose_closeup(
    boxes: tf.Tensor, landmarks: tf.Tensor, height: tf.Tensor, width: tf.Tensor, draws: tf.Tensor, share: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """A part of the image that one face fills, as in a picture of a person who holds the camera.

    Args:
        boxes: float32 [N, 4]; landmarks: float32 [N, 5, 2]; in image pixels.
        height, width: int32 scalars, of the image.
        draws: float32 [CLOSEUP_DRAWS] in [0, 1): whether, which face, margin, its change on the left, top, right and
            bottom, and whether the part is a rectangle or its square surroundings are seen.
        share: see `AugmentConfig.closeup_share`.

    Returns:
        bool scalar, whether the image is shown so; int32 [3] left, top, side of the window; and int32 [4] left, top,
        right, bottom of what is visible in it, as `place_window` takes them. A rectangle is letterboxed as a detector
        would do with a photo of that shape.
    """
    fits = tf.reduce_all(boxes[:, 2:] - boxes[:, :2] >= CLOSEUP_FACE, axis=1)
    fits &= tf.reduce_any(landmarks != UNKNOWN, axis=[1, 2])
    able = tf.where(fits)[:, 0]
    count = tf.shape(able)[0]
    chosen = (draws[0] < share) & (count > 0)
    # A row of zeros stands in for the face of an image that has none: `chosen` is false then.
    faces = tf.concat([tf.gather(boxes, able), tf.zeros([1, 4])], axis=0)
    box = faces[tf.cast(draws[1] * tf.cast(count, tf.float32), tf.int32)]
    margins = _ranged(draws[2], *CLOSEUP_MARGINS) + _ranged(draws[3:7], -CLOSEUP_JITTER, CLOSEUP_JITTER)
    sides = tf.tile(box[2:] - box[:2], [2])
    low, high = tf.split(tf.cast(tf.round(box + margins * sides * [-1.0, -1.0, 1.0, 1.0]), tf.int32), 2)
    image = tf.stack([width, height])
    low = tf.clip_by_value(low, 0, image - 1)
    high = tf.clip_by_value(high, low + 1, image)
    side = tf.reduce_max(high - low)
    # The square around the part, moved into the image as far as it can be.
    around = tf.maximum(tf.minimum((low + high - side) // 2, image - side), tf.minimum(0, (image - side) // 2))
    rectangle = draws[7] < 0.5
    corner = tf.where(rectangle, low, around)
    visible = tf.where(rectangle, tf.concat([low, high], 0), tf.concat([[0, 0], image], 0))
    return chosen, tf.concat([corner, side[None]], 0), visible


def place_window(
    window: tf.Tensor, height: tf.Tensor, width: tf.Tensor, size: int, visible: tf.Tensor | None = None
) -> Placement:
    """Where the visible part of `window` (left, top, side; image pixels) lands in a `size` × `size` output.

    `visible`: int32 [4] left, top, right, bottom of what may be seen of the image; None: all of it.
    """
    side = window[2]
    shown = tf.stack([0, 0, width, height]) if visible is None else visible
    start = tf.clip_by_value(window[:2], shown[:2], shown[2:] - 1)  # x, y
    end = tf.clip_by_value(window[:2] + side, start + 1, shown[2:])
    scale = tf.cast(size / side, tf.float32)
    out_start = tf.minimum(tf.cast(tf.round(tf.cast(start - window[:2], tf.float32) * scale), tf.int32), size - 1)
    out_end = tf.cast(tf.round(tf.cast(end - window[:2], tf.float32) * scale), tf.int32)
    out_end = tf.clip_by_value(out_end, out_start + 1, size)
    x, y = 0, 1
    return Placement(
        start[y],
        start[x],
        end[y] - start[y],
        end[x] - start[x],
        out_start[y],
        out_start[x],
        out_end[y] - out_start[y],
        out_end[x] - out_start[x],
    )


def move_faces(
    boxes: tf.Tensor,
    landmarks: tf.Tensor,
    window: tf.Tensor,
    place: Placement,
    flip: tf.Tensor,
    config: AugmentConfig,
    size: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Faces of the image → faces of the output.

    Faces are kept when their centre is seen; boxes are clipped to what the output shows of the image; a face without
    known landmarks (all −1) keeps its −1.

    Args:
        boxes: float32 [N, 4]; landmarks: float32 [N, 5, 2]; both in image pixels.
        flip: bool scalar, mirror the output.

    Returns:
        boxes float32 [M, 4], landmarks float32 [M, 5, 2] in output pixels, M <= N.
    """
    start = tf.cast(tf.stack([place.left, place.top]), tf.float32)
    end = start + tf.cast(tf.stack([place.width, place.height]), tf.float32)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    kept = tf.reduce_all((centre > start) & (centre < end), axis=-1)
    scale, shift = _scale_and_shift(place)
    boxes = _clipped(boxes * tf.tile(scale, [2]) + tf.tile(shift, [2]), place)
    shorter = tf.reduce_min(boxes[:, 2:] - boxes[:, :2], axis=-1)
    kept &= (shorter > 0) & (shorter >= config.min_face)

    known = tf.reduce_any(landmarks != UNKNOWN, axis=[1, 2])[:, None, None]
    landmarks = landmarks * scale + shift
    if config.clip_landmarks:
        landmarks = tf.clip_by_value(landmarks, 0.0, size)
    mirrored_points = tf.gather(landmarks, MIRRORED_LANDMARKS, axis=1) * [-1.0, 1.0] + [float(size), 0.0]
    boxes = tf.where(flip, _mirrored_boxes(boxes, size), boxes)
    landmarks = tf.where(known, tf.where(flip, mirrored_points, landmarks), UNKNOWN)
    return tf.boolean_mask(boxes, kept), tf.boolean_mask(landmarks, kept)


def faces_in_view(boxes: tf.Tensor, place: Placement, flip: tf.Tensor, size: int) -> tf.Tensor:
    """Every face that the output shows a part of, however small: float32 [V, 4], clipped to it. Arguments as
    `move_faces`."""
    scale, shift = _scale_and_shift(place)
    boxes = _clipped(boxes * tf.tile(scale, [2]) + tf.tile(shift, [2]), place)
    boxes = tf.where(flip, _mirrored_boxes(boxes, size), boxes)
    return tf.boolean_mask(boxes, tf.reduce_all(boxes[:, 2:] > boxes[:, :2], axis=1))


def _scale_and_shift(place: Placement) -> tuple[tf.Tensor, tf.Tensor]:
    """float32 [2] each (x, y): output = image · scale + shift."""
    scale = tf.cast(tf.stack([place.out_width / place.width, place.out_height / place.height]), tf.float32)
    shift = tf.cast(tf.stack([place.out_left, place.out_top]), tf.float32) - scale * tf.cast(
        tf.stack([place.left, place.top]), tf.float32
    )
    return scale, shift


def _clipped(boxes: tf.Tensor, place: Placement) -> tf.Tensor:
    """Boxes [N, 4] of the output, clipped to where the image is in it."""
    low = tf.cast(tf.stack([place.out_left, place.out_top]), tf.float32)
    high = low + tf.cast(tf.stack([place.out_width, place.out_height]), tf.float32)
    return tf.clip_by_value(boxes, tf.tile(low, [2]), tf.tile(high, [2]))


def _mirrored_boxes(boxes: tf.Tensor, size: int) -> tf.Tensor:
    return tf.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]], axis=1)


def resize(image: tf.Tensor, height: tf.Tensor, width: tf.Tensor, draw: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """uint8 or float32 [h, w, 3] → float32 [height, width, 3] by the interpolation that `draw` in [0, 1) picks."""
    images, target = image[None], tf.stack([height, width])
    # The half-pixel kernels without antialiasing: OpenCV's rule, thus that of the device's letterbox.
    kernels: dict[str, Callable[[], tf.Tensor]] = {
        "bilinear": lambda: tf.raw_ops.ResizeBilinear(images=images, size=target, half_pixel_centers=True),
        "nearest": lambda: tf.cast(
            tf.raw_ops.ResizeNearestNeighbor(images=images, size=target, half_pixel_centers=True), tf.float32
        ),
        "area": lambda: tf.raw_ops.ResizeArea(images=images, size=target),
        "bicubic": lambda: tf.raw_ops.ResizeBicubic(images=images, size=target, half_pixel_centers=True),
        "lanczos": lambda: tf.image.resize(images, target, "lanczos3"),
    }
    branches = [kernels[name] for name in config.interpolations]
    if len(branches) == 1:
        return branches[0]()[0]
    return tf.switch_case(tf.cast(draw * len(branches), tf.int32), branches)[0]


def _ranged(draw: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return low + draw * (high - low)


def reference_colour(image: tf.Tensor, draws: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """Brightness, contrast, saturation and hue in the reference's order: contrast comes second or last.

    Args:
        image: float32 [h, w, 3], RGB, 0-255.
        draws: float32 [COLOUR_DRAWS] in [0, 1): order, then (applied?, amount) of each.

    Returns:
        the same shape and range. Source: Pytorch_Retinaface `_distort`; not rounded to bytes between the steps.
    """

    def maybe(draw: tf.Tensor, change: Callable[[tf.Tensor], tf.Tensor], image: tf.Tensor) -> tf.Tensor:
        return tf.cond(draw < config.colour_chance, lambda: tf.clip_by_value(change(image), 0.0, 255.0), lambda: image)

    def contrast(image: tf.Tensor) -> tf.Tensor:
        return image * _ranged(draws[4], *config.contrast)

    image = maybe(draws[1], lambda im: im + _ranged(draws[2], -config.brightness, config.brightness), image)
    contrast_last = draws[0] < 0.5
    image = tf.cond(contrast_last, lambda: image, lambda: maybe(draws[3], contrast, image))
    image = maybe(
        draws[5],
        lambda im: tf.raw_ops.AdjustSaturation(images=im, scale=_ranged(draws[6], *config.saturation)),
        image,
    )
    image = maybe(
        draws[7],
        lambda im: tf.raw_ops.AdjustHue(images=im, delta=_ranged(draws[8], -config.hue, config.hue) / 180.0),
        image,
    )
    return tf.cond(contrast_last, lambda: maybe(draws[3], contrast, image), lambda: image)


# RGB → YIQ (NTSC). Chroma turned by an angle is a turn of the hue, chroma stretched is saturation.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_LUMA, _CHROMA, _TURNED = (
    (np.linalg.inv(_YIQ) @ np.array(middle, float) @ _YIQ).T.astype(np.float32)
    for middle in (
        [[1, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0, 0, 0], [0, 0, 1], [0, -1, 0]],
    )
)


def linear_colour(image: tf.Tensor, draws: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """The same four changes as one matrix: image · M + brightness. Arguments as `reference_colour`; not clipped."""

    def amount(at: int, low: float, high: float, neutral: float) -> tf.Tensor:
        return tf.where(draws[at] < config.colour_chance, _ranged(draws[at + 1], low, high), neutral)

    brightness = amount(1, -config.brightness, config.brightness, 0.0)
    contrast = amount(3, *config.contrast, 1.0)
    saturation = amount(5, *config.saturation, 1.0)
    angle = amount(7, -config.hue, config.hue, 0.0) * (np.pi / 90.0)
    matrix = contrast * (_LUMA + saturation * (tf.cos(angle) * _CHROMA + tf.sin(angle) * _TURNED))  # [3, 3]
    return tf.reshape(tf.matmul(tf.reshape(image, [-1, 3]), matrix) + brightness, tf.shape(image))


def fill_square(image: tf.Tensor, place: Placement, fill: tuple[float, ...], size: int) -> tf.Tensor:
    """uint8 [out_height, out_width, 3] → [size, size, 3] at its place, the rest being `fill` (a colour, 0-255)."""
    colour = tf.constant(np.round(fill), tf.uint8)

    def block(height: tf.Tensor | int, width: tf.Tensor | int) -> tf.Tensor:
        return tf.broadcast_to(colour, tf.stack([height, width, 3]))

    def padded() -> tf.Tensor:
        left, right = place.out_left, size - place.out_left - place.out_width
        middle = tf.concat([block(place.out_height, left), image, block(place.out_height, right)], axis=1)
        top, bottom = place.out_top, size - place.out_top - place.out_height
        return tf.concat([block(top, size), middle, block(bottom, size)], axis=0)

    full = tf.equal(place.out_height, size) & tf.equal(place.out_width, size)
    return tf.ensure_shape(tf.cond(full, lambda: image, padded), [size, size, 3])


def paint_over(
    image: tf.Tensor, ignored: tf.Tensor, faces: tf.Tensor, place: Placement, fill: tuple[float, ...]
) -> tf.Tensor:
    """Hide what is to be ignored: neither a face nor background is then to be learned there.

    Args:
        image: uint8 [S, S, 3], not mirrored yet.
        ignored: float32 [M, 4] regions; faces: float32 [N, 4], whose boxes stay as they are; in pixels of the file.
        fill: colour, 0-255.
    """
    scale, shift = _scale_and_shift(place)
    side = tf.shape(image)[0]
    centres = tf.cast(tf.range(side), tf.float32) + 0.5

    def covered(boxes: tf.Tensor) -> tf.Tensor:
        """bool [S, S]: pixels in one of the boxes."""
        moved = boxes * tf.tile(scale, [2]) + tf.tile(shift, [2])
        x1, y1, x2, y2 = tf.unstack(moved[:, :, None], axis=1)  # [M, 1] each
        columns = tf.cast((centres >= x1) & (centres < x2), tf.float32)  # [M, S]
        rows = tf.cast((centres >= y1) & (centres < y2), tf.float32)
        return tf.matmul(rows, columns, transpose_a=True) > 0.5

    hidden = covered(ignored) & ~covered(faces)
    return tf.where(hidden[..., None], tf.constant(np.round(fill), tf.uint8), image)


def mirror_and_swap(image: tf.Tensor, flip: tf.Tensor) -> tf.Tensor:
    """uint8 [S, S, 3] RGB → BGR, mirrored left to right where `flip`: both in one pass over the pixels."""
    dims = tf.stack([tf.constant(False), flip, tf.constant(True)])
    return tf.raw_ops.Reverse(tensor=image, dims=dims)
