#!/bin/sh
# Fuzzes with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer what reads models, graphs and
# checkpoints; an input that crashes or takes over a second stays in build/fuzz/.
#   scripts/fuzz.sh [SECONDS [TARGET …]]     default: an hour each of frontend, ir and checkpoint
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-3600}
[ $# -gt 0 ] && shift
targets=${*:-frontend ir checkpoint}
scripts/install.sh build test fuzz
generator="-G Ninja"
[ -f build/fuzz/CMakeCache.txt ] && generator=""
# shellcheck disable=SC2086
CC=clang cmake -S . -B build/fuzz $generator -DCMAKE_BUILD_TYPE=RelWithDebInfo -DMPCC_SANITIZE=ON -DMPCC_FUZZ=ON
for target in $targets; do
  cmake --build build/fuzz --target "fuzz_$target" | tail -1
  corpus=build/fuzz/corpus/$target
  mkdir -p "$corpus"
  seeds=tests/fuzz/corpus/$target
  case $target in
  frontend) seeds="$seeds examples tests/programs tests/programs/bad tests/lit/sema tests/lit/sema/wrong" ;;
  ir) seeds="$seeds tests/lit/ir tests/lit/passes" ;;
  esac
  # shellcheck disable=SC2086
  build/fuzz/bin/fuzz_$target -max_total_time="$seconds" -timeout=1 -rss_limit_mb=1024 -max_len=16384 \
    -print_final_stats=1 -artifact_prefix="build/fuzz/$target-" "$corpus" $seeds 2>&1 |
    tee "build/fuzz/$target.log" | grep -E "^(#[0-9]+.*(pulse|DONE)|stat::|SUMMARY|ERROR|ALARM|==)" || true
  ! grep -q "SUMMARY" "build/fuzz/$target.log"
done
