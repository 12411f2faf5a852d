# Sourced by run.sh and test.sh: installs what is missing and builds into build/.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

fail() {  # exit code, then lines
  local code=$1 line
  shift
  printf 'error: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit "$code"
}

header() {  # is one of these headers where compilers look?
  local folder name
  for name in "$@"; do
    for folder in /usr/include /usr/local/include /opt/homebrew/include /usr/include/"$(uname -m)"-linux-gnu; do
      [ -e "$folder/$name" ] && return 0
    done
  done
  return 1
}
tool() { command -v "$1" >/dev/null 2>&1; }

# What the build needs: how to see that it is there, and its package for apt, dnf, pacman and brew.
needs=(
  'tool g++|g++|gcc-c++|gcc|gcc'
  'tool cmake|cmake|cmake|cmake|cmake'
  'tool ninja|ninja-build|ninja-build|ninja|ninja'
  'tool pkg-config|pkg-config|pkgconf-pkg-config|pkgconf|pkgconf'
  'header hwy/highway.h|libhwy-dev|highway-devel|highway|highway'
  'header nlohmann/json.hpp|nlohmann-json3-dev|json-devel|nlohmann-json|nlohmann-json'
  'header fmt/format.h|libfmt-dev|fmt-devel|fmt|fmt'
  'header unicode/uchar.h|libicu-dev|libicu-devel|icu|icu4c'
  'header google/protobuf/message.h|libprotobuf-dev|protobuf-devel|protobuf|protobuf'
  'tool protoc|protobuf-compiler|protobuf-compiler|protobuf|protobuf'
  'header leveldb/table.h|libleveldb-dev|leveldb-devel|leveldb|leveldb'
  'header xxhash.h|libxxhash-dev|xxhash-devel|xxhash|xxhash'
  'header zlib.h|zlib1g-dev|zlib-devel|zlib|zlib'
  'header zstd.h|libzstd-dev|libzstd-devel|zstd|zstd'
  'header curl/curl.h|libcurl4-openssl-dev|libcurl-devel|curl|curl'
  'header openssl/evp.h|libssl-dev|openssl-devel|openssl|openssl'
  'header boost/context/fiber.hpp|libboost-context-dev|boost-devel|boost|boost'
  'header catch2/catch.hpp catch2/catch_all.hpp|catch2|catch-devel|catch2|catch2'
)

apt_install() {
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    tool sudo || fail 4 "installing packages needs root, and there is no sudo here" \
      "try: as root, apt-get update && apt-get install $*"
    as_root=(sudo)
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get -qq -y --no-install-recommends install "$@" >/dev/null ||
    fail 4 "apt-get could not install $*" "try: apt-get update && apt-get install $*"
}

install_missing() {
  local line test apt dnf pacman brew
  local for_apt=() for_dnf=() for_pacman=() for_brew=()
  for line in "${needs[@]}"; do
    IFS='|' read -r test apt dnf pacman brew <<<"$line"
    $test && continue
    for_apt+=("$apt") for_dnf+=("$dnf") for_pacman+=("$pacman") for_brew+=("$brew")
  done
  [ ${#for_apt[@]} = 0 ] && return
  if tool apt-get; then
    echo "Installing ${for_apt[*]}"
    apt_install "${for_apt[@]}"
    return
  fi
  local command='install the packages named above'
  tool brew && command="brew install ${for_brew[*]}"
  tool pacman && command="sudo pacman -S ${for_pacman[*]}"
  tool dnf && command="sudo dnf install ${for_dnf[*]}"
  fail 4 "packages are missing, and there is no apt here to install them with" \
    "dnf: ${for_dnf[*]}" "pacman: ${for_pacman[*]}" "brew: ${for_brew[*]}" "try: $command"
}

# build TARGET…: configures when that was not done yet, then builds; silent when all is up to date.
build() {
  install_missing
  local log=build/build.log
  # A tree that was copied or moved brings along a build of the place it came from, which would be
  # brought up to date and run there.
  local built_from
  built_from=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' build/CMakeCache.txt 2>/dev/null)
  if [ -n "$built_from" ] && ! [ "$built_from" -ef . ]; then
    echo "Building anew: build/ was made in $built_from"
    rm -rf build
  fi
  mkdir -p build
  if [ ! -e build/build.ninja ]; then
    cmake --preset release >"$log" 2>&1 || { cat "$log" >&2; fail 1 "cmake could not configure build/"; }
    echo "Building (a few minutes the first time)"
  fi
  if [ -t 1 ]; then
    cmake --build build --target "$@" || fail 1 "the build failed"
  else
    cmake --build build --target "$@" >"$log" 2>&1 || { cat "$log" >&2; fail 1 "the build failed"; }
  fi
}
