#!/usr/bin/env bash
# DBSCAN takes equal images for outliers if distances come as a sparse matrix: 0 is not stored.
# visir stores the zeros of its graph (visir/cluster/jaccard.py, tests/cluster/test_labels.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from importlib.metadata import version

import numpy as np
from scipy import sparse
from sklearn.cluster import DBSCAN

print(", ".join(f"{name} {version(name)}" for name in ("scikit-learn", "scipy")))
distances = np.full((6, 6), 0.9)
distances[:3, :3] = 0  # three equal images
distances[3:, 3:] = 0.1  # three alike
np.fill_diagonal(distances, 0)
places = np.indices(distances.shape).reshape(2, -1)
cases = {
    "dense": distances,
    "sparse, from dense": sparse.csr_array(distances),
    "sparse, zeros stored": sparse.csr_array((distances.ravel(), places), shape=(6, 6)),
}
seen = []
for name, case in cases.items():
    found = DBSCAN(eps=0.5, min_samples=3, metric="precomputed").fit_predict(case).tolist()
    seen.append(found)
    print(f"{name}: {found}")
dense = [0, 0, 0, 1, 1, 1]
assert seen == [dense, [-1, -1, -1, 0, 0, 0], dense], "behaviour changed"
EOF
