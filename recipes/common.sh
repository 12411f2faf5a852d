# What the recipes share: the program, a line for each command, and the length of a run.
# Sourced by recipes/*/run.sh.
set -euo pipefail
recipes=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$recipes")

if [ -z "${QUIRE:-}" ]; then
  if [ -x "$root/build/bin/quire" ]; then
    QUIRE=$root/build/bin/quire
  else
    QUIRE=$(command -v quire) || { echo "quire is neither built nor installed: try ./run.sh first" >&2; exit 1; }
  fi
fi

step() { printf '\n\033[1m== %s\033[0m\n' "$*" >&2; }

# Shows the command as it can be typed, then runs it.
quire() {
  local word line='$ quire'
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./,:=+-]+$ ]]; then line+=" $word"; else line+=" \"$word\""; fi
  done
  echo "$line" >&2
  "$QUIRE" "$@"
}

# A run may be cut short, to try a recipe or to test it: STEPS=5 recipes/quotes/run.sh
length=()
[ -z "${STEPS:-}" ] || length=(--max-steps "$STEPS")
