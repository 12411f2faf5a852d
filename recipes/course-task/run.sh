#!/usr/bin/env bash
# Fine-tuning as a course asks for it, and five ways to decode side by side: see README.md.
# usage: recipes/course-task/run.sh [TEXTS.csv [COLUMN [OUTPUT_DIR]]]
source "$(dirname "$0")/../common.sh"
data=${1:-$root/samples/quotes.csv}
column=${2:-quote}
out=${3:-results/course-task}
prompts=("I was born" "The king" "Stand up and")
max_length=${MAX_LENGTH:-512}
mkdir -p "$out"

step "1. Records padded and truncated to $max_length tokens, AdamW 5e-5, ${EPOCHS:-3} epochs"
quire train --model "$model" --data "$data" --text-column "$column" --packing none --max-length "$max_length" \
  --per-device-train-batch-size 8 --learning-rate "${LR:-5e-5}" --lr-scheduler-type linear \
  --num-train-epochs "${EPOCHS:-3}" \
  --validation-split 0.1 --report-to jsonl,html --seed 42 "${length[@]}" --output-dir "$out/model" --overwrite-output-dir
quire eval --model "$out/model" --baseline "$model" --split validation \
  --output-dir "$out/perplexity" --overwrite-output-dir >&2

step "2. The same prompts, decoded in five ways"
asked=()
for prompt in "${prompts[@]}"; do asked+=(--prompt "$prompt"); done
decode() {
  local name=$1
  shift
  quire generate --model "$out/model" "${asked[@]}" --max-new-tokens 40 --seed 42 "$@" \
    --output-dir "$out/$name" --overwrite-output-dir --quiet
  quire eval --texts "$out/$name/generated_texts.jsonl" --model "$out/model" --json --quiet > "$out/$name/metrics.json"
}
decode greedy
decode beam --num-beams 5 --no-repeat-ngram-size 2 --early-stopping true
decode sampling --do-sample --top-k 0
decode top-k --do-sample --top-k 50
decode top-p --do-sample --top-k 0 --top-p 0.92

step "3. A page that shows them"
# The value of a key in a line of JSON, with three decimals.
value() { sed -E "s/.*\"$2\":(-?[0-9.e+-]+|null).*/\1/" "$out/$1/metrics.json" | xargs printf '%.3f'; }
{
  cat "$recipes/course-task/decoding.md"
  for i in "${!prompts[@]}"; do
    printf '\n## %s\n' "${prompts[$i]} …"
    for name in greedy beam sampling top-k top-p; do
      printf '\n**%s**\n\n' "$name"
      sed 's/^/> /' "$out/$name/$(printf '%04d' $((i + 1))).txt"
    done
  done
  printf '\n## In numbers\n\n| | perplexity of the new text | distinct bigrams | repeated 4-grams |\n|---|---|---|---|\n'
  for name in greedy beam sampling top-k top-p; do
    printf '| %s | %s | %s | %s |\n' "$name" "$(value $name perplexity)" "$(value $name distinct_2)" "$(value $name seq_rep_4)"
  done
} > "$out/decoding.md"
cat "$out/decoding.md"
echo "written: $out/decoding.md" >&2
