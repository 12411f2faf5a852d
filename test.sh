#!/usr/bin/env bash
# Installs what is missing, builds, and runs all tests. Arguments go to ctest: ./test.sh -R tokenizer
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/scripts/build.sh"
build all
exec ctest --test-dir build --output-on-failure --no-tests=error -j "$(nproc)" "$@"
