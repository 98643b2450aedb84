"""Numbers that a step shows of itself, against NumPy on the states that it leaves.

The share of weights that it did not change is exact, in every precision, also where a step is
skipped and where most weights stand still.  What --watch says of a value that NumPy can compute
exactly is exact, in f32, bf16, f16 and fp8, and everything it says is what the evaluator says, bit for
bit; with it training has the same bits, and the share of low copies that stand still is exact,
too.  The program writes the same to its log.
"""
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import DERIVED, GAUGE, PARAM, WATCH, Model
from support import LINEAR, Evaluator, compile_to, emit, round_bf16, same_bits

MODEL = """version 1
""" + LINEAR + """model M {{
  table: param[9, 8] = normal(0, 0.5)
  net = [Linear(8, 40), relu, Linear(40, 24), relu, Linear(24, 4)]
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


# ---- weights that stand still --------------------------------------------------------------------


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


# ---- --watch -------------------------------------------------------------------------------------

PLAIN = """version 1
module Double() {{
  fn (x) = x * 2
}}
model M {{
  w: param[4, 8] = he_uniform()
  double = Double()
  fn f(x) = double(x) @ transpose(w)
}}
train M {{
  batch B = 6
  input {{ x: f32[B, 8]; y: f32[B, 4] }}
  loss sum((f(x) - y)^2, axis: 1)
  optimizer sgd(lr: 0.1)
  precision {precision}
  {more}
}}
"""
STATS = "max", "squares", "flushed", "saturated", "elements"


ROUND = {"f32": lambda x: x, "bf16": round_bf16,
         "f16 scale(dynamic)": lambda x: x.astype("f2").astype("f4")}


def watched(m, name):
    found = m.outputs("train_step")
    return np.array([found[f"{name} {stat}", WATCH][()] for stat in STATS])


def check_exact(folder):
    """x times 2 is exact: what is stored of it, NumPy knows to the bit."""
    rng = np.random.default_rng(7)
    for precision, more, real in [(p, "", 6) for p in PRECISIONS] + [("f16 scale(dynamic)", "", 4),
                                                                     ("f16 scale(dynamic)", "accumulate 2", 12)]:
        path = folder / "plain.mp"
        path.write_text(PLAIN.format(precision=precision, more=more))
        m = Model(compile_to(folder / f"w{len(list(folder.glob('w*.so')))}.so", path, "--watch=double"), 2)
        m.init(1)
        rows = 12 if more else 6
        x = (rng.normal(size=(rows, 8)) * 2.0 ** rng.integers(-40, 20, (rows, 8))).astype("f4")
        x[0, :3] = 0, 1e-30, -60000
        m.run("train_step", rows=real, x=x, y=np.zeros((rows, 4), "f4"))
        value = 2 * x[:real]
        with np.errstate(over="ignore"):
            stored = ROUND[precision](value)
        largest, squares, flushed, saturated, elements = watched(m, "double.mul:3")
        assert largest == np.abs(value).max() and elements == value.size, (precision, elements)
        assert flushed == ((value != 0) & (stored == 0)).sum(), (precision, flushed)
        assert saturated == np.isinf(stored).sum(), (precision, saturated)
        exact = (value.astype("f8") ** 2).sum()
        # a dot of the values with themselves: 2√K·u of Σ|ab|, K at most 96
        assert abs(squares - exact) <= 2 * np.sqrt(value.size) * 2.0**-24 * exact, (squares, exact)
        if precision.startswith("f16"):
            assert flushed > 0 and saturated > 0
        print(f"{precision} {more} {real} rows: {flushed:.0f} flushed, {saturated:.0f} saturated of {elements:.0f}")


FP8_MODEL = """version 1
model M {
  first: param[16, 16] = zeros()
  inner: param[16, 16] = zeros()
  last: param[16, 16] = zeros()
  fn f(x) = ((x @ first) @ inner) @ last
}
train M {
  batch B = 6
  input { x: f32[B, 16] }
  loss sum(f(x), axis: 1)
  optimizer sgd(lr: 0.0)
  precision fp8(delayed)
}
"""


def check_fp8(folder):
    """Through unit matrices x arrives at the inner layer as it is, and is stored as the fp8 of x times a scale."""
    (folder / "fp8.mp").write_text(FP8_MODEL)
    m = Model(compile_to(folder / "fp8.so", folder / "fp8.mp", "--watch=saturate:6"), 2)
    m.init(1)
    for path in m.paths(PARAM):
        m.set(path, np.eye(16, dtype="f4"))
    m.run("train_step", x=np.ones((6, 16), "f4"))  # calibrates
    edges = [2.0**-11, 2.0**-10, 1.5 * 2.0**-10, 2.0**-9, 2.0**-6, 440, 448, 464, 480, 512, 1e5, 0.0]
    for scale in 1.0, 0.5:
        m.set("inner:fp8.x.scale", np.array(scale, "f4"))
        x = np.resize([round_bf16(e / scale) for e in edges] + [-2.0**-10 / scale, -480 / scale], (6, 16)).astype("f4")
        m.run("train_step", x=x)
        largest, squares, flushed, saturated, elements = watched(m, "saturate:6")
        y = np.abs(x * scale)  # 448 is the largest, 2^-9 the least; half of that goes to the even one, 0
        assert largest == x.max() and elements == x.size, (scale, largest, elements)
        assert flushed == ((y > 0) & (y <= 2.0**-10)).sum() > 0, (scale, flushed)
        assert saturated == (y > 448).sum() > 0, (scale, saturated)
        exact = (x.astype("f8") ** 2).sum()
        assert abs(squares - exact) <= 2 * np.sqrt(x.size) * 2.0**-24 * exact, (squares, exact)
    print(f"fp8(delayed): {flushed:.0f} flushed, {saturated:.0f} saturated of {elements:.0f}")


def check_bits(folder):
    """States and watched numbers of compiled steps are the evaluator's; states those without."""
    cases = [(p, "") for p in PRECISIONS] + [("bf16", "accumulate 2"), ("fp8(delayed)", ""), ("mx8", "")]
    for precision, more in cases:
        rng = np.random.default_rng(8)
        plain = Model(build(folder, precision, more=more), 2)
        seen = Model(build(folder, precision, more=more, flags=["--watch=**"]), 3)
        evaluator = Evaluator(emit("schedule", folder / "m.mp", "--watch=**"))
        for m in plain, seen:
            m.init(3)
        evaluator.flags = ["--seed=3"]
        for entry in ("init", "derive"):
            if entry in plain.entries:
                evaluator.run(entry)
        for step in range(3):
            data = batch(rng, 12 if more else 6)
            if not step and precision == "fp8(delayed)":
                evaluator.run("train_step.calibrate", rows=len(data["i"]), **data)
            found = evaluator.run("train_step", rows=len(data["i"]), **data)
            before = weights(seen)
            for m in plain, seen:
                m.run("train_step", **data)
            for path in plain.states:
                assert not same_bits(seen.get(path), plain.get(path)), (precision, path)
            numbers = {name: v for (name, role), v in seen.outputs("train_step").items() if role == WATCH}
            assert len(numbers) > 40
            for name, value in numbers.items():
                assert not same_bits(np.float32(value), found["watch", name]), (precision, step, name)
            if precision != "f32":
                low = ROUND.get(precision, round_bf16)
                copied = [path.split(":")[0] for path in seen.paths(DERIVED) if path.endswith("16")]
                assert "net.0.weight" in copied and not "net.0.bias" in copied
                rounded = [{p: low(of[p]) for p in copied} for of in (before, weights(seen))]
                assert gauge(seen, "unchanged_low") == share(*rounded), (precision, step)
    print(f"{len(cases)} programs, of the last {len(numbers)} watched numbers: the evaluator's bits, and training's are the same")


def check_program(folder):
    path = folder / "plain.mp"
    path.write_text(PLAIN.format(precision="f16 scale(dynamic)", more=""))
    compile_to(folder / "train", path, "--watch=**")
    np.save(folder / "x.npy", np.ones((60, 8), "f4"))
    np.save(folder / "y.npy", np.zeros((60, 4), "f4"))
    run = [folder / "train", "--data", f"x={folder}/x.npy", "--data", f"y={folder}/y.npy", "--steps", "5"]
    r = subprocess.run([*run, "--log", folder / "log", "--watch", "grad:**", "--print-every", "5"],
                       check=True, text=True, capture_output=True)
    assert "grad:w " in r.stdout and "double" not in r.stdout, r.stdout
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    assert len(lines) == 5, lines
    assert all(set(line["watch"]["grad:w"]) == {"max", "rms", "flushed", "saturated"} for line in lines)
    assert all(0 <= line["unchanged"] <= 1 for line in lines)
    row = np.array([1, 2, 3, 4, 5, 1e-9, -1e-9, 40000])  # twice that: two vanish in f16, one is too large
    np.save(folder / "x.npy", np.tile(row.astype("f4"), (60, 1)))
    subprocess.run([*run, "--log", folder / "log", "--watch", "double.mul:3", "--quiet"], check=True)
    want = {"max": 80000, "rms": np.sqrt(np.mean((2 * row) ** 2)), "flushed": 2 / 8, "saturated": 1 / 8}
    for line in map(json.loads, (folder / "log").read_text().splitlines()):
        got, = line["watch"].values()
        assert line["skipped"] and got.keys() == want.keys(), line
        assert all(np.isclose(got[k], want[k], rtol=1e-6, atol=0) for k in want), (got, want)
    for pattern, word in ("double.mul", "did you mean"), ("grad:v", "did you mean 'grad:w'"):
        r = subprocess.run([*run, "--watch", pattern], text=True, capture_output=True)
        assert r.returncode == 2 and word in r.stderr, r.stderr
    compile_to(folder / "train", path)
    r = subprocess.run([*run, "--watch", "**"], text=True, capture_output=True)
    assert r.returncode == 2 and "mpcc --watch=GLOB" in r.stderr, r.stderr
    print("the program logs and prints them; a pattern that covers nothing is refused")


def main():
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        for check in check_unchanged, check_exact, check_fp8, check_bits, check_program:
            check(folder)


if __name__ == "__main__":
    main()
