#!/usr/bin/env bash
# Where all scores are equal, torchmetrics' retrieval precision is 0.33 to 0.75, by unspoken order.
# visir orders ties by position, written down (visir/evaluation/ranking.py, test_ranking.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet \
    scikit-learn==1.9.1 torch==2.13.0 torchmetrics==1.9.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from importlib.metadata import version

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torchmetrics.retrieval import RetrievalMAP

names = ("scikit-learn", "torch", "torchmetrics")
print(", ".join(f"{name} {version(name)}" for name in names))
scores = torch.full((4,), 0.5)
group = torch.zeros(4, dtype=torch.long)
seen = []
for truth in ([1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 1, 0]):
    one = average_precision_score(truth, scores.numpy())
    two = RetrievalMAP()(scores, torch.tensor(truth), indexes=group).item()
    seen.append((round(one, 2), round(two, 2)))
    print(f"truth {truth}: scikit-learn {one:.2f}, torchmetrics {two:.2f}")
assert [one for one, _ in seen] == [0.25, 0.25, 0.5], "behaviour changed"
assert all(one != two for one, two in seen), "behaviour changed"
EOF
