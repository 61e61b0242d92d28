#!/usr/bin/env bash
# A detector that finds everything scores an AP of 0.44 if the annotations are numbered from 0.
# This is pycocotools alone: visir takes 0 as any other number (tests/data/test_boxes.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pycocotools==2.0.11 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
import contextlib
import io
from importlib.metadata import version

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

print("pycocotools", version("pycocotools"))
box = [10, 10, 30, 90]
seen = []
for first in (0, 1):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": n, "width": 64, "height": 128} for n in range(3)],
            "categories": [{"id": 1, "name": "person"}],
            "annotations": [
                {
                    "id": first + n,
                    "image_id": n,
                    "category_id": 1,
                    "bbox": box,
                    "area": 2700,
                    "iscrowd": 0,
                }
                for n in range(3)
            ],
        }
        truth.createIndex()
        answers = truth.loadRes(
            [
                {"image_id": n, "category_id": 1, "bbox": box, "score": 0.9 - n / 10}
                for n in range(3)
            ]
        )
        found = COCOeval(truth, answers, "bbox")
        found.evaluate()
        found.accumulate()
        found.summarize()
    seen.append((round(float(found.stats[0]), 2), round(float(found.stats[8]), 2)))
    print(f"annotations from {first}: AP {seen[-1][0]}, AR {seen[-1][1]}")
assert seen == [(0.44, 0.67), (1, 1)], "behaviour changed"
EOF
