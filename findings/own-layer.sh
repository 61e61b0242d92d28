#!/usr/bin/env bash
# In PyTorch 2.11 a layer of torch.nn that is compiled in place runs as before, without a word.
# visir tries the compiler on a module of its own (visir/nets/compiled.py, test_compile.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.11.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 env/bin/python - <<'EOF'
import torch
from torch import nn
from torch._dynamo.utils import counters

print("torch", torch.__version__)


class Own(nn.Module):
    """A layer in a module that is not of torch.nn."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, values):
        return self.layer(values)


def graphs(module, in_place):
    """Graphs made when the module first runs."""
    torch._dynamo.reset()
    counters.clear()
    if in_place:
        module.compile(backend="eager")
    else:
        module = torch.compile(module, backend="eager")
    module(torch.zeros(2, 4))
    return counters["frames"]["ok"]


seen = {}
for make in (lambda: nn.Linear(4, 4), nn.ReLU, Own):
    name = type(make()).__name__
    seen[name] = apart, in_place = graphs(make(), in_place=False), graphs(make(), in_place=True)
    print(f"{name}: torch.compile(module) makes {apart} graph, module.compile() {in_place}")
assert seen == {"Linear": (1, 0), "ReLU": (1, 0), "Own": (1, 1)}, "behaviour changed"
EOF
