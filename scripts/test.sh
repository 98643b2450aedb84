#!/bin/sh
# Installs what is missing, builds, and runs every test.
#   --long   the exhaustive ones too (hours)
#   --debug  only the build with AddressSanitizer and UndefinedBehaviorSanitizer
#   --quick  only the release build
set -eu
cd "$(dirname "$0")/.."

presets="release debug"
for arg in "$@"; do
  case "$arg" in
  --long) export MPCC_LONG=1 ;;
  --debug) presets="debug" ;;
  --quick) presets="release" ;;
  *) echo "usage: scripts/test.sh [--long] [--debug | --quick]" >&2; exit 2 ;;
  esac
done

scripts/install.sh build examples test
for preset in $presets; do
  # Configured anew each time: what was just installed must be found.
  generator="-G Ninja"
  [ -f build/$preset/CMakeCache.txt ] && generator=""
  # shellcheck disable=SC2086
  cmake --preset $preset $generator
  cmake --build --preset $preset
done
for preset in $presets; do
  echo "== tests of the $preset build"
  ctest --preset $preset --no-tests=error -j "$(nproc)"
done
