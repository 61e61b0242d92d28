#!/usr/bin/env bash
# A 16-bit PNG of raw thermal values becomes all white in Pillow and nearly black in OpenCV.
# visir stretches by the range of the camera (visir/data/pixels.py, tests/data/test_pixels.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pillow==13.0.0 opencv-python-headless==4.14.0.94 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from importlib.metadata import version

import cv2
import numpy as np
from PIL import Image

print(", ".join(f"{name} {version(name)}" for name in ("pillow", "opencv-python-headless")))
values = np.linspace(7000, 9000, 64 * 32).reshape(64, 32).astype(np.uint16)
Image.fromarray(values).save("thermal.png")
seen = []
for name, grey in (
    ("Pillow", np.asarray(Image.open("thermal.png").convert("L"))),
    ("OpenCV", cv2.imread("thermal.png", cv2.IMREAD_GRAYSCALE)),
):
    seen.append((int(grey.min()), int(grey.max())))
    print(f"{name}: {values.min()} to {values.max()} become {seen[-1][0]} to {seen[-1][1]}")
assert seen == [(255, 255), (27, 35)], "behaviour changed"
EOF
