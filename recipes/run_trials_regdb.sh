#!/bin/sh
# The ten trials of RegDB trained, then scored with their mean; goes on after a stop.
# METHOD and TRIALS as for the two recipes it calls.
set -eu
if [ $# -lt 3 ]; then
  echo "usage: $0 DATA PRETRAINED RUNS [more options of visir train]" >&2
  exit 2
fi
here=$(dirname "$0")
"$here/run_train_regdb.sh" "$@"
"$here/run_test_regdb.sh" "$1" "$3"
