#!/usr/bin/env bash
# Two MPEG streams joined: a clock that begins 10 minutes lower again is given as 26 hours later.
# visir turns this correction off (visir/sources/decode.py, tests/sources/test_decode.py).
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


seen = {}
for first, second in ((50, 2), (600, 2)):
    film("a.ts", first, "mpegts")
    film("b.ts", second, "mpegts")
    Path("ab.ts").write_bytes(Path("a.ts").read_bytes() + Path("b.ts").read_bytes())
    for options in ({}, {"correct_ts_overflow": "0"}):
        with av.open("ab.ts", container_options=options) as container:
            times = [frame.time for frame in container.decode(video=0)]
        assert len(times) == 40, "behaviour changed"
        seen[first, bool(options)] = round(times[20] - second)
        print(
            f"{first} s, then {second} s, {options or 'no options'}: "
            f"{times[19]:.1f} s, then {times[20]:.1f} s"
        )
assert seen == {(50, False): 0, (50, True): 0, (600, False): 95444, (600, True): 0}, "changed"
EOF
