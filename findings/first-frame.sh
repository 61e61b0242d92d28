#!/usr/bin/env bash
# OpenCV's background subtractor takes a whole first frame for shadow, not for something new.
# visir turns shadows off (visir/sources/hog.py, tests/sources/test_hog.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet opencv-python-headless==4.14.0.94 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
import cv2
import numpy as np

print("opencv", cv2.__version__)
random = np.random.default_rng(0)
frames = {
    "one grey": np.full((48, 64, 3), 90, np.uint8),
    "noise": random.integers(0, 255, (48, 64, 3)).astype(np.uint8),
    "black": np.zeros((48, 64, 3), np.uint8),
}
seen = {}
for name, frame in frames.items():
    for shadows in (True, False):
        subtractor = cv2.createBackgroundSubtractorMOG2(detectShadows=shadows)
        answers = [np.unique(subtractor.apply(frame)).tolist() for _ in range(2)]
        seen[name, shadows] = answers
        how = "on" if shadows else "off"
        print(f"{name}, shadows {how}: first {answers[0]}, then {answers[1]}")
assert seen == {
    (name, shadows): [[127 if shadows and name != "black" else 255], [0]]
    for name in frames
    for shadows in (True, False)
}, "behaviour changed"
EOF
