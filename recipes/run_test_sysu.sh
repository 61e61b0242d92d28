#!/bin/sh
# Score all search and indoor search of SYSU-MM01, for a run of visir or a checkpoint of the authors.
set -eu
if [ $# -lt 2 ]; then
  echo "usage: $0 DATA RUN-OR-CHECKPOINT [more options of visir eval]" >&2
  exit 2
fi
data=$1 run=$2
shift 2
visir eval "$run" --data "$data" --layout sysu "$@"
