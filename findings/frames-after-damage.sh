#!/usr/bin/env bash
# One damaged packet near the end: with frame threads the good frames behind it are lost as well.
# visir decodes with slice threads (visir/sources/decode.py, tests/sources/test_decode.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet av==18.1.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

print("av", av.__version__)


def film(path, start, form=None):
    """20 frames in 2 seconds, whose clock begins at `start` seconds."""
    with av.open(path, "w", format=form) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90000)
        for number in range(20):
            pixels = np.full((96, 128, 3), 20, np.uint8)
            pixels[20:80, 10:40] = 220
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = 90000 * start + 9000 * number, Fraction(1, 90000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


film("good.mp4", 0)
with av.open("good.mp4") as container:
    places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
seen = {}
for damaged in (5, 17):
    content = bytearray(Path("good.mp4").read_bytes())
    start, size = places[damaged]
    content[start : start + size] = b"\xff" * size
    Path("bad.mp4").write_bytes(content)
    for kind in ("FRAME", "SLICE"):
        frames = errors = 0
        with av.open("bad.mp4") as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = kind, 4
            for packet in container.demux(stream):
                try:
                    frames += len(packet.decode())
                except av.FFmpegError:
                    errors += 1
        seen[damaged, kind] = frames
        print(f"packet {damaged} of 20 damaged, {kind} threads: {frames} frames, {errors} errors")
assert seen[5, "FRAME"] == seen[5, "SLICE"] == seen[17, "SLICE"] == 19, "behaviour changed"
assert seen[17, "FRAME"] < 19, "behaviour changed"
EOF
