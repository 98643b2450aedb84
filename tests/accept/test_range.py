"""Masks that f16 cannot hold, with a row masked throughout, in f16 beside f32: one that chooses is
rewritten, to one that is added the sums stay f32; nothing is NaN, and loss, norm and weights of a step
differ by what f16 rounds.

Operands and stored values are rounded to 2^-11 of their size; between input and result stand fewer than
eight such roundings, none of which is amplified: 2^-8 of the largest element.
"""
import re
import tempfile
from pathlib import Path

import numpy as np

from support import Evaluator, emit

MODEL = """version 1
model M {
  w: param[8, 8] = normal(0, 0.3)
  fn f [B](x: [B, 3, 8], keep: [B, 8]) {
    far = (1.0 - keep) * -1e9
    return softmax(SCORES) @ w
  }
}
train M {
  batch B = 6
  data { x: f32[B, 3, 8]; keep: f32[B, 8]; y: f32[B, 3, 8] }
  loss mean((f(x, keep) - y) ^ 2, axis: (1, 2))
  optimizer sgd(lr: 0.1)
  precision WORD
}
"""


CHOSEN = "where(reshape(keep, [B, 1, 8]) > 0, x @ w, -1e9)"
ADDED = "x @ w + reshape(far, [B, 1, 8])"


def step(folder, scores, word):
    model = folder / "mask.mp"
    model.write_text(MODEL.replace("SCORES", scores).replace("WORD", word))
    text = emit("schedule", model)
    assert ("-65504" in text) == ("f16" in word and scores == CHOSEN), word
    e = Evaluator(text, seed=1)
    for name, value in re.findall(r'^hyper "(\w+)" = (\S+)', text, re.M):
        e.set("hyper", name, np.array(float(value), np.float32))
    e.run("init")
    if "entry @derive" in text:
        e.run("derive")
    rng = np.random.default_rng(1)
    keep = (rng.random((6, 8)) > 0.5).astype(np.float32)
    keep[2] = 0
    x, y = (rng.normal(size=(6, 3, 8)).astype(np.float32) for _ in range(2))
    return e.run("train_step", rows=6, x=x, keep=keep, y=y)


def main():
    with tempfile.TemporaryDirectory() as name:
        for scores in CHOSEN, ADDED:
            wide, half = (step(Path(name), scores, word) for word in ("f32", "f16 scale(dynamic)"))
            for key in (("state", "w"), ("loss", "loss"), ("gauge", "grad_norm")):
                a, b = np.asarray(wide[key], np.float64), np.asarray(half[key], np.float64)
                error = np.abs(a - b).max() / np.abs(a).max()
                print(scores, *key, f"{error:.1e}")
                assert error <= 2**-8, key


main()
