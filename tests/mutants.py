"""The changes that `tests.mutation` makes, each with the test files that should notice it.

A mutant is found by its text, which occurs once in all Python files of a package, not by the name of a file: code may
move within a package, but whoever rewrites a line sees here which test holds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class MutantError(ValueError):
    """A mutant does not fit the code any more; one line that names it."""


@dataclass(frozen=True)
class Mutant:
    """One replacement in one file of a package.

    Attributes:
        package: the folder whose Python files, at any depth, hold `old` exactly once.
        old, new: the code and what takes its place.
        tests: files that should notice, as paths below tests/ without the suffix.
        reason: why no user could see the change; empty for one that tests must notice.
    """

    package: str
    old: str
    new: str
    tests: tuple[str, ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        return f"{' '.join(self.old.split())} → {' '.join(self.new.split()) or '(nothing)'}"


def locate(mutant: Mutant, root: Path) -> Path:
    """The file that holds the mutant's text.

    Raises:
        MutantError: the text is not there, or more than once.
    """
    found = {path: path.read_text(encoding="utf-8").count(mutant.old) for path in (root / mutant.package).rglob("*.py")}
    holders = [path for path, count in found.items() if count]
    if sum(found.values()) != 1:
        names = ", ".join(str(path.relative_to(root)) for path in sorted(holders)) or f"any file of {mutant.package}"
        raise MutantError(f"{mutant.old!r} occurs {sum(found.values())} times in {names}, expected once")
    return holders[0]


def files_of(mutant: Mutant, root: Path) -> list[Path]:
    """The test files of a mutant, in their order.

    Raises:
        MutantError: one is missing.
    """
    files = [root / "tests" / f"{name}.py" for name in mutant.tests]
    for file in files:
        if not file.is_file():
            raise MutantError(f"{mutant}: no test file {file.relative_to(root)}")
    return files


def changes(package: str, tests: str, *pairs: tuple[str, str]) -> list[Mutant]:
    """Mutants of one package with the same test files, named in one string."""
    return [Mutant(package, old, new, tuple(tests.split())) for old, new in pairs]


def harmless(package: str, *triples: tuple[str, str, str]) -> list[Mutant]:
    """Changes (old, new, reason) that no user could see."""
    return [Mutant(package, old, new, reason=reason) for old, new, reason in triples]


DECODE = changes(
    "tflite",
    "tflite/test_decode tflite/test_golden",
    ("math.log(1000 / 16)", "math.log(1000 / 15)"),
    ("deltas[:, :2] * np.float32(variances[0]) * size", "deltas[:, :2] * np.float32(variances[1]) * size"),
    ("np.minimum(deltas[:, 2:] * np.float32(variances[1])", "np.minimum(deltas[:, 2:] * np.float32(variances[0])"),
    (".astype(np.float32) * np.float32(0.5)", ".astype(np.float32) * np.float32(0.4999)"),
    ("anchors[..., :2] + deltas * np.float32(variances[0])", "anchors[..., :2] + deltas * np.float32(variances[1])"),
    ("-np.inf if probability == 0 else np.inf", "np.inf if probability == 0 else -np.inf"),
    ("if not 0 <= probability <= 1", "if not 0 < probability < 1"),
    ("np.exp(-np.abs(logits)", "np.exp(-np.asarray(logits)"),
    ("(values.astype(np.float32) - np.float32(zero_point))", "values.astype(np.float32)"),
    (
        "np.searchsorted(dequantize(values, scale, zero_point), wanted)",
        'np.searchsorted(dequantize(values, scale, zero_point), wanted, side="right")',
    ),
    ("np.arange(limits.min, limits.max + 1)", "np.arange(limits.min, limits.max)"),
    ("scores >= logit(threshold)", "scores > logit(threshold)"),
    ("scores >= min_quantized_score(", "scores > min_quantized_score("),
    ("level or (1, 0)", "level or (1, 1)"),
    ("if not any(quantization)", "if not all(quantization)"),
    ("first += scores.size", "first += len(index)"),
    ('np.argsort(-logits, kind="stable")[:count]', 'np.argsort(logits, kind="stable")[:count]'),
    ('np.argsort(-logits, kind="stable")[:count]', "np.argsort(-logits)[:count]"),
    ("if len(logits) > spec.max_candidates", "if len(logits) > 2 * spec.max_candidates"),
    ("np.isfinite(boxes).all(axis=1) &", "np.isfinite(boxes).all(axis=1) |"),
    ("if np.isfinite(boxes).all() and np.isfinite(landmarks).all()", "if np.isfinite(boxes).all()"),
)

NMS = changes(
    "tflite",
    "tflite/test_nms",
    ("(a[4] + b[4] - inter) > iou_threshold", "(a[4] + b[4] - inter) >= iou_threshold"),
    ("inter / (a[4] + b[4] - inter)", "inter / (a[4] + b[4])"),
    ("np.maximum(a[:2], b[:2]) + pixel_offset, 0)", "np.maximum(a[:2], b[:2]), 0)"),
    (
        "np.maximum(np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2]) + pixel_offset, 0)",
        "np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2]) + pixel_offset",
    ),
    ("(table[2] - table[0] + pixel_offset)", "(table[2] - table[0])"),
    ("if (ordered[1:] > ordered[:-1]).all()", "if (ordered[1:] >= ordered[:-1]).all()"),
    ("_by_score(scores)[:max_candidates]", "_by_score(scores)"),
    ("_greedy(over)[:max_faces]", "_greedy(over)"),
    ("*pairs))[:room]", "*pairs))"),
    ("room -= len(winners)", "room -= len(block)"),
    ("/ (2 + 2 * iou_threshold)", "/ (2 + 3 * iou_threshold)"),
    (" + 1e-5 * np.abs(side) + 1e-6 * np.abs(centre)", ""),
    ("side, centre = high - low + pixel_offset,", "side, centre = high - low,"),
    ("(low_y, b.intervals[1, 1])", "(low_x, b.intervals[1, 1])"),
    ("if not 0 <= iou_threshold <= 1", "if not 0 <= iou_threshold < 1"),
    ("iou_threshold = float(iou_threshold)", "iou_threshold = iou_threshold"),
    ("boxes = boxes.astype(np.float64)", "boxes = boxes.astype(boxes.dtype)"),
    ("-scores.astype(np.promote_types(scores.dtype, np.float32), copy=False)", "-scores"),
    ("alive[_overlapping(tile, rest, iou_threshold, pixel_offset, buffers)[1]] = False", "pass"),
    ("suppressed |= int.from_bytes", "suppressed = int.from_bytes"),
)

IMAGES = changes(
    "tflite",
    "tflite/test_images",
    ('FORMATS = ("JPEG",', 'FORMATS = ("EPS", "JPEG",'),
    ("if largest <= 4:", "if largest <= 1:"),
    ("if 8 < b < 16), 0)", "if 8 < b < 8), 0)"),
    ("pixels >> (max(bits, largest.bit_length()) - 8)", "pixels >> 8"),
    ("high.max(initial=0) < 64", "high.max(initial=0) < 4"),
    ("if orientation >= 5:", "if orientation > 5:"),
    ('image.mode.startswith(("I", "F"))', 'image.mode.startswith(("I",))'),
    ("4: 0, 6: 1, 7: -1, 8: 0}", "4: 0, 6: 0, 7: -1, 8: 1}"),
    ('data.rstrip(b"\\xff")', "data"),
)

PREPROCESS = changes(
    "tflite",
    "tflite/test_preprocess tflite/test_golden",
    ("scale = min(height / image_height", "scale = max(height / image_height"),
    ("int(image_height * scale + 0.5)", "int(image_height * scale)"),
    ("max(int(image_width * scale + 0.5), 1)", "max(int(image_width * scale + 0.5), 0)"),
    ("dst=out, interpolation=cv2.INTER_LINEAR", "dst=out, interpolation=cv2.INTER_NEAREST"),
    ("image.shape[0] >= 2 * rows and", "image.shape[0] > 2 * rows and"),
    ("image.shape[0] >= 2 * rows and image.shape[1] >= 2 * columns", "image.shape[0] >= 2 * rows"),
    ("even = image[: 2 * height, : 2 * width]", "even = image"),
    ("(width, height), dst=out, interpolation=cv2.INTER_AREA", "(width, height), dst=out, interpolation=0"),
    ("del buffers[step:]", "pass"),
    ("np.floor(np.asarray(mean, np.float64) + 0.5)", "np.floor(np.asarray(mean, np.float64))"),
    ("out[:rows, columns:] = row[columns:]", "pass"),
    ("out[rows:] = row", "pass"),
    ("np.floor(values / scale + 0.5)", "np.round(values / scale)"),
    ("np.clip(np.floor(values / scale + 0.5) + zero_point, limits.min, limits.max)", "(values / scale + zero_point)"),
    ("np.bitwise_xor(result, 128, out=unsigned)", "pass"),
    ("return matrix if np.array_equal(", "return matrix if True or np.array_equal("),
    ("if table.dtype != np.int8:", "if table.dtype == np.uint8:"),
    ("np.eye(3) / scale", "np.eye(3) * scale"),
    ("image = shrink(image, rows, columns, self._halved)", "pass"),
    ("_pad(tensor, rows, columns, self._pad_row)", "pass"),
)

POSTPROCESS = changes(
    "tflite",
    "tflite/test_postprocess tflite/test_golden tflite/test_detector",
    ("np.maximum(boxes / np.float32(scale), 0)", "np.maximum(boxes * np.float32(scale), 0)"),
    ("np.maximum(boxes / np.float32(scale), 0)", "(boxes / np.float32(scale))"),
    ("np.array((width, height, width, height)", "np.array((height, width, height, width)"),
    ("found.landmarks / np.float32(scale)", "found.landmarks"),
    ("if not np.isfinite(landmarks).all():", "if False:"),
    ("overlap = spec.iou_threshold if iou_threshold is None else iou_threshold", "overlap = spec.iou_threshold"),
    (
        "overlap = spec.iou_threshold if iou_threshold is None else",
        "overlap = 0.4 if iou_threshold is None else",
    ),
    ("nms(boxes, logits, overlap", "nms(boxes, sigmoid(logits), overlap"),
    ("overlap, max_candidates=spec.max_candidates, ", "overlap, "),
    (", max_faces=spec.max_faces)\n", ")\n"),
    ("[round(value, 3) for value in self.box]", "[round(value, 1) for value in self.box]"),
    ("round(self.score, 6)", "round(self.score, 3)"),
    ("round(self.score, 6)", "self.score"),
    ("[round(x, 3), round(y, 3)]", "[round(x, 3), round(y, 1)]"),
)

SPEC = changes(
    "tflite",
    "tflite/test_spec",
    ("and data[side] % 32 == 0", "and data[side] % 16 == 0"),
    ("_positive_int(data[side], 8192)", "_positive_int(data[side], 1 << 40)"),
    ("_numbers(mean, 3) and all(0 <= m <= 255 for m in mean)", "_numbers(mean, 3) and all(m <= 255 for m in mean)"),
    ("len(value) == length", "len(value) >= length"),
    ("0 < len(strides) <= 8", "0 < len(strides)"),
    ("_positive_int(s, 256)", "_positive_int(s, 1 << 40)"),
    ("sorted(set(strides)) == strides", "sorted(strides) == strides"),
    ("0 < len(level) <= 16", "0 < len(level)"),
    ("0 < size <= 8192", "0 < size"),
    ("all(0 < v <= 10 for v", "all(0 <= v <= 10 for v"),
    ("all(0 < v <= 10 for v", "all(0 < v for v"),
    ("0 < data[key] < 1, ", "0 <= data[key] < 1, "),
    ("0 < data[key] < 1, ", "0 < data[key] <= 1, "),
    ("_positive_int(data[key], 1_000_000)", "_positive_int(data[key], 1 << 40)"),
    ("not isinstance(value, bool) and 0 < value <= most", "0 < value <= most"),
    ("isinstance(value, int) and not isinstance(value, bool)  #", "isinstance(value, int)  #"),
    ('data.setdefault("antialias", False)', 'data.setdefault("antialias", True)'),
    ('for key in ("quantization", "source")', 'for key in ("source",)'),
    ('spec_from_json(text, "new model")', "pass"),
    ("zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0))", "member"),
    ("(1980, 1, 1, 0, 0, 0)), data)", "(1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)"),
    ("if len(data) > most:", "if len(data) > 1 << 30:"),
    ("file.read(most + 1)", "file.read()"),
    ("if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)", "if info.compress_type == 99"),
    ("type(version) is int and version == FORMAT_VERSION", "version == FORMAT_VERSION"),
    ("type(version) is int and version == FORMAT_VERSION", "type(version) is int and version >= FORMAT_VERSION"),
)

TILING = changes(
    "tflite",
    "tflite/test_tiling",
    ("OVERLAP = 0.25", "OVERLAP = 0.2"),
    ("EDGE = 2.0", "EDGE = 0.0"),
    ("EDGE = 2.0", "EDGE = 20.0"),
    ("int(np.ceil((length - tile)", "int(np.floor((length - tile)"),
    ("found.landmarks + offset", "found.landmarks"),
    ("width - found.boxes[:, 2], height - found.boxes[:, 3]", "height - found.boxes[:, 2], width - found.boxes[:, 3]"),
    ("gaps < EDGE", "gaps <= EDGE"),
    ("inner = (x > 0, y > 0,", "inner = (x >= 0, y > 0,"),
    ("x + tile < width, y + tile < height)", "x + tile < width, y + tile <= height)"),
    ("if height <= tile and width <= tile", "if height <= tile or width <= tile"),
    ("[detector.detect(image, score_threshold, iou_threshold)]", "[detector.detect(image)]"),
    ("detector.detect(piece, score_threshold, iou_threshold)", "detector.detect(piece, None, iou_threshold)"),
    ("detector.detect(piece, score_threshold, iou_threshold)", "detector.detect(piece, score_threshold)"),
    ("detector.spec.iou_threshold if iou_threshold is None else iou_threshold)", "detector.spec.iou_threshold)"),
    ("0, spec.max_candidates, spec.max_faces)", "0, max_faces=spec.max_faces)"),
    ("0, spec.max_candidates, spec.max_faces)", "0, spec.max_candidates)"),
    ("scores[i] < MUCH_LESS * scores[others]", "scores[i] < scores[others]"),
    ("np.argsort(-areas(boxes)", "np.argsort(areas(boxes)"),
    ("(look[:, None] != look[None])", "True"),
    ("tile = max(tile, own // MOST_ENLARGED)", "pass"),
    ("if tile < SMALLEST_TILE", "if tile < 16"),
)

ALIGN = changes(
    "tflite",
    "tflite/test_align",
    ("flags=cv2.INTER_LINEAR", "flags=cv2.INTER_NEAREST"),
    ("flags=cv2.INTER_LINEAR", "flags=cv2.INTER_CUBIC"),
    ("flags=cv2.INTER_LINEAR", "flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE"),
    ("[56.0252, 71.7366]", "[56.0252, 71.8366]"),
    ("a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]", "a[:, 1] * b[:, 0] - a[:, 0] * b[:, 1]"),
    ("if spread > 1e-12", "if spread >= 0"),
    ("cosine, sine = 1.0, 0.0", "cosine, sine = 0.0, 0.0"),
)

RESULTS = changes(
    "tflite",
    "tflite/test_results",
    ("and not (options.output or options.show)", "and not options.output"),
    ("printable(output), path.suffix.lower()", "printable(output), path.suffix"),
    ("return path.is_dir() or not path.suffix", "return not path.suffix"),
    ("if inputs > 1:", "if inputs > 2:"),
    ('{source}#{frame.number}"] = record', '{source}"] = record'),
    ("round(self.seconds or 0.0, 4)", "round(self.seconds or 0.0, 1)"),
    ("self._lines.flush()", "pass"),
    ("if flush:\n            stream.flush()", "if not flush:\n            stream.flush()"),
    ("return name.parent / f", "return Path() / f"),
    ("name if name.suffix.lower() in WRITABLE", "name if name.suffix in WRITABLE"),
    ('name.with_name(name.name + ".png")', 'name.with_suffix(".png")'),
    ("if self.blur is None:", "if self.crops is None:"),
    ("cv2.waitKey(0 if frame is None else 1)", "cv2.waitKey(1 if frame is None else 0)"),
    ('in (27, ord("q"))', 'in (27, ord("x"))'),
    ("cv2.imshow(WINDOW, annotated)", "cv2.imshow(WINDOW, image)"),
    ("return kind is None or", "return True or"),
    ("issubclass(kind, (KeyboardInterrupt, ", "issubclass(kind, ("),
    ("issubclass(kind, (KeyboardInterrupt, Stopped, ", "issubclass(kind, (KeyboardInterrupt, "),
    ("if len(to_stdout) > 1:", "if False:"),
)

MATCHING = changes(
    "rf_keras",
    "rf_keras/test_matching",
    ("POSITIVE_IOU = 0.35", "POSITIVE_IOU = 0.36"),
    ("KEEP_IOU = 0.2\n", "KEEP_IOU = 0.21\n"),
    ("tf.where(iou >= POSITIVE_IOU)", "tf.where(iou > POSITIVE_IOU)"),
    ("tf.where(reached >= KEEP_IOU)", "tf.where(reached > KEEP_IOU)"),
    ("2 * math.ceil(reach + 0.5) + 1", "2 * math.ceil(reach + 0.5) - 3"),
    ("tf.round((low + high) / (2 * stride) - 0.5)", "tf.round((low + high) / stride - 0.5)"),
    ("(area >= POSITIVE_IOU * size**2)", "(area >= 0.5 * size**2)"),
    ("(area * POSITIVE_IOU <= size**2)", "(area * 0.5 <= size**2)"),
    ("(column >= 0) & (column < columns)", "(column >= 0) & (column <= columns)"),
    ("(row >= 0) & (row < rows)", "(row >= -1) & (row < rows)"),
    (
        "tf.math.unsorted_segment_min(tf.where(is_top, of_face, most), index, batch * per_image)",
        "tf.math.unsorted_segment_max(tf.where(is_top, of_face, -1), index, batch * per_image)",
    ),
    ("tf.where(first < most, first, -1)", "tf.where(first < most, first, 0)"),
    (
        "tf.reduce_min(tf.where(ious == reached[:, None], anchors, per_image), axis=1)",
        "tf.reduce_max(tf.where(ious == reached[:, None], anchors, -1), axis=1)",
    ),
    (
        "tf.argmax(across, axis=1, output_type=tf.int32)",
        "columns - 1 - tf.argmax(across[:, ::-1], axis=1, output_type=tf.int32)",
    ),
    ("tf.where(forced >= 0, forced, matched)", "tf.where(matched >= 0, matched, forced)"),
    ("tf.sequence_mask(count, most)", "tf.sequence_mask(count + 1, most)"),
)

LOSSES = changes(
    "rf_keras",
    "rf_keras/test_losses",
    ("NEGATIVES_PER_POSITIVE = 7", "NEGATIVES_PER_POSITIVE = 6"),
    ("BOX_WEIGHT = 2.0", "BOX_WEIGHT = 1.0"),
    ("0.5 * size * size, size - 0.5", "size * size, size - 0.5"),
    ("tf.minimum(NEGATIVES_PER_POSITIVE * positives, backgrounds)", "NEGATIVES_PER_POSITIVE * positives"),
    ("tf.where(positive, -1.0, background_loss)", "background_loss"),
    ("tf.reduce_any(true_points != -1.0, axis=[1, 2])", "tf.reduce_all(true_points != -1.0, axis=[1, 2])"),
    ("tf.where(known[:, None], smooth_l1(point_error), 0.0)", "smooth_l1(point_error)"),
    (
        "softplus(-tf.gather_nd(face_over_background",
        "softplus(tf.gather_nd(face_over_background",
    ),
    ("tf.maximum(positives, 1.0)", "positives"),
    ("sums.landmark / tf.maximum(positives_with_landmarks, 1.0)", "sums.landmark / faces"),
)

TEACHER_LOSSES = changes(
    "rf_keras",
    "rf_keras/distillation/test_losses",
    ("TEACHER_LANDMARK_WEIGHT = 8.0, 0.25", "TEACHER_LANDMARK_WEIGHT = 4.0, 0.25"),
    ("TEACHER_LANDMARK_WEIGHT = 8.0, 0.25", "TEACHER_LANDMARK_WEIGHT = 8.0, 0.5"),
    ("TEACHER_FLOOR = 0.1 ", "TEACHER_FLOOR = 0.2 "),
    (
        "tf.where(score >= TEACHER_FLOOR, score, 0.0)\n",
        "tf.where(score > TEACHER_FLOOR, score, 0.0)\n",
    ),
    ("tf.square(tf.sigmoid(logit) - score)", "tf.abs(tf.sigmoid(logit) - score)"),
    ("tf.nn.softplus(logit) - score * logit", "tf.nn.softplus(logit)"),
    ("tf.minimum(score * factor, 1.0)", "score * factor"),
    ("LOOKED_AT_SCORE = 1024, 0.05", "LOOKED_AT_SCORE = 512, 0.05"),
    ("LOOKED_AT_SCORE = 1024, 0.05", "LOOKED_AT_SCORE = 1024, 0.03"),
    ("FALSE_SHARE = 0.5, 0.3, 0.4", "FALSE_SHARE = 0.5, 0.3, 0.5"),
    ("FALSE_SHARE = 0.5, 0.3, 0.4", "FALSE_SHARE = 0.6, 0.3, 0.4"),
    ("LARGEST_RAISE = 0.6, 2.0", "LARGEST_RAISE = 0.7, 2.0"),
    ("sure = overlap >= SURE_IOU", "sure = overlap > SURE_IOU"),
    ("(score >= LOOKED_AT_SCORE)", "(score > LOOKED_AT_SCORE)"),
    ("batch_dims=1), 0.0, float(size))", "batch_dims=1), -1e9, 1e9)"),
    ("tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)", "tf.reduce_prod(high - low, axis=-1)"),
    ("PART_SHARE = 0.25, 0.9, 0.5", "PART_SHARE = 0.2, 0.9, 0.5"),
    ("PART_SHARE = 0.25, 0.9, 0.5", "PART_SHARE = 0.25, 0.8, 0.5"),
    ("PART_SHARE = 0.25, 0.9, 0.5", "PART_SHARE = 0.25, 0.9, 1.5"),
    ("LARGE_SCORE * share", "LARGE_SCORE * share**2"),
    ("tf.where(overlap >= SURE_IOU, top, 0.0)", "tf.zeros_like(top)"),
)

BOX_CODING = changes(
    "rf_keras",
    "rf_keras/test_box_coding",
    ("MIN_SIDE = 1e-3", "MIN_SIDE = 1.0"),
    ("MIN_SIDE = 1e-3", "MIN_SIDE = 1e-20"),
    ("(boxes[..., :2] + boxes[..., 2:]) / 2\n    size", "boxes[..., :2]\n    size"),
    ("tf.math.log(size / side) / variances[1]", "tf.math.log(size / side) / variances[0]"),
    ("(landmarks - centre) / (variances[0] * side)", "(landmarks - centre) / (variances[1] * side)"),
    ("tf.exp(tf.minimum(deltas[..., 2:] * variances[1], MAX_LOG_SIZE))", "tf.exp(deltas[..., 2:] * variances[1])"),
    ("+ [5]) + deltas * variances[0]", "+ [5]) + deltas * variances[1]"),
)

WIDER_AP = changes(
    "rf_keras",
    "rf_keras/evaluation/test_wider_ap",
    ("IOU_THRESHOLD = 0.5", "IOU_THRESHOLD = 0.51"),
    ("best] >= IOU_THRESHOLD", "best] > IOU_THRESHOLD"),
    ("THRESHOLDS = 1000", "THRESHOLDS = 100"),
    ('np.argsort(-np.asarray(scores, np.float64), kind="stable")', "np.argsort(-np.asarray(scores, np.float64))"),
    ("iou.argmax(axis=1)\n        face", "iou.shape[1] - 1 - iou[:, ::-1].argmax(axis=1)\n        face"),
    ("np.maximum(a[..., :2], b[..., :2]) + 1", "np.maximum(a[..., :2], b[..., :2])"),
    ("kept = on_counted | ~on_face", "kept = np.ones_like(on_face)"),
    ("kept &= ~left_out[index]", "pass"),
    ("kept & on_counted & first_on_face(found)", "kept & on_counted"),
    ('thresholds, side="left")', 'thresholds, side="right")'),
    ("1 - np.arange(1, THRESHOLDS + 1) / THRESHOLDS", "1 - np.arange(THRESHOLDS) / THRESHOLDS"),
    (
        "np.maximum.accumulate(np.concatenate([[0.0], precision",
        "np.asarray(np.concatenate([[0.0], precision",
    ),
    ("boxes[:, 2:] += boxes[:, :2]  # the files", "pass  # the files"),
    (".ravel() - 1] = True", ".ravel() - 2] = True"),
)

AUGMENT = changes(
    "rf_keras",
    "rf_keras/test_augment",
    ("MIRRORED_LANDMARKS = (1, 0, 2, 4, 3)", "MIRRORED_LANDMARKS = (1, 0, 2, 3, 4)"),
    ("boxes[None, :, :2] >= origin[:, None]", "boxes[None, :, :2] > origin[:, None]"),
    ("boxes[None, :, 2:] <= end[:, None]", "boxes[None, :, 2:] < end[:, None]"),
    ("size >= config.min_face * side", "size > config.min_face * side"),
    ("(centre > start)", "(centre >= start)"),
    ("(centre < end)", "(centre <= end)"),
    ("(shorter >= config.min_face)", "(shorter > config.min_face)"),
    ("_ranged(draws[2], -config.brightness, config.brightness)", "_ranged(draws[2], 0.0, config.brightness)"),
    ("amount(1, -config.brightness, config.brightness, 0.0)", "amount(1, 0.0, config.brightness, 0.0)"),
    ("* (np.pi / 90.0)", "* (np.pi / 180.0)"),
    ("contrast_last = draws[0] < 0.5", "contrast_last = draws[0] >= 0.5"),
    (
        "tf.raw_ops.ResizeNearestNeighbor(images=images, size=target, half_pixel_centers=True)",
        "tf.raw_ops.ResizeNearestNeighbor(images=images, size=target)",
    ),
    (
        "tf.raw_ops.ResizeBicubic(images=images, size=target, half_pixel_centers=True)",
        "tf.raw_ops.ResizeBicubic(images=images, size=target)",
    ),
    ("tf.stack([place.out_width, place.out_height])", "tf.stack([place.out_height, place.out_width])"),
    ("CLOSEUP_FACE = 64.0", "CLOSEUP_FACE = 32.0"),
    ("CLOSEUP_MARGINS = (-0.1, 0.7)", "CLOSEUP_MARGINS = (-0.1, 0.5)"),
    ("rectangle = draws[7] < 0.5", "rectangle = draws[7] >= 0.5"),
    ("margins * sides * [-1.0, -1.0, 1.0, 1.0]", "margins * sides * [1.0, -1.0, 1.0, 1.0]"),
)

MIXING = changes(
    "rf_keras",
    "rf_keras/distillation/test_mixing",
    ("(tf.roll(image, 1, axis=0) - image) + 0.5", "(tf.roll(image, 1, axis=0) - image)"),
    ("LARGEST_OPACITY = 0.5 ", "LARGEST_OPACITY = 0.6 "),
    ("MIX_SIDES = (0.2, 0.7)", "MIX_SIDES = (0.3, 0.7)"),
    ('batch["mix"][:, 0] >= share', 'batch["mix"][:, 0] < share'),
    ('rest["corrected"] &= ', 'rest["corrected"] = '),
)

BOXES = changes(
    "rf_keras",
    "rf_keras/test_boxes rf_keras/test_selection",
    ("np.prod(np.maximum(high - low, 0), axis=-1)", "np.prod(high - low, axis=-1)"),
    ("np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)", "np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)"),
    ("areas(a)[:, None] + areas(b)[None] - common", "areas(a)[:, None] + areas(b)[None]"),
    (
        "np.linspace(0, len(items) - 1, min(count, len(items)))",
        "np.linspace(0, len(items), min(count, len(items)) + 1)[:-1]",
    ),
    ("len(items))).round().astype(int)", "len(items))).astype(int)"),
)

EVALUATE = changes(
    "rf_keras",
    "rf_keras/test_evaluate",
    ("AP_SCORE_THRESHOLD = 0.02", "AP_SCORE_THRESHOLD = 0.2"),
    ("AP_SCORE_THRESHOLD, ModelSpec.iou_threshold)", "AP_SCORE_THRESHOLD, 0.5)"),
    ("(true >= low) & (true < high)", "(true > low) & (true <= high)"),
    ("~((found >= low) & (found < high))", "~((found > low) & (found <= high))"),
    ("(r.matches.face < 0) & ~(", "(r.matches.face < 0) | ~("),
    ("first = first_on_face(r.matches)\n        face,", "first = r.matches.face >= 0\n        face,"),
    ("r.truth.valid[face] & (true != -1).any(axis=(1, 2))", "(true != -1).any(axis=(1, 2))"),
    ("(true != -1).any(axis=(1, 2))", "(true != -1).all(axis=(1, 2))"),
    ("return np.sqrt(sides[:, 0] * sides[:, 1])", "return np.maximum(sides[:, 0], sides[:, 1])"),
    ("SAME_BOX_IOU = 0.9", "SAME_BOX_IOU = 0.0"),
)

CALIBRATE = changes(
    "quantization",
    "quantization/test_calibrate",
    ("DEFAULT_PERCENTILE = 99.995", "DEFAULT_PERCENTILE = 99.9"),
    ("LOWER_TAIL = 20", "LOWER_TAIL = 10"),
    ("SCORE_FLOOR = -6.0", "SCORE_FLOOR = -5.0"),
    ("CANDIDATE_LOGIT = -3.9", "CANDIDATE_LOGIT = -3.0"),
    ("FEWEST_CANDIDATES = 200", "FEWEST_CANDIDATES = 400"),
    ("len(values) >= FEWEST_CANDIDATES", "len(values) > FEWEST_CANDIDATES"),
    ("np.percentile(values, (0.05, 99.95))", "np.percentile(values, (0.5, 99.5))"),
    ("max(SCORE_FLOOR, fallback[name][0])", "SCORE_FLOOR"),
    ("codes[scores > CANDIDATE_LOGIT]", "codes[scores > -99]"),
    ('if by_use and method != "minmax"', "if by_use"),
)

CALIBRATION_IMAGES = changes(
    "quantization",
    "quantization/test_images",
    ("FEWEST_IMAGES = 8", "FEWEST_IMAGES = 7"),
    ("np.abs(thumbnail - other).mean() > 2 for", "np.abs(thumbnail - other).mean() > 20 for"),
    ("return evenly_spaced(paths, count)", "return paths[:count]"),
    ("ModelSpec().mean, antialias=antialias)[0])", "ModelSpec().mean)[0])"),
)

LEAKY = changes(
    "quantization",
    "quantization/test_leaky",
    ("(LEAKY_STEPS + 1e-4)", "(LEAKY_STEPS - 1e-4)"),
    ("aligned[before] = (low * factor, high * factor)", "aligned[before] = (low, high * factor)"),
    ("aligned[after] = (out_low / factor, out_high / factor)", "aligned[after] = (out_low, out_high)"),
    ("if factor >= 1:", "if factor < 1:"),
)

FOLD = changes(
    "quantization",
    "quantization/test_fold",
    ("np.sqrt(variance + norm.epsilon)", "np.sqrt(variance)"),
    ("beta + (bias - mean) * factor", "beta - mean * factor"),
    (
        "following[0] if len(following) == 1 and isinstance(following[0], layers.BatchNormalization)",
        "following[0] if following and isinstance(following[0], layers.BatchNormalization)",
    ),
    ("kernel[..., 1::2] - kernel[..., 0::2]", "kernel[..., 0::2] - kernel[..., 1::2]"),
    ('startswith("class_") and config.class_logits == 2', 'startswith("class_")'),
    ("return kernel * factor.reshape(1, 1, -1, 1)", "return kernel * factor"),
)

BIAS = changes(
    "quantization",
    "quantization/test_bias",
    ("images = images[:: max(1, len(images) // IMAGES)]", "images = images[:IMAGES]"),
    ("IMAGES = 8\n", "IMAGES = 1\n"),
    (".assign_add(want - mean)", ".assign_add(mean - want)"),
    ("if depth[name] == turn", "if depth[name] == 1"),
    ("tf.clip_by_value(value, *limit)", "value"),
    ("max((depth[name] for name in before), default=0)", "min((depth[name] for name in before), default=0)"),
)

EXPORT = changes(
    "quantization",
    "quantization/test_export quantization/test_rewrite",
    ("layer.alpha = np.float32(LEAKY_EXPORT_SLOPE)", "pass"),
    ("            layer.alpha = alpha\n", "            pass\n"),
    ("converter.target_spec.supported_types = [tf.float16]", "pass"),
    ("converter.inference_input_type = tf.int8", "pass"),
    ("return rewrite(content)", "return content"),
    ("tf.TensorSpec((1, height, width, 3), tf.float32", "tf.TensorSpec((None, height, width, 3), tf.float32"),
    ('if self.tensors[index].dtype.kind == "f"', 'if self.tensors[index].dtype == "float64"'),
)

REWRITE = changes(
    "quantization",
    "quantization/test_rewrite",
    ("max(code.builtinCode, code.deprecatedBuiltinCode)", "code.builtinCode"),
    ("{image.type, kernel.type} != {schema.TensorType.INT8}", "False"),
    ("tuple(kernel.shape[1:3]) != (3, 3)", "kernel.shape[1] != 3"),
    ("(options.strideH, options.strideW, options.padding) != (2, 2, schema.Padding.VALID)", "options.strideH != 2"),
    ("        or height % 2\n", ""),
    ("        or width % 2\n", ""),
    ("small.type not in (editor.schema.TensorType.INT8, editor.schema.TensorType.FLOAT32)", "False"),
    (
        "small.type not in (editor.schema.TensorType.INT8, editor.schema.TensorType.FLOAT32)",
        "small.type != editor.schema.TensorType.INT8",
    ),
    ('("end", 2)', '("end", 3)'),
    ("target, blockSize=2)", "target, blockSize=4)"),
    ("!= (2 * small.shape[1], 2 * small.shape[2])", "!= (2 * small.shape[1], large.shape[2])"),
    ("builtin_of(code) == builtin and code.version >= version", "builtin_of(code) == builtin"),
    ("np.pad(kernel, ((0, 0), (0, 0), (1, 0), (0, 0)))", "np.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 0)))"),
    ("options.strideW = 1", "pass"),
    ("[[0, 0], [1, 0], [1, 0], [0, 0]])", "[[0, 0], [0, 1], [1, 0], [0, 0]])"),
)

FILES = changes(
    "tflite",
    "tflite/test_files tflite/test_signals tflite/test_outputs",
    ("return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)", "return False"),
    ("sync(temporary)", "pass"),
    ("sync(target.parent)", "pass"),
    ("for path in reversed(missing if durable else []):", "for path in []:"),
    ("if error.errno not in UNSYNCED:", "if False:"),
    ("path if special else Path(os.path.realpath(path))", "path"),
    ("if time.time() - path.stat().st_mtime < YOUNG:", "if False:"),
    ("fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails", "pass  # fails"),
    ("return stat.S_IMODE(target.stat().st_mode)", "raise OSError"),
    ("return 0o666 & ~umask", "return 0o600"),
    ("if self._waiting or again:", "if self._waiting:"),
    ("if self._waiting or again:", "if again:"),
    ("not in (signal.SIG_IGN, None)", "not in (None,)"),
    ("not in (signal.SIG_IGN, None)", "!= signal.SIG_IGN"),
    ("self.exit_code = 128 + number", "self.exit_code = number"),
)

STRANGERS = changes(
    "tflite",
    "tflite/test_spec",
    ("if count > MOST_MEMBERS:", "if False:"),
    ("if not stat.S_ISREG(found.st_mode) and", "if False and"),
    ("if found.st_size > MAX_MODEL_BYTES:", "if False:"),
)

ARCHIVE = changes(
    "rf_keras",
    "rf_keras/test_archive",
    ("start == HDF5_START", "False"),
    ("if not start.startswith(ZIP_START)", "if False"),
    ("if max(len(layers), len(self.names) + len(variables)) > MOST_ARRAYS", "if False"),
    ("for name in sorted(set(shapes) ^ self.names)", "for name in sorted(set(shapes) - self.names)"),
    ("if not np.isfinite(array).all():", "if False:"),
    ("found = group[name] if isinstance(link, h5py.HardLink) else None", "found = group[name]"),
    ("if dataset.shape != shape or", "if"),
    ("and not plist.get_external_count() and", "and"),
    ("layout in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS) and", ""),
    ("decompress(packed, size + 1)", "decompress(packed)"),
    ("if not skipped and len(planes) == size", "if not skipped"),
    ("parse_constant=_no_constant", "parse_constant=float"),
)

CHECKPOINTS = changes(
    "rf_keras",
    "rf_keras/test_checkpoints",
    ("KEPT = 2", "KEPT = 1"),
    ("if step == self._latest:", "if False:"),
    ("            sync(path)\n", "            pass\n"),
    ("if digests.keys() != parts.keys()", "if False"),
    ("if _digest(path) != digests[name]", "if False"),
    ("if number <= step][-KEPT:]", "][-KEPT:]"),
    ("sorted(_steps(self._read_from), reverse=True)", "sorted(_steps(self._read_from))"),
    ("int(match[1]) < kept[0]", "int(match[1]) <= kept[0]"),
)

HDF5 = changes(
    "rf_keras",
    "rf_keras/test_import_hdf5",
    ("if count > MOST_OBJECTS:", "if False:"),
    ("""if place.count("/") >= DEPTH:""", "if False:"),
    ("if not isinstance(group.get(name, getlink=True), h5py.HardLink)", "if False"),
    ("if not np.isfinite(value).all()", "if False"),
    ("(2, 3, 0, 1) if depthwise else (3, 2, 0, 1)", "(3, 2, 0, 1)"),
)

MUTANTS: tuple[Mutant, ...] = (
    *(DECODE + NMS + IMAGES + PREPROCESS + POSTPROCESS + SPEC + TILING + ALIGN + RESULTS),
    *(FILES + STRANGERS + ARCHIVE + CHECKPOINTS + HDF5),
    *(MATCHING + LOSSES + TEACHER_LOSSES + MIXING + BOX_CODING + BOXES + WIDER_AP + AUGMENT + EVALUATE),
    *(CALIBRATE + CALIBRATION_IMAGES + LEAKY + FOLD + BIAS + EXPORT + REWRITE),
)

HARMLESS: tuple[Mutant, ...] = (
    *harmless(
        "tflite",
        ("np.where(logits >= 0, 1,", "np.where(logits > 0, 1,", "at 0 both branches are ½"),
        ("if len(logits) > spec.max_candidates", "if len(logits) >= spec.max_candidates", "of equally many all stay"),
        ("FIRST_BLOCK = 16", "FIRST_BLOCK = 8", "speed only: the order of the decisions stays"),
        ("LAST_BLOCK = 128", "LAST_BLOCK = 64", "speed only: the order of the decisions stays"),
        ("TILE = 1 << 16", "TILE = 1 << 12", "speed only: pairs are compared in smaller parts"),
        ("FEW = 64", "FEW = 16", "speed only: both ways give the same boxes"),
        ("DENSE = 8", "DENSE = 2", "speed only: both ways give the same boxes"),
        (
            'zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED)',
            'zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED)',
            "the entry itself says that it is stored",
        ),
        ("return math.isfinite(value)", "return True", "each number is compared with finite bounds besides"),
        (
            "(width, height), dst=out, interpolation=cv2.INTER_AREA",
            "(width, height), dst=out, interpolation=cv2.INTER_LINEAR",
            "for exactly half the size OpenCV takes the same means of four",
        ),
        ("if image.shape[:2] == (rows, columns):", "if False:", "speed only: resizing to the same size copies"),
        ("AFFINE_TRIAL_WIDTH = 157", "AFFINE_TRIAL_WIDTH = 300", "as good a trial"),
    ),
    *harmless(
        "rf_keras",
        (
            "math.ceil(reach + 0.5)",
            "math.ceil(reach)",
            "no whole cell lies between that and reach + ½",
        ),
        (
            "tf.round((low + high) / (2 * stride) - 0.5)",
            "tf.round((low + high) / (2 * stride))",
            "a cell more on either side is looked at than can match",
        ),
        ("tf.where(size < 1.0, 0.5", "tf.where(size <= 1.0, 0.5", "at 1 both branches are ½, with the slope 1"),
        ("tf.where(positive, -1.0, background_loss)", "tf.where(positive, 0.0, background_loss)", "0 adds nothing"),
        (
            "tf.maximum(tf.gather(believed, face, batch_dims=1), TEACHER_FLOOR)",
            "tf.gather(believed, face, batch_dims=1)",
            "below 0.3 the quotient is cut to `LARGEST_RAISE` anyway",
        ),
        ("if high > low else np.ones_like(scores)", "if high > low else np.zeros_like(scores)", "one point either way"),
    ),
)
