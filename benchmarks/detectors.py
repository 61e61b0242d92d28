"""Measure the person detectors that need no download, on real video.

The video is vtest.avi of Debian's package opencv-doc: 795 frames of 768 x 576 pixels, a fixed
camera over a street. `benchmarks/vtest.txt` holds 250 boxes of people on 40 of its frames, evenly
spaced from the first to the last, in MOTChallenge's format. They were drawn by eye on frames
enlarged twice with lines every 50 pixels, around the whole person where a lamp post or its sign
hides a part of them; people of whom only the head is seen behind a car, or less than a quarter at
the edge of the frame, have no box.

    apt-get download opencv-doc && dpkg-deb -x opencv-doc_*.deb doc
    python benchmarks/detectors.py doc/usr/share/doc/opencv-doc/examples/data/vtest.avi

A detector sees a frame every second, for the background, and the marked ones. A found box
is right if it overlaps a marked one by half (intersection over union), one to one.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from visir.core.run import write_text
from visir.data.boxes import read_boxes
from visir.sources.decode import Film, values
from visir.sources.detector import load_detector
from visir.sources.hog import Hog
from visir.sources.onnx_detector import LEAST, OnnxDetector
from visir.sources.tracks import Box

MARKS = Path(__file__).parent / "vtest.txt"
TABLE = Path(__file__).parent.parent / "docs" / "tables" / "detectors.md"
EVERY = 10  # frames; the video has ten in a second
RIGHT = 0.5


def matched(found: list[Box], marked: list[Box]) -> int:
    """How many found boxes are right."""
    overlap = np.array([[box.overlap(mark) for mark in marked] for box in found])
    overlap = overlap.reshape(len(found), len(marked))
    overlap[overlap < RIGHT] = 0
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return int((overlap[rows, columns] > 0).sum())


def marks() -> dict[int, list[Box]]:
    """The marked boxes by frame."""
    marked: dict[int, list[Box]] = {}
    for mark in read_boxes(MARKS, "mot").marks:
        box = Box(mark.left, mark.top, mark.right, mark.bottom, 1)
        marked.setdefault(int(mark.frame), []).append(box)
    return marked


def row(name: str, detect: Callable[[np.ndarray], list[Box]], video: Path) -> str:
    marked = marks()
    right = found = 0
    seconds = []
    for raw in Film(video):
        if raw.number % EVERY and raw.number not in marked:
            continue
        pixels = values(raw)
        start = time.process_time()
        boxes = detect(pixels)
        seconds.append(time.process_time() - start)
        if raw.number in marked:
            found += len(boxes)
            right += matched(boxes, marked[raw.number])
    total = sum(map(len, marked.values()))
    return (
        f"| {name} | {100 * right / total:.1f} | {100 * right / max(1, found):.1f} | {found} "
        f"| {np.median(seconds):.2f} |"
    )


def crops(detector: OnnxDetector, video: Path) -> str:
    """How often `visir check --detector` is wrong: marked people, and other places as large."""
    rng = np.random.default_rng(0)
    marked = marks()
    people, others = list[bool](), list[bool]()
    for raw in Film(video):
        boxes = marked.get(raw.number, [])
        for box in boxes:
            pixels = values(raw)
            wide, tall = round(box.right - box.left), round(box.bottom - box.top)
            left, top = max(0, round(box.left)), max(0, round(box.top))
            people.append(detector.shows_person(pixels[top : top + tall, left : left + wide]))
            left = int(rng.integers(0, pixels.shape[1] - wide))
            top = int(rng.integers(0, pixels.shape[0] - tall))
            place = Box(left, top, left + wide, top + tall, 1)
            if all(place.overlap(one) < 0.05 for one in boxes):
                others.append(detector.shows_person(pixels[top : top + tall, left : left + wide]))
    return (
        f"Of the {len(people)} marked people, each cut out, `visir check --detector` calls "
        f"{100 * (1 - np.mean(people)):.1f} % pictures without a person; of {len(others)} other "
        f"places of the same sizes {100 * (1 - np.mean(others)):.1f} %."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path, help="vtest.avi")
    parser.add_argument("--weights", type=Path, help="COCO weights for --detector, measured too")
    parser.add_argument("--onnx", type=Path, help="a network for --detector, measured too")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    detectors = {"`hog` without the background": Hog(0), "`hog`": Hog()}
    if options.weights:
        detectors[options.weights.name] = load_detector(options.weights)
    if options.onnx:
        for name, parts, least in (
            ("the whole frame alone", False, LEAST),
            ("scores from .2", True, 0.2),
            ("scores from .4", True, 0.4),
            ("scores from .5", True, 0.5),
        ):
            detectors[f"{options.onnx.name}, {name}"] = OnnxDetector(options.onnx, parts, least)
        detectors[options.onnx.name] = OnnxDetector(options.onnx)
    package = version("opencv-python-headless")
    lines = [
        "250 people marked by eye on 40 frames of vtest.avi (768 x 576 pixels); right means an "
        f"overlap of half. OpenCV {package}, one core ({platform.machine()}).",
        "",
        "| detector | recall, % | precision, % | boxes | seconds a frame |",
        "|---|---|---|---|---|",
    ]
    for name, detect in detectors.items():
        lines.append(row(name, detect, options.video))
        print(lines[-1], flush=True)
    if options.onnx:
        lines += ["", crops(OnnxDetector(options.onnx), options.video)]
        print(lines[-1])
    write_text(TABLE, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
