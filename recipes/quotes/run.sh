#!/usr/bin/env bash
# Quotes from keywords: see README.md.
# usage: recipes/quotes/run.sh [QUOTES.csv [COLUMN [OUTPUT_DIR]]]
source "$(dirname "$0")/../common.sh"
data=${1:-$root/samples/quotes.csv}
column=${2:-quote}
out=${3:-results/quotes}
model=${MODEL:-narrator}
asked=${ASKED:-100}  # texts to measure
template="{keywords} => {$column}"
mkdir -p "$out"

step "1. The keywords of every quote"
quire keywords "$data" --text-column "$column" --top 3 --ngram 1 -o "$out/keywords.csv" --overwrite

step "2. Fine-tuning on keywords and quote together"
quire train --model "$model" --data "$out/keywords.csv" --template "$template" --packing records \
  --block-size 256 --batch-size 4 --num-train-epochs "${EPOCHS:-40}" --learning-rate 1e-3 \
  --lr-scheduler-type cosine --warmup-steps 0.1 --dropout 0.1 --validation-split 0.1 \
  --report-to jsonl,html --seed 1 "${length[@]}" \
  --output-dir "$out/model" --overwrite-output-dir

step "3. The same keywords, asked before and after"
ask() {
  quire generate --model "$1" --requests "$out/keywords.csv" --template "$template" --limit "$asked" \
    --do-sample --temperature 0.8 --top-p 0.95 --repetition-penalty 1.1 --max-new-tokens 40 --seed 1 \
    --no-display-prompt --output-dir "$2" --overwrite-output-dir --quiet
}
ask "$model" "$out/before"
ask "$out/model" "$out/after"

step "4. Keyword coverage, repetition and copying, after beside before"
quire eval --texts "$out/after/generated_texts.jsonl" --baseline "$out/before/generated_texts.jsonl" \
  --keywords-column keywords --training-data "$data" --training-text-column "$column" \
  --output-dir "$out/evaluation_metrics" --overwrite-output-dir

step "5. Quotes from keywords of your own"
quire generate --model "$out/model" --keywords "rain, home" --keywords "sword, promise" --do-sample \
  --temperature 0.8 --top-p 0.95 --max-new-tokens 40 --num-return-sequences 2 --seed 3
