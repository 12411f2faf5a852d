#!/usr/bin/env bash
# An emoji for a description: see README.md.
# usage: recipes/emoji/run.sh [EMOJI.csv [DESCRIPTION-COLUMN [EMOJI-COLUMN [OUTPUT_DIR]]]]
source "$(dirname "$0")/../common.sh"
data=${1:-$root/samples/emoji.csv}
description=${2:-description}
emoji=${3:-emoji}
out=${4:-results/emoji}
template="{$description} => {$emoji}"
mkdir -p "$out"

step "1. Fine-tuning on nine tenths of the table"
quire train --model "$model" --data "$data" --template "$template" --loss-on completion \
  --packing records --block-size 256 --batch-size 2 --num-train-epochs "$(passes 12000000 50 "$data")" \
  --learning-rate "$(rate 2e-3)" --lr-scheduler-type cosine --warmup-steps 0.05 --dropout 0 \
  --validation-split 0.1 --save-steps 0 \
  --report-to jsonl,html --seed 1 "${length[@]}" --output-dir "$out/model" --overwrite-output-dir

step "2. How surprising the emoji of the held-out tenth are, after beside before"
quire eval --model "$out/model" --baseline "$model" --split validation \
  --output-dir "$out/perplexity" --overwrite-output-dir

step "3. How many of them it finds: the likeliest answer, and the five likeliest"
quire eval --model "$out/model" --baseline "$model" --split validation --completions 5 \
  --output-dir "$out/evaluation_metrics" --overwrite-output-dir

step "4. Asking for one"
for asked in "grinning face" "hot dog" "cat face"; do
  quire generate --model "$out/model" --keywords "$asked" --num-beams 5 --max-new-tokens 12 --quiet
done

step "5. A folder for the Hub"
ls "$out/model"
echo "Read and complete $out/model/README.md, then, with a token of the Hub in HF_TOKEN:" >&2
printf '  quire upload %q OWNER/NAME --create\n' "$out/model" >&2
