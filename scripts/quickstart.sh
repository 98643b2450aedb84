#!/bin/sh
# From a fresh clone to a trained model: installs what is missing, builds, compiles examples/mlp.mp,
# trains it for one epoch on Fashion-MNIST in bf16 and prints the accuracy on the test images.
set -eu
cd "$(dirname "$0")/.."

scripts/install.sh build examples
[ -f build/release/CMakeCache.txt ] || cmake --preset release -G Ninja >/dev/null
cmake --build --preset release --target mpcc mpcc-opt mpcc_rt mpcc_cli

data=/usr/share/datasets/fashion-mnist
out=build/quickstart
mkdir -p $out
set -x
build/release/bin/mpcc examples/mlp.mp -o $out/mlp
$out/mlp --data images=$data/train-images-idx3-ubyte.gz --data labels=$data/train-labels-idx1-ubyte.gz \
  --eval-data images=$data/t10k-images-idx3-ubyte.gz --eval-data labels=$data/t10k-labels-idx1-ubyte.gz \
  --epochs 1 --seed 1
