#!/usr/bin/env bash
# torch.cdist gives a row's distance to itself as 0 in a batch of 25, and above 0 in one of 26.
# visir's losses do not rely on that 0 (visir/methods/losses.py, tests/methods/test_losses.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
import torch

print("torch", torch.__version__)
seen = {}
for count in (25, 26, 64):
    torch.manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(count, 512), dim=1)
    itself = torch.cdist(rows, rows).diagonal()
    seen[count] = float(itself.max())
    print(f"{count} rows: {int((itself > 0).sum())} are not at 0 from themselves, "
          f"largest {seen[count]:.1e}")
assert seen[25] == 0 and seen[26] > 1e-5 and seen[64] > 1e-5, "behaviour changed"
EOF
