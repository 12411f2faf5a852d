#!/usr/bin/env bash
# Finds two classes of one name, and two inline functions of one name, which no compiler sees: each looks at one file.
# The linker takes the first and drops the other, and what was compiled for that one reads the wrong members.
#
#   scripts/one_definition.sh   builds the program with the CUDA kernels that run on the CPU, and the reference, in
#                               build-odr without optimisation; GCC's link-time optimiser compares their types member
#                               by member, one_definition.py their inline functions byte by byte. A pair that is
#                               planted has to be found first
#
# Exits 1 where there is such a pair. With GCC alone; 163 s of two cores the first time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source=$PWD build=$PWD/build-odr
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
flags=(-O0 -DNDEBUG -flto -ffat-lto-objects)  # CMakePresets.json has them for all else

by_code() { python3 "$source/scripts/one_definition.py" "$@"; }
by_types() { c++ -r -nostdlib -O0 -flto -flinker-output=rel -Wodr -Wlto-type-mismatch "$@" -o "$scratch/linked.o" 2>&1; }

cat >"$scratch/one.cpp" <<'PLANTED'
namespace quire { struct Shape { int rows; }; inline int twice(int x) { return 2 * x; } }
int one() { return quire::twice(quire::Shape{1}.rows); }
PLANTED
cat >"$scratch/other.cpp" <<'PLANTED'
namespace quire { struct Shape { double rows; }; inline int twice(int x) { return 3 * x; } }
int other() { return quire::twice(static_cast<int>(quire::Shape{1}.rows)); }
PLANTED
for name in one other; do c++ -std=c++20 "${flags[@]}" -c "$scratch/$name.cpp" -o "$scratch/$name.o"; done
for look in 'by_code twice' 'by_types Shape'; do
  said=$(${look% *} "$scratch"/{one,other}.o) || true
  grep -q "${look#* }" <<<"$said" ||
    { echo "error: ${look% *} does not see the planted pair of ${look#* }: $said" >&2; exit 1; }
done

cmake --preset odr >/dev/null
cmake --build "$build" --target quire_on_host quire_reference >"$build/build.log" 2>&1 ||
  { cat "$build/build.log"; exit 1; }
cd "$build"
# quire_device opens the other program's device; the twin of its file is in the list.
mapfile -t objects < <(ninja -t inputs quire_on_host quire_reference | grep '\.o$' | grep -v 'quire_device\.dir')
# What is a program's own has another code than what can be in a shared library.
mapfile -t libraries < <(printf '%s\n' "${objects[@]}" | grep -v 'quire_on_host\.dir')
[ ${#libraries[@]} -gt 100 ] || { echo "error: only ${#libraries[@]} objects were built" >&2; exit 1; }
found=0
for look in "by_code ${libraries[*]}" "by_types ${objects[*]}"; do
  if ! said=$($look) || [ -n "$said" ]; then
    printf '%s\n' "$said"
    found=1
  fi
done
[ $found = 1 ] || echo "${#objects[@]} objects: each name is defined once"
exit $found
