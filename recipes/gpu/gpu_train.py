"""Training of `fast` by a teacher on one GPU: the network, its augmentation and its loss in PyTorch.

    python3 recipes/gpu/gpu_train.py --pack PACKED --output OUT --seconds 540 [--corrected_share 0.35]

A twin of `rf_keras.train --teacher T` for a machine that has PyTorch and no TensorFlow. All images lie in GPU memory
and everything happens there, so that ten minutes show as many images as a day on two CPU cores.
`recipes/gpu/gpu_pack.py` makes PACKED, and turns the arrays that this writes into weights files.

What differs from the Keras training: any number of images per step, bfloat16, a teacher who is also asked about the
mirror image and whose features are learned, too, images turned and stretched, windows and tilts cut out of the photo in
one interpolation, and a last part in which labels correct the teacher (`correct`). The rate follows the clock, so a run
ends when it was told to, and no two are equal.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tflite.anchors import make_anchors
from tflite.command import option, start
from tflite.files import replacing, write_text

CANVAS = 640  # pixels; every packed image fits
MEAN = (104.0, 117.0, 123.0)  # BGR
STRIDES = (8, 16, 32)
ANCHOR_SIZES = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2
BN_EPSILON, BN_MOMENTUM = 1e-5, 0.1  # PyTorch's momentum is the share of the new
# As in rf_keras.losses, rf_keras.augment and rf_keras.config.
TEACHER_FLOOR, SCORE_WEIGHT, LANDMARK_WEIGHT, BOX_WEIGHT = 0.1, 8.0, 0.25, 2.0
CROP_SCALES = (0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
MIN_FACE, TRIALS = 4.0, 24
BRIGHTNESS, FACTORS, HUE, COLOUR_CHANCE = 32.0, (0.5, 1.5), 18.0, 0.5
TILT_SHARE, LARGEST_ANGLE, LARGEST_STRETCH = 0.3, 30.0, 1.25
MIX_SHARE, LARGEST_OPACITY, MIX_SIDES = 0.4, 0.5, (0.2, 0.7)
MOMENTUM, WEIGHT_DECAY, CLIP_NORM, EMA_SHARE = 0.9, 5e-4, 10.0, 1e-3
# Labels against the teacher, in the last part.
CORRECTED_MIX_SHARE = 0.2
LOOKED_AT = 1024  # anchors of highest score per image
DOUBTED, FALSE_SHARE = 0.3, 0.4  # a box that meets no face by this IoU keeps this share of its score
SURE, RAISED_TO, LARGEST_RAISE = 0.5, 0.6, 2.0  # a face met by this IoU gets scores that reach this, if twice is enough


# ---- the network -----------------------------------------------------------------------------------------------------


class Student(torch.nn.Module):
    """Backbone `fast`, FPN, SSH and one-logit heads of rf_keras, from a dict of its arrays.

    Args:
        arrays: "layer/variable" → values, as `gpu_pack.py` writes them.
        blocks: residual blocks at strides 16 and 32.
        feature_channels: of the teacher's maps that the network also predicts; 0: none.
    """

    def __init__(self, arrays: dict[str, np.ndarray], blocks: tuple[int, int], feature_channels: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.p, self.b = torch.nn.ParameterDict(), torch.nn.ParameterDict()
        for key, value in arrays.items():
            tensor = torch.from_numpy(np.ascontiguousarray(value, np.float32))
            if tensor.ndim == 4:
                tensor = tensor.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
            running = "moving" in key
            (self.b if running else self.p)[key.replace("/", "__")] = torch.nn.Parameter(tensor, not running)
        self.feature_channels = feature_channels
        if feature_channels:
            width = self.p["class_8__kernel"].shape[1]
            for stride in STRIDES:
                self.p[f"feature_{stride}__kernel"] = torch.nn.Parameter(torch.zeros(feature_channels, width, 1, 1))
                self.p[f"feature_{stride}__bias"] = torch.nn.Parameter(torch.zeros(feature_channels))

    def arrays(self) -> dict[str, np.ndarray]:
        """The inverse of the constructor, without the feature heads."""
        found = {}
        for name, value in [*self.p.items(), *self.b.items()]:
            if not name.startswith("feature_"):
                array = value.detach().float().cpu()
                found[name.replace("__", "/")] = (array.permute(2, 3, 1, 0) if array.ndim == 4 else array).numpy()
        return found

    def conv(self, x: Tensor, name: str, stride: int = 1, act: bool = True) -> Tensor:
        kernel = self.p[f"{name}_conv__kernel"]
        x = F.conv2d(x, kernel, None, stride, kernel.shape[2] // 2)
        x = F.batch_norm(
            x,
            self.b[f"{name}_bn__moving_mean"],
            self.b[f"{name}_bn__moving_variance"],
            self.p[f"{name}_bn__gamma"],
            self.p[f"{name}_bn__beta"],
            self.training,
            BN_MOMENTUM,
            BN_EPSILON,
        )
        return F.relu(x) if act else x

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """BGR − mean [B, 3, S, S] → logits [B, A], deltas [B, A, 4], landmarks [B, A, 10], float32; feature maps."""
        x = self.conv(image, "stem", 2)
        x = self.conv(x, "stage1_1", 2)
        x = self.conv(x, "stage1_2", 2)
        features = [self.conv(x, "stage1_3")]
        for stage, blocks in zip((2, 3), self.blocks, strict=True):
            x = self.conv(features[-1], f"stage{stage}_1", 2)
            for number in range(blocks):
                name = f"stage{stage}_{number + 2}"
                x = x + self.conv(self.conv(x, f"{name}_squeeze"), f"{name}_expand")
            features.append(x)
        lateral = [self.conv(x, f"fpn_lateral_{s}") for x, s in zip(features, STRIDES, strict=True)]
        pyramid = [lateral[2]]
        for level in (1, 0):
            up = F.interpolate(pyramid[0], scale_factor=2, mode="nearest")
            pyramid.insert(0, self.conv(lateral[level] + up, f"fpn_merge_{STRIDES[level]}"))
        parts: dict[str, list[Tensor]] = {"class": [], "box": [], "landmark": [], "feature": []}
        for x, stride in zip(pyramid, STRIDES, strict=True):
            name = f"ssh_{stride}"
            context = self.conv(x, f"{name}_5_1")
            deep = self.conv(context, f"{name}_7_2")
            found = [self.conv(x, f"{name}_3"), self.conv(context, f"{name}_5_2"), self.conv(deep, f"{name}_7_3")]
            joined = torch.cat(found, 1)
            for head, code in (("class", 1), ("box", 4), ("landmark", 10)):
                out = F.conv2d(joined, self.p[f"{head}_{stride}__kernel"], self.p[f"{head}_{stride}__bias"])
                parts[head].append(flat(out, code))
            if self.feature_channels:
                parts["feature"].append(
                    F.conv2d(joined, self.p[f"feature_{stride}__kernel"], self.p[f"feature_{stride}__bias"])
                )
        logits, deltas, points = (torch.cat(parts[head], 1) for head in ("class", "box", "landmark"))
        return logits[..., 0], deltas, points, parts["feature"]


@cache
def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor on the device; made once, as a CUDA graph cannot copy from the host."""
    return torch.tensor(values, device=device, dtype=dtype)


def flat(maps: Tensor, code: int) -> Tensor:
    """[B, A·k, h, w] → float32 [B, h·w·A, k], the order of the anchors."""
    return maps.permute(0, 2, 3, 1).reshape(len(maps), -1, code).float()


# ---- the teacher -----------------------------------------------------------------------------------------------------


class Teacher(torch.nn.Module):
    """An SCRFD network out of its ONNX file, run node by node (see `rf_keras.teacher`)."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        import onnx

        super().__init__()
        graph = onnx.load(str(path)).graph
        self.input = graph.input[0].name
        self.outputs = [value.name for value in graph.output]
        self.nodes = [
            (
                node.op_type,
                list(node.input),
                node.output[0],
                {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute},
            )
            for node in graph.node
            if node.op_type != "Constant"
        ]
        self.w = torch.nn.ParameterDict()
        for value in graph.initializer:
            array = torch.from_numpy(onnx.numpy_helper.to_array(value).copy())
            if array.is_floating_point():
                self.w[self.key(value.name)] = torch.nn.Parameter(array.to(dtype), requires_grad=False)
        makers = {output: (kind, inputs) for kind, inputs, output, _ in self.nodes}
        self.sources = []
        for name in sorted((name for name in self.outputs if "score" in name), key=lambda n: int(n.split("_")[-1])):
            while makers[name][0] != "Conv":
                name = makers[name][1][0]
            self.sources.append(makers[name][1][0])

    @staticmethod
    def key(name: str) -> str:
        return "w_" + name.replace(".", "_")

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """(RGB − 127.5) / 128 [B, 3, S, S] → scores [B, A], distances [B, A, 4], points [B, A, 10] in strides, maps."""
        values: dict[str, Tensor] = {self.input: image}
        for kind, inputs, output, facts in self.nodes:
            weights = [self.w[self.key(name)] for name in inputs if self.key(name) in self.w]
            x = values[inputs[0]]
            if kind == "Conv":
                bias = weights[1] if len(weights) > 1 else None
                y = F.conv2d(x, weights[0], bias, facts["strides"], facts["pads"][:2], 1, facts["group"])
            elif kind == "Relu":
                y = F.relu(x)
            elif kind == "Add":
                y = x + values[inputs[1]]
            elif kind == "Mul":
                y = x * weights[0]
            elif kind == "MaxPool":
                y = F.max_pool2d(x, 2, 2)
            elif kind == "AveragePool":
                y = F.avg_pool2d(x, 2, 2, ceil_mode=True)
            elif kind == "Resize":
                y = F.interpolate(x, scale_factor=2, mode="nearest")
            elif kind == "Sigmoid":
                y = torch.sigmoid(x.float())
            elif kind in ("Transpose", "Reshape"):  # `flat` does both
                y = x
            else:
                raise ValueError(f"teacher: operation {kind}, expected those of SCRFD")
            values[output] = y
        codes = []
        for word, code in (("score", 1), ("bbox", 4), ("kps", 10)):
            codes.append(torch.cat([flat(values[f"{word}_{stride}"], code) for stride in STRIDES], 1))
        return codes[0][..., 0], codes[1], codes[2], [values[name] for name in self.sources]


def answers_of(
    teacher: Callable[..., Any], image: Tensor, corners: Tensor, scale: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """[B, A, 15] as `rf_keras.distillation.teacher.Scrfd` gives it (score, box, points in pixels), and its maps."""
    score, distance, points, maps = teacher(image)
    boxes = torch.cat([corners - distance[..., :2] * scale, corners + distance[..., 2:] * scale], -1)
    points = corners.repeat(1, 5) + points * scale
    return torch.cat([score[..., None], boxes, points], -1), maps


def mirrored(answers: Tensor, size: int, anchors_per_cell: int = 2) -> Tensor:
    """The answers about the mirror image as answers about the image itself.

    SCRFD counts distances from a cell's corner, so cell j of the one is cell w − j of the other; the first column has
    no counterpart and gets a score of −1.
    """
    order = constant(_mirror_order(), answers.device, torch.int64)
    answers = answers[..., order]
    sign = torch.ones(15, device=answers.device)
    sign[1::2] = -1.0
    shift = torch.zeros(15, device=answers.device)
    shift[1::2] = float(size)
    answers = answers * sign + shift
    parts, start = [], 0
    for stride in STRIDES:
        cells = size // stride
        count = cells * cells * anchors_per_cell
        level = answers[:, start : start + count].reshape(-1, cells, cells, anchors_per_cell, 15)
        turned = level.flip(2).roll(1, 2)
        first = torch.zeros_like(turned[:, :, :1])
        first[..., 0] = -1.0
        parts.append(torch.cat([first, turned[:, :, 1:]], 2).reshape(-1, count, 15))
        start += count
    return torch.cat(parts, 1)


def _mirror_order() -> tuple[int, ...]:
    """Columns of [score, x1, y1, x2, y2, five points] that the mirror image's answers come from."""
    points = [5 + 2 * k + axis for k in (1, 0, 2, 4, 3) for axis in (0, 1)]
    return (0, 3, 2, 1, 4, *points)


def both(plain: Tensor, turned: Tensor) -> Tensor:
    """The mean of the answers about an image and about its mirror image, boxes and points weighted by the scores."""
    a, b = plain[..., :1], turned[..., :1]
    known = b >= 0
    weight_a, weight_b = a + 1e-4, torch.where(known, b, -1e-4) + 1e-4
    codes = (plain[..., 1:] * weight_a + turned[..., 1:] * weight_b) / (weight_a + weight_b)
    return torch.cat([torch.where(known, (a + b) / 2, a), codes], -1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """[B, M, 4], [B, N, 4] → [B, M, N]."""
    low = torch.maximum(a[:, :, None, :2], b[:, None, :, :2])
    high = torch.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = ((x[..., 2:] - x[..., :2]).clamp(min=0).prod(-1) for x in (a, b))
    return inter / (area_a[:, :, None] + area_b[:, None] - inter).clamp(min=1e-6)


def correct(answers: Tensor, boxes: Tensor, known: Tensor, size: int) -> Tensor:
    """Scores of the teacher corrected by labels: lower where no face is, higher on faces that it half believes in.

    Args:
        answers: [B, A, 15].
        boxes: [B, G, 4], all faces that the window shows, in its pixels, clipped to it; no area: none.
        known: bool [B], images whose labels are complete and were moved with the image.
    """
    score, at = answers[..., 0].topk(min(LOOKED_AT, answers.shape[1]), dim=1)  # [B, K]
    found = torch.gather(answers[..., 1:5], 1, at[..., None].expand(-1, -1, 4)).clamp(0, size)
    overlap, face = iou(found, boxes).max(-1)  # [B, K]
    sure = overlap >= SURE
    best = torch.zeros(boxes.shape[:2], device=answers.device)
    best.scatter_reduce_(1, face, torch.where(sure, score, torch.zeros_like(score)), "amax")
    raise_by = (RAISED_TO / torch.gather(best, 1, face).clamp(min=TEACHER_FLOOR)).clamp(1, LARGEST_RAISE)
    trust = FALSE_SHARE + (1 - FALSE_SHARE) * ((overlap - DOUBTED) / (SURE - DOUBTED)).clamp(0, 1)
    factor = torch.where(sure, raise_by, trust)
    factor = torch.where(known[:, None] & (score >= 0.05), factor, torch.ones_like(factor))
    scores = answers[..., 0].scatter(1, at, (score * factor).clamp(max=1))
    return torch.cat([scores[..., None], answers[..., 1:]], -1)


# ---- losses ----------------------------------------------------------------------------------------------------------


def smooth_l1(error: Tensor) -> Tensor:
    size = error.abs()
    return torch.where(size < 1, 0.5 * size * size, size - 0.5)


def taught_loss(
    outputs: tuple[Tensor, Tensor, Tensor, list[Tensor]], answers: Tensor, maps: list[Tensor], anchors: Tensor
) -> Tensor:
    """`rf_keras.losses.teacher_sums` and `feature_sums`, normalised: [total, box, classes, landmark, features]."""
    logit, deltas, points, predicted = outputs
    score = answers[..., 0]
    entropy = F.softplus(logit) - score * logit
    weight = torch.where(score >= TEACHER_FLOOR, score, torch.zeros_like(score))
    centre, side = anchors[:, :2], anchors[:, 2:]
    middle = (answers[..., 1:3] + answers[..., 3:5]) / 2
    extent = (answers[..., 3:5] - answers[..., 1:3]).clamp(min=1e-3)
    codes = torch.cat([(middle - centre) / (CENTRE_VARIANCE * side), (extent / side).log() / SIZE_VARIANCE], -1)
    landmarks = (answers[..., 5:] - centre.repeat(1, 5)) / (CENTRE_VARIANCE * side)
    there = weight[..., None] > 0
    zero = torch.zeros((), device=logit.device)
    faces = weight.sum().clamp(min=1)
    box = (weight[..., None] * smooth_l1(torch.where(there, deltas - codes, zero))).sum() / faces
    landmark = (weight[..., None] * smooth_l1(torch.where(there, points - landmarks, zero))).sum()
    landmark = LANDMARK_WEIGHT * landmark / faces
    classes = SCORE_WEIGHT * ((torch.sigmoid(logit) - score).square() * entropy).sum() / faces
    features = zero
    if predicted:
        images, near, unknown, start = zero, zero, zero, 0
        cells = sum(one.shape[2] * one.shape[3] for one in maps)
        for mine, shown in zip(predicted, maps, strict=True):
            shown = shown.float()
            mean = shown.mean((0, 2, 3), keepdim=True)
            variance = shown.var((0, 2, 3), unbiased=False, keepdim=True)
            wanted = (shown - mean) * (variance + 1e-6).rsqrt()
            count = shown.shape[2] * shown.shape[3]
            held = weight[:, 2 * start : 2 * (start + count)].reshape(len(weight), count, 2).sum(-1)
            held = held.reshape(len(weight), *shown.shape[2:])
            error = (mine.float() - wanted).square().mean(1)
            images = images + error.sum() / cells
            near = near + (held * error).sum()
            unknown = unknown + (held * wanted.square().mean(1)).sum()
            start += count
        features = images / len(weight) + near / unknown.clamp(min=1)
    total = BOX_WEIGHT * box + classes + landmark + features
    return torch.stack([total, box, classes, landmark, features])


# ---- images and their augmentation -----------------------------------------------------------------------------------


class Photos:
    """All packed images in GPU memory, and the faces on them."""

    def __init__(self, folder: Path, weights: Sequence[float], device: torch.device) -> None:
        with np.load(folder / "base" / "faces.npz") as loaded:
            facts = dict(loaded)
        parts = {int(k): folder / f"part{k}" / "images.bin" for k in np.unique(facts["part"])}
        data = {k: path.read_bytes() for k, path in parts.items() if path.exists()}
        kept = [i for i, part in enumerate(facts["part"]) if int(part) in data]
        if not kept:
            raise ValueError(f"{folder}: no part*/images.bin, expected what gpu_pack.py writes")

        def decode(i: int) -> np.ndarray:
            start, length = facts["start"][i], facts["length"][i]
            raw = np.frombuffer(data[int(facts["part"][i])][start : start + length], np.uint8)
            image = cv2.imdecode(raw, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
            canvas = np.empty((CANVAS, CANVAS, 3), np.uint8)
            if image is None:
                raise ValueError(f"{folder}: image {i} cannot be read, expected JPEG or PNG")
            canvas[:] = np.array(MEAN, np.uint8)
            canvas[: image.shape[0], : image.shape[1]] = image
            return canvas

        self.pixels = torch.empty(len(kept), CANVAS, CANVAS, 3, dtype=torch.uint8, device=device)
        with ThreadPoolExecutor(16) as pool:
            for at, canvas in enumerate(pool.map(decode, kept)):
                self.pixels[at] = torch.from_numpy(canvas).to(device, non_blocking=True)
        self.sides = torch.from_numpy(facts["size"][kept].astype(np.float32)).to(device)  # w, h
        ends = np.cumsum(facts["count"])
        most = min(256, int(facts["count"][kept].max()))
        boxes = np.full((len(kept), most, 4), -1, np.float32)
        for row, i in enumerate(kept):
            mine = facts["boxes"][ends[i] - facts["count"][i] : ends[i]][:most]
            boxes[row, : len(mine)] = mine
        self.boxes = torch.from_numpy(boxes).to(device)
        trusted = facts["trusted"][kept] & (facts["count"][kept] <= most)
        self.trusted = torch.from_numpy(trusted).to(device)
        folder_of = facts["folder"][kept]
        sizes = np.bincount(folder_of, minlength=len(weights))
        if len(weights) <= folder_of.max():
            raise ValueError(f"--data_weights: {len(weights)} given, the pack has {folder_of.max() + 1} folders")
        share = np.asarray(weights)[folder_of] / sizes[folder_of]
        self.until = torch.from_numpy(np.cumsum(share / share.sum()).astype(np.float32)).to(device)

    def __len__(self) -> int:
        return len(self.pixels)


_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def colour_matrices(count: int, device: torch.device, bases: Tensor) -> tuple[Tensor, Tensor]:
    """Random 3×3 matrices [B, 3, 3] (rows of BGR pixels are multiplied from the left) and brightness [B]."""
    draws = torch.rand(8, count, device=device)

    def amount(k: int, low: float, high: float, neutral: float) -> Tensor:
        value = low + draws[2 * k + 1] * (high - low)
        return torch.where(draws[2 * k] < COLOUR_CHANCE, value, torch.full_like(value, neutral))

    brightness = amount(0, -BRIGHTNESS, BRIGHTNESS, 0.0)
    contrast, saturation = amount(1, *FACTORS, 1.0), amount(2, *FACTORS, 1.0)
    angle = amount(3, -HUE, HUE, 0.0) * (np.pi / 90)
    luma, chroma, turned = bases
    mixed = angle.cos()[:, None, None] * chroma + angle.sin()[:, None, None] * turned
    return contrast[:, None, None] * (luma + saturation[:, None, None] * mixed), brightness


def colour_bases(device: torch.device) -> Tensor:
    """Luma, chroma and turned chroma as matrices for rows of BGR pixels: [3, 3, 3]."""
    inner = ([[1, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 0, 0], [0, 0, 1], [0, -1, 0]])
    rgb = [(np.linalg.inv(_YIQ) @ np.array(middle, float) @ _YIQ).T for middle in inner]
    return torch.from_numpy(np.stack([one[::-1, ::-1] for one in rgb]).astype(np.float32)).to(device)


def choose_windows(boxes: Tensor, sides: Tensor, size: int) -> Tensor:
    """[B, 3] left, top, side: the first drawn window with a whole face of at least `MIN_FACE` (`rf_keras.augment`)."""
    count, device = len(boxes), boxes.device
    scales = constant(CROP_SCALES, device)
    picked = scales[torch.randint(len(CROP_SCALES), (count, TRIALS), device=device)]
    side = (picked * sides.min(1, keepdim=True).values).floor().clamp(min=1)  # [B, T]
    origin = (torch.rand(count, TRIALS, 2, device=device) * (sides[:, None] - side[..., None])).floor()
    end = origin + side[..., None]
    inside = (boxes[:, None, :, :2] >= origin[:, :, None]) & (boxes[:, None, :, 2:] <= end[:, :, None])
    extent = boxes[..., 2:] - boxes[..., :2]
    real = extent.min(-1).values  # [B, G]; padding has none
    whole = inside.all(-1) & (real > 0)[:, None] & (real[:, None] * size >= MIN_FACE * side[..., None])
    fits = whole.any(-1) | ~(real > 0).any(-1, keepdim=True)  # [B, T]
    first = fits.to(torch.uint8).argmax(1)
    rows = torch.arange(count, device=device)
    window = torch.cat([origin[rows, first], side[rows, first][:, None]], 1)
    whole_image = torch.cat([torch.zeros_like(sides), sides.max(1, keepdim=True).values], 1)
    return torch.where(fits.any(1)[:, None], window, whole_image)


def sample_batch(
    photos: Photos, batch: int, size: int, bases: Tensor, tilt_share: float = TILT_SHARE, mix_share: float = MIX_SHARE
) -> tuple[Tensor, Tensor, Tensor]:
    """A random batch: images float32 [B, 3, S, S] BGR in 0-255, all faces in view [B, G, 4], whose labels hold [B]."""
    device = photos.pixels.device
    mean = constant(MEAN, device)
    at = torch.searchsorted(photos.until, torch.rand(batch, device=device)).clamp(max=len(photos) - 1)
    boxes, sides = photos.boxes[at], photos.sides[at]
    left, top, side = choose_windows(boxes, sides, size).unbind(1)
    flip = torch.rand(batch, device=device) < 0.5
    tilted = torch.rand(batch, device=device) < tilt_share
    zero = torch.zeros(batch, device=device)
    angle = torch.where(tilted, (2 * torch.rand(batch, device=device) - 1) * (LARGEST_ANGLE * np.pi / 180), zero)
    spread = (2 * torch.rand(batch, device=device) - 1) * float(np.log(LARGEST_STRETCH))
    wider = torch.where(tilted, spread, zero).exp()

    def grid(steps: int) -> Tensor:
        """Where each output pixel lies in the canvas, −1 to 1, and in the photo, pixels."""
        along = (torch.arange(steps, device=device) + 0.5) / steps - 0.5
        dx, dy = along[None, None, :], along[None, :, None]
        dx = torch.where(flip[:, None, None], -dx, dx)
        cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
        x = (cos * dx + sin * dy) / wider[:, None, None]
        y = -sin * dx + cos * dy
        x = left[:, None, None] + side[:, None, None] * (0.5 + x)
        y = top[:, None, None] + side[:, None, None] * (0.5 + y)
        return torch.stack([x, y], -1)

    source = photos.pixels[at].permute(0, 3, 1, 2).float() - mean[:, None, None]
    place = grid(size)
    quarter = batch // 4
    pieces = []
    for number, mode in enumerate(("bilinear", "nearest", "bicubic", "area")):
        rows = slice(number * quarter, batch if number == 3 else (number + 1) * quarter)
        if mode == "area":  # the mean over 2×2 finer samples
            fine = F.grid_sample(source[rows], grid(2 * size)[rows] * (2 / CANVAS) - 1, "bilinear", align_corners=False)
            pieces.append(F.avg_pool2d(fine, 2))
        else:
            pieces.append(F.grid_sample(source[rows], place[rows] * (2 / CANVAS) - 1, mode, align_corners=False))
    image = torch.cat(pieces).permute(0, 2, 3, 1) + mean  # [B, S, S, 3]
    matrix, brightness = colour_matrices(batch, device, bases)
    image = torch.einsum("bhwc,bcd->bhwd", image, matrix) + brightness[:, None, None, None]
    within = ((place >= 0) & (place < sides[:, None, None])).all(-1, keepdim=True)
    image = torch.where(within, image, mean).clamp(0, 255).round()

    # Mixed with the image before it: pasted or blended.
    kind, opacity, width, height, x, y = torch.rand(6, batch, device=device)
    along = (torch.arange(size, device=device) + 0.5) / size

    def within_side(extent: Tensor, start: Tensor) -> Tensor:
        extent = MIX_SIDES[0] + extent * (MIX_SIDES[1] - MIX_SIDES[0])
        start = start * (1 - extent)
        return (along >= start[:, None]) & (along < (start + extent)[:, None])

    pasted = within_side(height, y)[:, :, None] & within_side(width, x)[:, None, :]
    pasted = pasted & (kind < mix_share / 2)[:, None, None]
    weight = torch.where((kind >= mix_share / 2) & (kind < mix_share), LARGEST_OPACITY * opacity, zero)[:, None, None]
    weight = torch.where(pasted, torch.ones_like(weight), weight)[..., None]
    image = (image + weight * (image.roll(1, 0) - image)).round()

    scale = size / side
    shown = (boxes - torch.stack([left, top, left, top], 1)[:, None]) * scale[:, None, None]
    turned = torch.stack([size - shown[..., 2], shown[..., 1], size - shown[..., 0], shown[..., 3]], -1)
    shown = torch.where(flip[:, None, None], turned, shown).clamp(0, size)
    shown = torch.where((boxes[..., 2:] > boxes[..., :2]).all(-1, keepdim=True), shown, torch.zeros_like(shown))
    holds = photos.trusted[at] & ~tilted & (kind >= mix_share)
    return image.permute(0, 3, 1, 2), shown, holds


# ---- training --------------------------------------------------------------------------------------------------------


def grids(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Anchors [A, 3], the stride of each [A, 1], and the corner from which SCRFD counts [A, 2], pixels."""
    anchors = torch.from_numpy(make_anchors(size, size, STRIDES, ANCHOR_SIZES)).to(device)
    counts = [2 * (size // stride) ** 2 for stride in STRIDES]
    scale = torch.cat([torch.full((n, 1), float(s)) for n, s in zip(counts, STRIDES, strict=True)]).to(device)
    return anchors, scale, anchors[:, :2] - scale / 2


class Step:
    """One training step at one size, captured as a CUDA graph where there is a GPU."""

    def __init__(self, trainer: Trainer, size: int, batch: int, corrected: bool) -> None:
        self.size, self.batch = size, batch
        device = trainer.device
        anchors, scale, corners = grids(size, device)
        mean = constant(MEAN, device)[:, None, None]
        self.losses = torch.zeros(5, device=device)
        shares = (0.0, CORRECTED_MIX_SHARE) if corrected else (TILT_SHARE, MIX_SHARE)  # labels follow neither

        def run() -> None:
            with torch.no_grad():
                image, boxes, holds = sample_batch(trainer.photos, batch, size, trainer.bases, *shares)
                rgb = ((image.flip(1) - 127.5) / 128).to(trainer.teacher_dtype)
                rgb = rgb.contiguous(memory_format=torch.channels_last)
                answers, maps = answers_of(trainer.teacher, rgb, corners, scale)
                rgb = rgb.flip(3).contiguous(memory_format=torch.channels_last)
                turned, _ = answers_of(trainer.teacher, rgb, corners, scale)
                answers = both(answers, mirrored(turned, size))
                if corrected:
                    answers = correct(answers, boxes, holds, size)
                x = (image - mean).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=trainer.half, cache_enabled=False):
                outputs = trainer.student(x)
            losses = taught_loss(outputs, answers, maps, anchors)
            losses[0].backward()
            trainer.update()
            self.losses.add_(losses.detach())

        if device.type == "cuda":
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    run()
            torch.cuda.current_stream().wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                run()
            self.recorded = run  # the graph reads the tensors that it holds
            self.run: Callable[[], None] = self.graph.replay
        else:
            self.run = run
        self.losses.zero_()


class Trainer:
    """Weights, momentum, averaged weights and data: all that the steps share."""

    def __init__(self, folder: Path, device: torch.device, weights: Sequence[float]) -> None:
        self.device = device
        self.half = device.type == "cuda"
        self.teacher_dtype = torch.float16 if self.half else torch.float32
        self.photos = Photos(folder, weights, device)
        self.bases = colour_bases(device)
        self.teacher = Teacher(folder / "base" / "scrfd.onnx", self.teacher_dtype).to(device)
        self.teacher = self.teacher.to(memory_format=torch.channels_last).eval()
        with np.load(folder / "base" / "student.npz") as arrays, torch.no_grad():
            probe = torch.zeros(1, 3, 64, 64, dtype=self.teacher_dtype, device=device)
            channels = self.teacher(probe)[3][0].shape[1]
            blocks = tuple(int(n) for n in arrays["blocks"])
            self.student = Student({k: arrays[k] for k in arrays.files if k != "blocks"}, blocks, channels)  # type: ignore[arg-type]
        self.student.to(device).train()
        self.learned = list(self.student.p.values())
        self.kernels = [value for value in self.learned if value.ndim == 4]
        self.momenta = [torch.zeros_like(value) for value in self.learned]
        self.held = [*self.learned, *self.student.b.values()]
        self.average = [value.detach().clone() for value in self.held]
        self.rate = torch.zeros((), device=device)
        for value in self.learned:
            value.grad = torch.zeros_like(value)

    @torch.no_grad()
    def update(self) -> None:
        """Clipped SGD with momentum, then the averaged weights; leaves gradients at 0."""
        grads = [value.grad for value in self.learned]
        norm = torch.stack(torch._foreach_norm(grads)).norm()
        torch._foreach_mul_(grads, (CLIP_NORM / (norm + 1e-6)).clamp(max=1))
        torch._foreach_add_([value.grad for value in self.kernels], self.kernels, alpha=WEIGHT_DECAY)
        torch._foreach_mul_(self.momenta, MOMENTUM)
        torch._foreach_add_(self.momenta, grads)
        torch._foreach_add_(self.learned, torch._foreach_mul(self.momenta, -self.rate))
        torch._foreach_lerp_(self.average, [value.detach() for value in self.held], EMA_SHARE)
        torch._foreach_zero_(grads)

    def save(self, path: Path) -> None:
        """The averaged weights."""
        mine = [value.detach().clone() for value in self.held]
        with torch.no_grad():
            torch._foreach_copy_([value.data for value in self.held], self.average)
            arrays = self.student.arrays()
            torch._foreach_copy_([value.data for value in self.held], mine)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]


def rate_at(progress: float, peak: float, warmup: float) -> float:
    """Linear warm-up, then cosine to 1 %."""
    if progress < warmup:
        return peak * progress / warmup
    done = (progress - warmup) / (1 - warmup)
    return peak * (0.01 + 0.99 * (1 + float(np.cos(np.pi * min(done, 1)))) / 2)


def train_part(trainer: Trainer, steps: Sequence[Step], until: float, peak: float, warmup: float, log: Any) -> int:
    """Steps in turns until the clock says `until`; returns how many images they saw."""
    start = last = time.time()
    seen = number = logged = 0
    while (now := time.time()) < until:
        trainer.rate.fill_(rate_at((now - start) / (until - start), peak, warmup))
        for step in steps:
            step.run()
            seen += step.batch
        number += 1
        if number % 5 == 0 and trainer.device.type == "cuda":
            torch.cuda.synchronize()  # the clock must not run ahead of the steps
        if now - last > 10 or number == 1:
            last = now
            row = [round(now - start, 1), seen, round(float(trainer.rate), 5)]
            for step in steps:
                row += [round(float(v), 4) for v in step.losses / (number - logged)]
                step.losses.zero_()
            logged = number
            log.writerow(row)
            print(row, flush=True)
            if not np.isfinite(row).all():
                raise ValueError(f"losses after {seen} images: {row[3:]}, expected numbers: lower the rates")
    return seen


@torch.no_grad()
def check(trainer: Trainer, folder: Path) -> dict[str, float]:
    """Largest differences from what rf_keras computes on the images of `check.npz`, relative to its largest values.

    Raises:
        ValueError: one is above 3 %, which bfloat16 and float16 do not explain.
    """
    with np.load(folder / "base" / "check.npz") as loaded:
        known = {key: torch.from_numpy(loaded[key]).to(trainer.device) for key in loaded.files}
    size = known["image"].shape[1]
    image = known["image"].permute(0, 3, 1, 2).float()
    anchors, scale, corners = grids(size, trainer.device)
    rgb = ((image.flip(1) - 127.5) / 128).to(trainer.teacher_dtype)
    answers, maps = answers_of(trainer.teacher, rgb, corners, scale)
    answers = both(answers, mirrored(answers_of(trainer.teacher, rgb.flip(3), corners, scale)[0], size))
    corrected = correct(known["answers"], known["in_view"], known["trusted"], size)
    trainer.student.eval()
    outputs = trainer.student(image - constant(MEAN, trainer.device)[:, None, None])
    trainer.student.train()
    there = known["answers"][..., 0] >= TEACHER_FLOOR
    pairs = {
        "score": (answers[..., 0], known["answers"][..., 0]),
        "box and points": (answers[..., 1:][there], known["answers"][..., 1:][there]),
        "corrected score": (corrected[..., 0], known["corrected"][..., 0]),
        "logit": (outputs[0], known["logit"]),
        "delta": (outputs[1], known["delta"]),
        "landmark": (outputs[2], known["landmark"]),
        "losses": (taught_loss(outputs, known["answers"], maps, anchors), known["losses"]),
    }
    found = {key: float((a - b).abs().max() / b.abs().max()) for key, (a, b) in pairs.items()}
    if bad := [key for key, value in found.items() if not value < 0.03]:
        raise ValueError(f"{folder}: {bad[0]} differs from rf_keras by {found[bad[0]]:.3g}, expected below 0.03")
    return {key: float(f"{value:.2g}") for key, value in found.items()}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to train."""

    pack: Path = option(text="folder that gpu_pack.py wrote")
    output: Path = option(text="folder for the arrays, the log and the figures")
    seconds: float = option(540.0, "seconds from the start of the program to the end of training", low=1)
    corrected_share: float = option(
        0.35, "share of the time for the part in which labels correct the teacher", low=0, high=1
    )
    learning_rate: float = option(0.08, "peak of the first part", low=0)
    second_rate: float = option(0.03, "peak of the corrected part", low=0)
    warmup: float = option(0.02, "share of each part in which the rate grows", low=0, high=1)
    size: tuple[int, ...] = option((640, 320), "sides of the images, pixels; steps take turns")
    batch: tuple[int, ...] = option((64, 128), "images per step at each of them")
    data_weights: tuple[float, ...] = option((0.6, 0.17, 0.17, 0.06), "share of each folder")
    device: str = option("cuda", "where to train", choices=("cuda", "cpu"))
    seed: int = option(0, "of the random draws")


def run(options: Options) -> None:
    """Train until the time is over.

    Raises:
        ValueError: anything the user got wrong; one line.
    """
    began = time.time()
    sizes, batches = options.size, options.batch
    if len(sizes) != len(batches) or any(size % 32 for size in sizes) or min(batches) < 4:
        raise ValueError(f"--size {sizes}, --batch {batches}: expected multiples of 32, and 4 images or more for each")
    device = torch.device(options.device)
    torch.manual_seed(options.seed)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    output = options.output
    output.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(options.pack, device, list(options.data_weights))
    print(f"{len(trainer.photos)} photos after {time.time() - began:.0f} s", flush=True)
    print(f"against rf_keras: {check(trainer, options.pack)}", flush=True)

    def steps(corrected: bool) -> list[Step]:
        made = [Step(trainer, size, batch, corrected) for size, batch in zip(sizes, batches, strict=True)]
        print(f"steps captured after {time.time() - began:.0f} s", flush=True)
        return made

    trainer.rate.fill_(0.0)
    deadline = began + options.seconds
    facts: dict[str, Any] = {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}
    with (output / "log.csv").open("w", newline="") as file:
        log = csv.writer(file)
        for name, corrected, peak in (
            ("taught", False, options.learning_rate),
            ("corrected", True, options.second_rate),
        ):
            if corrected and not options.corrected_share:
                break
            made = steps(corrected)
            now = time.time()
            share = 1.0 if corrected else 1 - options.corrected_share
            until = now + (deadline - now) * share
            seen = train_part(trainer, made, until, peak, options.warmup, log)
            trainer.save(output / f"{name}.npz")
            facts[name] = {"images": seen, "seconds": round(time.time() - now, 1), "rate": peak}
            print(name, facts[name], flush=True)
            file.flush()
    write_text(output / "facts.json", json.dumps(facts, indent=1) + "\n")


def main() -> None:
    """The command."""
    start(run, Options)


if __name__ == "__main__":
    main()
