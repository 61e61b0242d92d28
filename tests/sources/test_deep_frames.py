"""Boxes in frames of more than 8 bits: their size, and the range of their camera."""

import numpy as np
import pytest

from tests.tiff_files import write_tiff
from visir.core.types import Modality
from visir.data.images import read_size
from visir.sources.boxes import BoxesWarning
from visir.sources.crop import ReadOptions
from visir.sources.plan import crops, work_units
from visir.sources.save import save_crops


def test_crops_of_raw_frames_have_the_range_of_their_camera(tmp_path, recwarn):
    root = tmp_path / "infrared" / "yard"
    for number in (1, 2):
        celsius = np.full((60, 80), 10.0)
        celsius[10:50, 20:40] = 35.0
        write_tiff(root / f"{number}.tiff", celsius)
    boxes = tmp_path / "gt.txt"
    boxes.write_text("1,1,21,11,20,40,1,1,1\n2,1,21,11,20,40,1,1,1\n")
    options = ReadOptions(boxes=boxes)
    (unit,) = work_units([root], options, 10)
    assert dict(unit.ranges) == {"infrared/yard": [7.5, 37.5]}
    found = list(crops(unit, options, lambda: pytest.fail("no detector is needed")))
    assert [crop.image.shape for crop in found] == [(40, 20, 3)] * 2
    assert {(crop.camera, crop.modality) for crop in found} == {("yard", Modality.INFRARED)}
    assert all((crop.image == 234).all() for crop in found)  # (35 - 7.5) / 30 of 255
    (root / "ranges.json").write_text('{"infrared/yard": [10, 60]}')
    (unit,) = work_units([root], options, 10)
    assert dict(unit.ranges) == {"infrared/yard": [10, 60]}
    saved = save_crops(root, tmp_path / "out", options)
    assert saved.written == 2
    assert not [each for each in recwarn if each.category is not BoxesWarning]


def test_the_size_of_the_page_that_is_read(tmp_path):
    colour = np.zeros((48, 64, 3), np.uint8)
    path = write_tiff(tmp_path / "a.tif", colour, np.zeros((20, 30)), t274=6)  # turned by 90
    assert read_size(path, Modality.INFRARED) == (30, 20)
    assert read_size(path, Modality.VISIBLE) == (64, 48)
