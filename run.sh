#!/usr/bin/env bash
# Installs what is missing, builds, and shows what Quire does: quire demo.
# With arguments, it runs the program with them instead: ./run.sh doctor
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/scripts/build.sh"
build quire
[ $# = 0 ] && set -- demo
exec build/bin/quire "$@"
