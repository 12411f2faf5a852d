#!/usr/bin/env bash
# Everything that only a GPU can show, in one call of 400 seconds, so that a second one fits into a quarter of an hour:
# the tests of the CUDA kernels, the same work on the CPU and on the GPU, benchmarks of training, decoding and single
# kernels, compute-sanitizer, and the same benchmarks of torch, cuBLAS and transformers. Nothing is built, installed or
# downloaded on the machine with the GPU.
#
#   scripts/gpu.sh pack                    here: gpu_pack.sh makes build-gpu/gpu.tar.xz, which is all that has to be
#                                          carried beside the tree
#   scripts/gpu.sh [--out DIR] [--only STEPS] [--seconds N] [--pack FILE] [--dry-run]
#                                          there: writes DIR/gpu.json, gpu.md (a short table) and gpu.log; DIR is
#                                          $OUT or build-gpu/report. STEPS, of tests,compare,bench,kernels,sanitizer,
#                                          peers, are run in this order; the time of those left out is the others'
#   scripts/gpu_report.py keep DIR/gpu.json   here again: the results into bench/results and into the documents
#
# What the machine has: an H100 or H200 with a driver for CUDA 13, libcublasLt.so.13 (from a toolkit or the Python
# package nvidia-cublas), python3; for the peers torch and transformers; compute-sanitizer. What is missing is skipped
# by name.
# Exits 5 where there is no GPU, 1 where a step failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

limit=400 packed=build-gpu/gpu.tar.xz dry=no out=${OUT:-build-gpu/report}
only=tests,compare,bench,kernels,sanitizer,peers
while [ $# -gt 0 ]; do
  case $1 in
    pack) exec scripts/gpu_pack.sh ;;
    --dry-run) dry=yes ;;
    --out) out=$2; shift ;;
    --only) only=$2; shift ;;
    --seconds) limit=$2; shift ;;
    --pack) packed=$2; shift ;;
    *)
      echo "usage: scripts/gpu.sh pack | [--out DIR] [--only STEPS] [--seconds N] [--pack FILE] [--dry-run]" >&2
      exit 2
      ;;
  esac
  shift
done

if [ $dry = no ]; then
  if ! nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
    echo "error: there is no GPU here (nvidia-smi -L names none); --dry-run shows what would run" >&2
    exit 5
  fi
  [ -e "$packed" ] || { echo "error: $packed is not here: scripts/gpu.sh pack makes it" >&2; exit 1; }
  mkdir -p "$out"
  work=$(mktemp -d)
  tar -C "$work" -xf "$packed" 2>/dev/null || python3 -m tarfile -e "$packed" "$work" ||  # there may be no xz
    { echo "error: $packed cannot be unpacked here: it wants xz, or python3 with lzma" >&2; exit 1; }
else
  work=WORK
fi
trap '[ $dry = yes ] || rm -rf "$work"' EXIT
bin=$work/gpu/bin
export QUIRE_FIXTURES=$work/gpu/fixtures QUIRE_TEST_DATA=$PWD/tests/data

# The libraries that were carried, and cuBLASLt, which quire loads by name: the toolkit's, or the one that torch brings.
# For our programs alone: python has its own.
libraries=$work/gpu/lib
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
    [ ! -e "$folder/libcublasLt.so.13" ] || { libraries+=:$folder; break; }
  done
fi
ours=(env "LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}")
quire=("${ours[@]}" "$bin/quire")

if [ $dry = no ]; then
  if ! "${quire[@]}" --version >"$work/version.log" 2>&1; then
    echo "error: quire does not start here: $(tail -n 1 "$work/version.log")" >&2
    exit 1
  fi
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem,power.limit --format=csv,noheader \
    | tee "$work/gpu.txt"
  timeout -k 3 30 "${quire[@]}" doctor 2>&1 | tee "$work/doctor.log"
  if why=$(grep 'CUDA .*not used' "$work/doctor.log"); then
    echo "error: quire cannot use the GPU: ${why##*not used: }" >&2
    exit 1
  fi
fi

# A part of the run has its seconds, and what those before it have left over.
until=0
part() {  # name, its seconds of 400
  until=$((until + $2 * limit / 400))
  part=$1
  wanted "$1" || return 1
  [ $dry = no ] || printf '%s, over at second %d\n' "$1" $until
}
wanted() { [[ ,$only, == *,$1,* ]]; }
note_step() { printf '%s\t%s\t%d\t%s\n' "$@" >>"$work/steps.tsv"; }
skip() {  # step, why
  printf '%-26s skipped: %s\n' "$1" "$2"
  [ $dry = yes ] || note_step "$1" skipped 0 "$2"
}
step() {  # name, most seconds, command…
  local name=$1 most=$2 left=$((until - SECONDS)) begin=$SECONDS pid rc state
  shift 2
  if [ $dry = yes ]; then
    local shown=" $*"
    printf '  %-26s %4d s  %s\n' "$name" "$most" "${shown// ${ours[*]}}"
    return
  fi
  if [ $left -lt 3 ]; then
    skip "$name" "no time is left for $part"
    return
  fi
  [ "$most" -le $left ] || most=$left
  timeout -k 3 "$most" "$@" >"$work/$name.log" 2>&1 &
  pid=$!
  # A process that hangs in the driver outlives SIGKILL: it is left alone.
  while kill -0 $pid 2>/dev/null && [ $((SECONDS - begin)) -le $((most + 5)) ]; do sleep 0.2; done
  if kill -0 $pid 2>/dev/null; then
    rc=137
  else
    wait $pid
    rc=$?
  fi
  state=failed  # Catch2 exits with the number of failures: 124 alone does not mean that the time was over
  [ $rc -ne 0 ] || state=ok
  [ $rc -eq 0 ] || [ $((SECONDS - begin)) -lt "$most" ] || state="stopped at its limit"
  printf '%-26s %s after %d s\n' "$name" "$state" $((SECONDS - begin))
  note_step "$name" "$state" $((SECONDS - begin)) "exit status $rc"
  [ "$state" = ok ] || tail -n 15 "$work/$name.log" | sed 's/^/    /'
}
can() { [ $dry = yes ] || timeout -k 3 20 "${quire[@]}" "${@:1:$#-1}" --help 2>/dev/null | grep -q -- "${!#}"; }

if part tests 110; then
  for program in test_kernels test_engine; do
    most=$((55 * limit / 400))
    [ $dry = yes ] || [ $most -lt $((until - SECONDS - 5)) ] || most=$((until - SECONDS - 5))
    step $program $((most + 5)) python3 scripts/gpu_tests.py --report "$work/$program.json" --seconds $most \
      "${ours[@]}" "$bin/$program"
  done
fi

if part compare 60; then  # the same work on both devices; gpu_report.py compares what comes of it
  if can doctor --verify; then
    step verify 25 "${quire[@]}" doctor --verify --device cuda
  else
    skip verify "this build has no quire doctor --verify"
  fi
  for device in cpu cuda; do
    step "train-$device" 15 "${quire[@]}" train --config tiny --tokenizer models/narrator \
      --data samples/quotes.csv --text-column quote --output-dir "$work/train-$device" --block-size 64 \
      --per-device-train-batch-size 4 --max-steps 20 --logging-steps 1 --learning-rate 1e-3 --dropout 0 --seed 1 \
      --device $device
    step "generate-$device" 10 "${quire[@]}" generate "The captain" "Once upon a time" --model models/narrator \
      --dtype float32 --max-new-tokens 64 --quiet --device $device
    step "eval-$device" 10 "${quire[@]}" eval --model models/narrator --data samples/quotes.csv \
      --text-column quote --dtype float32 --json --quiet --device $device
  done
fi

if part bench 80; then
  step bench-train 35 "${quire[@]}" bench train --device cuda --config gpt2 --per-device-train-batch-size 64 \
    --block-size 1024 --seconds 4 --bf16 --quiet --output "$work/bench-train.json"
  for rows in 1 8 64; do
    step "bench-generate-$rows" 20 "${quire[@]}" bench generate --device cuda --config gpt2 --dtype bfloat16 \
      --batch-size $rows --max-new-tokens 256 --seconds 1 --quiet --output "$work/bench-generate-$rows.json"
  done
fi

if part kernels 50; then
  step bench-kernels 60 "${quire[@]}" bench kernels --device cuda --seconds 0.2 --quiet \
    --output "$work/bench-kernels.json"
fi

if part sanitizer 50; then
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
  if [ $dry = no ] && [ -z "$sanitizer" ]; then
    skip sanitizer "compute-sanitizer is not found"
  else
    # Tests of an op's kernels on small shapes; what copies asynchronously and multiplies by mma comes first.
    groups=(attention-16-bit '16-bit attention gives the same bits each time*'
      attention 'attention without a place for lse*,attention with scores far apart*'
      cached 'attention_cached keeps*'
      rows 'layernorm_backward with frozen*,residual_layernorm_forward is*,embedding_backward adds*'
      others 'ignored targets*,adamw writes*,argmax_tokens takes*,dropout drops*')
    for ((at = 0; at < ${#groups[@]}; at += 2)); do
      for tool in memcheck racecheck; do
        step "$tool-${groups[at]}" 20 "${ours[@]}" "${sanitizer:-compute-sanitizer}" --tool $tool \
          --error-exitcode 99 "$bin/test_kernels" "${groups[at + 1]}" &
      done
      wait
    done
  fi
fi

if part peers 50; then
  script=$work/gpu/tools/gpu_peers.py
  if [ $dry = no ] && [ ! -e "$script" ]; then
    skip peers "gpu_peers.py was not packed"
  elif [ $dry = no ] && ! python3 -c 'import torch' 2>/dev/null; then
    skip peers "python3 has no torch"
  else
    sections=ceilings,train
    if [ $dry = yes ] || python3 -c 'import transformers' 2>/dev/null; then
      sections+=,decode
    else
      skip peers-decode "python3 has no transformers"
    fi
    # Lines are written as they come.
    step peers 300 python3 "$script" --only $sections,attention,kernels,gemm --json "$work/peers.jsonl"
  fi
fi

if [ $dry = yes ]; then
  echo "then: python3 scripts/gpu_report.py report WORK $out"
  exit
fi
failed=0
awk -F '\t' '$2 != "ok" && $2 != "skipped" { bad = 1 } END { exit bad }' "$work/steps.tsv" || failed=1
for log in "$work"/*.log; do printf '\n==== %s\n' "$(basename "$log")"; tail -c 400000 "$log"; done >"$out/gpu.log"
if command -v python3 >/dev/null 2>&1; then
  python3 scripts/gpu_report.py report "$work" "$out" || failed=1
else
  echo "skipped: the report, for want of python3; the steps are in $out/gpu.log"
fi
exit $failed
