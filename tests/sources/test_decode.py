"""Videos as cameras leave them: joined, damaged, turned, with several streams."""

import struct
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from visir.core.types import InputError, Modality
from visir.sources import boxes, video
from visir.sources.crop import Broken, ReadOptions
from visir.sources.cuts import Cut
from visir.sources.decode import Film, VideoWarning, values
from visir.sources.plan import work_units
from visir.sources.tracks import Box

pytestmark = pytest.mark.slow

av = pytest.importorskip("av")
SIZE = (96, 128)
OPTIONS = ReadOptions(every=0.1)


def film(path, streams=1, codec="mpeg4", form=None, count=20, rate=10, times=None, aspect=1):
    """Frames with a bright person at the left; `times` are seconds, by the rate if None."""
    with av.open(str(path), "w", format=form) as container:
        made = [container.add_stream(codec, rate=rate) for _ in range(streams)]
        for stream in made:
            stream.height, stream.width = SIZE
            stream.pix_fmt, stream.bit_rate = "yuv420p", 1_000_000
            stream.codec_context.sample_aspect_ratio = aspect
            stream.codec_context.time_base = Fraction(1, 90000 if times else rate)
        for number in range(count):
            for row, stream in enumerate(made):
                pixels = np.full((*SIZE, 3), (20, 20, 20 + 60 * row), np.uint8)
                pixels[20:80, 10:40] = (220, 220, 220) if row else (220, 40, 40)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts = round(90000 * times[number]) if times else number
                frame.time_base = stream.codec_context.time_base
                container.mux(stream.encode(frame))
        for stream in made:
            container.mux(stream.encode(None))
    return path


def clip(path, start):
    """20 frames in 2 seconds, an MPEG stream whose clock begins at `start`."""
    moments = [start + number / 10 for number in range(20)]
    return film(path, codec="libx264", form="mpegts", times=moments).read_bytes()


def bright(pixels):
    rows, columns = np.nonzero(pixels.max(axis=2) > 128)
    return [Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 0.9)]


def crops(path, options=OPTIONS):
    return list(video.crops(path, options, bright))


# findings/joined-clock.sh
@pytest.mark.parametrize(("first", "second"), [(1, 1), (600, 2), (2, 600), (2, 80_000)])
def test_joined_clips_are_read_to_their_end(tmp_path, first, second):
    path = tmp_path / "gate.ts"
    path.write_bytes(clip(tmp_path / "a.ts", first) + clip(tmp_path / "b.ts", second))
    read = Film(path)
    found = list(read)
    assert [raw.seconds for raw in found] == pytest.approx([n / 10 for n in range(40)], abs=1e-3)
    assert [raw.clip for raw in found] == [0] * 20 + [1] * 20
    assert read.notes == (
        f"{path}: its clock steps back or leaps 1 times (at 2.00 s); times go on from the frame "
        "before, and tracks end there",
    )
    assert len([*video.frames(Film(path), 0.5)]) == 8


def test_tracks_end_where_clips_are_joined(tmp_path):
    path = tmp_path / "gate.ts"
    path.write_bytes(clip(tmp_path / "a.ts", 1) + clip(tmp_path / "b.ts", 1))
    with pytest.warns(VideoWarning, match=r"gate\.ts: its clock steps back") as warned:
        found = crops(path, ReadOptions(every=0.1, crops=1))
    assert [crop.track for crop in found] == ["gate:1", "gate:2"]
    assert len(warned) == 1


def test_a_clock_that_goes_on_in_another_clip_is_one_recording(tmp_path):
    path = tmp_path / "gate.ts"
    path.write_bytes(clip(tmp_path / "a.ts", 1) + clip(tmp_path / "b.ts", 3))
    read = Film(path)
    assert {raw.clip for raw in read} == {0}
    assert read.notes == ()


def test_times_that_do_not_rise_are_placed_by_the_frame_rate(tmp_path, monkeypatch):
    path = film(tmp_path / "gate.mp4", count=6)
    times = [0.0, 0.1, 0.2, 0.2, 0.15, 0.5]

    def pictures(self):
        return (SimpleNamespace(time=time) for time in times)

    monkeypatch.setattr("visir.sources.decode._Reading.pictures", pictures)
    read = Film(path)
    assert [raw.seconds for raw in read] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert read.notes == (
        f"{path}: 2 frames have no later time than the frame before; they are placed by the frame "
        "rate",
    )


def test_patience_is_in_seconds(tmp_path, recwarn):
    """Two clips an hour apart in one file of variable rate, then a second without anybody."""
    path = film(tmp_path / "gate.mkv", codec="libx264", count=4, times=[0, 3600, 3600.2, 3601.2])
    found = crops(path, ReadOptions(every=0.2, crops=None))
    assert [(crop.track, crop.source.rpartition("@ ")[2]) for crop in found] == [
        ("gate:1", "0.00s"),
        ("gate:2", "3600.00s"),
        ("gate:2", "3600.20s"),
        ("gate:2", "3601.20s"),
    ]
    (tmp_path / "gt.txt").write_text("".join(f"{n},-1,11,21,30,60,1\n" for n in range(1, 5)))
    (unit,) = work_units([path], ReadOptions(boxes=tmp_path / "gt.txt"), 9)
    cuts = [Cut(*item) for item in unit.items]
    assert [cut.track for cut in cuts] == ["gate:found 1", *["gate:found 2"] * 3]
    assert not recwarn.list


# findings/paused-video.sh
def test_the_frame_numbers_of_boxes_count_the_stored_frames(tmp_path):
    """Three frames, a pause of ten seconds, three frames: the fourth is the first after it."""
    times = [0, 0.1, 0.2, 10, 10.1, 10.2]
    path = film(tmp_path / "gate.mp4", codec="libx264", count=6, times=times)
    (tmp_path / "gt.txt").write_text("4,7,11,21,30,60,1\n")
    settings = ReadOptions(boxes=tmp_path / "gt.txt", start=1000.0)
    (crop,) = boxes.crops(path, boxes.listed(path, settings).cuts, settings)
    assert crop.time == pytest.approx(1010)


def damaged(path, rows):
    """Overwrite packets; H.264 says so of each, other codecs guess their pictures."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        places = [(packet.pos, packet.size) for packet in packets]
    content = bytearray(path.read_bytes())
    for row in rows:
        start, size = places[row]
        content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    return path


# findings/frames-after-damage.sh
@pytest.mark.parametrize("row", [12, 17, 19])
def test_a_damaged_packet_is_passed_over(tmp_path, row):
    path = damaged(film(tmp_path / "gate.mp4", codec="libx264"), [row])
    with pytest.warns(VideoWarning) as warned:
        found = crops(path, ReadOptions(every=0.1, crops=None))
    assert len(found) == 19
    assert not [crop for crop in found if isinstance(crop, Broken)]
    (warning,) = warned
    assert f"{path}: 1 damaged packets passed over (at " in str(warning.message)
    assert str(warning.message).endswith(" s), 19 frames read")


def test_a_video_of_damaged_packets_alone_has_no_frames(tmp_path):
    path = damaged(film(tmp_path / "gate.mp4", codec="libx264"), range(20))
    (broken,) = crops(path)
    assert broken.reason == f"{path}: no frame can be read; replace or remove the video"


def test_what_cannot_be_read_to_its_end_is_used_as_far_as_it_goes(tmp_path, monkeypatch):
    path = film(tmp_path / "gate.mp4")
    opened = av.open

    class Container:
        """A file whose disk fails after ten packets."""

        def __init__(self, inside):
            self.inside, self.streams, self.format = inside, inside.streams, inside.format

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.inside.close()

        def demux(self, stream):
            for number, packet in enumerate(self.inside.demux(stream)):
                if number == 10:
                    raise OSError("Input/output error")
                yield packet

    monkeypatch.setattr(av, "open", lambda *a, **k: Container(opened(*a, **k)))
    read = Film(path)
    count = len(list(read))
    assert count in (9, 10)  # the last is still in the decoder
    assert read.notes == (
        f"{path}: cannot be read after {(count - 1) / 10:.2f} s (Input/output error); the rest "
        "is used",
    )


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.mark.parametrize(
    ("matrix", "corners"),  # a b c d; colours that are seen top left, top right, bottom left, right
    [
        ((1, 0, 0, 1), (RED, GREEN, BLUE, WHITE)),
        ((0, 1, -1, 0), (BLUE, RED, WHITE, GREEN)),  # 90 degrees clockwise
        ((-1, 0, 0, -1), (WHITE, BLUE, GREEN, RED)),
        ((0, -1, 1, 0), (GREEN, WHITE, RED, BLUE)),
        ((-1, 0, 0, 1), (GREEN, RED, WHITE, BLUE)),  # left and right exchanged
        ((1, 0, 0, -1), (BLUE, WHITE, RED, GREEN)),  # top and bottom exchanged
        ((0, 1, 1, 0), (RED, BLUE, GREEN, WHITE)),
        ((0, -1, -1, 0), (WHITE, GREEN, BLUE, RED)),
    ],
)
def test_turned_and_mirrored_frames_are_seen_as_they_were(tmp_path, matrix, corners):
    """The matrix lies in the box `tkhd` of QuickTime files, 40 bytes behind its name."""
    path = tmp_path / "gate.mp4"
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[:48, :64], pixels[:48, 64:], pixels[48:, :64], pixels[48:, 64:] = RED, GREEN, BLUE, WHITE
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (65536 * value for value in matrix)
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    (raw,) = Film(path)
    found = values(raw)
    height, width = found.shape[:2]
    assert (height, width) == (SIZE if matrix[0] else SIZE[::-1])
    seen = [found[y, x] for y in (16, height - 16) for x in (16, width - 16)]
    for pixel, corner in zip(seen, corners, strict=True):
        np.testing.assert_allclose(pixel.astype(int), corner, atol=40)


@pytest.mark.parametrize(
    ("aspect", "size", "edges", "shape"),
    [
        (Fraction(16, 11), (96, 186), (14.5, 20, 58.2, 80), (60, 45)),  # 14.5 to 58.2 touches 45
        (Fraction(1, 2), (192, 128), (10, 40, 40, 160), (120, 30)),
        (Fraction(100), SIZE, (10, 20, 40, 80), (60, 30)),  # no camera has such pixels
    ],
)
def test_pixels_are_made_square(tmp_path, aspect, size, edges, shape):
    path = film(tmp_path / "gate.mkv", count=1, aspect=aspect)
    (frame,) = video.frames(Film(path), 1)
    assert frame.pixels.shape == (*size, 3)
    assert bright(frame.pixels)[0][:4] == pytest.approx(edges, abs=2)
    # Other programs mark the pixels that are stored.
    (tmp_path / "gt.txt").write_text("1,7,11,21,30,60,1\n")
    options = ReadOptions(boxes=tmp_path / "gt.txt")
    (unit,) = work_units([path], options, 1)
    (crop,) = video.cut(path, unit.items, options)
    assert crop.image.shape == (*shape, 3)
    assert np.median(crop.image[..., 0]) > 200


def test_a_stream_is_chosen(tmp_path):
    path = film(tmp_path / "gate.mkv", streams=2, count=5)
    with pytest.warns(
        VideoWarning,
        match=r"gate\.mkv: holds 2 video streams \(0: 128 x 96 mpeg4, 1: 128 x 96 mpeg4\); stream "
        "0 is read, --stream names another",
    ):
        (crop,) = crops(path, ReadOptions(crops=1))
    assert (crop.camera, crop.modality, crop.track) == ("gate", Modality.VISIBLE, "gate:1")
    (crop,) = crops(path, ReadOptions(crops=1, stream=0))
    assert crop.source.startswith(f"{path}::track 1 @ ")
    (crop,) = crops(path, ReadOptions(crops=1, stream=1, modality=Modality.INFRARED))
    assert crop.source.startswith(f"{path}::stream 1 track 1 @ ")
    assert (crop.camera, crop.track) == ("gate-stream1", "gate-stream1:1")
    assert crop.image[20, 10].tolist() == pytest.approx([220, 220, 220], abs=20)


@pytest.mark.parametrize("number", [2, -1])
def test_a_stream_that_is_not_there_is_refused(tmp_path, number):
    path = film(tmp_path / "gate.mkv", streams=2, count=2)
    (tmp_path / "gt.txt").write_text("1,7,11,21,30,60,1\n")
    for options in (
        ReadOptions(stream=number, detector=tmp_path),
        ReadOptions(stream=number, boxes=tmp_path / "gt.txt"),
    ):
        with pytest.raises(
            InputError,
            match=rf"stream: .*gate\.mkv has no video stream {number}; give one from 0 to 1",
        ):
            list(work_units([path], options, 1))


def test_a_stream_of_images_is_refused(tmp_path):
    (tmp_path / "visible").mkdir()
    (tmp_path / "gt.txt").write_text("1,7,11,21,30,60,1\n")
    for options in (ReadOptions(stream=1), ReadOptions(stream=1, boxes=tmp_path / "gt.txt")):
        with pytest.raises(InputError, match=r"stream: .* leave --stream out"):
            list(work_units([tmp_path / "visible"], options, 1))


@pytest.mark.parametrize(
    ("ending", "codec", "form"),
    [
        ("mts", "libx264", "mpegts"),
        ("m2ts", "libx264", "mpegts"),
        ("FLV", "libx264", "flv"),
        ("asf", "mpeg4", None),
        ("wmv", "wmv2", None),
        ("3gp", "mpeg4", None),
        ("h264", "libx264", None),
        ("264", "libx264", "h264"),
        ("hevc", "libx265", None),
        ("h265", "libx265", "hevc"),
        ("265", "libx265", "hevc"),
    ],
)
def test_endings_of_cameras_are_read(tmp_path, ending, codec, form, recwarn):
    """Raw streams have no times: they are those of 25 frames in a second."""
    path = film(tmp_path / f"gate.{ending}", codec=codec, form=form, count=5, rate=25)
    (unit,) = work_units([path], ReadOptions(detector=tmp_path), 1)
    assert unit.input_type == "video"
    times = [frame.seconds for frame in video.frames(Film(path), 0.04)]
    assert times == pytest.approx([0, 0.04, 0.08, 0.12, 0.16], abs=2e-3)
    assert not recwarn.list


def test_each_crop_has_the_modality_of_its_own_frame(tmp_path):
    """One lens, colour by day and grey by night, in one file."""
    path = tmp_path / "gate.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "bgr0"
        for number in range(30):
            pixels = np.full((*SIZE, 3), 20, np.uint8)
            pixels[20:80, 10:40] = (220, 40, 40) if number < 10 else (220, 220, 220)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode(None))
    found = crops(path, ReadOptions(every=0.5, crops=None))
    assert [crop.modality.value for crop in found] == ["visible"] * 2 + ["infrared"] * 4
