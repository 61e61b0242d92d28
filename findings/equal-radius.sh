#!/usr/bin/env bash
# As guessed, a distance of exactly eps is within it in float32 and float64; in float16 it is not.
# visir rounds the radius to the distances' float32 first (visir/cluster/jaccard.py, overlaps).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet scikit-learn==1.9.1 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from importlib.metadata import version

import numpy as np
from sklearn.cluster import DBSCAN

print(", ".join(f"{name} {version(name)}" for name in ("scikit-learn", "numpy")))
seen = {}
for kind in (np.float64, np.float32, np.float16):
    distances = np.where(np.eye(4) > 0, 0, 0.6).astype(kind)
    found = DBSCAN(eps=0.6, min_samples=3, metric="precomputed").fit_predict(distances)
    within = bool((distances <= 0.6).all())
    seen[kind.__name__] = (found.tolist(), within)
    print(f"{kind.__name__}: labels {found.tolist()}, NumPy says distance <= 0.6: {within}")
one = ([0, 0, 0, 0], True)
assert seen == {
    "float64": one,
    "float32": one,
    "float16": ([-1, -1, -1, -1], True),
}, "behaviour changed"
EOF
