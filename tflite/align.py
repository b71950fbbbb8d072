"""Aligned face crops: the five landmarks laid over the ArcFace template, as face recognition networks expect them."""

from __future__ import annotations

import cv2
import numpy as np

CROP_SIZE = 112
# Left eye, right eye, nose, left and right mouth corner in a 112×112 crop (ArcFace, Deng et al. 2019; InsightFace).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64
)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotation, uniform scale and shift that bring `source` nearest to `target` in the least-squares sense.

    Args:
        source, target: [N, 2] points, N ≥ 2.

    Returns:
        float64 [2, 3]: target ≈ matrix[:, :2] · source + matrix[:, 2]. Never a reflection. If all source points
        coincide there is no scale to find: then 1, with a shift only.

    Source: Umeyama 1991, eq. 40-43; in two dimensions the SVD has a closed form.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    a, b = source - source_mean, target - target_mean
    spread = (a * a).sum()
    if spread > 1e-12:
        cosine = (a * b).sum() / spread
        sine = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / spread
    else:
        cosine, sine = 1.0, 0.0
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.concatenate((linear, (target_mean - linear @ source_mean)[:, None]), axis=1)


def align_face(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """One face, upright and scaled.

    Args:
        image: uint8 [H, W, 3].
        landmarks: [5, 2] x y in image pixels, in the order of `tflite.spec.LANDMARK_NAMES`.

    Returns:
        uint8 [112, 112, 3], same channel order; black where it reaches beyond the image.
    """
    return cv2.warpAffine(image, similarity(landmarks, TEMPLATE), (CROP_SIZE, CROP_SIZE), flags=cv2.INTER_LINEAR)
