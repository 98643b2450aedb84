"""A small GPT over characters (chargpt_bitwise.mp): compiled code = the evaluator, bit for bit, and the same net
in PyTorch.

Bits: three or four steps, full and short, then eval and writing by sampling, in f32, bf16 and f16 with dynamic
scale, with and without micro-batches; at -O0 and -O3, on 1, 2 and 3 threads, for the lowest level of
instructions and this machine's (MPCC_LONG=1: all).  Every state and every output is compared; the
evaluator runs the kernels and, in f32, the graph before grouping.

PyTorch: loss and gradients of the first batch without dropout: the evaluator in f64 within 1e-10,
compiled f32 within 1e-5.
"""
import math
import re
import tempfile
from pathlib import Path

import numpy as np

import mpcc_model
from mpcc_model import MOMENT, PARAM, Model
from support import (LONG, Evaluator, builds, check_far_sees_nan, check_same_bits_sees, compile_to, distance,
                     emit, far, levels, same_bits)

SOURCE = Path(__file__).resolve().parent / "chargpt_bitwise.mp"
SEED, B, T, V, STEPS, LAYERS, HEADS = 0x123456789A, 6, 16, 64, 10, 2, 2
# precision, micro-batches a step, rows of the steps
VARIANTS = [("f32", 1, (6, 4, 6)), ("bf16", 2, (12, 7, 12)), ("f16 scale(dynamic, init: 2^13)", 1, (6, 1, 6, 4)),
            ("f16 scale(dynamic, init: 2^8)", 2, (12, 9, 12))] + [("f32", 2, (12, 6, 5))] * LONG
ROLES = {mpcc_model.IS_OK: "ok", mpcc_model.FAULT_INDEX: "fault", mpcc_model.FAULT_NONFINITE: "nonfinite",
         mpcc_model.HYPER: "hyper", mpcc_model.FINITE: "finite", mpcc_model.GAUGE: "gauge",
         mpcc_model.VALUE: "value", mpcc_model.SUM: "loss", mpcc_model.WEIGHT: "weight"}
WIDEN = {"bf16": mpcc_model.widen, "f16": lambda x: x.astype(np.float32)}


def model_text(folder, name, precision, accumulate=1, optimizer=None):
    text = SOURCE.read_text()
    for line, new in [("  precision f32\n", f"  precision {precision}\n"),
                      (f"  batch B = {B}\n", f"  batch B = {B}\n" + f"  accumulate {accumulate}\n" * (accumulate > 1))]:
        assert text.count(line) == 1, line
        text = text.replace(line, new)
    if optimizer:
        text, n = re.subn(r"  optimizer .*\n  group .*\n  clip .*\n", f"  optimizer {optimizer}\n", text)
        assert n == 1
    path = folder / (name + ".mp")
    path.write_text(text)
    return path


def scenario(rows):
    """(entry, rows, inputs) in turn."""
    rng = np.random.default_rng(5)
    for n in rows:
        yield "train_step", n, {"text": rng.integers(0, V, (n, T + 1), dtype=np.uint8)}
    yield "eval", B - 2, {"text": rng.integers(0, V, (B - 2, T + 1), dtype=np.uint8)}
    prompt = rng.integers(0, V, (3, T), dtype=np.int32)
    for n in 3, 2:
        yield "generate", n, {"prompt": prompt[:n], "temperature": np.array(0.8, np.float32)}


# ---- who plays it ------------------------------------------------------------------------------------


def evaluated(text, rows):
    e = Evaluator(text, seed=SEED)
    for name, value in re.findall(r'^hyper "([\w.]+)" = (\S+)', text, re.M):
        e.set("hyper", name, np.array(STEPS if name == "steps" else float(value), np.float32))
    np.save(e.folder / "draw.npy", np.array(0, np.int32))
    yield "init", e.run("init")
    if "entry @derive" in text:
        e.run("derive")
    for entry, n, inputs in scenario(rows):
        yield entry, e.run(entry, rows=n, **inputs)


def played(library, threads, rows):
    m = Model(library, threads)
    m.init(SEED)
    m.hyper("steps", STEPS)

    def seen(entry=None):
        found = {}
        for path, s in m.states.items():
            kind = mpcc_model.DTYPES[s.tensor.dtype][0]
            found["state", path] = WIDEN.get(kind, np.copy)(m.get(path)).copy()
        for (name, role), value in (m.outputs(entry) if entry else {}).items():
            total = role in (mpcc_model.SUM, mpcc_model.WEIGHT)
            found[ROLES[role], name] = value.astype(np.float32) if total else value.copy()
        return found

    yield "init", True, seen()
    for entry, n, inputs in scenario(rows):
        committed = m.run(entry, rows=n, **inputs).committed
        yield entry, committed or entry != "train_step", seen(entry)
    m.close()


def compare(label, trace, wanted, rows):
    """How many arrays agree; the rows of an entry that are real."""
    count, plan = 0, [None] + list(scenario(rows))
    assert len(trace) == len(wanted) == len(plan)
    for at, ((what, committed, got), (_, want)) in enumerate(zip(trace, wanted)):
        assert ("ok", "ok") not in want or bool(want["ok", "ok"]) == bool(committed), (label, what)
        for (role, name), value in want.items():
            if role in ("loss", "metric", "weight") and not committed:
                continue  # totals are of committed runs
            assert (role, name) in got, f"{label}: {what} {at}: no {role} {name}"
            mine = got[role, name]
            if what == "generate" and role == "value":
                mine, value = mine[:plan[at][1]], value[:plan[at][1]]
            why = same_bits(mine, value)
            assert not why, f"{label}: {what} {at}: {role} {name}: {why}"
            count += 1
    return count


def check_bits(folder, index, precision, accumulate, rows):
    model = model_text(folder, f"bits{index}", precision, accumulate)
    oracles, counts = {}, []
    few = levels()[0], levels()[-1]
    for level, opt in [build for build in builds() if LONG or build[0] in few]:
        flag = f"-mcpu={level}"
        texts = [emit(stage, model, flag) for stage in ["schedule"] + ["dce"] * (precision == "f32")]
        for text in texts:
            if text not in oracles:
                oracles[text] = list(evaluated(text, rows))
        library = compile_to(folder / f"bits{index}_{re.sub(r'[^0-9a-z]', '_', level)}{opt[1:]}.so", model, flag, opt)
        for threads in 1, 2, 3:
            trace = list(played(library, threads, rows))
            steps = [committed for what, committed, _ in trace if what == "train_step"]
            assert sum(steps) >= 2, f"{precision}: of the steps {steps} were committed"
            counts += [compare(f"{precision}, {accumulate} micro-batches, {level} {opt}, {threads} threads",
                               trace, oracles[text], rows) for text in texts]
    print(f"{precision}, {accumulate} micro-batches: {min(counts)} to {max(counts)} arrays equal in each of "
          f"{len(counts)} runs, steps committed: {steps}", flush=True)
    assert min(counts) > 300, counts


# ---- PyTorch -----------------------------------------------------------------------------------------


def torch_loss(torch, p, text):
    F = torch.nn.functional

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], p[name + ".weight"], p[name + ".bias"], 1e-5)

    def linear(x, name):
        return x @ p[name + ".weight"].T + p[name + ".bias"]

    ids = torch.from_numpy(text.astype(np.int64))
    x = p["tok.weight"][ids[:, :-1]] + p["pos"]
    rows, d = len(ids), x.shape[-1]
    later = torch.ones(T, T, dtype=torch.bool).triu(1)
    for i in range(LAYERS):
        block = f"blocks.{i}."
        qkv = linear(norm(x, block + "ln1"), block + "attn.wqkv")
        q, k, v = qkv.reshape(rows, T, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2) / math.sqrt(d // HEADS)).masked_fill(later, -math.inf)
        y = (torch.softmax(scores, -1) @ v).permute(0, 2, 1, 3).reshape(rows, T, d)
        x = x + linear(y, block + "attn.proj")
        h = F.gelu(linear(norm(x, block + "ln2"), block + "mlp.up"))
        x = x + linear(h, block + "mlp.down")
    z = norm(x, "lnf") @ p["tok.weight"].T
    return F.cross_entropy(z.reshape(-1, V), ids[:, 1:].reshape(-1))


def torch_gradients(torch, weights, text):
    p = {path: torch.tensor(w, dtype=torch.float64, requires_grad=True) for path, w in weights.items()}
    loss = torch_loss(torch, p, text)
    loss.backward()
    return {"loss": loss.detach().numpy(), **{path: t.grad.numpy() for path, t in p.items()}}


def check_torch(folder):
    try:
        import torch
    except ImportError:
        print("left out: gradients against PyTorch (this Python has no torch)")
        return
    model = model_text(folder, "probe", "f32", optimizer="sgd(lr: 1, momentum: 0.9)")
    m = Model(compile_to(folder / "probe.so", model, "-Drate=0.0"))
    m.init(3)
    rng = np.random.default_rng(2)
    for path in m.paths(PARAM):  # biases that are not 0, scores that differ
        if path.endswith("bias") or path == "pos":
            m.set(path, rng.normal(0, 0.3, m.get(path).shape).astype(np.float32))
    weights = {path: m.get(path).copy() for path in m.paths(PARAM)}
    for rows in B, 4:
        for path, w in weights.items():
            m.set(path, w)
        for path in m.paths(MOMENT):
            m.set(path, np.zeros_like(m.get(path)))
        text = rng.integers(0, V, (rows, T + 1), dtype=np.uint8)
        want = torch_gradients(torch, weights, text)
        assert len(want) == 2 + 12 * LAYERS + 3
        e = Evaluator(emit("grad", model, "-Drate=0.0"), f64=True)
        e.run("init")
        for path, w in weights.items():
            e.set("state", path, w.astype(np.float64))
        e.set("hyper", "lr", np.array(0.0))
        e.set("hyper", "steps", np.array(float(STEPS)))
        found = e.run("train_step", rows=rows, text=text)
        n = found["weight", "loss"]
        exact = {name: value / n for (role, name), value in found.items() if role in ("loss", "grad")}
        r = m.run("train_step", rows=rows, text=text)
        assert r.committed and r.weight == n == rows * T
        mine = {"loss": np.array(r.loss), **{path[:-2]: m.get(path) for path in m.paths(MOMENT)}}
        for who, got, tolerance in ("evaluator f64", exact, 1e-10), ("compiled f32", mine, 1e-5):
            for name, value in want.items():
                why = far(np.asarray(got[name]), value, tolerance)
                assert not why, f"{who}, {rows} rows: {name}: {why}"
            worst = max(distance(np.asarray(got[name]), value) for name, value in want.items())
            print(f"gradients of {len(want) - 1} parameters, {rows} rows, {who}: worst {worst:.1e} from PyTorch", flush=True)
    m.close()


def main():
    check_same_bits_sees()
    check_far_sees_nan()
    with tempfile.TemporaryDirectory() as name:
        check_torch(Path(name))
        for index, variant in enumerate(VARIANTS):
            check_bits(Path(name), index, *variant)


if __name__ == "__main__":
    main()
