#!/usr/bin/env bash
# An emoji for a description: see README.md.
# usage: recipes/emoji/run.sh [EMOJI.csv [DESCRIPTION-COLUMN [EMOJI-COLUMN [OUTPUT_DIR]]]]
source "$(dirname "$0")/../common.sh"
data=${1:-$root/samples/emoji.csv}
description=${2:-description}
emoji=${3:-emoji}
out=${4:-results/emoji}
model=${MODEL:-narrator}
template="{$description} => {$emoji}"
mkdir -p "$out"

step "1. Fine-tuning, with a checkpoint every 100 steps"
quire train --model "$model" --data "$data" --template "$template" --loss-on completion --packing none \
  --batch-size 32 --num-train-epochs "${EPOCHS:-50}" --learning-rate 2e-3 --lr-scheduler-type cosine \
  --warmup-steps 0.05 --dropout 0 --validation-split 0 --save-steps 100 --save-total-limit 2 \
  --report-to jsonl,html --seed 1 "${length[@]}" --output-dir "$out/model" --overwrite-output-dir

step "2. How many it knows: the likeliest answer, and the five likeliest"
quire eval --model "$out/model" --baseline "$model" --data "$data" --template "$template" --completions 5 \
  --output-dir "$out/evaluation_metrics" --overwrite-output-dir

step "3. Asking for one"
for asked in "grinning face" "hot dog" "cat face"; do
  quire generate --model "$out/model" --keywords "$asked" --num-beams 5 --max-new-tokens 12 --quiet
done

step "4. A folder for the Hub"
ls "$out/model"
echo "Read and complete $out/model/README.md, then, after pip install huggingface_hub and hf auth login:" >&2
printf '  hf upload NAME %q --exclude "checkpoint-*"\n' "$out/model" >&2
