#!/usr/bin/env bash
# Where images are equal, no library puts a row first in its own list, and each picks other twins.
# visir puts it first, then orders ties by row (tests/cluster/test_neighbors.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet \
    scikit-learn==1.9.1 faiss-cpu==1.15.1 torch==2.13.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from importlib.metadata import version

import faiss
import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

names = ("scikit-learn", "faiss-cpu", "torch", "numpy")
print(", ".join(f"{name} {version(name)}" for name in names))
rows = np.random.default_rng(0).normal(size=(100, 64)).astype(np.float32)
rows /= np.linalg.norm(rows, axis=1, keepdims=True)
rows = np.concatenate([rows, rows])  # every image twice
product, distance = faiss.IndexFlatIP(64), faiss.IndexFlatL2(64)
product.add(rows)
distance.add(rows)
brute = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(rows)
cosines = torch.from_numpy(rows) @ torch.from_numpy(rows).T
first = {
    "faiss, products": product.search(rows, 5)[1][:, 0],
    "faiss, distances": distance.search(rows, 5)[1][:, 0],
    "scikit-learn": brute.kneighbors(rows)[1][:, 0],
    "torch.topk": cosines.topk(5).indices[:, 0].numpy(),
    "numpy.argsort": np.argsort(-(rows @ rows.T), axis=1)[:, 0],
}
own = np.arange(200)
seen = {}
for name, column in first.items():
    assert np.array_equal(column % 100, own % 100), "behaviour changed"
    seen[name] = int((column == own).sum()), int((column < 100).sum())
    print(f"{name}: first is the row itself in {seen[name][0]} of 200, the lower twin in "
          f"{seen[name][1]}")
assert all(itself < 200 for itself, _ in seen.values()), "behaviour changed"
assert len({lower for _, lower in seen.values()}) > 1, "behaviour changed"
EOF
