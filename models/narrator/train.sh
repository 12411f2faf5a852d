#!/usr/bin/env bash
# Makes this model anew: models/narrator/train.sh DATA OUT, where DATA is what gather.py made, with Shakespeare's
# plays put in as DATA/stories/shakespeare-plays.txt. DEVICE=cpu does without a card and takes more than a day.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
quire=${QUIRE:-$here/../../build/bin/quire}
[ $# = 2 ] || { echo "usage: $0 DATA OUT" >&2; exit 2; }
data=$1 out=$2
stories=("$data"/stories/*.txt) all=("$data"/text/*.txt "$data"/stories/*.txt)
machine=(--device cuda --bf16)
[ "${DEVICE:-cuda}" = cuda ] || machine=(--device "$DEVICE")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Spurgeon's commentary, a third of all text, has no say in the vocabulary.
vocabulary=()
for file in "${all[@]}"; do [[ $file == */treasury-of-david.txt ]] || vocabulary+=("$file"); done
"$quire" tokenizer train --vocab-size 8192 --model-max-length 512 --output-dir "$work/tokenizer" "${vocabulary[@]}"

train() {
  "$quire" train --tokenizer "$work/tokenizer" "${machine[@]}" --packing stream --per-device-train-batch-size 64 \
    --lr-scheduler-type cosine --weight-decay 0.1 --adam-beta2 0.98 --validation-split 0.02 --save-total-limit 1 \
    --load-best-model-at-end --dtype bfloat16 --seed 1 --logging-steps 20 "$@"
}
train --config "$here/config.json" --data "${all[@]}" --output-dir "$work/broad" --max-steps 7003 \
  --learning-rate 2e-3 --min-lr-ratio 0.05 --warmup-steps 0.04 --dropout 0.1 --eval-steps 876 --save-steps 876
train --model "$work/broad" --data "${stories[@]}" --output-dir "$out" --max-steps 1270 \
  --learning-rate 5e-4 --min-lr-ratio 0.02 --warmup-steps 0.05 --dropout 0.15 --eval-steps 318 --save-steps 318
