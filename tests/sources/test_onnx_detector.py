"""A detector in an ONNX file: the layout that is read, and where the boxes land."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.fake_run import draw_person
from visir.commands.check import check
from visir.core.types import InputError
from visir.sources.crop import ReadOptions
from visir.sources.onnx_detector import OnnxDetector
from visir.sources.plan import detectors, work_units

OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")


def detector(path, boxes, scores, classes, kind=TensorProto.UINT8, outputs=OUTPUTS, count=None):
    """A network that finds these boxes in every picture; names as tf2onnx writes them."""
    values = (
        np.array(boxes, np.float32).reshape(1, -1, 4),
        np.array([scores], np.float32),
        np.array([classes], np.float32),
        np.array([len(scores) if count is None else count], np.float32),
    )
    nodes, infos = [], []
    for name, value in zip(outputs, values, strict=True):
        constant = numpy_helper.from_array(value, name)
        nodes.append(helper.make_node("Constant", [], [f"{name}:0"], value=constant))
        infos.append(helper.make_tensor_value_info(f"{name}:0", TensorProto.FLOAT, value.shape))
    picture = helper.make_tensor_value_info("image_tensor:0", kind, [1, None, None, 3])
    graph = helper.make_graph(nodes, "detector", [picture], infos)
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def test_shares_become_pixels_and_others_are_left_out(tmp_path):
    """Top, left, bottom, right: .1 to .5 of 100 rows, .25 to .5 of 200 columns. A car is no person,
    a score below .3 is none, and what lies beyond the count is not read."""
    box = (0.1, 0.25, 0.5, 0.5)
    boxes = [box, (0.2, 0.6, 0.6, 0.8), (0.5, 0, 1, 0.2), box]
    found = boxes, (0.75, 0.9, 0.25, 0.9), (1, 3, 1, 1)
    path = detector(tmp_path / "people.onnx", *found, count=3)
    (only,) = OnnxDetector(path, parts=False)(np.zeros((100, 200, 3), np.uint8))
    assert only == pytest.approx((50, 10, 100, 50, 0.75))


def test_four_parts_are_searched_too_and_what_they_cut_is_left_out(tmp_path):
    """Parts of 60 x 120 pixels begin at rows 0 and 30 and at columns 0 and 60. A box in the middle
    of each is a person; one that reaches an inner edge is left to the part that holds all of it."""
    middle = detector(tmp_path / "middle.onnx", [(0.25, 0.45, 0.75, 0.55)], [0.5], [1])
    found = OnnxDetector(middle)(np.zeros((90, 180, 3), np.uint8))
    edges = {tuple(round(edge) for edge in box[:4]) for box in found}
    whole = (81, 22, 99, 68)
    parts = {(54, 15, 66, 45), (114, 15, 126, 45), (54, 45, 66, 75), (114, 45, 126, 75)}
    assert edges == {whole, *parts}
    # To the right edge: inner for the two parts on the left, the frame's own for the others.
    right = detector(tmp_path / "right.onnx", [(0.4, 0.9, 0.6, 1.0)], [0.5], [1])
    found = OnnxDetector(right)(np.zeros((90, 180, 3), np.uint8))
    assert {(round(box.left), round(box.top)) for box in found} == {(162, 36), (168, 24), (168, 54)}


def test_of_overlapping_boxes_the_best_is_kept(tmp_path):
    boxes = [(0.1, 0.1, 0.5, 0.3), (0.12, 0.1, 0.52, 0.3), (0.1, 0.6, 0.5, 0.8)]
    path = detector(tmp_path / "two.onnx", boxes, (0.5, 0.75, 0.625), (1, 1, 1))
    found = OnnxDetector(path, parts=False)(np.zeros((100, 100, 3), np.uint8))
    assert [(round(box.left), box.score) for box in found] == [(10, 0.75), (60, 0.625)]


def test_what_cannot_be_used_is_said_before_a_video_is_opened(tmp_path):
    video = tmp_path / "gate.mp4"
    video.write_bytes(b"no video")
    other = tmp_path / "other.onnx"

    def refuse(path, text):
        settings = ReadOptions(detector=Path(path), modality="visible")
        with pytest.raises(InputError, match=text):
            list(work_units([video], settings, 1))

    refuse(tmp_path / "none.onnx", r"none\.onnx: no such file; check the path")
    other.write_bytes(b"no graph")
    refuse(other, r"other\.onnx: ONNX Runtime [\d.]+ cannot run this file .*; make it again")
    detector(other, [(0, 0, 1, 1)], [1], [1], outputs=("boxes", *OUTPUTS[1:]))
    refuse(other, r"other\.onnx: not a detector of TensorFlow's object detection layout")
    detector(other, [(0, 0, 1, 1)], [1], [1], kind=TensorProto.FLOAT)
    refuse(other, r"other\.onnx: not a detector .*one input of uint8")


def test_it_is_chosen_by_the_ending(tmp_path):
    path = detector(tmp_path / "people.ONNX", [(0.1, 0.1, 0.5, 0.3)], [0.5], [1])
    make = detectors(ReadOptions(detector=path), "cpu")
    assert isinstance(make(), OnnxDetector)
    assert make() is make()


@pytest.mark.parametrize(
    ("score", "kind", "shown"), [(0.125, 1, True), (0.0625, 1, False), (0.9, 3, False)]
)
def test_a_crop_is_seen_in_a_square_of_its_mean_colour(tmp_path, score, kind, shown):
    """60 rows of 20 columns, black above and 100 below: 78 x 78 pixels, the edges of 50."""
    path = detector(tmp_path / "people.onnx", [(0.1, 0.1, 0.9, 0.9)], [score], [kind])
    found, seen = OnnxDetector(path), []
    run = found._run
    found._run = lambda outputs, feed: seen.append(feed["image_tensor:0"]) or run(outputs, feed)
    crop = np.zeros((60, 20, 3), np.uint8)
    crop[30:] = 100
    assert found.shows_person(crop) is shown
    (square,) = seen
    assert square.shape == (1, 78, 78, 3)
    assert (square[0, 9:69, 29:49] == crop).all()
    assert {*square[0, :9].flat, *square[0, 69:].flat, *square[0, :, :29].flat} == {50}


def test_check_lists_the_pictures_without_a_person(tmp_path, capsys):
    for name in ("visible/door/a.png", "infrared/yard/b.png"):
        draw_person(tmp_path / "site" / name, 1, "infrared" in name, 1)
    nobody = detector(tmp_path / "none.onnx", [(0, 0, 1, 1)], [0.05], [1])
    report = check(tmp_path / "site", detector=nobody, list=tmp_path / "lists")
    names = ["infrared/yard/b.png", "visible/door/a.png"]
    assert (tmp_path / "lists/nobody.txt").read_text().split() == names
    assert "2 without a person, by the detector: infrared/yard/b.png" in report.text
    somebody = detector(tmp_path / "some.onnx", [(0, 0, 1, 1)], [0.5], [1])
    assert "nobody" not in check(tmp_path / "site", detector=somebody).remarks
    assert "nobody" not in check(tmp_path / "site").remarks
    with pytest.raises(InputError, match=r"hog is no \.onnx file; docs/embedding\.md names one"):
        check(tmp_path / "site", detector=Path("hog"))
