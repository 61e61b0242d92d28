#!/usr/bin/env bash
# Cut at 10, a list with 1 of 10 images of a person has a mAP of 0.1 or 1.0, by the library.
# visir scores whole lists (visir/evaluation/ranking.py, tests/evaluation/test_ranking.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet ranx==0.3.21 torch==2.13.0 torchmetrics==1.9.0
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from importlib.metadata import version

import torch
from ranx import Qrels, Run, evaluate
from torchmetrics.retrieval import RetrievalMAP

names = ("ranx", "torch", "torchmetrics")
print(", ".join(f"{name} {version(name)}" for name in names))
ranks = [1, *range(11, 20)]  # of the person's ten images, among 20
scores = torch.linspace(1, 0, 20)
truth = torch.tensor([rank in ranks for rank in range(1, 21)])
images = {str(rank): float(score) for rank, score in enumerate(scores, start=1)}
person = Qrels({"query": {str(rank): 1 for rank in ranks}})
seen = []
for cut, name in ((None, "map"), (10, "map@10")):
    one = evaluate(person, Run({"query": images}), name)
    two = RetrievalMAP(top_k=cut)(scores, truth, indexes=torch.zeros(20, dtype=torch.long)).item()
    seen.append((round(float(one), 2), round(two, 2)))
    print(f"{'cut at 10' if cut else 'whole list'}: ranx {one:.2f}, torchmetrics {two:.2f}")
assert seen == [(0.44, 0.44), (0.1, 1.0)], "behaviour changed"
EOF
