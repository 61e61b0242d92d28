#!/usr/bin/env bash
# Two evaluation tools for MOTChallenge read different boxes from one file, a pixel apart.
# visir counts from 1, as the format says (visir/data/boxes/mot.py, tests/data/test_boxes.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet motmetrics==1.4.0 trackeval==1.3.0 numpy==2.4.6 pandas==3.1.1
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from importlib.metadata import version
from pathlib import Path

import motmetrics
import trackeval

print(", ".join(f"{name} {version(name)}" for name in ("motmetrics", "trackeval")))
line = "1,7,1,1,30,80,1,1,1\n"
for path in ("gt/MOT17-train/gate/gt/gt.txt", "trackers/MOT17-train/mine/data/gate.txt"):
    Path(path).parent.mkdir(parents=True)
    Path(path).write_text(line)
print("line:", line.strip())
table = motmetrics.io.loadtxt("gt/MOT17-train/gate/gt/gt.txt", fmt="mot16")
one = [float(table.iloc[0][name]) for name in ("X", "Y", "Width", "Height")]
data = trackeval.datasets.MotChallenge2DBox(
    {
        "GT_FOLDER": "gt",
        "TRACKERS_FOLDER": "trackers",
        "SEQ_INFO": {"gate": 1},
        "PRINT_CONFIG": False,
    }
)
two = data.get_raw_seq_data("mine", "gate")["gt_dets"][0][0].tolist()
print("motmetrics:", one)
print("trackeval: ", two)
assert (one, two) == ([0, 0, 30, 80], [1, 1, 30, 80]), "behaviour changed"
EOF
