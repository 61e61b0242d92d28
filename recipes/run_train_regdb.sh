#!/bin/sh
# Train CMAG on the ten trials (splits) of RegDB, into RUNS/1 to RUNS/10. After a stop, the same command
# continues. METHOD=NAME trains another method; TRIALS="1 2" trains only these trials.
set -eu
if [ $# -lt 3 ]; then
  echo "usage: $0 DATA PRETRAINED RUNS [more options of visir train]" >&2
  exit 2
fi
data=$1 pretrained=$2 runs=$3
shift 3
for trial in ${TRIALS:-1 2 3 4 5 6 7 8 9 10}; do
  resume=
  if [ -e "$runs/$trial/config.yaml" ]; then resume=--resume; fi
  visir train "${METHOD:-cmag}" --preset regdb --data "$data" --split "$trial" \
    --start "$pretrained" --out "$runs/$trial" $resume "$@"
done
