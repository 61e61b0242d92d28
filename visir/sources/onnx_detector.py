"""Detect people with a network in an ONNX file of TensorFlow's object detection layout.

Such a file takes one picture, (1, H, W, 3) uint8 RGB of any size, and gives `detection_boxes`
(1, N, 4), shares of the height and width in the order top, left, bottom, right; `detection_scores`
and `detection_classes` (1, N), 1 for people; and `num_detections` (1,). That is what the models of
TensorFlow's detection zoo have in common, and what tf2onnx keeps of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from visir.core.onnx import session
from visir.core.types import ByteArray, InputError
from visir.sources.tracks import Box, best_apart

_BOXES, _SCORES, _CLASSES, _COUNT = _OUTPUTS = (
    "detection_boxes",
    "detection_scores",
    "detection_classes",
    "num_detections",
)
_PERSON = 1  # in COCO's list of classes
LEAST = 0.3
"""Smallest score of a person; docs/tables/detectors.md shows others."""
_LEAST_IN_CROP = 0.1  # in a crop few things can be taken for a person; docs/datasets.md
_ROOM = 1.3  # side of the square around a crop, in its longer side
_EDGE = 3  # pixels
_PART = 2 / 3  # of the frame's height and width; the four parts overlap


def is_onnx(name: Path) -> bool:
    """Whether a detector's name is that of such a file."""
    return name.suffix.lower() == ".onnx"


class OnnxDetector:
    """Looks at the whole frame, and at four parts of it, in which smaller people are found.

    Args:
        path: the file.
        parts: whether it looks at the parts too.
        least: smallest score of a person.

    Raises:
        InputError: no ONNX Runtime, no such file, or not a network of this layout.
    """

    def __init__(self, path: Path, parts: bool = True, least: float = LEAST) -> None:
        self._parts, self._least = parts, least
        found = session(path)
        self._run = found.run
        outputs = {output.name.split(":")[0]: output.name for output in found.get_outputs()}
        inputs = found.get_inputs()
        missing = [name for name in _OUTPUTS if name not in outputs]
        if missing or len(inputs) != 1 or inputs[0].type != "tensor(uint8)":
            raise InputError(
                f"{path}: not a detector of TensorFlow's object detection layout (one input of "
                f"uint8, outputs {', '.join(_OUTPUTS[:-1])} and {_OUTPUTS[-1]}); convert one with "
                "tf2onnx, as docs/embedding.md shows"
            )
        self._input, self._outputs = inputs[0].name, [outputs[name] for name in _OUTPUTS]

    def __call__(self, pixels: ByteArray) -> list[Box]:
        """The people in a frame, (H, W, 3) uint8 RGB, best first."""
        height, width = pixels.shape[:2]
        found = self._people(pixels, self._least)
        if self._parts:
            tall, wide = round(height * _PART), round(width * _PART)
            for top in (0, height - tall):
                for left in (0, width - wide):
                    part = pixels[top : top + tall, left : left + wide]
                    inner = left + wide if left == 0 else left, top + tall if top == 0 else top
                    boxes = [box.moved(left, top) for box in self._people(part, self._least)]
                    found += [box for box in boxes if not _cut(box, *inner)]
        return best_apart(found)

    def shows_person(self, crop: ByteArray) -> bool:
        """Whether a crop, (H, W, 3) uint8 RGB, may show a person.

        It is seen in the middle of a square of its mean colour: a network for whole frames does not
        know pictures that one person fills.
        """
        height, width = crop.shape[:2]
        side = round(_ROOM * max(height, width))
        square = np.full((side, side, 3), crop.reshape(-1, 3).mean(axis=0).astype(np.uint8))
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = crop
        return bool(self._people(square, _LEAST_IN_CROP))

    def _people(self, pixels: ByteArray, least: float) -> list[Box]:
        picture: dict[str, Any] = {self._input: np.ascontiguousarray(pixels)[None]}
        boxes, scores, classes, count = self._run(self._outputs, picture)
        height, width = pixels.shape[:2]
        people = []
        for number in range(int(count[0])):
            score = float(scores[0, number])
            if classes[0, number] == _PERSON and score >= least:
                top, left, bottom, right = map(float, boxes[0, number])
                people.append(
                    Box(left * width, top * height, right * width, bottom * height, score)
                )
        return people


def _cut(box: Box, across: int, down: int) -> bool:
    """Whether a box reaches the edges of a part that lie inside the frame; another part has it."""
    return (
        box.left - _EDGE < across < box.right + _EDGE or box.top - _EDGE < down < box.bottom + _EDGE
    )
