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

# Columns of the terminal that messages go to; without one they are not broken.
columns() { if [ -t 2 ]; then tput -T "${TERM:-dumb}" cols 2>/dev/null || echo 80; else echo 1000000; fi; }

step() { printf '\n\033[1m%s\033[0m\n' "$(fold -s -w "$(columns)" <<<"== $*")" >&2; }

# Shows the command as it can be typed, broken where the terminal ends, an option not before its value,
# then runs it.
quire() {
  local word next part line='$ quire' room words=()
  for word in "$@"; do
    case $word in
      *[\"\$\`\\!]*) printf -v word %q "$word" ;;
      *[!A-Za-z0-9_./,:=+-]* | '') word="\"$word\"" ;;
    esac
    words+=("$word")
  done
  room=$(($(columns) - 2))
  while [ ${#words[@]} -gt 0 ]; do
    part=${words[0]} next=${words[1]:--}
    words=("${words[@]:1}")
    if [[ $part == -* && $next != -* ]]; then
      part+=" $next"
      words=("${words[@]:1}")
    fi
    if ((${#line} + 1 + ${#part} > room)); then
      echo "$line \\" >&2
      line="   "
    fi
    line+=" $part"
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
