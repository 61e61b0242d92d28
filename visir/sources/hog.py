"""Detect people by the HOG detector that is a part of OpenCV 4, without a weights file.

Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005. What does not
differ from the background of the video is left out: much of what this detector takes for people in
a street are posts and windows, which stand still. The background is a mixture of Gaussians for each
pixel (Zivkovic, "Improved Adaptive Gaussian Mixture Model for Background Subtraction", ICPR 2004).
"""

from __future__ import annotations

from math import exp
from pathlib import Path
from typing import Any

from visir.core.types import ByteArray, InputError
from visir.sources.tracks import Box, best_apart

HOG = "hog"
"""The name of this detector, in place of a weights file."""
_SIDE = 864  # pixels of the shorter side of the picture that is searched; people of 96 are found
_MOST_ENLARGED = 2.0
_STRIDE, _PYRAMID = (8, 8), 1.05  # OpenCV's sample peopledetect.cpp, and its margins:
_MARGIN_ACROSS, _MARGIN_ABOVE, _HEIGHT = 0.1, 0.07, 0.8  # the box is larger than the person
_MIN_MOVING = 0.2  # share of a box that is no background


def is_hog(name: Path) -> bool:
    """Whether a detector's name is that of this one, and not of a file."""
    return name == Path(HOG) and not name.exists()


class Hog:
    """The detector of one video, whose frames it sees in their order.

    Args:
        moving: smallest share of a box that differs from the background; 0 takes all boxes.

    Raises:
        InputError: OpenCV is missing, or has no HOG detector any more.
    """

    def __init__(self, moving: float = _MIN_MOVING) -> None:
        self._moving = moving
        self._cv2 = _opencv()
        self._hog = self._cv2.HOGDescriptor()
        self._hog.setSVMDetector(self._cv2.HOGDescriptor.getDefaultPeopleDetector())
        # People in infrared light are darker or brighter than the background, as shadows are.
        self._background = self._cv2.createBackgroundSubtractorMOG2(detectShadows=False)

    def __call__(self, pixels: ByteArray) -> list[Box]:
        """The people in the next frame, (H, W, 3) uint8 RGB, best first."""
        height, width = pixels.shape[:2]
        scale = min(_SIDE / min(height, width), _MOST_ENLARGED)
        size = max(64, round(width * scale)), max(128, round(height * scale))  # at least a window
        picture = self._cv2.resize(pixels, size, interpolation=self._cv2.INTER_LINEAR)
        moving = self._background.apply(picture) > 0
        found, margins = self._hog.detectMultiScale(picture, winStride=_STRIDE, scale=_PYRAMID)
        boxes = []
        for window, margin in zip(found, margins, strict=True):
            left, top, wide, tall = map(float, window)
            left, top = left + _MARGIN_ACROSS * wide, top + _MARGIN_ABOVE * tall
            right, bottom = left + (1 - 2 * _MARGIN_ACROSS) * wide, top + _HEIGHT * tall
            part = moving[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)]
            if part.size and part.mean() >= self._moving:
                across, down = width / size[0], height / size[1]
                score = 1 / (1 + exp(-float(margin)))
                boxes.append(Box(left * across, top * down, right * across, bottom * down, score))
        return best_apart(boxes)


def _opencv() -> Any:  # noqa: ANN401 - a package that may be missing
    try:
        import cv2
    except ImportError:
        raise InputError(
            'detector: hog needs the package OpenCV 4; install it with pip install "visir[hog]"'
        ) from None
    if not hasattr(cv2, "HOGDescriptor"):
        raise InputError(
            f"detector: OpenCV {cv2.__version__} has no HOG detector any more; install OpenCV 4 "
            'with pip install "visir[hog]", or give the weights file of another detector'
        )
    return cv2
