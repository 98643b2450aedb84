"""Schedules of std/optim.mp and of a program's own against their formulas, at every step of a run and
behind its end; a value that the host sets wins.  In f64, by the evaluator."""
import math
import tempfile
from pathlib import Path

import numpy as np

from support import Evaluator, emit

N = 20
PROGRAM = """version 1
fn wsd(peak: float, tail: float = 0.2) = fn (s, n) = peak * min(1.0, (1 - s/n) / tail)
model M {{ w: param[3] = ones() }}
train M {{
  batch B = 2
  data {{ x: f32[B, 3] }}
  loss sum(x * w, axis: 1)
  optimizer sgd(lr: {})
}}
"""


def cosine(peak, to, s, n):
    return to + (peak - to) * 0.5 * (1 + math.cos(math.pi * min(s / n, 1)))


def linear(a, to, s, n):
    return a + (to - a) * min(s / n, 1)


SCHEDULES = {
    "linear(2, to: 0.5)": lambda s: linear(2, 0.5, s, N),
    "cosine(2, to: 0.5)": lambda s: cosine(2, 0.5, s, N),
    "cosine(2, steps: 7)": lambda s: cosine(2, 0, s, 7),
    "hold(2, 5) then hold(1, 5) then 0.5": lambda s: 2 if s < 5 else 1 if s < 10 else 0.5,
    "warmup(4) then cosine(2, to: 0.5)":
        lambda s: 2 * (s + 1) / 5 if s < 4 else cosine(2, 0.5, s - 4, N - 4),
    "warmup(4) then hold(3, 6) then linear(3, to: 1)":
        lambda s: 3 * (s + 1) / 5 if s < 4 else 3 if s < 10 else linear(3, 1, s - 10, N - 10),
    "hold(1, 2) then wsd(2)": lambda s: 1 if s < 2 else 2 * min(1, (1 - (s - 2) / (N - 2)) / 0.2),
    "fn (s, n) = 1 / (s + n)": lambda s: 1 / (s + N),
}


def check(folder, text, want):
    path = folder / "schedule.mp"
    path.write_text(PROGRAM.format(text))
    e = Evaluator(emit("optimize", path), f64=True)
    e.run("init")
    e.set("hyper", "steps", np.array(float(N)))
    worst = 0
    for s in range(N + 3):
        e.set("hyper", "lr", np.array(np.nan))
        e.set("state", "step", np.array(s, np.int32))
        got = float(e.run("train_step", rows=2, x=np.ones((2, 3)))["hyper", "lr"])
        assert abs(got - want(s)) <= 1e-12, f"{text}: step {s}: {got}, not {want(s)}"
        worst = max(worst, abs(got - want(s)))
    e.set("hyper", "lr", np.array(0.125))
    assert float(e.run("train_step", rows=2, x=np.ones((2, 3)))["hyper", "lr"]) == 0.125, text
    print(f"{text:50} {worst:.1e}", flush=True)


def main():
    with tempfile.TemporaryDirectory() as name:
        for text, want in SCHEDULES.items():
            check(Path(name), text, want)


main()
