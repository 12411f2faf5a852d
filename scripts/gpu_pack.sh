#!/usr/bin/env bash
# What travels to a machine with a GPU: programs, every library that it may lack, and what the tests read. It has a
# glibc and a libstdc++ no older than those here, and nothing else is counted on: so a pack is started in an empty root
# that holds these alone, and is thrown away where a program does not start there.
#
#   scripts/gpu_pack.sh                      builds for sm_90a and makes build-gpu/gpu.tar.xz (scripts/gpu.sh pack)
#   scripts/gpu_pack.sh carry DIR PROGRAM…   programs into DIR/bin, and what they load into DIR/lib
#   scripts/gpu_pack.sh start DIR            starts all programs of DIR/bin in an empty root
#
# Exits 1 where something is missing or too large, 77 where this user may not change the root ("start" alone: a pack
# says that it was not started, and stays).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

most_mib=56  # tree and pack together
packed=build-gpu/gpu.tar.xz
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Lines "NAME PATH" of what a program or a library loads, libraries of libraries too; fails where one is not found.
libraries_of() {
  local lines
  lines=$(ldd "$1") || { echo "error: ldd cannot read $1: $lines" >&2; return 1; }
  if grep -q 'not found' <<<"$lines"; then
    echo "error: $1 does not start here: $(grep 'not found' <<<"$lines")" >&2
    return 1
  fi
  awk '$2 == "=>" { print $1, $3 } $1 ~ /^\// { print $1, $1 }' <<<"$lines"
}

# Whether a library is glibc's or the compiler's: these belong to the system that loads them.
of_the_system() {
  [[ ${1##*/} =~ ^(ld-linux.*|lib(c|m|dl|pthread|rt|util|resolv|mvec|anl|stdc\+\+|gcc_s))\.so\.[0-9]+$ ]]
}

# carry FOLDER PROGRAM…: programs into FOLDER/bin, and into FOLDER/lib what they load beside the system's.
carry() {
  local folder=$1 program name path list
  shift
  mkdir -p "$folder/bin" "$folder/lib"
  for program in "$@"; do
    strip -o "$folder/bin/${program##*/}" "$program"
    list=$(libraries_of "$program")
    while read -r name path; do
      of_the_system "$name" || cp -Lf "$path" "$folder/lib/${name##*/}"
    done <<<"$list"
  done
}

# start_in_empty_root FOLDER: FOLDER's programs, in a root of FOLDER and the system's libraries.
start_in_empty_root() {
  local root=$scratch/root folder=$1 program name path list said enter=()
  if [ "$(id -u)" != 0 ]; then enter=(unshare --map-root-user); fi
  if ! "${enter[@]}" chroot / true 2>/dev/null; then
    echo "skipped: the start in an empty root, for want of the right to change the root" >&2
    return 77
  fi
  mkdir -p "$root"
  cp -r "$folder" "$root/gpu"
  for program in "$folder"/bin/*; do
    list=$(libraries_of "$program") || return 1
    while read -r name path; do
      of_the_system "$name" || continue
      mkdir -p "$root${path%/*}"
      cp -Lf "$path" "$root$path"
    done <<<"$list"
  done
  for program in "$folder"/bin/*; do
    program=${program##*/}
    local ask=(--list-tags --filenames-as-tags) expect='\[#'  # Catch2 2 exits with how many tags there are
    if [[ $program = quire* ]]; then ask=(--version) expect='^quire'; fi
    said=$(LD_LIBRARY_PATH=/gpu/lib "${enter[@]}" chroot "$root" "/gpu/bin/$program" "${ask[@]}" 2>&1) || true
    if ! grep -q "$expect" <<<"$said"; then
      echo "error: $program does not start in an empty root: ${said:-it says nothing}" >&2
      return 1
    fi
    echo "$program starts in an empty root"
  done
}

# What tests/kernels and tests/engine read of the fixtures, but for what is read on the reference device alone.
copy_fixtures() {
  local from=$1 to=$2 name left_out=' tools/hf_check.py models/tiny-char-formats '
  local read=(fixtures generation warpers schedules metrics/{perplexity.json,ppl_text.txt}
    data/tinyshakespeare/input.txt models/tiny-char)
  for name in "$from"/models/odd-*; do read+=("models/${name##*/}"); done
  for name in "${read[@]}"; do
    mkdir -p "$to/$(dirname "$name")"
    cp -r "$from/$name" "$to/$name"
  done
  chmod -R u+w "$to"
  # Where a test has come to read another, the pack does not do without it in silence.
  grep -rhoE 'QUIRE_FIXTURE\([a-z_]+, "[^"]+"' tests/kernels tests/engine | sed 's/.*"\(.*\)"/\1/' | sort -u |
    while read -r name; do
      [[ $left_out == *" $name "* ]] || [ -e "$to/$name" ] ||
        { echo "error: tests read the fixture $name, which is not packed" >&2; exit 1; }
    done
}

pack() {
  local folder=build-gpu/gpu fixtures=${QUIRE_FIXTURES:-../shared/fixtures} peers=../shared/tools/gpu_peers.py
  local programs=(quire test_kernels test_engine) status=0 tree size
  cmake --preset gpu >/dev/null
  cmake --build build-gpu --target "${programs[@]}"
  rm -rf "$folder" "$packed"
  carry "$folder" "${programs[@]/#/build-gpu/bin/}"
  if [ -d "$fixtures" ]; then
    copy_fixtures "$fixtures" "$folder/fixtures"
  else
    echo "without fixtures: $fixtures is not there"
  fi
  if [ -e "$peers" ]; then
    install -D -m 644 "$peers" "$folder/tools/gpu_peers.py"
  else
    echo "without the peers: $peers is not there"
  fi
  git describe --always --abbrev=12 --dirty --exclude '*' >"$folder/commit"
  tar -C build-gpu -cJf "$scratch/gpu.tar.xz" gpu
  mkdir "$scratch/unpacked"
  tar -C "$scratch/unpacked" -xJf "$scratch/gpu.tar.xz"
  start_in_empty_root "$scratch/unpacked/gpu" || status=$?
  [ $status = 0 ] || [ $status = 77 ] || exit $status

  tree=$(git ls-files -z --cached --others --exclude-standard | du -cb --files0-from=- | awk 'END { print $1 }')
  size=$(stat -c %s "$scratch/gpu.tar.xz")
  du -sk "$folder"/* | awk '{ printf "  %-28s %6.1f MiB unpacked\n", $2, $1 / 1024 }'
  awk -v size="$size" -v tree="$tree" -v most=$most_mib -v packed=$packed 'BEGIN {
    printf "%s: %.1f MiB, the tree %.1f MiB; %d MiB may travel\n", packed, size / 2^20, tree / 2^20, most
    exit size + tree > most * 2^20 }' || { echo "error: that is too much" >&2; exit 1; }
  mv "$scratch/gpu.tar.xz" "$packed"
}

case ${1:-pack} in
  pack) pack ;;
  carry) carry "${@:2}" ;;
  start) start_in_empty_root "$2" ;;
  *) echo "usage: scripts/gpu_pack.sh [carry DIR PROGRAM... | start DIR]" >&2; exit 2 ;;
esac
