#!/bin/sh
# Both directions of RegDB, averaged over its trials: RUNS/1 to RUNS/10 are runs of ours, or
# RUNS/1.pth to RUNS/10.pth checkpoints of the authors'; TRIALS="1 2" takes only some.
set -eu
if [ $# -lt 2 ]; then
  echo "usage: $0 DATA RUNS [more options of visir eval]" >&2
  exit 2
fi
data=$1 runs=$2 trials=${TRIALS:-1 2 3 4 5 6 7 8 9 10}
shift 2
for trial in $trials; do
  if [ -d "$runs/$trial" ]; then set -- "$@" "$runs/$trial"; else set -- "$@" "$runs/$trial.pth"; fi
done
# shellcheck disable=SC2086
visir eval "$@" --data "$data" --layout regdb --split $trials
