# What the recipes share: the program, the model, a line for each command, and the length of a run.
# Sourced by recipes/*/run.sh.
set -Eeuo pipefail
# What the script takes is said where the program refuses what it was given (exit codes 2 and 3).
trap 'rc=$?; case $rc in 2 | 3) sed -n "s/^# usage: /usage: /p" "$0" >&2 ;; esac; exit $rc' ERR
recipes=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$recipes")

if [ -z "${QUIRE:-}" ]; then
  if [ -x "$root/build/bin/quire" ]; then
    QUIRE=$root/build/bin/quire
  else
    QUIRE=$(command -v quire) || { echo "quire is neither built nor installed: try ./run.sh first" >&2; exit 1; }
  fi
fi

model=${MODEL:-narrator}

step() { printf '\n\033[1m== %s\033[0m\n' "$*" >&2; }

# Shows the command as it can be typed, broken before an option where the terminal ends, then runs it.
quire() {
  local word line='$ quire' columns=1000000
  [ ! -t 2 ] || columns=$(tput -T "${TERM:-dumb}" cols 2>/dev/null || echo 80)
  for word in "$@"; do
    case $word in
      *[\"\$\`\\!]*) printf -v word %q "$word" ;;
      *[!A-Za-z0-9_./,:=+-]* | '') word="\"$word\"" ;;
    esac
    if ((${#line} + ${#word} + 3 > columns)); then
      echo "$line \\" >&2
      line="   "
    fi
    line+=" $word"
  done
  echo "$line" >&2
  "$QUIRE" "$@"
}

# Training takes EPOCHS passes over the data, or STEPS steps, or what of them fits into MAX_TIME.
# Batches of a row or two make rough gradients: only what is far beyond that is warned of.
length=(--max-time "${MAX_TIME:-10m}" --fit-to-time --logging-steps 20 --spike-z 20)
[ -z "${STEPS:-}" ] || length+=(--max-steps "$STEPS")

# passes BYTES MOST FILE...: EPOCHS, or as many passes as read so many bytes of the files (or folders),
# at least 3 and at most MOST: the smaller the data, the more passes until a model knows them.
passes() {
  local wanted=$1 most=$2 bytes
  shift 2
  bytes=$(find "$@" -type f -exec cat {} + | wc -c)
  local count=$((wanted / (bytes + 1)))
  ((count >= 3)) || count=3
  ((count <= most)) || count=$most
  echo "${EPOCHS:-$count}"
}

# rate X: LR, or X for the bundled model, or 1e-4, since large models want less.
rate() { [ "$model" = narrator ] && echo "${LR:-$1}" || echo "${LR:-1e-4}"; }
