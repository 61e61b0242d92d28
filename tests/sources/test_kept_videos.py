"""Kinds of video that need nothing special, and have to stay so."""

import numpy as np
import pytest

from visir.sources import video
from visir.sources.decode import Film, deep, values

pytestmark = pytest.mark.slow

av = pytest.importorskip("av")
SIZE = (96, 128)
TIMES = [number / 10 for number in range(20)]


def film(path, codec="libx264", form="yuv420p", options=None, muxer=None, late=0, full=False):
    """Twenty frames in two seconds; a light field moves to the right, two pixels a frame."""
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=10, options={"crf": "5", **(options or {})})
        stream.height, stream.width, stream.pix_fmt = *SIZE, form
        if full:
            stream.codec_context.color_range = 2  # as JPEG: 0 is black and 255 white
        for number in range(20):
            grey = np.full(SIZE, 50, np.uint8)
            grey[20:80, 10 + 2 * number : 40 + 2 * number] = 200
            frame = av.VideoFrame.from_ndarray(np.stack([grey] * 3, axis=-1), format="rgb24")
            ranges = {"dst_color_range": 2} if full else {}
            frame = frame.reformat(format=form, **ranges)
            frame.pts = number + late
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("grey.mp4", {"form": "gray", "full": True}),  # H.264 4:0:0
        ("grey.mkv", {"form": "gray", "codec": "libx265"}),  # HEVC 4:0:0
        ("ten.mp4", {"form": "yuv420p10le"}),
        ("ten.mkv", {"form": "yuv420p10le", "codec": "libx265"}),
        ("full.mp4", {"form": "yuvj420p", "full": True}),
        ("later.mp4", {"options": {"bf": "3", "b_strategy": "0"}}),  # B-frames
        ("no-count.mkv", {}),
        ("parts.mp4", {"muxer": {"movflags": "frag_keyframe+empty_moov"}}),
        ("late.mkv", {"late": 36000}),  # the first time is an hour
    ],
)
def test_pixels_and_times_are_right(tmp_path, name, options, recwarn):
    path = film(tmp_path / name, **options)
    read = Film(path)
    frames = list(read)
    assert [raw.seconds for raw in frames] == pytest.approx(TIMES, abs=2e-3)
    assert read.notes == ()
    assert not deep(frames[0].picture.format.name)
    for number, raw in enumerate(frames):
        pixels = values(raw).astype(int)
        assert pixels.shape == (*SIZE, 3)
        assert np.median(pixels[25:75, 15 + 2 * number : 35 + 2 * number]) == pytest.approx(
            200, abs=6
        )
        assert np.median(pixels[:15]) == pytest.approx(50, abs=6)
    assert len(list(video.frames(Film(path), 0.5))) == 4
    assert not recwarn.list
