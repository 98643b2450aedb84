#!/bin/sh
# examples/embed/ built and run as its files say: C on Fashion-MNIST, C++ and Python on data they make.
# usage: test_embed.sh BIN SOURCE PYTHON
set -eu
bin=$1 source=$2 python=$3
data=/usr/share/datasets/fashion-mnist
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cp "$source"/examples/embed/train.* "$out"
cd "$out"
strict="-Wall -Wextra -Wpedantic -Werror -I$source/runtime"
for output in mlp.h mlp.a mlp.so; do "$bin/mpcc" "$source/examples/mlp.mp" -o $output; done

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

${CC:-cc} -std=c99 $strict train.c mlp.a -lz -lm -pthread -o train_c
if [ -d $data ]; then
  ./train_c $data/train-images-idx3-ubyte.gz $data/train-labels-idx1-ubyte.gz \
    $data/t10k-images-idx3-ubyte.gz $data/t10k-labels-idx1-ubyte.gz >text || fail "C: $(cat text)"
  cat text
  grep -Eq "^accuracy 0\.(8[4-9]|9)" text || fail "C learns too little"
  grep -q "^0 bytes left" text || fail "C: memory is left"
  [ -f checkpoint/model.safetensors ] || fail "C: no checkpoint"
else
  echo "left out: C on $data, which is missing (Debian: dataset-fashion-mnist)"
fi

cxx=$(command -v c++ || command -v clang++ || true)
if [ -n "$cxx" ] && echo '#include <vector>' | $cxx -x c++ -fsyntax-only - 2>/dev/null; then
  $cxx -std=c++17 $strict train.cpp mlp.a -lz -lm -pthread -o train_cpp
  ./train_cpp >text || fail "C++: $(cat text)"
  cat text
  grep -q "two contexts agree" text && grep -q "goes on the same" text && grep -q "a damaged one: stream" text ||
    fail "C++"
else
  echo "left out: C++, for want of a compiler with its library"
fi
$python train.py ./mlp.so || fail "Python"
