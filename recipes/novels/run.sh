#!/usr/bin/env bash
# The style of a shelf of novels: see README.md.
# usage: recipes/novels/run.sh [FOLDER [OPENING [OUTPUT_DIR]]]
source "$(dirname "$0")/../common.sh"
books=${1:-$root/samples/novels}
opening=${2:-"My grandfather kept the lamp, and in all that time"}
out=${3:-results/novels}
mkdir -p "$out"

step "1. Fine-tuning on all .txt files below $books"
quire train --model "$model" --data "$books" --packing stream --block-size 512 --batch-size 2 \
  --num-train-epochs "$(passes 4000000 20 "$books")" --learning-rate "$(rate 5e-4)" --lr-scheduler-type cosine --warmup-steps 0.1 \
  --dropout 0.1 --validation-split 0.1 --load-best-model-at-end --report-to jsonl,html --seed 1 \
  --sample-every 100 --sample-prompt "$opening" "${length[@]}" --output-dir "$out/model" --overwrite-output-dir

step "2. How surprising the held-out tenth is, after beside before"
quire eval --model "$out/model" --baseline "$model" --split validation --output-dir "$out/perplexity" \
  --overwrite-output-dir

step "3. Continuations of the opening"
for way in before after; do
  [ $way = after ] && with=$out/model || with=$model
  quire generate --model "$with" --prompt "$opening" --do-sample --temperature 0.8 --top-p 0.95 \
    --repetition-penalty 1.1 --max-new-tokens 120 --num-return-sequences 8 --seed 2 \
    --output-dir "$out/$way" --overwrite-output-dir --quiet
done
cat "$out/after/0001.txt"

step "4. How much of them is copied from the books"
quire eval --texts "$out/after/generated_texts.jsonl" --baseline "$out/before/generated_texts.jsonl" \
  --training-data "$books" --output-dir "$out/evaluation_metrics" --overwrite-output-dir
