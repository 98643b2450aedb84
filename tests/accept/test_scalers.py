"""Losses with a loss scale of their own.

1. Compiled: three losses with three scalers, static and moving, over a tied table, with and without
   micro-batches: every state as without a scaler, bit for bit; compiled = evaluator, in f16 too.
2. An infinity in one loss backs off the scalers that reach what it made infinite and no other, and
   commits nothing; halves move the scalers as the whole step does; a checkpoint holds them all, and
   the log shows each.
"""
import json
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import E_ARG, GAUGE, SHADOW, Model, ModelError
from support import (check_same_bits_sees, compile_to, emit, far, levels, read_safetensors,
                     same_bits)
from test_precision import B, STEPS, batches, check, evaluated

MODEL = """version 1
config D = 12
model M {
  table: param[21, D] = normal(0, 0.5)
  w: param[D, D] = normal(0, 0.3)
  v: param[D, D] = normal(0, 0.3)
  a: param[D, 1] = normal(0, 0.3)
  b: param[D, 1] = normal(0, 0.3)
  fn trunk(t) {
    x = table[t]
    return x + relu(x @ w)
  }
}
train M {
  batch B = 6
  data { x: i32[B, 5]; y: i32[B, 5] }
  h = trunk(x)
  g = h @ v
  loss next = mean(cross_entropy(g @ transpose(table), y), axis: 1)
  loss near = mean((reshape(relu(g) @ a, [B, 5]) - f32(y))^2, axis: 1) weight(f32(x[:, 0])) NEAR
  loss small = mean(abs(reshape(h @ b, [B, 5])), axis: 1) SMALL
  optimizer adamw(lr: 0.01)
  clip 0.7
  accumulate ACCUMULATE
  precision WORD
}
"""

MOVING = "scale(dynamic, init: 2^8, interval: 1)"
CASES = [  # the program's, of `near`, of `small`
    ("", "scale(2^4)", ""), ("scale(2^-20)", "scale(2^30)", ""), ("scale(2^3)", "", "scale(2^-9)"),
    ("scale(dynamic, interval: 2)", "scale(2^60)", MOVING),
    ("", MOVING, "scale(dynamic, interval: 1, growth: 8)")]


def write(path, word, near="", small="", accumulate=1):
    text = MODEL.replace("WORD", word).replace("NEAR", near).replace("SMALL", small)
    path.write_text(text.replace("ACCUMULATE", str(accumulate)))
    return path


def trace(library, rows):
    m = Model(library, 2)
    m.init(1)
    m.hyper("steps", STEPS)
    kept = [p for p in m.states if p.split(":")[0] not in ("scale", "clean", "hysteresis")]
    for data in batches(rows):
        assert m.run("train_step", rows=rows, **data).committed
        gauges = {name: v for (name, role), v in m.outputs("train_step").items() if role == GAUGE}
        yield {**{p: m.get(p).copy() for p in kept}, "norm": gauges["grad_norm"].copy()}


def check_scales_cancel(folder):
    for accumulate in 1, 2:
        rows, wanted = B * accumulate - 1, None
        for i, (program, near, small) in enumerate([("", "", ""), *CASES]):
            name = f"cancel{accumulate}{i}"
            model = write(folder / f"{name}.mp", "bf16 " + program, near, small, accumulate)
            found = list(trace(compile_to(folder / f"{name}.so", model), rows))
            wanted = wanted or found
            for step, (have, want) in enumerate(zip(found, wanted)):
                for path, value in want.items():
                    why = same_bits(have[path], value)
                    assert not why, f"{program}, {near}, {small}: step {step}, {path}: {why}"
    print(f"bf16, three losses, {len(CASES)} sets of scalers: every state as without", flush=True)


def check_compiled(folder):
    ends = levels()
    for i, word in enumerate(["bf16", "f16 scale(dynamic)", "f16 scale(2^6)"]):
        model = write(folder / f"model{i}.mp", word, "scale(2^9)", MOVING, 1 + i % 2)
        rows = B * (1 + i % 2) - 1
        for level in ends[0], ends[-1]:
            flag = f"-mcpu={level}"
            text = emit("schedule", model, flag)
            assert len(set(re.findall(r"rescale .*(\*min\S+)$", text, re.M))) == 2
            wanted = list(evaluated(text, rows))
            library = compile_to(folder / f"lib{i}_{level[-1]}.so", model, flag)
            for threads in 1, 3:
                check(library, threads, wanted, rows, f"{word}, {level}")
    print("three scalers, bf16 and f16: compiled = evaluator", flush=True)


# ---- who backs off -------------------------------------------------------------------------------

GROUPS = """version 1
model M {
  w: param[4, 4] = normal(0, 0.3)
  a: param[4] = normal(0, 0.3)
  b: param[4] = normal(0, 0.3)
  fn trunk [B](x: [B, 4]) -> [B, 4] = x @ w
}
train M {
  batch B = 4
  data { x: f32[B, 4]; s: f32[B]; u: f32[B] }
  h = trunk(x)
  loss main = sum(h * a, axis: 1) * s
  loss aux = sum(stop(h) * b, axis: 1) * u scale(dynamic, init: 2^10, interval: 4, floor: 2^4)
  loss far = sum(h * b, axis: 1) scale(dynamic, init: 2^6, interval: 100, hysteresis: 2, floor: 2^4)
  optimizer sgd(lr: 0.01)
  precision f16 scale(dynamic, init: 2^8, interval: 3, floor: 2^4)
  steps 40
}
"""
# s, u, the parameters whose gradients become infinite, the scalers that reach those: main reaches w
# and a, aux b, far w and b.  The losses stay finite.
KINDS = {"clean": (1, 1, "", set()), "main": (3e38, 1, "wa", {"main", "far"}),
         "aux": (1, 3e38, "b", {"aux", "far"}), "both": (3e38, 3e38, "wab", {"main", "aux", "far"})}
# suffix of its counters, start, interval, hysteresis
SCALERS = {"main": ("", 2.0**8, 3, 1), "aux": (":aux", 2.0**10, 4, 1), "far": (":far", 2.0**6, 100, 2)}


def grouped(rng, kind):
    x = (rng.uniform(0.5, 1, (4, 4)) * 2.0**-4).astype(np.float32)
    s, u = (np.full(4, v, np.float32) for v in KINDS[kind][:2])
    return {"x": x, "s": s, "u": u}


def check_groups(folder):
    """Infinite cotangents, finite losses: the scale alone is what is too much."""
    model = folder / "groups.mp"
    model.write_text(GROUPS)
    library = compile_to(folder / "groups.so", model, halves=True)
    rng = np.random.default_rng(11)
    script = ["clean"] * 4 + list(rng.choice(list(KINDS), 26))
    whole, halves = Model(library, 1), Model(library, 2)
    for m in whole, halves:
        m.init(1)
    want = {name: [start, 0, 0] for name, (_, start, _, _) in SCALERS.items()}
    for at, kind in enumerate(script):
        data, (_, _, infinite, hit) = grouped(rng, kind), KINDS[kind]
        before = {p: whole.get(p).copy() for p in "wab"}
        committed = whole.run("train_step", **data).committed
        found = {name: bool(v) for (name, _), v in whole.outputs("train_step").items()
                 if name.startswith(("grad:", "loss:"))}
        assert committed == (kind == "clean"), (at, kind, found)
        assert all(found[f"loss:{name}"] for name in SCALERS), found
        for name, (suffix, _, interval, patience) in SCALERS.items():
            state = want[name]
            if name in hit:
                state[1:] = 0, min(state[2] + 1, patience)
                state[0] = max(state[0] / 2, 16) if state[2] == patience else state[0]
            elif committed:
                state[1:] = state[1] + 1, 0
                if state[1] == interval:
                    state[:2] = state[0] * 2, 0
            have = [float(whole.get(part + suffix)) for part in ("scale", "clean", "hysteresis")]
            assert have == state, (at, kind, name, have, state)
        for p in "wab":
            assert committed or same_bits(whole.get(p), before[p]) is None
        assert all(found[f"grad:{path}"] == (path not in infinite) for path in "wab"), (kind, found)
        halves.run("train_step.grads", weights=[4, 4, 4], **data)
        assert halves.run("train_step.apply").committed == committed
        for path in [p for p in whole.states if whole.states[p].kind != SHADOW]:
            why = same_bits(halves.get(path), whole.get(path))
            assert not why, (at, kind, path, why)
    whole.save(folder / "ckpt")
    saved = read_safetensors(folder / "ckpt" / "state.safetensors")
    for name, (suffix, *_) in SCALERS.items():
        assert np.frombuffer(saved["scale" + suffix][2], np.float32)[0] == want[name][0]
        assert {f"clean{suffix}", f"hysteresis{suffix}"} <= set(saved)
    again = Model(library, 1)
    again.load(folder / "ckpt")
    assert all(float(again.get("scale" + suffix)) == want[name][0] for name, (suffix, *_) in SCALERS.items())
    print("an infinity backs off whom it reaches:", {n: v[0] for n, v in want.items()}, flush=True)


# Sums of at most 360 terms in another order: 2√K·u is 2e-6 of their sizes, and some cancel.  What adamw makes of
# a gradient is lr of its own size, and so no farther off.  (Measured: 2e-7 and 2e-8.)
NEAR = 1e-5


def check_weights(folder):
    """Two machines with a part of the batch each; the losses' weights differ, and so do the parts'."""
    model = write(folder / "parts.mp", "f32 scale(2^3)", "scale(dynamic)", MOVING)
    library = compile_to(folder / "parts.so", model, halves=True)
    whole, *parts = (Model(library, 1) for _ in range(3))
    for m in whole, *parts:
        m.init(1)
    data = next(batches(B))
    rows = slice(0, 2), slice(2, B)
    weights = [B, float(data["x"][:, 0].sum()), B]
    for bad in None, weights[:2], [*weights, 1.0]:
        try:
            parts[0].run("train_step.grads", weights=bad, **data)
        except ModelError as e:
            assert e.status == E_ARG and "the weights of next, near, small" in str(e), e
        else:
            raise AssertionError("a step ran without its weights")
    try:
        whole.run("train_step", weights=weights, **data)
    except ModelError as e:
        assert "train_step takes no weights" in str(e), e
    else:
        raise AssertionError("a whole step took weights")
    whole.run("train_step.grads", weights=weights, **data)
    for m, part in zip(parts, rows):
        m.run("train_step.grads", rows=part.stop - part.start, weights=weights,
              **{name: a[part].copy() for name, a in data.items()})
    for path in [p for p in whole.states if p.startswith(("grad:", "loss:"))]:
        total = parts[0].get(path) + parts[1].get(path)
        why = far(total, whole.get(path).astype(np.float64), NEAR)
        assert not why, (path, why)
        parts[0].set(path, total)
    assert all(m.run("train_step.apply").committed for m in (whole, parts[0]))
    for path in "table", "w", "v", "a", "b":
        why = far(parts[0].get(path), whole.get(path).astype(np.float64), NEAR)
        assert not why, (path, why)
    print("several losses on two machines, with their weights and not without", flush=True)


def check_log(folder):
    program = compile_to(folder / "program", folder / "groups.mp")
    rng, files = np.random.default_rng(2), []
    for name, array in grouped(rng, "clean").items():
        np.save(folder / f"{name}.npy", np.concatenate([array] * 8))
        files.append(f"--data={name}={folder / name}.npy")
    run = subprocess.run([program, *files, "--steps=8", f"--log={folder / 'log'}"], text=True, check=True,
                         capture_output=True)
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    steps = [line for line in lines if "step" in line and "scale" in line]
    assert [s["scale"] for s in steps[::3]] == [256, 512, 1024], steps
    assert [s["scale:aux"] for s in steps[::4]] == [1024, 2048] and steps[-1]["scale:far"] == 64
    assert "scale:aux" in run.stdout, run.stdout
    print(run.stdout.splitlines()[0], flush=True)


def main():
    check_same_bits_sees()
    with tempfile.TemporaryDirectory() as name:
        check_groups(Path(name))
        check_log(Path(name))
        check_weights(Path(name))
        check_scales_cancel(Path(name))
        check_compiled(Path(name))


if __name__ == "__main__":
    main()
