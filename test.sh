#!/usr/bin/env bash
# Installs what is missing, builds, and runs all tests. Arguments go to ctest: ./test.sh -R tokenizer
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/scripts/build.sh"
build all
# One more at a time than there are cores, as some wait for a clock or for another process.
exec ctest --test-dir build --output-on-failure --no-tests=error -j $(($(nproc) + 1)) "$@"
