#!/usr/bin/env bash
# Fuzzes what reads files: builds the targets of tests/fuzz with Clang, ASan and UBSan in build-fuzz, and runs
# each for so many seconds from its corpus, as many at a time as there are cores.
#
#   scripts/fuzz.sh SECONDS [TARGET[=SECONDS]…]     all targets, or csv, json_line, …; those with = for their own time
#
# What a run adds to a corpus stays in build-fuzz/corpus for the next one. A finding's input lies in
# build-fuzz/findings: mend its cause, and keep it, small, in tests/fuzz/corpus/TARGET.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! [[ ${1:-} =~ ^[1-9][0-9]*$ ]]; then
  echo 'usage: scripts/fuzz.sh SECONDS [TARGET[=SECONDS]…]' >&2
  exit 2
fi
seconds=$1
shift
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(cd tests/fuzz && ls ./*_fuzz.cpp | sed 's|^\./||; s|_fuzz\.cpp$||')
for i in "${!targets[@]}"; do
  target=${targets[i]%%=*}
  [ -e "tests/fuzz/${target}_fuzz.cpp" ] || { echo "fuzz.sh: there is no target '$target'" >&2; exit 2; }
  [[ ${targets[i]} = *=* ]] || targets[i]+==$seconds
  [[ ${targets[i]#*=} =~ ^[1-9][0-9]*$ ]] || { echo "fuzz.sh: '${targets[i]}' names no seconds" >&2; exit 2; }
done
names=("${targets[@]%%=*}")

mkdir -p build-fuzz/findings
start=$SECONDS
{ cmake --preset fuzz && cmake --build build-fuzz --target "${names[@]/#/fuzz_}"; } >build-fuzz/build.log 2>&1 ||
  { cat build-fuzz/build.log; exit 1; }
echo "built in $((SECONDS - start)) s"

fuzz() {  # TARGET=SECONDS
  local target=${1%%=*} rc=0
  local log=build-fuzz/$target.log
  mkdir -p "build-fuzz/corpus/$target"
  # A reader of small files that takes 10 s or 2 GB for one of 4 KB is at fault, too.
  "build-fuzz/bin/fuzz_$target" -max_total_time="${1#*=}" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
    -print_final_stats=1 -dict="tests/fuzz/$target.dict" -artifact_prefix="build-fuzz/findings/$target-" \
    "build-fuzz/corpus/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1 || rc=$?
  if [ $rc -ne 0 ]; then
    tail -n 60 "$log"
    printf '%-15s failed; its input: %s\n' "$target" "$PWD/$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)"
    return 1
  fi
  printf '%-15s %10s runs, %s\n' "$target" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
    "$(grep -o 'cov: .* corp: [0-9]*' "$log" | tail -n 1)"
}
export -f fuzz
printf '%s\0' "${targets[@]}" | xargs -0 -P "$(nproc)" -I{} bash -c 'fuzz "$1"' fuzz {}
