"""What a mesh branch learns from: the features of a frozen network at the anchors that find a face.

The network runs as the .tflite file that it becomes, with its features as outputs: of an int8 network they are the
device's own numbers. Each photo is seen through windows of its own scale, place, turn and light, and half of them in a
mirror; the teacher's answers go along (`rf_keras.mesh`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import tf_keras as keras
from tqdm import tqdm

from quantization.export import to_tflite
from quantization.graph import FoldedNetwork
from quantization.recipe import Int8Network
from quantization.simulate import simulate
from rf_keras.config import ModelConfig
from rf_keras.mesh.basis import in_box_units
from rf_keras.mesh.mirror import MIRROR
from rf_keras.mesh.targets import MeshTargets
from rf_keras.model import MESH_CONVS
from tflite.decode import decode_boxes, sigmoid
from tflite.images import ImageError, read_image
from tflite.interpreter import load_interpreter, resize, tensor_details
from tflite.messages import note
from tflite.overlap import iou_matrix
from tflite.preprocess import apply_table, input_table, shrink
from tflite.spec import ModelSpec

WINDOWS = (320, 640)  # pixels; the smaller one for faces up to about 150
SMALLEST, LARGEST = 24.0, 600.0  # pixels of a face in a window
LARGE, LARGE_SHARE = 150.0, 0.35  # pixels; share of the windows that show a face from there on, where one can be
MOST_ENLARGED = 2.0  # times
LEAST_INSIDE = 0.85  # of a face's width and height, in the window
LEAST_SIDE = 16.0  # pixels of a face
LEAST_SCORE = 0.2  # of an anchor
LEAST_OVERLAP = 0.45  # IoU of an anchor's box with the mesh's
ANCHORS_PER_FACE = 3
SOURCES = ("context", "backbone")  # of the branch, in its order


@dataclass(frozen=True, eq=False)
class Patches:
    """Anchors on faces, of one level.

    Attributes:
        context: [N, 1, 1, C], the context features of the anchor's cell, as the network stores them: int8 or float32.
        backbone: [N, k, k, C'], the backbone's about the cell; k is the side of the branch's kernel there.
        anchor: int64 [N], which of the cell's.
        best: bool [N], whether it is the face's surest anchor.
        meshes: float16 [N, 468, 3], the teacher's, in units of the box that the network gives at this anchor.
        picture: int64 [N], which one it comes from.
    """

    context: np.ndarray
    backbone: np.ndarray
    anchor: np.ndarray
    best: np.ndarray
    meshes: np.ndarray
    picture: np.ndarray

    def part(self, which: np.ndarray) -> Patches:
        """Those of a mask or of some indices."""
        return Patches(*(value[which] for value in vars(self).values()))


def feature_file(network: FoldedNetwork, int8: Int8Network | None) -> bytes:
    """The network as a .tflite file of 640×640 with six outputs more, `context_{stride}` and `backbone_{stride}`."""
    size = max(WINDOWS)
    if int8 is None:
        model, kind = network.copy(size, size).model, "fp32"
    else:
        model, kind = simulate(int8.network, int8.ranges, height=size, width=size), "int8"
    strides = network.config.strides
    features = [_layer(model, f"ssh_{stride}_concat").output for stride in strides]
    features += [_layer(model, f"fpn_lateral_{stride}_conv").input for stride in strides]
    names = [f"{source}_{stride}" for source in SOURCES for stride in strides]
    return to_tflite(keras.Model(model.input, [*model.outputs, *features]), network.config, kind, names)


def _layer(model: keras.Model, name: str) -> keras.layers.Layer:
    return next(layer for layer in model.layers if layer.name.removeprefix("quant_") == name)


class FeatureRunner:
    """A file of `feature_file` at one square input.

    Attributes:
        grids: name of a feature output → its scale and zero point; (0, 0) for float ones.
    """

    def __init__(self, content: bytes, config: ModelConfig, size: int) -> None:
        self._config = config
        self._interpreter, _ = load_interpreter(content, 1)
        index = tensor_details(self._interpreter, "features")[0]["index"]
        resize(self._interpreter, index, (1, size, size, 3))
        self._input, self._outputs = tensor_details(self._interpreter, "features")
        scale, zero_point = self._input["quantization"]
        self._table = input_table(ModelSpec.mean, scale, zero_point, self._input["dtype"])
        self._anchors = config.anchors(size, size)
        self._buffer = np.empty((1, size, size, 3), self._input["dtype"])
        per_cell = config.anchors_per_cell
        cells = [(size // stride) ** 2 * per_cell for stride in config.strides]
        self._level = np.repeat(np.arange(len(cells)), cells)
        self._within = np.concatenate([np.arange(count) for count in cells])  # its level
        names = [f"{source}_{stride}" for source in SOURCES for stride in config.strides]
        self.grids: dict[str, tuple[float, int]] = {name: self._outputs[name]["quantization"] for name in names}

    def run(self, window: np.ndarray) -> None:
        """Run on a window uint8 BGR [S, S, 3]."""
        apply_table(window, self._table, self._buffer[0])
        self._interpreter.set_tensor(self._input["index"], self._buffer)
        self._interpreter.invoke()

    def raw(self, name: str) -> np.ndarray:
        """An output as the file has it, [h, w, C]."""
        return np.asarray(self._interpreter.get_tensor(self._outputs[name]["index"])[0])

    def _values(self, kind: str, width: int) -> np.ndarray:
        """float32 [A, width] of all levels."""
        parts = []
        for stride in self._config.strides:
            name = f"{kind}_{stride}"
            values = self.raw(name).reshape(-1, width)
            scale, zero_point = self._outputs[name]["quantization"]
            parts.append((values.astype(np.float32) - zero_point) * np.float32(scale) if scale else values)
        return np.concatenate(parts)

    def found(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Anchors that score: their indices [N], probabilities [N] and boxes float32 [N, 4] in the window's pixels."""
        scores = sigmoid(self._values("score", 1)[:, 0])
        index = np.flatnonzero(scores >= LEAST_SCORE)
        boxes = decode_boxes(self._values("box", 4)[index], self._anchors[index], self._config.variances)
        return index, scores[index], boxes

    def patches(self, index: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray, int]]:
        """Level, context, backbone features and place in the cell of each of some anchors."""
        found = []
        maps: dict[str, np.ndarray] = {}
        for anchor in index:
            level = int(self._level[anchor])
            stride = self._config.strides[level]
            cell, place = divmod(int(self._within[anchor]), self._config.anchors_per_cell)
            both = [
                self._patch(maps, f"{source}_{stride}", cell, side)
                for source, side in zip(SOURCES, (1, MESH_CONVS[stride][0]), strict=True)
            ]
            found.append((level, both[0], both[1], place))
        return found

    def _patch(self, maps: dict[str, np.ndarray], name: str, cell: int, side: int) -> np.ndarray:
        """[side, side, C] of a feature output about a cell; beyond the edge are zeros."""
        margin = side // 2
        if name not in maps:
            padding = ((margin, margin), (margin, margin), (0, 0))
            maps[name] = np.pad(self.raw(name), padding, constant_values=self.grids[name][1])
        row, column = divmod(cell, maps[name].shape[1] - 2 * margin)
        return maps[name][row : row + side, column : column + side].copy()


def collect(
    content: bytes, config: ModelConfig, targets: Sequence[MeshTargets], windows: int, seed: int
) -> list[Patches]:
    """Run the network over windows of all pictures that have a mesh.

    Args:
        content: of `feature_file`.
        config: of the network.
        targets: of some labelled sets.
        windows: of each picture; one more where there are several faces.
        seed: of the windows.

    Returns:
        The patches of each level.

    Raises:
        ValueError: a level without any.
    """
    generator = np.random.default_rng(seed)
    runners = {size: FeatureRunner(content, config, size) for size in WINDOWS}
    rows: list[list[tuple[Any, ...]]] = [[] for _ in config.strides]  # the fields of `Patches`
    pictures = [(one, int(number)) for one in targets for number in np.unique(one.sample)]
    progress = tqdm(pictures, desc="features", unit="image", leave=False, disable=None)
    for picture, (one, number) in enumerate(progress):
        faces = np.flatnonzero(one.sample == number)
        boxes = one.samples[number].boxes[one.face[faces]]
        try:
            image = read_image(one.samples[number].image)
        except ImageError as error:
            note(f"left out: {error}")
            continue
        for _ in range(windows + (len(faces) > 2)):
            window, meshes = draw_window(image, boxes, one.meshes[faces], generator)
            runner = runners[window.shape[0]]
            runner.run(window)
            for level, row in _rows(runner, meshes, generator):
                rows[level].append((*row, picture))
    if not all(rows):
        found = ", ".join(str(len(of_level)) for of_level in rows)
        raise ValueError(
            f"anchors on faces at strides {', '.join(map(str, config.strides))}: {found}; expected some at each: "
            "pictures with faces of all sizes"
        )
    return [Patches(*(np.array(column) for column in zip(*of_level, strict=True))) for of_level in rows]


def _rows(
    runner: FeatureRunner, meshes: np.ndarray, generator: np.random.Generator
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Level, and the fields of `Patches` but the last, of up to three anchors a face."""
    index, scores, boxes = runner.found()
    if not len(index) or not len(meshes):
        return
    around = np.concatenate((meshes[:, :, :2].min(axis=1), meshes[:, :, :2].max(axis=1)), axis=1)
    overlap = iou_matrix(around, boxes)  # [faces, anchors]
    nearest = overlap.argmax(axis=0)
    for face, mesh in enumerate(meshes):
        fit = np.flatnonzero((overlap[face] >= LEAST_OVERLAP) & (nearest == face))
        fit = fit[np.argsort(-scores[fit], kind="stable")]
        others = fit[1:8][scores[fit[1:8]] >= scores[fit[:1]] / 2] if len(fit) else fit
        chosen = np.concatenate((fit[:1], generator.permutation(others)[: ANCHORS_PER_FACE - 1]))
        units = in_box_units(np.repeat(mesh[None], len(chosen), axis=0), boxes[chosen])
        for order, (level, *features, place) in enumerate(runner.patches(index[chosen])):
            yield level, (*features, place, order == 0, units[order].astype(np.float16))


def draw_window(
    image: np.ndarray, boxes: np.ndarray, meshes: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A view of the picture in which one of its faces has a size drawn between 24 and 600 pixels.

    Args:
        image: uint8 BGR [H, W, 3].
        boxes: float32 [N, 4], N ≥ 1, of its faces with a mesh.
        meshes: float32 [N, 468, 3], in pixels of the picture.

    Returns:
        The window, uint8 BGR [S, S, 3] with S of `WINDOWS`, filled with the mean where the picture ends; and the meshes
        of the faces that are inside, in its pixels.
    """
    box = boxes[generator.integers(len(boxes))].astype(np.float64)
    side = float(np.sqrt(np.prod(box[2:] - box[:2])))
    largest = max(min(LARGEST, MOST_ENLARGED * side), SMALLEST)
    smallest = LARGE if generator.random() < LARGE_SHARE and largest > LARGE else SMALLEST
    wanted = float(np.exp(generator.uniform(np.log(smallest), np.log(largest))))
    size = WINDOWS[0] if wanted < generator.uniform(100, 220) else WINDOWS[1]
    scale = wanted / side
    angle = generator.normal(0, 15) if generator.random() < 0.5 else 0.0
    if generator.random() < 0.03:
        angle = generator.uniform(-60, 60)
    cosine, sine = scale * np.cos(np.deg2rad(angle)), scale * np.sin(np.deg2rad(angle))
    linear = np.array([[cosine, -sine], [sine, cosine]])
    mirror = generator.random() < 0.5
    if mirror:
        linear[:, 0] *= -1
    centre = size / 2 + generator.uniform(-0.5, 0.5, 2) * max(size - 1.1 * wanted, 0)
    shift = centre - linear @ (box[:2] + box[2:]) / 2

    smaller = shrink(image, max(1, int(image.shape[0] * scale)), max(1, int(image.shape[1] * scale)))
    factors = np.array(smaller.shape[1::-1]) / np.array(image.shape[1::-1])
    matrix = np.concatenate((linear / factors, shift[:, None]), axis=1)
    window = cv2.warpAffine(smaller, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=ModelSpec.mean)
    if generator.random() < 0.5:
        window = cv2.convertScaleAbs(window, alpha=generator.uniform(0.6, 1.4), beta=generator.uniform(-30, 30))

    seen = meshes[:, MIRROR] if mirror else meshes
    seen = np.concatenate((seen[:, :, :2] @ linear.T + shift, seen[:, :, 2:] * scale), axis=2).astype(np.float32)
    low, high = seen[:, :, :2].min(axis=1), seen[:, :, :2].max(axis=1)
    inside = (np.minimum(high, size) - np.maximum(low, 0)) / np.maximum(high - low, 1e-6)
    return window, seen[(inside.min(axis=1) >= LEAST_INSIDE) & ((high - low).min(axis=1) >= LEAST_SIDE)]
