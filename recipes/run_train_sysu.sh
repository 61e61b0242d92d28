#!/bin/sh
# Train CMAG on SYSU-MM01, both stages in one run. After a stop, the same command continues.
# METHOD=NAME trains another method, for example tokenmatcher (with its camera stage).
set -eu
if [ $# -lt 3 ]; then
  echo "usage: $0 DATA PRETRAINED RUN [more options of visir train]" >&2
  exit 2
fi
data=$1 pretrained=$2 run=$3
shift 3
if [ -e "$run/config.yaml" ]; then set -- --resume "$@"; fi
visir train "${METHOD:-cmag}" --preset sysu --data "$data" --start "$pretrained" --out "$run" "$@"
