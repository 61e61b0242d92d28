"""The detector of OpenCV: what it keeps, and what is said where it is missing."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from visir.core.types import InputError
from visir.sources.crop import ReadOptions
from visir.sources.hog import Hog, is_hog
from visir.sources.plan import detectors, work_units
from visir.sources.tracks import Box

pytestmark = pytest.mark.slow


def opencv(found, margins, moving):
    """OpenCV with a detector that finds these boxes; `moving` is its mask of the picture."""

    class Descriptor:
        @staticmethod
        def getDefaultPeopleDetector():  # noqa: N802
            return "people"

        def setSVMDetector(self, detector):  # noqa: N802
            assert detector == "people"

        def detectMultiScale(self, picture, **options):  # noqa: N802
            self.seen = picture.shape
            return np.array(found).reshape(-1, 4), np.array(margins)

    return SimpleNamespace(
        HOGDescriptor=Descriptor,
        INTER_LINEAR=1,
        createBackgroundSubtractorMOG2=lambda detectShadows: SimpleNamespace(
            apply=lambda picture: moving
        ),
        resize=lambda pixels, size, interpolation: np.zeros((size[1], size[0], 3), np.uint8),
    )


def test_boxes_are_made_smaller_and_scaled_back(monkeypatch):
    """864 rows are searched: a frame of 432 rows is enlarged twice."""
    moving = np.full((864, 1200), 255, np.uint8)
    fake = opencv([(200, 100, 100, 200)], [0.0], moving)
    monkeypatch.setitem(sys.modules, "cv2", fake)
    (box,) = Hog()(np.zeros((432, 600, 3), np.uint8))
    # left 200 + 10 % of 100, top 100 + 7 % of 200, 80 % of both sides; half of that; 1 / (1 + 1)
    assert box == pytest.approx((105, 57, 145, 137, 0.5))


def test_what_stands_still_and_what_a_better_box_overlaps_is_left_out(monkeypatch):
    found = [(200, 100, 100, 200), (205, 105, 100, 200), (600, 100, 100, 200), (900, 100, 100, 200)]
    moving = np.zeros((864, 1200), np.uint8)
    moving[:, :400] = 255
    moving[:, 910:928] = 255  # 18 of 80 columns
    monkeypatch.setitem(sys.modules, "cv2", opencv(found, [1.0, 2.0, 3.0, 0.5], moving))
    picture = np.zeros((864, 1200, 3), np.uint8)
    assert [round(box.left) for box in Hog()(picture)] == [215, 910]
    assert [round(box.left) for box in Hog(0)(picture)] == [610, 215, 910]


def test_overlap_is_the_shared_share_of_the_area():
    box = Box(0, 0, 10, 10, 1)
    assert box.overlap(Box(5, 0, 15, 10, 1)) == pytest.approx(1 / 3)
    assert box.overlap(Box(10, 0, 20, 10, 1)) == 0
    assert box.overlap(Box(20, 20, 30, 30, 1)) == 0
    assert box.overlap(box) == 1


def test_each_video_has_its_own_background(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", opencv([], [], np.zeros((864, 864), np.uint8)))
    make = detectors(ReadOptions(detector=Path("hog")), "cpu")
    assert isinstance(make(), Hog)
    assert make() is not make()


def test_a_file_of_that_name_is_a_weights_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hog(Path("hog"))
    Path("hog").write_bytes(b"x")
    assert not is_hog(Path("hog"))
    with pytest.raises(InputError, match="hog: not a file of PyTorch weights"):
        detectors(ReadOptions(detector=Path("hog")), "cpu")()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            None,
            r'detector: hog needs the package OpenCV 4; install it with pip install "visir\[hog',
        ),
        (
            SimpleNamespace(__version__="5.0.0"),
            r"detector: OpenCV 5\.0\.0 has no HOG detector any more; install OpenCV 4",
        ),
    ],
)
def test_a_missing_detector_is_named_before_any_work(tmp_path, monkeypatch, module, message):
    monkeypatch.setitem(sys.modules, "cv2", module)
    (tmp_path / "gate.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match=message):
        list(work_units([tmp_path / "gate.mp4"], ReadOptions(detector=Path("hog")), 1))


# findings/first-frame.sh
def test_nothing_is_background_in_the_first_frame(monkeypatch):
    pytest.importorskip("cv2")
    detector = Hog()
    found = np.array([(40, 40, 100, 200)]), np.array([1.0])
    detector._hog = SimpleNamespace(detectMultiScale=lambda picture, **options: found)
    picture = np.full((216, 216, 3), 90, np.uint8)
    assert [len(detector(picture)) for _ in range(2)] == [1, 0]
    assert (detector._background.apply(picture // 2) == 255).any()  # darker, and no shadow


def test_opencv_finds_a_walker_and_no_post():
    """A figure of head, body and legs walks; another stands before the same wall for ever."""
    cv2 = pytest.importorskip("cv2")
    grey = (60, 60, 60)

    def figure(picture, left):
        cv2.circle(picture, (left + 12, 55), 6, grey, -1)
        cv2.ellipse(picture, (left + 12, 80), (10, 20), 0, 0, 360, grey, -1)
        cv2.line(picture, (left + 9, 95), (left + 5, 128), grey, 7)
        cv2.line(picture, (left + 15, 95), (left + 19, 128), grey, 7)

    alone, moving = Hog(0), Hog()
    for step in range(4):
        picture = np.full((200, 260, 3), 200, np.uint8)
        figure(picture, 180)
        figure(picture, 20 + 30 * step)
        all_boxes, walkers = alone(picture), moving(picture)
    for left in (110, 180):
        assert max(box.overlap(Box(left, 49, left + 24, 131, 1)) for box in all_boxes) > 0.5
    (walker,) = walkers
    assert walker.overlap(Box(110, 49, 134, 131, 1)) > 0.5
