"""A step commits all of its state or none, whatever kinds of state there are.

A model with every kind: parameters with low copies (or kept in parts, or rounded at random), frozen
ones, both moments, running statistics, an average of a weight, a state for each row and micro-batch,
the histories of delayed fp8, counters, two scalers.  Something not finite is put into the data, a
weight, a loss's weight, a state, the learning rate: behind the step every byte of every state is as
it was, but for those that the design exempts by name.  Good steps change every one of them.
Behind every step, committed or not, low copies and low parts of parameters are the masters rounded.

An update that itself becomes infinite is past that: the run says whose it was, and the state is
neither stepped nor saved until a whole one is loaded.
"""
import sys
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import COUNTER, DERIVED, E_NONFINITE, PART, Model, ModelError, widen, widen_f8e4m3fn
from support import compile_to, round_bf16, same_bits

sys.path.append(str(Path(__file__).resolve().parents[1] / "ops"))
from fp8_cases import fp8

B, D = 4, 16

MODEL = """version 1
import "std/nn.mp"
model M[B] {
  first = Linear(16, 16)
  a = Linear(16, 16)
  b = Linear(16, 16)
  last = Linear(16, 4)
  fixed: param[16] = ones() frozen
  seen: state[16] = zeros()
  ema: state[16, 16] = zeros()
  h: state[B, 16] = zeros()
  fn trunk(x: f32[B, 16]) -> f32[B, 16] {
    y = relu(first(x)) * fixed + 0.1 * h
    if training {
      seen := 0.9 * seen + 0.1 * x[0]
      ema := 0.9 * ema + 0.1 * a.weight
    }
    h := stop(0.5 * h + y)
    return relu(b(relu(a(y))))
  }
}
train M {
  batch B = 4
  data { x: f32[B, 16]; t: f32[B, 4]; w: f32[B] }
  z = last(trunk(x))
  loss fit = sum((z - t)^2, axis: 1) weight(w)
  loss small = mean(abs(z), axis: 1) scale(dynamic, init: 2^6, interval: 2)
  optimizer adamw(lr: 0.01)
  accumulate ACCUMULATE
  tail(drop)
  precision WORD
}
"""
# Precision, micro-batches, how many states are compared, how many of them are masters rounded.
CASES = [("bf16 scale(dynamic, interval: 2)", 1, 34, 4), ("f16 scale(dynamic, init: 2^8)", 2, 34, 4),
         ("fp8(delayed, history: 4) scale(dynamic, init: 2^4)", 1, 55, 4),
         ("bf16 master(split) scale(2^3)", 1, 42, 4), ("bf16 master(sr)", 2, 30, 0)]
PRIVATE = 16  # MP_STATE_PRIVATE
STATES = "a.weight", "a.bias", "last.bias", "seen", "h"  # into which something not finite is put
INJECTIONS = 2 * (3 + len(STATES)) + 1
BF16 = {np.inf: 0x7F80, np.nan: 0x7FC0}  # as bits, where a state is bf16, which NumPy has not
EXEMPT = {"attempt", "skipped", "scale", "clean", "hysteresis", "saturated", "underflow",
          "watched"}


def batch(rng, rows):
    return {"x": rng.standard_normal((rows, D)).astype(np.float32),
            "t": rng.standard_normal((rows, 4)).astype(np.float32), "w": np.ones(rows, np.float32)}


def everything(m):
    return {path: m.get(path).copy() for path in m.states}


def is_exempt(m, path):
    return m.states[path].kind == COUNTER and path.split(":")[0] in EXEMPT


def is_written(m, path):
    """Steps change it: not what is frozen or private to eval; counters of skips, counts of codes, and the
    ties of a parameter in parts, may stand."""
    may_stand = path.endswith(":up") or ".count" in path or is_exempt(m, path)
    return not (path.startswith("fixed") or may_stand or m.states[path].flags & PRIVATE)


def injections(m, data):
    """What is wrong, and how to take it back."""
    for value in np.inf, np.nan:
        for name in "x", "t", "w":
            bad = {n: a.copy() for n, a in data.items()}
            bad[name].flat[5 % bad[name].size] = value
            yield f"{value} in {name}", bad, {}
        for path in STATES:
            bad = m.get(path).copy()
            bad.flat[0] = value if bad.dtype == np.float32 else BF16[value]
            yield f"{value} in {path}", data, {path: bad}
    yield "the learning rate", data, {"lr": np.inf}


def put(m, states):
    for path, value in states.items():
        m.hyper(path, float(value)) if path == "lr" else m.set(path, value)


ROUND = {"bf16": (widen, round_bf16), "f16": (np.float32, lambda x: x.astype(np.float16).astype(np.float32)),
         "f8e4m3fn": (widen_f8e4m3fn, lambda x: fp8("f8e4m3fn", x).astype(np.float32))}


def check_rounded(m, wanted, label):
    """To nearest, ties to even, bit for bit; in fp8 times the scale that the state has now."""
    found = 0
    for path in m.states:
        master, _, low = path.rpartition(":")
        if low not in ROUND:
            continue
        assert m.states[path].kind in (DERIVED, PART), path
        whole, (number, round_low) = m.get(master), ROUND[low]
        with np.errstate(over="ignore", invalid="ignore"):
            want = round_low(whole * m.get(f"{master}:fp8.w.scale") if low == "f8e4m3fn" else whole)
        why = same_bits(number(m.get(path)), want)
        assert not why, f"{label}: {path}: {why}"
        found += 1
    assert found == wanted, (label, found)


def check(library, rows, word, compared, rounded):
    m = Model(library, 2)
    m.init(1)
    rng, start = np.random.default_rng(9), everything(m)
    for _ in range(2):
        assert m.run("train_step", rows=rows, **batch(rng, rows)).committed
        check_rounded(m, rounded, word)
    data, tried = batch(rng, rows), 0
    for what, bad, states in injections(m, data):
        good = {p: m.get(p).copy() for p in states if p != "lr"}
        put(m, states)
        before, attempt = everything(m), int(m.get("attempt"))
        assert not m.run("train_step", rows=rows, **bad).committed, (word, what)
        after = everything(m)
        assert int(after["attempt"]) == attempt + 1
        kept = [path for path in before if not is_exempt(m, path)]
        assert len(kept) == compared, (word, len(kept))
        for path in kept:
            why = same_bits(after[path], before[path])
            assert not why, f"{word}: {what}: {path}: {why}"
        check_rounded(m, rounded, f"{word}: {what}")
        put(m, good)
        if "lr" in states:
            m.hyper("lr", np.nan)
        tried += 1
    assert tried == INJECTIONS, tried
    assert m.run("train_step", rows=rows, **batch(rng, rows)).committed
    still = [p for p, value in everything(m).items() if is_written(m, p) and not same_bits(value, start[p])]
    assert not still, (word, still)
    print(f"{word}: {tried} injections, {compared} states compared", flush=True)


def refused(call):
    try:
        call()
    except ModelError as e:
        assert e.status == E_NONFINITE and "the update of 'b.weight' became non-finite" in str(e), e
        return str(e)
    raise AssertionError("an infinite state was stepped or saved")


def check_poison(library, folder):
    m = Model(library, 1)
    m.init(1)
    rng = np.random.default_rng(3)
    assert m.run("train_step", rows=B, **batch(rng, B)).committed
    m.save(folder / "good")
    for moment, value in ("m", 3e38), ("v", 0):  # finite, as is the gradient: their quotient is not
        ruin = m.get(f"b.weight:{moment}").copy()
        ruin[2, 3] = value
        m.set(f"b.weight:{moment}", ruin)
    print(refused(lambda: m.run("train_step", rows=B, **batch(rng, B))), flush=True)
    refused(lambda: m.run("train_step", rows=B))
    refused(lambda: m.save(folder / "bad"))
    assert not (folder / "bad").exists()
    m.load(folder / "good")
    assert m.run("train_step", rows=B, **batch(rng, B)).committed
    m.save(folder / "again")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i, (word, accumulate, compared, rounded) in enumerate(CASES):
            model = folder / f"model{i}.mp"
            model.write_text(MODEL.replace("WORD", word).replace("ACCUMULATE", str(accumulate)))
            library = compile_to(folder / f"model{i}.so", model)
            check(library, B * accumulate, word, compared, rounded)
            if i == 0:
                check_poison(library, folder)


if __name__ == "__main__":
    main()
