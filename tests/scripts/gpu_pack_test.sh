#!/usr/bin/env bash
# gpu_pack.sh's check, on the programs of this build: what it carries is enough in an empty root, and it sees what is
# missing, a library that only another library loads among it. Arguments: the programs. Exits 77 where the root cannot
# be changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

scripts/gpu_pack.sh carry "$work/gpu" "$@"
scripts/gpu_pack.sh start "$work/gpu"
# The system's own must not be carried: an older libc.so.6 does not start under a newer loader.
if systems=$(compgen -G "$work/gpu/lib/"'*' | grep -E '/(ld-|lib(c|m|stdc\+\+|gcc_s)\.)'); then
  echo "FAILED: these are the system's: $systems"
  exit 1
fi

removed=0
for library in libfmt libicuuc libicudata; do  # fmt and uc are quire's own, uc loads data
  path=$(compgen -G "$work/gpu/lib/$library.so.*") || { echo "FAILED: $library is not carried"; exit 1; }
  mv "$path" "$work/"
  if said=$(scripts/gpu_pack.sh start "$work/gpu" 2>&1); then
    echo "FAILED: without ${path##*/} it is said to start"
    exit 1
  fi
  grep -q "quire does not start in an empty root: .*${path##*/}" <<<"$said" ||
    { echo "FAILED: without ${path##*/} it says: $said"; exit 1; }
  mv "$work/${path##*/}" "$path"
  removed=$((removed + 1))
done
echo "starts with what is carried; each of $removed missing libraries is named"
