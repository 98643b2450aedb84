#!/usr/bin/python3
"""Test accuracy of examples/mlp.mp in f32, bf16, f16 and fp8 by recipe, one epoch of Fashion-MNIST, the same seeds.

usage: bench/accuracy.py [BIN] [SEEDS]          BIN: build/release/bin
"""
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "accept"))

from support import MLP, compile_to, fashion_mnist  # noqa: E402


def accuracy(program, data, seed):
    command = [program, "--quiet", "--seed", str(seed),
               "--data", f"images={data['images']}", "--data", f"labels={data['labels']}",
               "--eval-data", f"images={data['test_images']}",
               "--eval-data", f"labels={data['test_labels']}"]
    out = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    found = re.search(r"accuracy ([0-9.]+)(%?)", out)
    return float(found[1]) * (1 if found[2] else 100)


def main():
    seeds = range(1, 1 + (int(sys.argv[2]) if len(sys.argv) > 2 else 5))
    data, results = fashion_mnist(), {"f32": [], "bf16": [], "f16": [], "fp8": [], "fp8(block)": [], "mx8": []}
    with tempfile.TemporaryDirectory() as name:
        programs = {p: compile_to(Path(name) / f"p{i}", MLP, f"--precision={p}") for i, p in enumerate(results)}
        print("seed", *(f"{p:>10}" for p in results), " (% of 10,000 test images)")
        for seed in seeds:
            for p, program in programs.items():
                results[p].append(accuracy(program, data, seed))
            print(f"{seed:4}", *(f"{found[-1]:10.2f}" for found in results.values()), flush=True)
    for p, found in results.items():
        print(f"{p:>10}: mean {statistics.mean(found):.3f}, deviation {statistics.stdev(found):.3f},"
              f" {min(found):.2f} to {max(found):.2f}")
    for p in list(results)[1:]:
        pairs = [low - f for f, low in zip(results["f32"], results[p])]
        error = statistics.stdev(pairs) / len(pairs) ** 0.5
        print(f"{p} - f32: {statistics.mean(pairs):+.3f} points (standard error {error:.3f})")


if __name__ == "__main__":
    main()
