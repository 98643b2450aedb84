"""Precisions mixed in one model, compiled against the evaluator, bit for bit.

A small language model: an embedding whose table is also the head's matrix, a residual stream, a
region of another precision than the program's, gradients accumulated in a loop, products that read
parts of weights.  Under f32, bf16 and f16, with the stream in low precision and in f32, on 1 to 3
threads, for the lowest level of instructions at -O0 and the highest at -O3.
"""
import re
import tempfile
from pathlib import Path

import numpy as np

import mpcc_model
from mpcc_model import Model
from support import Evaluator, compile_to, emit, levels, same_bits

V, T, B, STEPS = 21, 5, 6, 4

MODEL = """version 1
config D = 12
model M {
  table: param[21, D] = normal(0, 0.5)
  w: param[D, D] = normal(0, 0.3)
  v: param[D, D] = normal(0, 0.3)
  u: param[D, 16] = normal(0, 0.3)
  fn f(t) {
    x = table[t]
    precision(REGION) { h = relu(x @ w + x @ u[:, :D]) }
    h = x + h @ concat([v[:, 2:], u[:, ::8]], axis: 1)
    return h @ transpose(table)
  }
}
train M {
  batch B = 6
  data { x: i32[B, 5]; y: i32[B, 5] }
  loss mean(cross_entropy(f(x), y), axis: 1)
  optimizer adamw(lr: 0.01)
  accumulate ACCUMULATE
  precision WORD
}
"""

# the program's precision, the region's, micro-batches a step
CASES = [("f32", "bf16", 1), ("bf16", "f32", 1), ("bf16 residual(f32)", "bf16", 2),
         ("f16 scale(2^8)", "f16", 1), ("f16 scale(dynamic) residual(f32)", "bf16", 2),
         ("bf16 scale(2^6)", "f16", 2), ("bf16 master(split) scale(2^6)", "f16", 2), ("bf16 master(sr)", "f32", 2),
         ("f16 scale(2^8) master(sr)", "bf16", 1)]

WIDEN = {"bf16": mpcc_model.widen, "f16": lambda x: x.astype(np.float32), "f8e4m3fn": mpcc_model.widen_f8e4m3fn,
         "f8e8m0": mpcc_model.widen_f8e8m0}


def batches(rows):
    rng = np.random.default_rng(7)
    for _ in range(STEPS):
        yield {name: rng.integers(0, V, (rows, T)).astype(np.int32) for name in "xy"}


def evaluated(text, rows):
    e = Evaluator(text, seed=1)
    for name, value in re.findall(r'^hyper "(\w+)" = (\S+)', text, re.M):
        e.set("hyper", name, np.array(STEPS if name == "steps" else float(value), np.float32))
    yield e.run("init")
    if "entry @derive" in text:
        e.run("derive")
    for i, inputs in enumerate(batches(rows)):
        if not i and "entry @train_step.calibrate" in text:
            e.run("train_step.calibrate", rows=rows, **inputs)
        yield e.run("train_step", rows=rows, **inputs)


def check(library, threads, wanted, rows, label):
    m = Model(library, threads)
    m.init(1)
    m.hyper("steps", STEPS)
    data, low = batches(rows), set()
    for step, want in enumerate(wanted):
        if step:
            assert m.run("train_step", rows=rows, **next(data)).committed, (label, step)
        for (role, path), value in want.items():
            if role != "state" or path not in m.states:
                continue
            kind = mpcc_model.DTYPES[m.states[path].tensor.dtype][0]
            low |= {kind} & set(WIDEN)
            why = same_bits(WIDEN.get(kind, np.copy)(m.get(path)), value)
            assert not why, f"{label}, {threads} threads, step {step}, {path}: {why}"
    assert low, f"{label}: no copy was compared"
    m.close()


def check_levels(library, model, rows, label):
    """The evaluator's bits at the lowest level, -O0, and at this machine's, -O3, on 1 to 3 threads; the last
    library."""
    oracles = {}  # levels often share a graph
    for level, opt in (levels()[0], "-O0"), (levels()[-1], "-O3"):
        flag = f"-mcpu={level}"
        text = emit("schedule", model, flag)
        wanted = oracles[text] = oracles.get(text) or list(evaluated(text, rows))
        path = compile_to(library.with_name(f"{library.name}_{level[-1]}.so"), model, flag, opt)
        for threads in 1, 2, 3:
            check(path, threads, wanted, rows, f"{label}, {level}")
    return path


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i, (word, region, accumulate) in enumerate(CASES):
            model = folder / f"model{i}.mp"
            model.write_text(MODEL.replace("WORD", word).replace("REGION", region)
                             .replace("ACCUMULATE", str(accumulate)))
            check_levels(folder / f"lib{i}", model, B * accumulate - 1, f"{word}, {region}")
            print(f"{word}, region {region}, {accumulate} micro-batches: equal", flush=True)


if __name__ == "__main__":
    main()
