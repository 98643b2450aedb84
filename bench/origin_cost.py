#!/usr/bin/python3
"""What it costs good steps that a skipped one can be asked where it was first not finite.

usage: bench/origin_cost.py [BIN] [STEPS] [MODEL.mp] [FLAG …]

The same model with it and without (--no-origin), both in this process, on one thread: a step of each in
turn, the order changing from round to round, so that a change of clock or a neighbour meets both, timed by
the processor time that it took.  Printed: the ratio of the medians, and the median over the rounds of the
ratio of a round's two steps.
"""
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "accept"))

import numpy as np  # noqa: E402

from mpcc_model import DTYPES, Model  # noqa: E402
from support import MLP, compile_to  # noqa: E402

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
    for _ in range(5):
        m.run("train_step")
    return m


def seconds(model):
    start = time.thread_time()
    model.run("train_step")
    return time.thread_time() - start


def main():
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    source = Path(sys.argv[3]) if len(sys.argv) > 3 else MLP
    with tempfile.TemporaryDirectory() as temp:
        models = {name: open_model(compile_to(Path(temp) / f"{name}.so", source, *flags, *sys.argv[4:]))
                  for name, flags in (("with", []), ("without", ["--no-origin"]))}
        took = {"with": [], "without": []}
        for i in range(rounds):
            for name in sorted(took, reverse=bool(i % 2)):
                took[name].append(seconds(models[name]))
    middle = {name: statistics.median(t) for name, t in took.items()}
    each = statistics.median(a / b for a, b in zip(took["with"], took["without"]))
    print(f"{source.name}: {rounds} steps of {middle['without'] * 1e3:.3f} ms: with / without "
          f"{middle['with'] / middle['without']:.4f} of the medians, {each:.4f} of the pairs")


if __name__ == "__main__":
    main()
