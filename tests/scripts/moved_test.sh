#!/usr/bin/env bash
# run.sh in a tree that was copied with its build: it builds and runs what lies beside it.
#   moved_test.sh SOURCE_FOLDER. Exits with 77 where there is no ninja.
set -euo pipefail
command -v ninja >/dev/null || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/old/scripts"
cp "$1/run.sh" "$work/old/"
cp "$1/scripts/build.sh" "$work/old/scripts/"
echo 'install_missing() { :; }' >>"$work/old/scripts/build.sh"  # what this tree wants is here
cd "$work/old"
cat >CMakePresets.json <<'END'
{"version": 6, "configurePresets": [{"name": "release", "generator": "Ninja", "binaryDir": "${sourceDir}/build"}]}
END
cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.25)
project(moved LANGUAGES CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
add_executable(quire quire.cpp)
END
echo '#include <cstdio>
int main() { std::puts("old"); }' >quire.cpp

check() {  # of what run.sh prints in a folder, the last line
  local last
  last=$("$1/run.sh" | tail -n 1)
  [ "$last" = "$2" ] && return
  echo "$1/run.sh printed '$last' where '$2' was to be" >&2
  exit 1
}
check "$work/old" old
cp -a "$work/old" "$work/copied"
sed -i s/old/copied/ "$work/copied/quire.cpp"
check "$work/copied" copied
check "$work/old" old
mv "$work/old" "$work/moved"
sed -i s/old/moved/ "$work/moved/quire.cpp"
check "$work/moved" moved
ln -s "$work/moved" "$work/link"  # the same place by another name: nothing to be built anew
[ "$("$work/link/run.sh")" = moved ]
