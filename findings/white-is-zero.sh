#!/usr/bin/env bash
# A WhiteIsZero TIFF of 8 bits is turned round by Pillow and OpenCV, one of 16 bits by nobody.
# visir turns both (visir/data/tiff.py, tests/data/test_tiff.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet \
    pillow==13.0.0 opencv-python-headless==4.14.0.94 tifffile==2026.3.3 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from importlib.metadata import version

import cv2
import numpy as np
import tifffile
from PIL import Image

names = ("pillow", "opencv-python-headless", "tifffile")
print(", ".join(f"{name} {version(name)}" for name in names))
seen = {}
for kind in (np.uint8, np.uint16):
    top = np.iinfo(kind).max
    scene = np.full((8, 8), top // 4, kind)  # dark at the left, brighter at the right
    scene[:, 4:] = top // 2
    tifffile.imwrite("scene.tif", top - scene, photometric="miniswhite")
    read = {
        "Pillow": np.asarray(Image.open("scene.tif")),
        "OpenCV": cv2.imread("scene.tif", cv2.IMREAD_UNCHANGED),
        "tifffile": tifffile.imread("scene.tif"),
    }
    for name, values in read.items():
        right = np.array_equal(values, scene)
        negative = np.array_equal(values, top - scene)
        seen[kind.__name__, name] = answer = "picture" if right else "negative"
        assert right or negative, "behaviour changed"
        print(f"{kind.__name__}, {name}: {answer}")
assert [key for key, answer in seen.items() if answer == "picture"] == [
    ("uint8", "Pillow"),
    ("uint8", "OpenCV"),
], "behaviour changed"
EOF
