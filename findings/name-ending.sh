#!/usr/bin/env bash
# Of Market-1501 names with an ending, such as _day, Datumaro keeps one image of each ending.
# visir reads each file as an image of its own (visir/data/market.py, tests/data/test_market.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet datumaro==1.13.12
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
import logging
from importlib.metadata import version
from pathlib import Path

from datumaro import Dataset
from PIL import Image

logging.disable()
print("datumaro", version("datumaro"))
seen = []
for endings in (("", ""), ("_day", "_night")):
    train = Path("tree" + endings[0], "bounding_box_train")
    train.mkdir(parents=True)
    for pid in range(1, 11):
        for cam, ending in zip((1, 6), endings, strict=True):
            name = f"{pid:04}_c{cam}s1_{pid:06}_00{ending}.jpg"
            Image.new("RGB", (64, 128)).save(train / name)
    items = [item.id for item in Dataset.import_from(str(train.parent), "market1501")]
    seen.append(len(items))
    print(f"20 images, the last is {name}: {len(items)} items, the last is {items[-1]}")
assert seen == [20, 2], "behaviour changed"
EOF
