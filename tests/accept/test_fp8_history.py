"""Histories and scales of fp8(delayed) against a model of them in NumPy, bit for bit, at each of
3,000 steps of a compiled program (600 in micro-batches and by halves).

The model knows nothing of the compiler: of each slot it is told the largest |x|, which the host
chooses (zeros, tiny and usual numbers, jumps by 1000, infinities, NaN), and it follows the rules
of docs/precision.md.  Matrices of powers of two and numbers of few digits let every value arrive
where it is quantized as the host made it.  With short and full histories, margins, under a loss
scale that moves all the time, in micro-batches, by whole steps and by halves.  From the first 60
steps and every hundredth a run is taken up again.
"""
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import Model
from support import compile_to

F32, D, B = np.float32, 4, 2
FLT_MAX = np.finfo(F32).max
FMAX = {"x": F32(448), "w": F32(448), "dy": F32(57344)}

MODEL = """version 1
model M {
  first: param[4, 4] = zeros()
  inner: param[4, 4] = zeros()
  last: param[4, 4] = zeros()
  fn f(x) = ((x @ first) @ inner) @ last
}
train M {
  batch B = 2
  accumulate TIMES
  input { x: f32[B, 4]; g: f32[B, 4] }
  loss sum(f(x) * g, axis: 1)
  optimizer sgd(lr: 0.0)
  precision WORD
}
"""

# the words, L, margin, micro-batches a step, whether a host drives the halves, steps
CASES = [("fp8", 1024, 0, 1, False, 3000),
         ("fp8(delayed, history: 16) scale(dynamic, init: 2^3, interval: 2, cap: 2^6)", 16, 0, 1, False, 3000),
         ("fp8(delayed, history: 2, margin: 3) scale(2^5)", 2, 3, 3, False, 600),
         ("fp8(delayed, history: 1)", 1, 0, 1, True, 600)]


class Slot:
    """h[0] is staging; FMAX is scaled down by the margin, which is exact."""

    def __init__(self, length, fmax, margin):
        self.h, self.scale, self.fmax = np.zeros(length, F32), F32(1), fmax / F32(2**margin)

    def update(self, amax):
        self.h[0] = max(self.h[0], F32(amax))
        if self.h[0] == 0:
            return
        staged, m = self.h[0], self.h.max()
        self.h[:-1] = self.h[1:].copy()
        self.h[-1] = staged
        self.h[0] = 0
        with np.errstate(over="ignore"):
            self.scale = min(self.fmax / m, FLT_MAX)


class History:
    """All slots of a step, which move together or not at all."""

    def __init__(self, length, margin):
        self.slots = {role: Slot(length, FMAX[role], margin) for role in FMAX}
        self.calibrated = 0

    def update(self, amax):
        if not all(np.isfinite(list(amax.values()))):
            return False
        for role, slot in self.slots.items():
            slot.update(amax[role])
        return True

    def step(self, amax):
        if not self.calibrated:
            self.calibrated += self.update(amax)
        return self.update(amax)

    def compare(self, m, label):
        assert m.get("calibrated") == self.calibrated, label
        for role, slot in self.slots.items():
            for name, want in ("history", slot.h), ("scale", slot.scale):
                found = m.get(f"inner:fp8.{role}.{name}")
                assert found.tobytes() == F32(want).tobytes(), (label, role, name, found, want)


def magnitude(rng):
    """Zero, tiny, usual, a jump, infinite, not a number."""
    kind = rng.choice(6, p=[0.1, 0.1, 0.6, 0.1, 0.05, 0.05])
    usual = F32(rng.integers(128, 256)) * F32(2.0**rng.integers(-12, -6))
    return [F32(0), F32(2.0**rng.integers(-125, -60)), usual, 1000 * usual, F32(np.inf), F32(np.nan)][kind]


def bf16(x):
    """Rounded down to what bf16 holds: what the layers before hand on as it is."""
    return (np.asarray(x, F32).view(np.uint32) & np.uint32(0xFFFF0000)).view(F32)


def tensor(rng, shape, largest):
    """One element that is the largest, of any sign, the others far below."""
    x = np.zeros(shape, F32)
    if not np.isfinite(largest) or largest > 2.0**-40:
        x[:] = bf16(rng.normal(size=shape) * 2.0**-30)
    x[tuple(rng.integers(0, n) for n in shape)] = largest * rng.choice([-1, 1])
    return x


def run_step(m, halves, rows, inputs):
    if not halves:
        return m.run("train_step", rows=rows, **inputs).committed
    m.run("train_step.grads", rows=rows, **inputs)
    return m.run("train_step.apply").committed


def start(library):
    m = Model(library, threads=2)
    m.init(1)
    for path in "first", "last":
        m.set(path, np.eye(D, dtype=F32))
    return m


def check_case(folder, case):
    word, length, margin, times, halves, steps = case
    model = folder / "model.mp"
    model.write_text(MODEL.replace("WORD", word).replace("TIMES", str(times)))
    library = compile_to(folder / f"h{length}.so", model, halves=halves)
    rng, m, history = np.random.default_rng(length), start(library), History(length, margin)
    again = Model(library, threads=1)
    committed, rows, scales = 0, B * times, set()
    for step in range(steps):
        amax = {role: bf16(magnitude(rng)) for role in FMAX}
        if step < 3 and length < 16:  # no good batch to calibrate on, for a while
            amax["x" if step < 2 else "dy"] = F32(np.inf if step else np.nan)
        if not np.isfinite(amax["w"]):  # weights are finite: a step that makes them otherwise ends the run
            amax["w"] = F32(1)
        inputs = {"x": tensor(rng, (rows, D), amax["x"]), "g": tensor(rng, (rows, D), amax["dy"])}
        m.set("inner", tensor(rng, (D, D), amax["w"]))
        resumes = step < 60 or step % 100 == 0
        if resumes:
            m.save(folder / "state")
            again.load(folder / "state")
        done = run_step(m, halves, rows, inputs)
        assert done == history.step(amax), (word, step, amax)
        history.compare(m, (word, step, amax))
        if resumes:
            assert run_step(again, halves, rows, inputs) == done
            history.compare(again, (word, step, "resumed"))
        committed += done
        scales |= {float(m.get("scale"))} if "scale" in m.states else set()
    assert steps / 2 < committed < steps * 0.9, committed
    assert "dynamic" not in word or len(scales) > 3, scales
    check_frozen(m, history, word)
    print(f"{word}, {times} micro-batches{', halves' * halves}: {steps} steps, {committed} committed, equal",
          flush=True)


def check_frozen(m, history, word):
    """eval takes the scales as they are: what is far too large for them saturates."""
    most, w = (F32(448) / history.slots[role].scale for role in "xw")
    m.set("inner", np.eye(D, dtype=F32) * w)
    for factor, wanted in (0.5, 0.5), (1, 1), (64, 1):
        x, g = np.zeros((B, D), F32), np.ones((B, D), F32)
        x[:, 0] = bf16(most * factor)
        r = m.run("eval", x=x, g=g)
        assert abs(r.loss / w / (most * wanted) - 1) < 0.1, (word, factor, r.loss, most, w)
        history.compare(m, (word, "eval"))


def check_own_calibration(folder, case):
    """A host calibrates on what it likes; the first step then takes the scales as they are."""
    word, length, margin, times, *_ = case
    m, history, rows = start(folder / f"h{length}.so"), History(length, margin), B * times
    for calibrate in True, False, False:
        amax = {"x": F32(2), "w": F32(3), "dy": F32(0.5)} if calibrate else {"x": F32(40), "w": F32(1), "dy": F32(7)}
        inputs = {name: np.full((rows, D), amax[role], F32) for name, role in (("x", "x"), ("g", "dy"))}
        m.set("inner", np.eye(D, dtype=F32) * amax["w"])
        before = m.get("step").copy(), m.get("attempt").copy()
        assert m.run("train_step.calibrate" if calibrate else "train_step", rows=rows, **inputs).committed
        assert ((m.get("step"), m.get("attempt")) == before) == calibrate
        history.calibrated += history.update(amax) and calibrate
        history.compare(m, (word, "own calibration"))


def main():
    with tempfile.TemporaryDirectory() as name:
        for i, case in enumerate(CASES):
            folder = Path(name) / str(i)
            folder.mkdir()
            check_case(folder, case)
            check_own_calibration(folder, case)


if __name__ == "__main__":
    main()
