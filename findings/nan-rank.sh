#!/usr/bin/env bash
# An embedding of NaN stands first or last in ranked lists, or is missing, depending on the library.
# visir refuses it (visir/evaluation/ranking.py, tests/evaluation/test_ranking.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet faiss-cpu==1.15.1 torch==2.13.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from importlib.metadata import version

import faiss
import numpy as np
import torch

print(", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "faiss-cpu")))
gallery = np.eye(6, 8, dtype=np.float32) + 0.1
gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
gallery[2] = np.nan
query = gallery[:1]  # the same image as row 0
scores = query @ gallery.T
index = faiss.IndexFlatIP(8)
index.add(gallery)
lists = {
    "numpy.argsort(-scores)": np.argsort(-scores)[0],
    "numpy.argsort(scores)[::-1]": np.argsort(scores)[0, ::-1],
    "torch.argsort(descending)": torch.from_numpy(scores).argsort(descending=True)[0],
    "torch.topk": torch.from_numpy(scores).topk(6).indices[0],
    "faiss": index.search(query, 6)[1][0],
}
seen = []
for name, found in lists.items():
    found = found.tolist()
    seen.append(found.index(2) if 2 in found else None)
    print(f"{name}: rows {found}, the NaN at {'no place' if seen[-1] is None else seen[-1]}")
assert seen == [5, 0, 0, 0, None], "behaviour changed"
EOF
