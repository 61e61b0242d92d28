#!/usr/bin/env bash
# HDBSCAN of scikit-learn with min_samples=4 finds the clusters of the package hdbscan with 3.
# visir counts as scikit-learn does, the image itself included (visir/cluster/hdbscan.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet scikit-learn==1.9.1 hdbscan==0.8.44 numpy==2.4.6 scipy==1.17.1
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from importlib.metadata import version

import hdbscan
import numpy as np
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_rand_score

print(", ".join(f"{name} {version(name)}" for name in ("scikit-learn", "hdbscan")))
means = {3: [], 4: [], 5: []}
for seed in range(5):
    random = np.random.default_rng(seed)
    centres = ((0, 0), (3, 0), (0, 3))
    rows = np.concatenate(
        [random.normal(centre, 0.5, (30, 2)) for centre in centres]
        + [random.uniform(-4, 7, (40, 2))]
    )
    theirs = HDBSCAN(min_cluster_size=5, min_samples=4, copy=True).fit_predict(rows)
    for count, found in means.items():
        other = hdbscan.HDBSCAN(min_cluster_size=5, min_samples=count, algorithm="generic")
        found.append(adjusted_rand_score(theirs, other.fit_predict(rows)))
for count, found in means.items():
    print(f"agreement of scikit-learn's 4 with hdbscan's {count}: "
          f"{', '.join(f'{value:.2f}' for value in found)}")
assert min(means[3]) == 1 and max(means[4]) < 1, "behaviour changed"
EOF
