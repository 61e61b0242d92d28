#!/bin/sh
# Train the ten trials (splits) of RegDB, then score them and print their mean. After a stop, the same
# command continues. METHOD and TRIALS: as for the two recipes that it calls.
set -eu
if [ $# -lt 3 ]; then
  echo "usage: $0 DATA PRETRAINED RUNS [more options of visir train]" >&2
  exit 2
fi
here=$(dirname "$0")
"$here/run_train_regdb.sh" "$@"
"$here/run_test_regdb.sh" "$1" "$3"
