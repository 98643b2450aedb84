"""Numbers that a step shows of itself, against NumPy on the states that it leaves.

The share of weights that it did not change is exact, in every precision, also where a step is
skipped and where most weights stand still.
"""
import sys
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import GAUGE, PARAM, Model
from support import compile_to

MODEL = """version 1
module Linear(i: int, o: int) {{
  weight: param[o, i] = he_uniform()
  bias: param[o] = zeros()
  fn (x) = x @ transpose(weight) + bias
}}
model M {{
  table: param[9, 8] = normal(0, 0.5)
  net = [Linear(8, 40), relu, Linear(40, 4)]
  fn f(i) = net(table[i])
}}
train M {{
  batch B = 6
  input {{ i: i32[B]; y: f32[B, 4] }}
  loss sum((f(i) - y)^2, axis: 1)
  optimizer {optimizer}
  precision {precision}
  {more}
}}
"""
PRECISIONS = "f32", "bf16", "f16 scale(dynamic)"


def build(folder, precision, optimizer="adamw(lr: 1e-3)", more="", flags=()):
    path = folder / "m.mp"
    path.write_text(MODEL.format(precision=precision, optimizer=optimizer, more=more))
    return compile_to(folder / f"m{len(list(folder.glob('*.so')))}.so", path, *flags)


def batch(rng, rows=6, scale=1.0):
    """Rows of the table from 3 on are never looked up."""
    return {"i": rng.integers(0, 3, rows).astype("i4"),
            "y": (scale * rng.normal(size=(rows, 4))).astype("f4")}


def weights(m):
    return {path: m.get(path).copy() for path in m.paths(PARAM)}


def gauge(m, name):
    return m.outputs("train_step")[name, GAUGE][()]


def share(before, after):
    same = sum(int((before[p] == after[p]).sum()) for p in before)
    return np.float32(same) / np.float32(sum(w.size for w in before.values()))


def check_unchanged(folder):
    seen = set()
    for precision in PRECISIONS:
        for optimizer in "adamw(lr: 1e-3)", "sgd(lr: 1e-6)":
            rng = np.random.default_rng(5)
            m = Model(build(folder, precision, optimizer), 2)
            m.init(1)
            for step in range(6):
                before = weights(m)
                data = batch(rng)
                if step == 3:
                    data["y"][0, 0] = np.inf
                committed = m.run("train_step", **data).committed
                want = share(before, weights(m))
                assert gauge(m, "unchanged") == want, (precision, optimizer, step)
                assert want == 1 if not committed else step != 3, (precision, step)
                seen.add(float(want))
    assert len(seen) > 5 and min(seen) < 0.5 < max(seen), seen
    print(f"unchanged: {len(PRECISIONS)} precisions, 2 optimizers, 6 steps, {min(seen):.3f} to 1: exact")


def main():
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        for check in (check_unchanged,):
            check(folder)


if __name__ == "__main__":
    main()
