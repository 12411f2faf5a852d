#!/usr/bin/env bash
# Makes this model anew: models/storyteller/train.sh DATA OUT, where DATA holds novels/*.txt (six books of
# Project Gutenberg) and tinyshakespeare/input.txt. About 80 minutes on one core with AVX-512. The same data gives
# the same bytes on the same kind of processor, with any number of threads.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
quire=${QUIRE:-$here/../../build/bin/quire}
[ $# = 2 ] || { echo "usage: $0 DATA OUT" >&2; exit 2; }
data=$1 out=$2

vocabulary=$(mktemp -d)
trap 'rm -rf "$vocabulary"' EXIT
"$quire" tokenizer train --vocab-size 6000 --output-dir "$vocabulary/tokenizer" \
  "$data"/novels/*.txt "$data/tinyshakespeare/input.txt"
"$quire" train --config "$here/config.json" --tokenizer "$vocabulary/tokenizer" \
  --data "$data/novels" "$data/tinyshakespeare/input.txt" --output-dir "$out" \
  --num-train-epochs 20 --per-device-train-batch-size 8 --learning-rate 1e-3 \
  --lr-scheduler-type cosine --min-lr-ratio 0.02 --warmup-steps 100 --weight-decay 0.1 \
  --adam-beta2 0.98 --dropout 0.2 --eval-steps 400 --save-steps 400 --load-best-model-at-end \
  --dtype bfloat16 --seed 1
