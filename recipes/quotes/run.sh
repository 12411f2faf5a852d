#!/usr/bin/env bash
# Quotes from keywords: see README.md.
# usage: recipes/quotes/run.sh [QUOTES.csv [COLUMN [OUTPUT_DIR]]]
source "$(dirname "$0")/../common.sh"
data=${1:-$root/samples/quotes.csv}
column=${2:-quote}
out=${3:-results/quotes}
asked=${ASKED:-100}  # texts to measure
template="{keywords} => {$column}"
mkdir -p "$out"

step "1. The keywords of every quote"
quire keywords "$data" --text-column "$column" --top 3 --ngram 1 -o "$out/keywords.csv" --overwrite

step "2. Fine-tuning on keywords and quote together"
quire train --model "$model" --data "$out/keywords.csv" --template "$template" --packing records \
  --block-size 256 --batch-size 2 --num-train-epochs "$(passes 4000000 20 "$data")" \
  --learning-rate "$(rate 2e-3)" --lr-scheduler-type cosine --warmup-steps 0.1 --dropout 0 \
  --validation-split 0.1 --save-steps 0 --report-to jsonl,html --seed 1 "${length[@]}" \
  --output-dir "$out/model" --overwrite-output-dir

step "3. How surprising the held-out tenth is, after beside before"
quire eval --model "$out/model" --baseline "$model" --split validation \
  --output-dir "$out/perplexity" --overwrite-output-dir

step "4. Keywords of the held-out tenth, asked before and after"
ask() {
  quire generate --model "$1" --requests "$out/keywords.csv" --split validation --run "$out/model" \
    --template "$template" --limit "$asked" --do-sample --temperature 0.7 --top-p 0.95 \
    --no-repeat-ngram-size 3 --max-new-tokens 40 --seed 1 --no-display-prompt \
    --output-dir "$2" --overwrite-output-dir --quiet
}
ask "$model" "$out/before"
ask "$out/model" "$out/after"

step "5. Keyword coverage, repetition and copying, after beside before"
quire eval --texts "$out/after/generated_texts.jsonl" --baseline "$out/before/generated_texts.jsonl" \
  --keywords-column keywords --training-data "$data" --training-text-column "$column" \
  --output-dir "$out/evaluation_metrics" --overwrite-output-dir

step "6. Quotes from keywords of your own"
quire generate --model "$out/model" --keywords "rain, home" --keywords "sword, promise" --do-sample \
  --temperature 0.7 --top-p 0.95 --no-repeat-ngram-size 3 --max-new-tokens 40 --num-return-sequences 2 --seed 3
