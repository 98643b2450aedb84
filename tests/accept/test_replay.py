"""--with-replay: is it range, or real?  A skipped step once more in f32, and op by op for its origin.

Models that are finite in f32 and too large for f16, at one line of several, forward and backward; and such
that are not finite in any precision: a logarithm of a negative number, NaN in the data, an infinite weight.  Under
bf16, f16, fp8(delayed), masters in parts and without, in micro-batches, with draws, on 1 and 3 threads.
Asking leaves every byte of every state as it is, and the program trains to the bits of one without.
"""
import json
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import E_ARG, Model, ModelError
from skipped import batch, state
from support import LINEAR, compile_to, same_bits

MODEL = """version 1
""" + LINEAR + """model M {{
  a = Linear(8, 16)
  inner = Linear(16, 16)
  b = Linear(16, 4)
  fn f(x) {{
    h = a(x)
    s = inner({line})
    return b(s)
  }}
}}
train M {{
  batch B = 6
  input {{ x: f32[B, 8]; y: f32[B, 4] }}
  loss sum(({out} - y)^2, axis: 1)
  optimizer {optimizer}
  precision {precision}
  {more}
}}
"""
LINE, LOSS = 13, 20  # of `s = …` and of the loss
LOW = ("f16 scale(dynamic)", "f16 scale(dynamic) master(sr)", "bf16", "bf16 master(split)", "bf16 master(sr)",
       "fp8(delayed, history: 4)")


def build(folder, line, precision="f16 scale(dynamic)", optimizer="sgd(lr: 1e-9)", more="", out="f(x)", flags=(),
          halves=False):
    path = folder / "m.mp"
    path.write_text(MODEL.format(line=line, precision=precision, optimizer=optimizer, more=more, out=out))
    library = folder / f"m{len(list(folder.glob('*.so')))}.so"
    return compile_to(library, path, "--with-replay", "-mcpu=x86-64-v3", *flags, halves=halves)


def skip(library, threads=2, change=None, entry="train_step", **data):
    """Origin and replay of a step that must be skipped; asking leaves all as it was, also for the next ask."""
    m = Model(library, threads)
    m.init(1)
    if change:
        change(m)
    assert not m.run(entry, **data).committed, "this step was to be skipped"
    before = state(m)
    origin, replay = m.origin(entry), m.replay(entry)
    assert repr((origin, replay)) == repr((m.origin(entry), m.replay(entry))), "the second answer is another"
    assert state(m) == before, "asking changed something"
    return m, origin, replay


def check_range(folder):
    """What f16 cannot hold: the op that was stored, and how large it is in f32, as NumPy has it."""
    for precision in LOW[:2]:
        for threads in 1, 3:
            m, (where, value, at), (there, largest, element) = skip(build(folder, "h * 1e4", precision), threads,
                                                                    **batch(100))
            assert re.search(rf"m.mp:{LINE}:\d+: mul, stored in f16$", where) and math.isinf(value), where
            x, w = batch(100)["x"].astype("f8"), m.get("a.weight").astype("f8")
            h = 1e4 * x @ w.T
            bound = 10 * 2.0 ** -24 * (1e4 * abs(x) @ abs(w).T).max()  # 8 products, the bias, the factor: a rounding each
            assert re.search(rf"m.mp:{LINE}:\d+: mul$", there) and abs(abs(largest) - abs(h).max()) <= bound, largest
            assert element == np.unravel_index(abs(h).argmax(), h.shape), element
    # finite forward, too large on the way back
    _, (where, _, _), (there, largest, _) = skip(build(folder, "sqrt(abs(h) * 1e-7 + 1e-9)", out="f(x) * 100"),
                                                 **batch())
    assert "backward" in where and "stored in f16" in where, where
    assert "backward" in there and math.isfinite(largest) and largest, (there, largest)
    # bf16 has the range of f32, but for what it rounds up to infinity
    just = np.float32(3.4e38)
    data = batch(0)
    data["x"][2, 3] = just
    _, (where, _, at), (there, largest, _) = skip(build(folder, "h * 1e-38", "bf16"), **data)
    assert "input 'x', stored in bf16" in where and at == (2, 3), where
    assert there.endswith("input 'x'") and np.float32(largest) == just, (there, largest)
    print("range: too large for f16 forward and backward, and for bf16, with its size")


def check_real(folder):
    def infinite(m):
        weight = m.get("b.weight").copy()
        weight[1, 3] = np.inf
        m.set("b.weight", weight.astype("f4"))

    broken = batch()
    broken["x"][4, 2] = np.nan
    for precision in LOW:
        library = build(folder, "log(relu(h) - 1e3)", precision)
        for threads in 1, 3:
            _, (where, value, at), (there, in_f32, element) = skip(library, threads, **batch())
            for name in where, there:
                assert re.search(rf"m.mp:{LINE}:\d+: log$", name), name  # not the sub in its kernel
            assert math.isnan(value) and math.isnan(in_f32) and at == element == (0, 0), (value, in_f32)
        _, (where, _, at), (there, in_f32, element) = skip(library, **broken)
        assert "input 'x'" in where and "input 'x'" in there and at == element == (4, 2) and math.isnan(in_f32)
        if "sr" in precision:
            continue  # rounding at random keeps no infinity: it is refused before
        _, (where, _, _), (there, in_f32, element) = skip(library, change=infinite, **batch())
        assert "b.weight" in where and "b.weight" in there or "log" in there, (where, there)
    print(f"real: log of a negative number, NaN in the data, an infinite weight, under {len(LOW)} precisions")


def check_ops(folder):
    """Several ops of one kernel, each the first once: it is named, whatever the precision."""
    cases = [("exp(h * 1e3) * 0", "exp"), ("(h * 1e30 * 1e30) * 0", "mul"), ("rsqrt(h - h) * 0", "rsqrt"),
             ("h / (h - h) * 0", "div"), ("(h + 3e38 + 3e38) * 0", "add")]
    for precision in ("f32", "bf16", "f16 scale(dynamic)"):
        for line, op in cases:
            m = Model(build(folder, line, precision), 2)
            m.init(1)
            assert not m.run("train_step", **batch()).committed, (precision, line)
            where, _, _ = m.origin("train_step")
            assert re.search(rf"m.mp:{LINE}:\d+: {op}$", where), (precision, line, where)
    print(f"{len(cases)} ops inside of kernels are named, in 3 precisions")


def check_loop_and_draws(folder):
    """Micro-batches, of which the second one is too large; and the same draws in f32 as in f16."""
    data = batch(1e-3, rows=12)
    data["x"][9:] *= 1e7
    _, (where, _, _), (there, largest, _) = skip(build(folder, "h * 100", "f16 scale(2^0)", more="accumulate 2"),
                                                 **data)
    assert "mul, stored in f16" in where and there.endswith("mul") and largest, (where, there, largest)
    m = Model(build(folder, "h * (1 + 6e4 * sum(dropout(x, 0.5), axis: 1, keep: true))", "f16 scale(2^0)"))
    m.init(1)
    data = batch(0)
    data["x"][2, 7] = 4
    seen = []
    for _ in range(30):
        if m.run("train_step", **data).committed:
            continue
        where, _, at = m.origin("train_step")
        there, largest, element = m.replay("train_step")
        assert f"m.mp:{LINE}:" in where and "stored in f16" in where and at[0] == 2, (where, at)
        assert math.isfinite(largest) and abs(largest) > 65504 and element[0] == 2, (there, largest, element)
        seen.append(largest)
    assert 5 < len(seen) < 25 and len(set(seen)) == 1, seen
    print(f"in the second micro-batch; {len(seen)} of 30 steps by the same draws")


STATE = """version 1
model M[B] {
  w: param[4, 4] = full(0.001)
  seen: state[4] = full(0.5)
  fn f(x: [B, 4]) -> [B, 4] {
    y = x @ w + seen * 6e4
    if training { seen := stop(mean(y, axis: 0)) }
    return y @ w
  }
}
train M {
  batch B = 3
  tail(drop)
  accumulate 2
  input { x: f32[B, 4] }
  loss sum(f(x)^2, axis: 1)
  optimizer sgd(lr: 0.1)
  precision f16 scale(2^0)
}
"""


def check_states(folder):
    """The second micro-batch goes on from the state that the first one wrote, and neither keeps it."""
    path = folder / "state.mp"
    path.write_text(STATE)
    data = {"x": np.zeros((6, 4), "f4")}
    m, (where, _, at), (there, largest, _) = skip(compile_to(folder / "state.so", path, "--with-replay"), **data)
    assert "state.mp:6:" in where and there in where and largest == np.float32(0.5 * 6e4) * np.float32(6e4), (where, largest)
    assert (m.get("seen") == 0.5).all()
    print("behind a state that the first micro-batch wrote:", where)


def check_same_bits(folder):
    """With and without: the same steps, skipped ones among them."""
    for precision in LOW[1::2]:
        runs = []
        for flags in ("--with-replay",), ():
            path = folder / "m.mp"
            path.write_text(MODEL.format(line="relu(h)", precision=precision, optimizer="adam(lr: 1e-3)", out="f(x)",
                                         more="accumulate 2"))
            m = Model(compile_to(folder / f"b{len(flags)}{LOW.index(precision)}.so", path, "-mcpu=x86-64-v3", *flags), 2)
            m.init(1)
            for step in range(6):
                data = batch(rows=12)
                if step == 3:
                    data["x"][0, 0] = np.inf
                committed = m.run("train_step", **data).committed
                if flags and not committed:
                    m.replay("train_step")
            runs.append(m)
        for name in runs[1].states:
            why = same_bits(runs[0].get(name), runs[1].get(name))
            assert not why, (precision, name, why)
    print("a program with it trains to the bits of one without")


def check_halves(folder):
    """Of a library's halves the first is asked: it has the batch."""
    library = build(folder, "h * 1e4", "f16 scale(2^2)", halves=True)
    m = Model(library, 2)
    m.init(1)
    m.run("train_step.grads", **batch(100))
    assert not m.run("train_step.apply").committed
    before = state(m)
    there, largest, _ = m.replay("train_step.grads")
    assert "mul" in there and math.isfinite(largest) and abs(largest) > 65504, (there, largest)
    assert state(m) == before
    refused(m, "train_step.apply", "ask the first half")
    print("a first half: range")


def refused(m, entry, why):
    try:
        m.replay(entry)
    except ModelError as e:
        assert e.status == E_ARG and why in str(e), e
    else:
        raise AssertionError("no answer was to be had")


def check_refusals(folder):
    bad = batch()
    bad["x"][0, 0] = np.nan
    m = Model(build(folder, "tanh(h)", "f32"))
    m.init(1)
    m.run("train_step", **bad)
    assert "input 'x'" in m.origin("train_step")[0]
    refused(m, "train_step", "or is f32 as it is")
    m = Model(build(folder, "tanh(h)", "bf16"))
    m.init(1)
    m.run("train_step", **batch())
    refused(m, "train_step", "no step that was skipped")
    for entry, ask in ("train_step.replay", "replay"), ("train_step.origin", "origin"):
        try:
            m.run(entry, **batch())
        except ModelError as e:
            assert f"call {ask}" in str(e), e
        else:
            raise AssertionError("it runs on a skipped step's inputs alone")
    print("refused where there is nothing to replay")


def check_run(folder):
    """The run's last words, and its log."""
    for line, scale, word in (("h * 1e4", 100, "range: finite in f32, where the largest |x| is"),
                              ("log(relu(h) - 1e3)", 1, "real: not finite in f32 either, first")):
        path = folder / "m.mp"
        path.write_text(MODEL.format(line=line, precision="f16 scale(dynamic)", optimizer="sgd(lr: 1e-9)", more="",
                                     out="f(x)"))
        compile_to(folder / "train", path, "--with-replay")
        for name, array in batch(scale, rows=60).items():
            np.save(folder / f"{name}.npy", array)
        r = subprocess.run([folder / "train", "--data", f"x={folder}/x.npy", "--data", f"y={folder}/y.npy",
                            "--steps", "50", "--log", folder / "log"], text=True, capture_output=True)
        assert r.returncode == 1 and "20 steps in a row were skipped" in r.stderr, r.stderr
        assert word in r.stderr, r.stderr
        last = json.loads((folder / "log").read_text().splitlines()[-1])
        assert last["replay"].startswith(word) and f"m.mp:{LINE}:" in last["nonfinite"], last
        if scale > 1:
            k = float(re.search(r"2\^([0-9.]+) times the largest f16", last["replay"])[1])
            largest = float(re.search(r"\|x\| is ([0-9.e+]+)", last["replay"])[1])
            assert abs(k - math.log2(largest / 65504)) <= 0.06, last  # printed to a tenth, and 3 digits
        print(r.stderr.strip())


def main():
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        for check in (check_range, check_real, check_ops, check_loop_and_draws, check_states, check_same_bits, check_halves,
                      check_refusals, check_run):
            check(folder)


if __name__ == "__main__":
    main()
