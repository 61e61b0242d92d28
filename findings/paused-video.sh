#!/usr/bin/env bash
# A video of 20 frames with a pause has 20 frames or 135, by the call of one library.
# visir's frame numbers count stored frames (visir/sources/decode.py, tests/sources/test_decode.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet imageio-ffmpeg==0.6.0 av==18.1.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from fractions import Fraction
from importlib.metadata import version

import av
import imageio_ffmpeg
import numpy as np

print(", ".join(f"{name} {version(name)}" for name in ("imageio-ffmpeg", "av")))
times = [*range(0, 400, 40), *range(5000, 5400, 40)]  # ms; a camera that records what moves
with av.open("gate.mp4", "w") as video:
    stream = video.add_stream("libx264", rate=25)
    stream.width = stream.height = 64
    stream.codec_context.time_base = Fraction(1, 1000)
    for number, time in enumerate(times):
        grey = np.full((64, 64, 3), 12 * number, np.uint8)
        frame = av.VideoFrame.from_ndarray(grey, "rgb24")
        frame.pts, frame.time_base = time, Fraction(1, 1000)
        video.mux(stream.encode(frame))
    video.mux(stream.encode(None))
with av.open("gate.mp4") as video:
    stored = len(list(video.decode(video=0)))
counted, _ = imageio_ffmpeg.count_frames_and_secs("gate.mp4")
reading = imageio_ffmpeg.read_frames("gate.mp4")
next(reading)  # what is known of the video
given = [round(float(np.frombuffer(frame, np.uint8).mean())) for frame in reading]
first = next(number for number, grey in enumerate(given) if grey > 113)  # the eleventh has 120
print(f"PyAV decodes {stored}; the eleventh is frame 10")
print(f"imageio-ffmpeg counts {counted}, reads {len(given)}; the eleventh is frame {first}")
assert (stored, counted) == (20, 20) and len(given) > 100 < first, "behaviour changed"
EOF
