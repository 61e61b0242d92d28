#!/usr/bin/env bash
# Ten minutes at most on a machine with a GPU, in this order:
# - training steps of CMAG and HCT: views per second, memory, bf16, torch.compile;
# - a training without labels (pairs, from the ready model, preset own) on the twin of SYSU-MM01,
#   34,167 training images, scored on the twin's test images as it starts and after every 5 epochs;
# - the grid `gpu` as far as it goes.
# Everything is written below the folder OUT. The same command again keeps the steps, and continues
# the twin, its training and the grid.
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

# until_second MOMENT COMMAND...: as long as until so many seconds after the start of this script. SIGINT
# ends a training or a grid as Ctrl-C does: what is finished is kept.
until_second() {
  local left=$(($1 - SECONDS))
  timeout --signal=INT --kill-after=15 $((left > 1 ? left : 1)) "$python" "${@:2}"
}

nvidia-smi > "$out/nvidia-smi.txt" 2>&1 || true
if [ ! -e "$out/steps.md" ]; then
  until_second 200 benchmarks/gpu.py --out "$out" > "$out/steps.log" 2>&1 ||
    echo "gpu.sh: the steps were not all measured; see $out/steps.log" >&2
fi
if [ ! -e "$out/twin.done" ]; then
  until_second 320 -m visir.cli synth "$out/twin" --twin sysu > "$out/twin.log" 2>&1 &&
    touch "$out/twin.done" ||
    echo "gpu.sh: the twin is not finished, so nothing is trained on it; see $out/twin.log" >&2
fi
if [ -e "$out/twin.done" ]; then
  resume=()
  [ ! -e "$out/twin-run/config.yaml" ] || resume=(--resume)
  until_second 450 -m visir.cli train pairs --preset own --data "$out/twin" --out "$out/twin-run" \
    --device cuda --eval-every 5 --save-every 50 --profile "${resume[@]}" 2>&1 |
    tee -a "$out/twin-run.log" || echo "gpu.sh: the training on the twin has not ended" >&2
fi
# Half a minute is kept for tables and the end of processes.
until_second 570 -m visir.cli bench run gpu --out "$out/grid" 2>&1 | tee -a "$out/grid.log" || true
"$python" -m visir.cli bench render "$out/grid" --out "$out/table" > "$out/render.log" 2>&1 ||
  echo "gpu.sh: no table yet; see $out/render.log" >&2
ls -l "$out"
