#!/usr/bin/python3
"""What it costs good steps that a skipped one can be asked where it was first not finite.

usage: bench/origin_cost.py [BIN] [BLOCKS] [MODEL.mp] [FLAG …]

The same model with it and without (--no-origin), on one thread.  Two answers:

time          blocks of rounds: in a round a step of each, in all orders by turns, each by the processor time that it
              took, a few milliseconds apart, so that a neighbour or a change of clock meets all.  A block's
              answer is the median of its rounds' ratios.  Where code and data happen to lie moves that by a percent,
              as long as they lie there; so each block loads fresh copies of the libraries and makes new contexts.  The
              median of the blocks, with the interval that holds it with 99 % confidence whatever the distribution:
              order statistics, between which the median lies as a coin falls.  The program without is there twice:
              the ratio of the two shows what is left of chance.
instructions  of a step, by valgrind's callgrind where that is installed: the difference between runs of two
              lengths.  The same in every run.
"""
import itertools
import math
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "accept"))

import numpy as np  # noqa: E402

from mpcc_model import DTYPES, Model  # noqa: E402
from support import MLP, compile_to  # noqa: E402

ROUNDS, CONFIDENCE, LIMIT = 18, 0.99, 0.01
SHORT, LONG = 2, 6  # steps of a run under callgrind


def inputs_of(model):
    rng = np.random.default_rng(0)
    found = {}
    for name, t in model.entries["train_step"].inputs.items():
        dims, kind = tuple(t.dims[:t.ndim]), DTYPES[t.dtype][1]
        found[name] = (rng.normal(size=dims) if kind == "f4" else rng.integers(0, 10, dims)).astype(kind)
    return found


def open_model(library):
    m = Model(library, threads=1)
    m.init(1)
    m.hyper("steps", 1e6)
    for name, array in inputs_of(m).items():
        m.bind("train_step", name, array)
    for _ in range(3):
        m.run("train_step")
    return m


def seconds(model):
    start = time.thread_time()
    model.run("train_step")
    return time.thread_time() - start


def measure(folder, libraries):
    """Of one block: what the first and the last take beside the second; seconds of that."""
    folder.mkdir()
    models = [open_model(shutil.copy(library, folder)) for library in libraries]
    took = [[0.0] * ROUNDS for _ in libraries]
    for i, order in zip(range(ROUNDS), itertools.cycle(itertools.permutations(range(len(libraries))))):
        for side in order:
            took[side][i] = seconds(models[side])
    for m in models:
        m.close()
    shutil.rmtree(folder)
    return [statistics.median(a / b for a, b in zip(took[side], took[1])) for side in (0, 2)] + [min(took[1])]


def interval(n):
    """Ranks k and n - 1 - k, from 0: fewer than k + 1 of n fair coins fall on one side with half of what the
    confidence leaves."""
    below, k = 0.0, -1
    while below + (p := math.exp(math.lgamma(n + 1) - math.lgamma(k + 2) - math.lgamma(n - k) -
                                 n * math.log(2))) <= (1 - CONFIDENCE) / 2:
        below, k = below + p, k + 1
    return k, n - 1 - k


def instructions(program, library, steps):
    symbol = f"{library.stem}_get_api"
    r = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, library, symbol,
                        str(steps)], text=True, capture_output=True, check=True)
    return int(re.search(r"Collected : (\d+)", r.stderr)[1])


def count(folder, libraries):
    program = folder / "steps"
    subprocess.run(["cc", "-O1", f"-I{ROOT}", ROOT / "bench" / "steps.c", "-o", program, "-ldl"], check=True)
    return [(instructions(program, x, LONG) - instructions(program, x, SHORT)) / (LONG - SHORT) for x in libraries]


def main():
    blocks = int(sys.argv[2]) if len(sys.argv) > 2 else 900
    source = Path(sys.argv[3]) if len(sys.argv) > 3 else MLP
    with tempfile.TemporaryDirectory() as temp:
        libraries = [compile_to(Path(temp) / f"{name}.so", source, *flags, *sys.argv[4:])
                     for name, flags in (("with", []), ("without", ["--no-origin"]), ("again", ["--no-origin"]))]
        if shutil.which("valgrind"):
            here, gone = count(Path(temp), libraries[:2])
            print(f"{source.name}: instructions of a step with / without: {here:.0f} / {gone:.0f} = {here / gone:.5f}",
                  flush=True)
        else:
            print("instructions: no valgrind")
        here, again, took = zip(*(measure(Path(temp) / f"block{i}", libraries) for i in range(blocks)))
    low, high = interval(blocks)
    print(f"{source.name}: {blocks} blocks of {ROUNDS} rounds, a step {min(took) * 1e3:.3f} ms of processor at least")
    for name, side in ("with", here), ("the same again", again):
        found = sorted(side)
        print(f"{name} / without: {statistics.median(found):.4f}, {CONFIDENCE:.0%} within [{found[low]:.4f}, "
              f"{found[high]:.4f}]")
        if side is here:
            print(f"it costs at most {LIMIT:.0%}" if found[high] <= 1 + LIMIT else
                  f"it costs more than {LIMIT:.0%}" if found[low] > 1 + LIMIT else "not decided: take more blocks")


if __name__ == "__main__":
    main()
