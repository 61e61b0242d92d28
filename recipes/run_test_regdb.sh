#!/bin/sh
# Score both directions of RegDB, averaged over its ten trials (splits). RUNS/1 to RUNS/10 are visir's
# runs, or RUNS/1.pth to RUNS/10.pth the authors' checkpoints. TRIALS="1 2" scores only these trials.
set -eu
if [ $# -lt 2 ]; then
  echo "usage: $0 DATA RUNS [more options of visir eval]" >&2
  exit 2
fi
data=$1 runs=$2 trials=${TRIALS:-1 2 3 4 5 6 7 8 9 10}
shift 2
# Runs come before the options, because some options take several words.
set -- --data "$data" --layout regdb --split $trials "$@"
for trial in $(printf '%s\n' $trials | sort -rn); do
  if [ -d "$runs/$trial" ]; then set -- "$runs/$trial" "$@"; else set -- "$runs/$trial.pth" "$@"; fi
done
visir eval "$@"
