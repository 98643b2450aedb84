#!/bin/sh
# What a compiled model is made of: one exported symbol, no library but C's, libm and zlib, and
# less than 500 KB.  Compile time is printed; speed is judged in bench/.
# usage: test_binary.sh BIN MODEL
set -eu
export LC_ALL=C
bin=$1 model=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for tool in nm ldd strip; do
  command -v $tool >/dev/null && continue
  echo "SKIPPED: $tool is not installed (Debian: binutils)"
  exit 77
done

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

"$bin/mpcc" "$model" -o "$out/train.so"
"$bin/mpcc" "$model" -o "$out/train"

# The symbol is named for the model file.
exported=$(nm -D --defined-only "$out/train.so")
[ "$(echo "$exported" | wc -l)" = 1 ] || fail "not one exported symbol: $exported"
case $exported in *" T $(basename "$model" .mp)_get_api") ;; *) fail "exported: $exported" ;; esac

# Whatever else is loaded must be known here; linux-vdso and ld-linux are the system's own.
for file in train train.so; do
  known='/^\s*(linux-vdso|linux-gate|libc|libm|libz)\.so/d; /ld-linux/d'
  others=$(ldd "$out/$file" | sed -E "$known")
  [ -z "$others" ] || fail "$file needs: $others"
done

# No place of the machine that built it, no stack or segment that can be written and run.
for file in train train.so; do
  ! grep -q "$out" "$out/$file" || fail "$file names its build folder"
  if command -v readelf >/dev/null; then
    ! readelf -lW "$out/$file" | grep -q ' RWE ' || fail "$file: writable code"
  fi
  strip -o "$out/stripped" "$out/$file"
  size=$(wc -c <"$out/stripped")
  [ "$size" -lt 500000 ] || fail "$file: $size bytes stripped"
  echo "$file: $size bytes stripped"
done

# Twice the same bytes.
"$bin/mpcc" "$model" -c -o "$out/a.o"
"$bin/mpcc" "$model" -c -o "$out/b.o"
cmp "$out/a.o" "$out/b.o" || fail "two compilations differ"

# --help knows the model's inputs; a run without data says what it wants.
"$out/train" --help >"$out/help" || fail "--help"
grep -q -- '--data images=FILE' "$out/help" || fail "--help does not name the inputs"
if "$out/train" >"$out/text" 2>&1; then fail "it trains without data"; fi
grep -q "no data for 'images'" "$out/text" || fail "without data: $(cat "$out/text")"

start=$(date +%s%N)
"$bin/mpcc" "$model" -o "$out/train"
echo "compile time: $((($(date +%s%N) - start) / 1000000)) ms"
