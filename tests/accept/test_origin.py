"""Where a step that was skipped was first not finite: op, source line, path, element.

Programs are built to overflow, each at one line of several, forward, backward, in the data, in a
loop; what is infinite by design or comes to nothing is not blamed.  Asking changes no bit of the
state, on any number of threads, and a run that ends says what was asked.
"""
import json
import math
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import E_ARG, E_NONFINITE, Model, ModelError
from skipped import batch, state
from support import LINEAR, compile_to

MODEL = """version 1
""" + LINEAR + """model M {{
  a = Linear(8, 16)
  b = Linear(16, 4)
  fn f(x) {{
    h = a(x)
    s = {line}
    return b(s)
  }}
}}
train M {{
  batch B = 6
  input {{ x: f32[B, 8]; y: f32[B, 4] }}
  loss sum((f(x) - y)^2, axis: 1)
  optimizer {optimizer}
  precision {precision}
  {more}
}}
"""
NO_WEIGHT = """version 1
model M {
  w: param[3, 3] = he_uniform()
  fn f(x) = x @ w
}
train M {
  batch B = 4
  input { x: f32[B, 3]; g: f32[B] }
  loss sum(f(x)^2, axis: 1) weight(g)
  optimizer sgd(lr: 0.1)
}
"""
LINE, LOSS = 12, 19  # of `s = …` and of the loss


def build(folder, line, precision="f32", optimizer="sgd(lr: 0.1)", more="", flags=()):
    path = folder / "m.mp"
    path.write_text(MODEL.format(line=line, precision=precision, optimizer=optimizer, more=more))
    library = folder / f"m{len(list(folder.glob('*.so')))}.so"
    return compile_to(library, path, *flags)


def skip(library, threads=2, **inputs):
    """The origin of a first step that must be skipped; looking twice says the same and leaves all as it was."""
    m = Model(library, threads)
    m.init(1)
    assert not m.run("train_step", **inputs).committed, "this step was to be skipped"
    before = state(m)
    found, again = m.origin("train_step"), m.origin("train_step")
    assert repr(found) == repr(again) and state(m) == before, "looking changed something"
    return found


def check_lines(folder):
    """(line, precision, data, where it must be, its value)."""
    low = ("bf16", "f16 scale(dynamic)")
    cases = [("exp(h * 100)", p, batch(4), (LINE, "exp"), np.inf) for p in ("f32", *low)]
    cases += [("h * 1e4 * 1e4", "f16 scale(dynamic)", batch(100), (LINE, "mul"), None),
              ("log(relu(h) - 1e3)", "f32", batch(), (LINE, "log"), math.nan),
              # its value is finite, its gradient is not
              ("sqrt(h * 0)", "f32", batch(), (LINE, "backward"), None),
              ("sqrt(h * 0)", "bf16", batch(), (LINE, "backward"), None),
              # the -inf of a mask is lawful
              ("softmax(where(h > 0, h, -inf), axis: 1) * 1e25", "f32", batch(), (LOSS, ""), np.inf),
              # a branch that is not taken comes to nothing; the loss overflows
              ("where(h > 1e9, stop(1 / (h * 0)), h) * 1e19", "f32", batch(), (LOSS, ""), np.inf)]
    for line, precision, data, (number, word), value in cases:
        for threads in 1, 3:
            where, found, at = skip(build(folder, line, precision), threads, **data)
            assert where and f"m.mp:{number}:" in where.split(",")[0], (line, precision, where)
            assert word in where, (line, where)
            assert value is None or repr(found) == repr(float(value)), (line, found)
    print(f"{len(cases)} programs, each blamed on its line, 1 and 3 threads")


def check_inputs(folder):
    data = batch()
    data["x"][4, 2] = np.nan
    where, value, at = skip(build(folder, "tanh(h)", "bf16"), **data)
    assert "input 'x'" in where and at == (4, 2) and math.isnan(value), (where, value, at)
    m = Model(build(folder, "tanh(h)", "bf16"))
    m.init(1)
    weight = m.get("b.weight").copy()
    weight[1, 3] = np.inf
    m.set("b.weight", weight)
    assert not m.run("train_step", **batch()).committed
    where, value, at = m.origin("train_step")
    assert "state 'b.weight" in where and at == (1, 3) and value == np.inf, (where, value, at)
    print("a NaN of the data and an infinite weight are named with their place")


def check_every_run(folder):
    """--check-nan: the run itself says it, of eval too, and of what the guard lets pass."""
    def stops(line, entry, **data):
        m = Model(build(folder, line, flags=("--check-nan",)))
        m.init(1)
        try:
            m.run(entry, **data)
        except ModelError as error:
            assert error.status == E_NONFINITE, error
            return str(error)
        return None

    for entry in "train_step", "eval":
        text = stops("log(relu(h) - 1e3)", entry, **batch())
        assert f"m.mp:{LINE}:" in text and f"is NaN at [0, 0], in {entry}, step" in text, text
        assert stops("softmax(where(h > 0, h, -inf), axis: 1)", entry, **batch()) is None
    bad = batch()
    bad["x"][5, 1] = np.nan
    text = stops("tanh(h)", "train_step", **bad)
    assert "input 'x' is NaN at [5, 1], in train_step, step" in text, text
    text = stops("h * log(sum(a.bias) - 1)", "train_step", **batch())  # of one number: no element
    assert f"m.mp:{LINE}:" in text and "is NaN, in train_step, step" in text, text
    print("--check-nan ends the run at op, element and step")


def check_skip_unfound(folder):
    """A batch without weight is skipped though all is finite; good steps behind it are no skips."""
    path = folder / "w.mp"
    path.write_text(NO_WEIGHT)
    for flags in (), ("--check-nan",):
        m = Model(compile_to(folder / f"w{len(flags)}.so", path, *flags))
        m.init(1)
        x, one = np.ones((4, 3), "f4"), np.ones(4, "f4")
        assert not m.run("train_step", x=x, g=0 * one).committed
        before = state(m)
        assert m.origin("train_step")[0] is None and m.origin("train_step")[0] is None
        assert state(m) == before
        assert m.run("train_step", x=x, g=one).committed
        before = state(m)
        refused(m, "train_step")
        assert state(m) == before, "asking after a good step moved it once more"
    print("a skip without a cause is over with the next step, with and without --check-nan")


def check_modules(folder):
    """Two instances share their line: the path tells them apart."""
    library = build(folder, "relu(h)")
    for name in "ab":
        m = Model(library)
        m.init(1)
        m.set(f"{name}.weight", np.full_like(m.get(f"{name}.weight"), 3e38))
        assert not m.run("train_step", **batch(10)).committed
        where, _, _ = m.origin("train_step")
        assert f"matmul of {name}" in where and "m.mp:5:" in where, where
    print("two instances of one module are told apart")


def check_loop(folder):
    """Micro-batches: the second one overflows."""
    data = batch(0.1, rows=12)
    data["x"][9:] = 1e5
    path = build(folder, "exp(h * 100)", more="accumulate 2")
    where, value, at = skip(path, **data)
    assert f"m.mp:{LINE}:" in where and "exp" in where, where
    print("inside a loop:", where)


def check_draws(folder):
    """Only where dropout keeps one element the step is skipped: its replay has the same draws."""
    m = Model(build(folder, "h + sum(exp(dropout(x, 0.5)), axis: 1, keep: true)",
                    optimizer="sgd(lr: 1e-9)"))
    m.init(1)
    data = batch(0)
    data["x"][2, 7] = 100
    skipped = 0
    for _ in range(30):
        if m.run("train_step", **data).committed:
            continue
        where, value, _ = m.origin("train_step")
        assert where and f"m.mp:{LINE}:" in where and value == np.inf, where
        skipped += 1
    assert 5 < skipped < 25, skipped
    print(f"{skipped} of 30 steps were skipped, by the same draws again")


def check_update(folder):
    """Gradients are finite, a moment is not: the step commits, and what it made is an error."""
    m = Model(build(folder, "tanh(h)", optimizer="adam(lr: 0.1)"))
    m.init(1)
    for _ in range(2):
        assert m.run("train_step", **batch()).committed
    moment = m.get("a.weight:v").copy()
    moment[3, 5] = np.inf
    m.set("a.weight:v", moment)
    try:
        m.run("train_step", **batch())
    except ModelError as e:
        assert e.status == E_NONFINITE and "update of 'a.weight'" in str(e), e
        assert "non-finite at step 3, first 'a.weight:v' (" in str(e) and "optim.mp:" in str(e), e
        print("an update:", e)
        return
    raise AssertionError("an infinite moment is an error")


def check_halves(folder):
    """The first half can be asked behind its run and behind a second half that did not commit, whatever the
    host has made of the gradients by then; asking leaves those as they are."""
    path = folder / "half.mp"
    path.write_text(MODEL.format(line="exp(h * 100)", precision="f16 scale(2^2)",
                                 optimizer="sgd(lr: 0.1)", more=""))
    m = Model(compile_to(folder / "half.so", path, halves=True))
    m.init(1)
    m.run("train_step.grads", **batch(0.001))
    assert m.origin("train_step.grads")[0] is None
    assert m.run("train_step.apply").committed
    refused(m, "train_step.grads")
    bad = batch(0.1, rows=5)
    m.run("train_step.grads", rows=5, **bad)
    first = m.origin("train_step.grads")
    where, value, at = first
    assert f"m.mp:{LINE}:" in where.replace("half.mp", "m.mp") and "exp" in where and value == np.inf, where
    shared = np.full_like(m.get("grad:b.bias"), -np.inf)
    m.set("grad:b.bias", shared)  # of another machine
    before = state(m)
    assert repr(m.origin("train_step.grads")) == repr(first) and state(m) == before
    assert not m.run("train_step.apply").committed
    before = state(m)
    assert m.get("attempt") == 2 and repr(m.origin("train_step.grads")) == repr(first)
    assert "state '" in m.origin("train_step.apply")[0]
    assert repr(m.origin("train_step.grads")) == repr(first) and state(m) == before
    m.bind("train_step.grads", "x", bad["x"])
    refused(m, "train_step.grads")
    print("a first half:", where)


def refused(m, entry):
    try:
        m.origin(entry)
    except ModelError as e:
        assert e.status == E_ARG, e
    else:
        raise AssertionError("nothing is as it was")


def check_refusals(folder):
    bad = batch()
    bad["x"][0, 0] = np.inf
    m = Model(build(folder, "tanh(h)"))
    m.init(1)
    for change in (lambda: m.run("train_step", **batch()), lambda: m.hyper("lr", 0.2),
                   lambda: m.set("a.bias", m.get("a.bias").copy()), lambda: m.init(2)):
        m.run("train_step", **bad)
        m.origin("train_step")
        change()
        refused(m, "train_step")
    print("asked once the state is another: an error")


def check_run(folder):
    path = folder / "m.mp"
    path.write_text(MODEL.format(line="exp(h * 100)", precision="bf16", optimizer="sgd(lr: 0.1)",
                                 more=""))
    compile_to(folder / "train", path)
    data = batch(4, rows=60)
    for name, array in data.items():
        np.save(folder / f"{name}.npy", array)
    r = subprocess.run([folder / "train", "--data", f"x={folder}/x.npy", "--data",
                        f"y={folder}/y.npy", "--steps", "50", "--log", folder / "log"],
                       text=True, capture_output=True)
    assert r.returncode == 1 and "20 steps in a row were skipped" in r.stderr, r.stderr
    assert f"m.mp:{LINE}:" in r.stderr and "exp" in r.stderr and " is inf at [" in r.stderr, r.stderr
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    skipped = [line for line in lines if line["skipped"]]
    assert len(skipped) == 20 and all("exp" in line["nonfinite"] for line in skipped), lines
    assert f"the last at step {skipped[-1]['step']}: " in r.stderr, (r.stderr, skipped[-1])
    print(r.stderr.strip())


def main():
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        for check in (check_lines, check_inputs, check_every_run,
                      check_skip_unfound, check_modules, check_loop,
                      check_draws, check_update, check_halves, check_refusals, check_run):
            check(folder)


if __name__ == "__main__":
    main()
