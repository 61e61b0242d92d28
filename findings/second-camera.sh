#!/usr/bin/env bash
# A tracker is made for a second camera; then the first camera gives two people one track number.
# visir refuses such boxes, and names both (visir/sources/boxes.py, tests/sources/test_cuts.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet boxmot==19.0.0
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
import logging
from importlib.metadata import version

import numpy as np
from boxmot.trackers import ByteTrack, OcSort

logging.disable()
print("boxmot", version("boxmot"))
frame = np.zeros((480, 640, 3), np.uint8)


def standing(people):
    """Boxes of people who stand side by side: left, top, right, bottom, score, class."""
    lefts = [50 + 150 * place for place in range(people)]
    return np.array([[left, 50, left + 60, 250, 0.9, 0] for left in lefts], float)


def numbers(tracker, people):
    """Track numbers after five frames."""
    for _ in range(5):
        found = tracker.update(standing(people), frame)
    return sorted(np.asarray(found)[:, 4].astype(int).tolist())


seen = []
for kind in (OcSort, ByteTrack):
    first = kind()
    before = numbers(first, 2)
    second = kind()
    seen.append((before, numbers(first, 3)))
    print(f"{kind.__name__}: two people {before}; another tracker is made; three {seen[-1][1]}")
assert seen == [([1, 2], [1, 1, 2]), ([1, 2], [1, 2, 3])], "behaviour changed"
EOF
