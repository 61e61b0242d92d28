#!/usr/bin/env bash
# Ten minutes at most on a machine with a GPU: training steps of CMAG and HCT (views per second,
# memory, bf16, torch.compile), then the grid `gpu` as far as it goes. Everything is written below
# the folder OUT; the same command again continues the grid.
#
#     benchmarks/gpu.sh OUT            # PYTHON=... picks an interpreter
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: benchmarks/gpu.sh OUT" >&2; exit 2; }
python=${PYTHON:-python}
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
  echo "gpu.sh: this machine has no GPU that PyTorch can use; nothing was done" >&2
  exit 1
}
out=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
end=$((SECONDS + 570))  # half a minute is kept for tables and the end of processes
nvidia-smi > "$out/nvidia-smi.txt" 2>&1 || true
if [ ! -e "$out/steps.md" ]; then
  timeout 200 "$python" benchmarks/gpu.py --out "$out" > "$out/steps.log" 2>&1 ||
    echo "gpu.sh: the steps were not all measured; see $out/steps.log" >&2
fi
# SIGINT ends a grid as Ctrl-C does: what is finished is kept.
timeout --signal=INT --kill-after=15 $((end - SECONDS)) \
  "$python" -m visir.cli bench run gpu --out "$out/grid" 2>&1 | tee -a "$out/grid.log" || true
"$python" -m visir.cli bench render "$out/grid" --out "$out/table" > "$out/render.log" 2>&1 ||
  echo "gpu.sh: no table yet; see $out/render.log" >&2
ls -l "$out"
