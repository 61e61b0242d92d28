#!/usr/bin/env bash
# Frost of severity 5 changes a light crop less than severity 1, and 4 always less than 3.
# visir measures all severities, not the last alone (benchmarks/corruption.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet corrupt_tta==0.1.7 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from importlib.metadata import version

import numpy as np
from corrupt_tta import corrupt

print("corrupt_tta", version("corrupt_tta"))
seen = {}
for grey in (60, 110, 200):
    crop = np.full((144, 72, 3), grey, np.uint8)
    means = []
    for severity in (1, 2, 3, 4, 5):
        np.random.seed(0)
        changes = [
            np.abs(np.asarray(corrupt(crop, severity, "frost")).astype(int) - crop).mean()
            for _ in range(20)
        ]
        means.append(round(float(np.mean(changes)), 1))
    seen[grey] = means
    print(f"crop of grey {grey}: mean change at severity 1 to 5: {means}")
assert all(means[3] < means[2] for means in seen.values()), "behaviour changed"
assert seen[200][4] < seen[200][0] and seen[60][4] > seen[60][0], "behaviour changed"
EOF
