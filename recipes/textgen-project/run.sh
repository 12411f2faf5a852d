#!/usr/bin/env bash
# A text-generation project from raw files to a results folder: see README.md.
# usage: recipes/textgen-project/run.sh [RAW_FOLDER [PROJECT_DIR]]
source "$(dirname "$0")/../common.sh"
raw=$(cd "${1:-$root/samples/novels}" && pwd)
project=${2:-results/textgen-project}
prompts=("The lamp was lit" "In the winter of that year" "She did not answer, but")

mkdir -p "$project/data/raw" "$project/results"
cd "$project"
step "1. data/raw: a copy of the texts"
cp -r "$raw/." data/raw/
quire data inspect data/raw --tokenizer "$model" --block-size 128

step "2. data/processed: cleaned, in tokens"
quire data prepare data/raw --tokenizer "$model" --clean nfc,control,duplicates -o data/processed --overwrite

step "3. Training, with logs for TensorBoard"
quire train --model_dir "$model" --data_dir data/processed --model_output_dir models/tuned --block-size 128 \
  --batch-size 4 --num-train-epochs "$(passes 4000000 10 data/raw)" --learning-rate "$(rate 5e-4)" \
  --lr-scheduler-type cosine --warmup-steps 0.1 --validation-split 0.1 --load-best-model-at-end --report-to "${REPORTS:-jsonl,csv,html,tensorboard}" \
  --seed 1 "${length[@]}" --overwrite-output-dir

step "4. A search over learning rate and dropout"
cat > sweep.json <<JSON
{
  "method": "grid",
  "train": {"model": "$model", "data": "data/processed", "block_size": 128, "batch_size": 4, "validation_split": 0.1,
            "max_steps": ${STEPS:-20}, "seed": 1},
  "search": {"learning_rate": [2e-4, 5e-4, 1e-3], "dropout": [0, 0.1]},
  "metric": "eval_loss"
}
JSON
quire sweep sweep.json --output-dir results/sweep --overwrite-output-dir --parallel 2

step "5. results/generated_texts"
asked=()
for prompt in "${prompts[@]}"; do asked+=(--prompt "$prompt"); done
quire generate --model_dir models/tuned --output_dir results/generated_texts --overwrite-output-dir "${asked[@]}" \
  --do-sample --temperature 0.8 --top-p 0.95 --repetition-penalty 1.1 --max-new-tokens 80 --num-return-sequences 3 --seed 7

step "6. results/evaluation_metrics, and results/perplexity of what was held out"
quire eval --texts results/generated_texts/generated_texts.jsonl --model models/tuned --training-data data/raw \
  --output-dir results/evaluation_metrics --overwrite-output-dir
quire eval --model models/tuned --baseline "$model" --split validation \
  --output-dir results/perplexity --overwrite-output-dir

cp "$recipes/textgen-project/results.ipynb" results/
echo "the project is in $PWD: open results/results.ipynb, or tensorboard --logdir models/tuned" >&2
