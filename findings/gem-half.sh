#!/usr/bin/env bash
# GeM pooling's clamp at 1e-6 protects zeros in half precision, but not the slopes at small values.
# visir pools in float32 (visir/nets/two_stream.py, tests/nets/test_two_stream_options.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
import math

import torch

print("torch", torch.__version__)
seen = {}
for power in (3, 10):
    for value in (0, 0.002, 0.01, 1, 4):
        for kind in (torch.float16, torch.float32):
            features = torch.full((1, 1, 6, 6), value, dtype=kind, requires_grad=True)
            pooled = features.clamp(min=1e-6).pow(power).mean(dim=(2, 3)).pow(1 / power)
            pooled.sum().backward()
            result, slope = pooled.item(), features.grad[0, 0, 0, 0].item()
            seen[power, value, kind] = math.isfinite(result), math.isfinite(slope)
            print(f"power {power}, features {value}, {str(kind)[6:]}: {result:.4g}, "
                  f"gradient {slope:.4g}")
broken = {(power, value) for (power, value, kind), good in seen.items()
          if kind == torch.float16 and not all(good)}
assert all(all(good) for key, good in seen.items() if key[2] == torch.float32), "behaviour changed"
assert broken == {(3, 0.002), (10, 0.002), (10, 0.01), (10, 4)}, "behaviour changed"
EOF
