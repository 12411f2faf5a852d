#!/usr/bin/env bash
# scripts/gpu.sh from beginning to end on a card that is not there: nvidia-smi, quire and the sanitizer are stand-ins, the
# tests are the cases beside this file. One step hangs and cannot be ended by asking; the greedy texts disagree.
# Arguments: the program of those cases, and test_kernels, whose cases the sanitizer's list must name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; exit 1; }
cases=$1 test_kernels=$2

# The plan: all in order, and every name of a test in it is one.
scripts/gpu.sh --dry-run >"$work/plan"
order=$(grep -o '^[a-z]*, over at second [0-9]*' "$work/plan" | tr '\n' ';')
want='tests, over at second 110;compare, over at second 170;bench, over at second 250;kernels, over at second 300;'
want+='sanitizer, over at second 350;peers, over at second 400;'
[ "$order" = "$want" ] || fail "the plan is $order"
patterns=$(sed -n 's/^ *memcheck-.*test_kernels //p' "$work/plan" | tr ',' '\n')
[ "$(wc -l <<<"$patterns")" -ge 10 ] || fail "the sanitizer's list is $patterns"
while read -r pattern; do
  said=$("$test_kernels" --list-tests "$pattern") || true  # Catch2 2 exits with their number
  grep -q '^1 ' <<<"$said" || fail "'$pattern' names no test, or several: $said"
done <<<"$patterns"

mkdir -p "$work"/{tools,out} "$work/pack/gpu"/{bin,lib}
cat >"$work/tools/nvidia-smi" <<'EOF'
#!/bin/sh
case $1 in -L) echo 'GPU 0: Made-up Card (UUID: 0)' ;; *) echo 'Made-up Card, 999.01, 1024 MiB, 1 MHz, 1 MHz, 1 W' ;; esac
EOF
cat >"$work/tools/compute-sanitizer" <<'EOF'
#!/bin/sh
[ "$2" = memcheck ] || { echo "a race"; exit 99; }
EOF
cat >"$work/pack/gpu/bin/quire" <<'EOF'
#!/bin/bash
case "$LD_LIBRARY_PATH" in */gpu/lib*) ;; *) echo 'error while loading shared libraries'; exit 127 ;; esac
all="$*"
[[ $all != *--help* ]] || { echo "  --verify  proves the card"; exit; }
[[ $all != $HANGS* ]] || { trap '' TERM; while :; do sleep 0.1; done; }
device=${all##*--device } device=${device%% *} out=${all##*--output } out=${out%% *}
case "$1 $2" in
  "--version "*) echo "quire 0" ;;
  doctor*) echo "CUDA used" ;;
  train*) out=${all##*--output-dir } out=${out%% *}; mkdir -p "$out"; echo '{"loss": 1.5}' >"$out/log.jsonl" ;;
  generate*) echo "a text of the $device" ;;
  eval*) echo '{"loss": 2.5}' ;;
  "bench kernels") echo '{"benchmarks": [{"name": "made_up/cold", "real_time": 5e3}]}' >"$out" ;;
  "bench "*) echo "{\"benchmarks\": [{\"name\": \"$2/made-up\", \"real_time\": 5e6}]}" >"$out" ;;
esac
EOF
chmod +x "$work"/tools/* "$work/pack/gpu/bin/quire"
cp "$cases" "$work/pack/gpu/bin/faulty_cases"
for program in 'test_kernels waiting_cases' 'test_engine sticky_cases,dying_cases,waiting_cases'; do
  cat >"$work/pack/gpu/bin/${program% *}" <<EOF
#!/bin/sh
case \$* in
  --list-tags*) "\${0%/*}/faulty_cases" "\$@" | grep -vE '${program#* }'; ;;
  *) exec "\${0%/*}/faulty_cases" "\$@" ;;
esac
EOF
  sed -i 's/_cases,/_cases|/g' "$work/pack/gpu/bin/${program% *}"
  chmod +x "$work/pack/gpu/bin/${program% *}"
done
echo 0123456789ab >"$work/pack/gpu/commit"
tar -C "$work/pack" -cJf "$work/gpu.tar.xz" gpu

export HANGS='eval*cuda'
status=0
PATH=$work/tools:$PATH scripts/gpu.sh --pack "$work/gpu.tar.xz" --out "$work/out" \
  --only tests,compare,bench,kernels,sanitizer >"$work/said" 2>&1 || status=$?
cat "$work/said"
[ $status = 1 ] || fail "exits $status"
python3 - "$work/out/gpu.json" <<'PYTHON'
import json, sys
found = json.load(open(sys.argv[1]))
assert (found["card"], found["driver"], found["commit"]) == ("Made-up Card", "999.01", "0123456789ab"), found
states = {step["step"]: step["state"] for step in found["steps"]}
wrong = {name for name, state in states.items() if state != "ok"}
assert wrong == {"test_kernels", "eval-cuda"} | {name for name in states if name.startswith("racecheck")}, states
assert states["eval-cuda"] == "stopped at its limit", states
steps = [step["step"] for step in found["steps"]]
assert sorted(["test_engine", "verify", "bench-train", "bench-kernels", "memcheck-rows"], key=steps.index) == [
    "test_engine", "verify", "bench-train", "bench-kernels", "memcheck-rows"], steps
names = {entry["name"] for entry in found["benchmarks"]}
assert names == {"train/made-up", "generate/made-up", "made_up/cold"}, names
agree = {c["name"]: c["agree"] for c in found["comparisons"]}
assert agree == {"training losses": True, "greedy texts": False}, agree
kernels = next(tests for tests in found["tests"] if tests["program"] == "test_kernels")
broken = {group["file"]: group.get("broken_by") for group in kernels["groups"]}
assert broken["dying_cases"] == "the death", broken
PYTHON
grep -q 'broken by "the death"' "$work/out/gpu.log" || fail "the log does not name the case that broke the card"

# What hangs has its part's seconds and no more; what comes behind it in that part is skipped, the next part runs.
HANGS='bench train*' PATH=$work/tools:$PATH scripts/gpu.sh --pack "$work/gpu.tar.xz" --out "$work/out" --seconds 32 \
  --only bench,sanitizer >"$work/said" 2>&1 && fail 'exits 0'
for line in 'bench-train  *stopped at its limit after [12][0-9] s' 'bench-generate-1  *skipped: no time is left for bench' \
  'memcheck-attention-16-bit  *ok'; do
  grep -q "^$line" "$work/said" || { cat "$work/said"; fail "it does not say '$line'"; }
done

# A pack whose program does not start, and a machine without a card.
rm "$work/pack/gpu/bin/quire"
tar -C "$work/pack" -cJf "$work/gpu.tar.xz" gpu
status=0
said=$(PATH=$work/tools:$PATH scripts/gpu.sh --pack "$work/gpu.tar.xz" --out "$work/out" 2>&1) || status=$?
[ $status = 1 ] && grep -q 'quire does not start here' <<<"$said" || fail "without a program: $status, $said"
printf '#!/bin/sh\nexit 9\n' >"$work/tools/nvidia-smi"
status=0
said=$(PATH=$work/tools:$PATH scripts/gpu.sh --pack "$work/gpu.tar.xz" --out "$work/out" 2>&1) || status=$?
[ $status = 5 ] && grep -q 'no GPU here' <<<"$said" || fail "without a card: $status, $said"
echo "runs all, ends what hangs, and reports what was there"
