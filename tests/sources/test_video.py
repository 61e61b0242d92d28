"""Videos drawn in the test: people are detected by brightness, without a network."""

from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from scipy import ndimage
from torchvision.models import detection

from visir.core.types import InputError, Modality, Span
from visir.sources import video
from visir.sources.crop import DEFAULT_OPTIONS, Broken, ReadOptions
from visir.sources.decode import Film
from visir.sources.detector import load_detector
from visir.sources.plan import crops as crops_of
from visir.sources.plan import work_units
from visir.sources.tracks import Box

pytestmark = pytest.mark.slow

av = pytest.importorskip("av")
SIZE = (120, 240)
RED, GREEN, GREY = (255, 60, 60), (60, 255, 60), (220, 220, 220)


def encode(path, pictures, rate=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = SIZE
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for pixels in pictures:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def scene(*people):
    """A dark frame with bright people: (left, top, colour)."""
    pixels = np.full((*SIZE, 3), 20, np.uint8)
    for left, top, colour in people:
        pixels[top : top + 50, left : left + 24] = colour
    return pixels


def walkers(colours=(RED, GREEN), frames=20):
    """Two people who walk past each other, one above the other, for two seconds."""
    first, second = colours
    return [scene((10 + 8 * t, 4, first), (190 - 8 * t, 62, second)) for t in range(frames)]


def bright(pixels):
    labels, _ = ndimage.label(pixels.max(axis=2) > 128)
    places = ndimage.find_objects(labels)
    return [Box(x.start, y.start, x.stop, y.stop, 0.9) for y, x in places if y.stop - y.start > 16]


def colour(crop):
    middle = crop.image[crop.image.shape[0] // 2, crop.image.shape[1] // 2].astype(int)
    return ("red", "green", "blue")[int(middle.argmax())]


def read(path, settings=DEFAULT_OPTIONS, detect=bright):
    return list(video.crops(path, settings, detect))


def test_people_are_followed_and_cut_out(tmp_path):
    path = encode(tmp_path / "20260131_235959.mp4", walkers())
    found = read(path, ReadOptions(crops=3, tags=("gate",)))
    tracks = [crop.source.partition(" @ ")[0] for crop in found]
    assert sorted(tracks) == sorted([f"{path}::track 1", f"{path}::track 2"] * 3)
    for number, name in (("1", "red"), ("2", "green")):
        mine = [crop for crop in found if f"track {number} @" in crop.source]
        assert {colour(crop) for crop in mine} == {name}
        assert all(abs(crop.image.shape[0] - 50) <= 2 for crop in mine)
        assert all(abs(crop.image.shape[1] - 24) <= 2 for crop in mine)
    moment = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    seconds = [float(crop.source.partition(" @ ")[2][:-1]) for crop in found]
    assert [crop.time for crop in found] == pytest.approx([moment + s for s in seconds], abs=0.01)
    assert seconds == sorted(seconds)
    assert len({crop.source for crop in found}) == 6
    assert {crop[2:4] + crop[5:6] for crop in found} == {
        ("20260131_235959", Modality.VISIBLE, ("gate",))
    }


def test_reading_twice_gives_the_same(tmp_path):
    path = encode(tmp_path / "v.mp4", walkers())
    for a, b in zip(read(path), read(path), strict=True):
        assert a._replace(image=b.image) == b
        np.testing.assert_array_equal(a.image, b.image)


@pytest.mark.parametrize("every", [0.1, 0.2, 0.5])
def test_frames_are_taken_at_their_times(tmp_path, every):
    path = encode(tmp_path / "v.mp4", walkers())
    times = [frame.seconds for frame in video.frames(Film(path), every)]
    assert times == pytest.approx(np.arange(0, 1.95, every), abs=1e-3)
    lefts = [bright(frame.pixels)[0].left for frame in video.frames(Film(path), every)]
    assert lefts == pytest.approx([10 + 80 * t for t in times], abs=1)


@pytest.mark.parametrize(
    ("name", "colours", "settings", "camera", "modality"),
    [
        ("v.mp4", (RED, GREEN), DEFAULT_OPTIONS, "v", Modality.VISIBLE),
        ("v.avi", (GREY, GREY), DEFAULT_OPTIONS, "v", Modality.INFRARED),
        ("v.mkv", (GREY, GREY), ReadOptions(Modality.VISIBLE, "gate"), "gate", Modality.VISIBLE),
        ("ir/v.mp4", (RED, GREEN), ReadOptions(Modality.VISIBLE), "v", Modality.INFRARED),
        ("RGB/yard/v.mp4", (GREY, GREY), ReadOptions(camera="gate"), "yard", Modality.VISIBLE),
    ],
)
def test_camera_and_modality(tmp_path, name, colours, settings, camera, modality):
    found = read(encode(tmp_path / name, walkers(colours, 4)), settings)
    assert {(crop.camera, crop.modality) for crop in found} == {(camera, modality)}
    assert {crop.time for crop in found} == {None}


def test_an_empty_scene_gives_nothing(tmp_path):
    assert read(encode(tmp_path / "v.mp4", [scene()] * 3)) == []


def test_a_box_past_the_edge_is_cut_at_it(tmp_path):
    path = encode(tmp_path / "v.mp4", [scene()])
    (crop,) = read(path, detect=lambda pixels: [Box(-5.5, 10.2, 30.5, 500, 0.9)])
    assert crop.image.shape == (110, 31, 3)


def test_files_that_are_no_video_are_reported(tmp_path):
    whole = encode(tmp_path / "v.mp4", walkers()).read_bytes()
    for content in (b"", b"no video" * 100, whole[:400]):
        (tmp_path / "v.mp4").write_bytes(content)
        (broken,) = read(tmp_path / "v.mp4")
        assert isinstance(broken, Broken)
        assert broken.source == str(tmp_path / "v.mp4")
        assert "v.mp4: the video is cut short or damaged" in broken.reason


def test_sound_only_is_reported(tmp_path):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    (broken,) = read(path)
    assert "holds only sound, no pictures" in broken.reason


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An untrained detector, as torchvision saves one."""
    torch.manual_seed(0)
    net = detection.fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None)
    path = tmp_path_factory.mktemp("weights") / "detector.pth"
    state = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    # It detects a person (category 1) everywhere.
    state["roi_heads.box_predictor.cls_score.bias"][1] = 9
    torch.save(state, path)
    return path


def test_a_detector_is_known_by_its_weights(weights):
    boxes = load_detector(weights)(scene((10, 4, RED)))
    assert boxes
    for left, top, right, bottom, score in boxes:
        assert 0 <= left < right <= SIZE[1]
        assert 0 <= top < bottom <= SIZE[0]
        assert 0.6 <= score <= 1


def test_other_files_are_no_detector(weights, tmp_path):
    state = torch.load(weights, weights_only=True)
    path = tmp_path / "other.pth"
    for wrong in (
        dict(list(state.items())[1:]),
        {**state, "roi_heads.box_predictor.cls_score.bias": torch.zeros(2)},
        [1, 2],
    ):
        torch.save(wrong, path)
        with pytest.raises(
            InputError, match=r"other\.pth: not the COCO weights of a supported detector"
        ):
            load_detector(path)
    with pytest.raises(InputError, match=r"none\.pth: no such file"):
        load_detector(tmp_path / "none.pth")


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_code_in_a_weights_file_is_not_run(tmp_path, capsys):
    torch.save(Evil(), tmp_path / "evil.pth")
    with pytest.raises(InputError, match=r"evil\.pth: not a file of PyTorch weights"):
        load_detector(tmp_path / "evil.pth")
    (tmp_path / "evil.pth").write_text("x")
    with pytest.raises(InputError, match=r"evil\.pth: not a file of PyTorch weights"):
        load_detector(tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""


def test_raw_grey_video_has_the_range_of_its_camera(tmp_path):
    """FFV1 with 16 bits: counts from 7000 to 9000, a person of 8900 before a wall of 7100."""
    path = tmp_path / "infrared" / "yard" / "v.mkv"
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "gray16le"
        for step in range(10):
            counts = np.full(SIZE, 7100, np.uint16)
            counts[10:60, 8 * step : 8 * step + 24] = 8900
            frame = av.VideoFrame.from_ndarray(counts, format="gray16le")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    options = ReadOptions(detector=tmp_path)
    (unit,) = work_units([path], options, 10)
    assert dict(unit.ranges) == {"infrared/yard": [6920, 9080]}
    found = list(crops_of(unit, options, lambda: bright))
    assert found
    assert {(crop.camera, crop.modality) for crop in found} == {("yard", Modality.INFRARED)}
    assert all((crop.image[5:-5, 5:-5] == 234).all() for crop in found)
    (tmp_path / "infrared/yard/ranges.json").write_text('{"infrared/yard": [7100, 10700]}')
    (unit,) = work_units([path], options, 10)
    (frame, *_) = video.frames(Film(path), 0.1, Span(*unit.ranges["infrared/yard"]))
    assert frame.pixels[20, 10].tolist() == [128, 128, 128]
    assert frame.pixels[100, 100].tolist() == [0, 0, 0]
