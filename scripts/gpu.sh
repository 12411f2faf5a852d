#!/usr/bin/env bash
# Everything that only a GPU can show, in one call of at most 9 minutes: the tests of the CUDA kernels,
# compute-sanitizer on the small ones, training, generation and evaluation beside the CPU, and the benchmarks beside
# torch, cuBLAS and transformers. Nothing is built, installed or downloaded on the machine with the GPU.
#
#   scripts/gpu.sh pack                    here: builds for sm_90a and packs programs, their libraries and fixtures into
#                                          build-gpu/gpu.tar.gz, which is all that has to be carried beside the tree
#   scripts/gpu.sh [--out DIR] [--only STEPS] [--dry-run]
#                                          there: writes DIR/gpu.json, gpu.md (a short table) and gpu.log; DIR is
#                                          $OUT or build-gpu/report. STEPS: tests,compare,sanitizer,bench,peers
#
# What travels: the tree (about 16 MB) and build-gpu/gpu.tar.gz (pack says how large; both together stay under 64 MiB).
# What the machine has: an H100 or H200 with a driver for CUDA 13, libcublasLt.so.13 (from a toolkit or the Python
# package nvidia-cublas), python3; for the peers torch and transformers; compute-sanitizer. What is missing is skipped
# by name.
# Exits 5 where there is no GPU, 1 where a step failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

limit=525  # seconds for all steps; the rest of the 9 minutes is for unpacking and the report
packed=build-gpu/gpu.tar.gz
peers=../shared/tools/gpu_peers.py

pack() {
  set -e
  cmake --preset gpu >/dev/null
  cmake --build build-gpu --target quire test_kernels test_engine
  local folder=build-gpu/gpu fixtures=${QUIRE_FIXTURES:-../shared/fixtures} program name
  rm -rf "$folder" "$packed"
  mkdir -p "$folder/bin" "$folder"/fixtures/{data,models} "$folder/tools"
  for program in quire test_kernels test_engine; do
    strip -o "$folder/bin/$program" "build-gpu/bin/$program"
    # The machine has the C and C++ libraries and CUDA's; fmt and Highway it may not have.
    ldd "build-gpu/bin/$program" | awk '$1 ~ /^lib(fmt|hwy)/ { print $3 }' | xargs -I{} cp -Lf {} "$folder/bin/"
  done
  if [ -d "$fixtures" ]; then
    for name in fixtures generation warpers schedules metrics gpt2-vocab; do
      cp -r "$fixtures/$name" "$folder/fixtures/"
    done
    cp -r "$fixtures/data/tinyshakespeare" "$folder/fixtures/data/"
    cp -r "$fixtures"/models/{odd-*,tiny-char,tiny-char-formats} "$folder/fixtures/models/"
    chmod -R u+w "$folder/fixtures"
    rm -rf "$folder"/fixtures/models/tiny-char-formats/bin-*  # no test here reads them
  else
    echo "without fixtures: $fixtures is not there"
  fi
  if [ -e "$peers" ]; then
    cp "$peers" "$folder/tools/"
  else
    echo "without the peers: $peers is not there"
  fi
  tar -C build-gpu -czf "$packed" gpu
  local tree
  tree=$(git ls-files -z | du -cb --files0-from=- | awk 'END { print $1 }')
  printf '%s: %d MiB, the tree %d MiB; 64 MiB may travel\n' "$packed" \
    $(($(stat -c %s "$packed") >> 20)) $((tree >> 20))
}

dry=no out=${OUT:-build-gpu/report} only=tests,compare,sanitizer,bench,peers
while [ $# -gt 0 ]; do
  case $1 in
    pack) pack; exit ;;
    --dry-run) dry=yes ;;
    --out) out=$2; shift ;;
    --only) only=$2; shift ;;
    *) echo "usage: scripts/gpu.sh pack | [--out DIR] [--only STEPS] [--dry-run]" >&2; exit 2 ;;
  esac
  shift
done

if [ $dry = no ]; then
  if ! nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
    echo "error: there is no GPU here (nvidia-smi -L names none); --dry-run shows what would run" >&2
    exit 5
  fi
  [ -e $packed ] || { echo "error: $packed is not here: scripts/gpu.sh pack makes it" >&2; exit 1; }
  mkdir -p "$out"
  work=$(mktemp -d)
  tar -C "$work" -xzf $packed
else
  work=WORK
fi
trap '[ $dry = yes ] || rm -rf "$work"' EXIT
bin=$work/gpu/bin
export QUIRE_FIXTURES=$work/gpu/fixtures QUIRE_TEST_DATA=$PWD/tests/data

# cuBLASLt, which quire loads by name: the toolkit's, or the one that torch brings.
if [ $dry = no ]; then
  folders=(/usr/local/cuda/lib64 /usr/local/cuda/targets/x86_64-linux/lib)
  while read -r folder; do folders+=("$folder"); done < <(python3 - <<'PYTHON' 2>/dev/null
import pathlib, sys
for root in sys.path:
    for library in pathlib.Path(root).glob("nvidia/**/libcublasLt.so.13"):
        print(library.parent)
PYTHON
  )
  for folder in "${folders[@]}"; do
    if [ -e "$folder/libcublasLt.so.13" ]; then
      export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
      break
    fi
  done
  if ! "$bin/quire" --version >"$work/version.log" 2>&1; then
    echo "error: quire does not start here: $(tail -n 1 "$work/version.log")" >&2
    exit 1
  fi
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem,power.limit --format=csv,noheader \
    | tee "$work/gpu.txt"
  "$bin/quire" doctor 2>&1 | tee "$work/doctor.log"
  if why=$(grep 'CUDA .*not used' "$work/doctor.log"); then
    echo "error: quire cannot use the GPU: ${why##*not used: }" >&2
    exit 1
  fi
fi

failed=0
skip() {  # step, why
  printf '%-22s skipped: %s\n' "$1" "$2"
  [ $dry = yes ] || printf '%s\tskipped\t0\t%s\n' "$1" "$2" >>"$work/steps.tsv"
}
step() {  # name, most seconds, command…
  local name=$1 most=$2 left=$((limit - SECONDS)) begin=$SECONDS rc state
  shift 2
  if [ $dry = yes ]; then
    printf '%-22s %4d s  %s\n' "$name" "$most" "$*"
    return
  fi
  if [ $left -lt 5 ]; then
    skip "$name" "no time is left"
    return
  fi
  [ "$most" -le $left ] || most=$left
  timeout -k 5 "$most" "$@" >"$work/$name.log" 2>&1
  rc=$?
  state=failed  # Catch2 exits with the number of failures: 124 alone does not mean that the time was over
  [ $rc -ne 0 ] || state=ok
  [ $rc -eq 0 ] || [ $((SECONDS - begin)) -lt "$most" ] || state="stopped at its limit"
  [ "$state" = ok ] || failed=1
  printf '%-22s %s after %d s\n' "$name" "$state" $((SECONDS - begin))
  printf '%s\t%s\t%d\texit status %d\n' "$name" "$state" $((SECONDS - begin)) $rc >>"$work/steps.tsv"
  [ "$state" = ok ] || tail -n 15 "$work/$name.log" | sed 's/^/    /'
}
wanted() { [[ ,$only, == *,$1,* ]]; }
has() { command -v "$1" >/dev/null 2>&1; }

if wanted tests; then
  step test_kernels 100 "$bin/test_kernels"
  step test_engine 100 "$bin/test_engine"
fi

if wanted compare; then  # the same work on both devices; gpu_report.py compares what comes of it
  for device in cpu cuda; do
    step "train-$device" 30 "$bin/quire" train --config tiny --tokenizer models/storyteller \
      --data samples/quotes.csv --text-column quote --output-dir "$work/train-$device" --block-size 64 --per-device-train-batch-size 4 \
      --max-steps 20 --logging-steps 1 --learning-rate 1e-3 --dropout 0 --seed 1 --device $device
    step "generate-$device" 20 "$bin/quire" generate "The captain" "Once upon a time" --model models/storyteller \
      --dtype float32 --max-new-tokens 64 --quiet --device $device
    step "eval-$device" 20 "$bin/quire" eval --model models/storyteller --data samples/quotes.csv \
      --text-column quote --dtype float32 --json --quiet --device $device
  done
fi

if wanted bench; then
  if [ $dry = yes ] || "$bin/quire" bench kernels --help >/dev/null 2>&1; then
    step bench-kernels 60 "$bin/quire" bench kernels --device cuda --quiet --output "$work/bench-kernels.json"
  else
    skip bench-kernels "this build has no quire bench kernels"
  fi
  train=(--device cuda --config gpt2 --per-device-train-batch-size 64 --block-size 1024 --seconds 4)
  if [ $dry = yes ] || "$bin/quire" bench train --help | grep -q -- --bf16; then
    step bench-train-bf16 40 "$bin/quire" bench train "${train[@]}" --bf16 --quiet \
      --output "$work/bench-train-bf16.json"
  else
    skip bench-train-bf16 "this build has no quire bench train --bf16"
    step bench-train-float 40 "$bin/quire" bench train --device cuda --config gpt2 --per-device-train-batch-size 16 \
      --block-size 1024 --seconds 4 --quiet --output "$work/bench-train-float.json"
  fi
  for rows in 1 8 64; do
    step "bench-generate-$rows" 25 "$bin/quire" bench generate --device cuda --config gpt2 --dtype bfloat16 \
      --batch-size $rows --max-new-tokens 256 --seconds 1 --quiet --output "$work/bench-generate-$rows.json"
  done
fi

if wanted peers; then
  script=$work/gpu/tools/gpu_peers.py
  if [ $dry = no ] && [ ! -e "$script" ]; then
    skip peers "gpu_peers.py was not packed"
  elif [ $dry = no ] && ! python3 -c 'import torch' 2>/dev/null; then
    skip peers "python3 has no torch"
  else
    sections=ceilings,gemm,attention,kernels,train
    if [ $dry = yes ] || python3 -c 'import transformers' 2>/dev/null; then
      sections+=,decode
    else
      skip peers-decode "python3 has no transformers"
    fi
    # What is left but for the sanitizer. A section's lines are written as they come.
    left=$((limit - SECONDS - 60))
    [ $dry = no ] || left=250
    step peers $((left > 250 ? 250 : left)) python3 "$script" --only $sections --json "$work/peers.jsonl"
  fi
fi

if wanted sanitizer; then
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
  if [ $dry = no ] && [ -z "$sanitizer" ]; then
    skip sanitizer "compute-sanitizer is not found"
  else
    # Each name is one test of an op's kernels on small shapes.
    small='layernorm_backward with frozen*,residual_layernorm_forward is*,embedding_backward adds*'
    small+=',attention without a place for lse*,attention with scores far apart*,attention_cached keeps*'
    small+=',ignored targets*,adamw writes*,argmax_tokens takes*,dropout drops*'
    for tool in memcheck racecheck; do
      step "sanitizer-$tool" 45 "${sanitizer:-compute-sanitizer}" --tool $tool --error-exitcode 9 \
        "$bin/test_kernels" "$small"
    done
  fi
fi

if [ $dry = yes ]; then
  echo "then: python3 scripts/gpu_report.py WORK $out"
  exit
fi
for log in "$work"/*.log; do printf '\n==== %s\n' "$(basename "$log")"; tail -c 400000 "$log"; done >"$out/gpu.log"
if has python3; then
  python3 scripts/gpu_report.py "$work" "$out" || failed=1
else
  echo "skipped: the report, for want of python3; the steps are in $out/gpu.log"
fi
exit $failed
