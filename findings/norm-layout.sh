#!/usr/bin/env bash
# A batch norm's variance is off by a thousandth where an image's channels are stored last.
# visir says so where it takes such statistics (visir/nets/slices.py, tests/nets/test_slices.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
from importlib.metadata import version

import torch

print(f"torch {version('torch')}, float32 on a CPU, one thread")
generator = torch.Generator().manual_seed(0)
images = torch.randn(256, 8, 144, 72, generator=generator) + 0.5
count = images.numel() // images.shape[1]
exact = images.double().var(dim=(0, 2, 3))
off = {}
for layout in (torch.contiguous_format, torch.channels_last):
    norm = torch.nn.BatchNorm2d(8, momentum=1.0)
    norm(images.contiguous(memory_format=layout))
    off[layout] = ((norm.running_var.double() - exact) / exact).abs().max().item()
    print(f"{layout}: variance of {count:,} values a channel off by {off[layout]:.0e}")
assert off[torch.contiguous_format] < 1e-6, "behaviour changed"
assert off[torch.channels_last] > 1e-4, "behaviour changed"
EOF
