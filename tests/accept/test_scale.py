"""The loss scale as a state machine and as a unit that cancels.

1. Trajectories of scale, counters and weights on scripted steps (finite, infinite, NaN, no weight,
   a learning rate that is not finite) against a model written here from docs/precision.md, and,
   where there is no hysteresis, floor or cap, against one written from torch.amp.GradScaler's.
   MPCC_LONG=1: against GradScaler itself, of the current PyTorch from PyPI.
2. Compiled: `bf16 scale(2^k)`, k = 0 … 16, has the states of `bf16`, bit for bit; f16 those of
   k = 0 where its cotangents stay in range.
3. Compiled: an infinity in the data or in a weight changes nothing but S, the counters and with
   them the next step's draws; halves commit the bits of the whole step, and nothing behind an index
   out of range; a run that cannot get on says which tensor was the first.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import E_INDEX, FINITE, GAUGE, Model, ModelError
from support import (BIN, LONG, MLP, Evaluator, check_same_bits_sees, compile_to, images_like,
                     same_bits)

PASSES = ("simplify, grad, optimize, simplify, cse, dce, expand, simplify, cse, dce, group, "
          "precision, order, schedule")

GRAPH = """graph "script"
train precision f32 scale dynamic {scale}
hyper "lr" = 0.5 shown "0.5"
state param "p" : f32[3]
state moment "p:v" : f32[3] master "p"
state state "seen" : f32[]
entry @init init () {{
  %c = constant {{value=1}} : f32[]
  %p = broadcast %c {{axes=[]}} : f32[3]
  %z = constant {{value=0}} : f32[]
  %v = broadcast %z {{axes=[]}} : f32[3]
  return state "p" = %p, state "p:v" = %v, state "seen" = %z
}}
entry @train_step step (%p: f32[3] = state "p", %s: f32[] = state "seen", %x: f32[3] = input "x",
                        %n: f32[] = input "n", %lr: f32[] = hyper "lr") {{
  %y = mul %p, %x : f32[3]
  %l = sum %y {{axes=[0]}} : f32[]
  %t = add %s, %n : f32[]
  return loss "l" = %l, weight "l" = %n, hyper "lr" = %lr, state "seen" = %t
}}
entry @"update:p" update (%p: f32[3] = state "p", %g: f32[3] = grad "p", %v: f32[3] = state "p:v",
                          %lr: f32[] = hyper "lr") {{
  %m = add %v, %g : f32[3]
  %r = broadcast %lr {{axes=[]}} : f32[3]
  %d = mul %r, %m : f32[3]
  %q = sub %p, %d : f32[3]
  return state "p" = %q, state "p:v" = %m
}}
"""

FREE = {"floor": 2.0**-20, "cap": 2.0**60}  # as good as none
CONFIGS = [  # what a step may be besides clean, its probability, the scaler
    ("i", 0.3, {"init": 2.0**10, "interval": 2, **FREE}),
    ("iN", 0.2, {"init": 2.0**16, "growth": 4, "backoff": 0.25, "interval": 3, **FREE}),
    ("iN", 0.5, {"init": 2.0**15, "growth": 2, "backoff": 0.5, "interval": 1, **FREE}),
    ("iN", 0.9, {"init": 8, "interval": 2, "floor": 2}),
    ("iN", 0.1, {"init": 8, "interval": 2, "cap": 32}),
    ("iN0L", 0.5, {"init": 2.0**12, "interval": 4, "hysteresis": 2}),
    ("iN0L", 0.6, {"init": 2.0**12, "interval": 2, "hysteresis": 3, "growth": 8, "cap": 2.0**13}),
]
DEFAULTS = {"init": 2.0**15, "growth": 2, "backoff": 0.5, "interval": 2000, "hysteresis": 1,
            "floor": 1, "cap": 2.0**24}
STEPS = 30


def script(rng, kinds, chance):
    """One letter a step: c clean, i infinity, N NaN, 0 no weight, L infinite learning rate."""
    return "".join(rng.choice(list(kinds)) if rng.random() < chance else "c" for _ in range(STEPS))


# ---- models --------------------------------------------------------------------------------------


class Rules:
    """docs/precision.md, sections 3 and 4."""

    def __init__(self, config):
        self.c = {**DEFAULTS, **config}
        self.scale, self.clean, self.late = np.float32(self.c["init"]), 0, 0
        self.step = self.attempt = self.skipped = 0
        self.p, self.v, self.seen = np.ones(3, np.float32), np.zeros(3, np.float32), np.float32(0)

    def run(self, kind, x, n, lr):
        self.attempt += 1
        if kind == "0":
            return
        if kind == "c":
            self.commit(x, n, lr)
            return
        self.skipped += 1
        if kind == "L":
            return
        self.clean = 0
        self.late = min(self.late + 1, self.c["hysteresis"])
        if self.late >= self.c["hysteresis"]:
            self.scale = np.float32(max(self.scale * self.c["backoff"], self.c["floor"]))

    def commit(self, x, n, lr):
        self.step, self.skipped, self.late, self.clean = self.step + 1, 0, 0, self.clean + 1
        if self.clean >= self.c["interval"]:
            self.scale = np.float32(min(self.scale * self.c["growth"], self.c["cap"]))
            self.clean = 0
        self.v = self.v + np.float32(1) / n * x
        self.p = self.p - lr * self.v
        self.seen = self.seen + n

    def states(self):
        i32 = {"step": self.step, "attempt": self.attempt, "skipped": self.skipped,
               "clean": self.clean, "hysteresis": self.late}
        return {"p": self.p, "p:v": self.v, "seen": self.seen, "scale": self.scale,
                **{name: np.int32(value) for name, value in i32.items()}}


def grad_scaler(config, kinds):
    """What torch.amp.GradScaler documents: scales behind each update."""
    scale, tracker, found = config["init"], 0, []
    for kind in kinds:
        if kind != "c":
            scale, tracker = scale * config.get("backoff", 0.5), 0
        elif tracker + 1 == config["interval"]:
            scale, tracker = scale * config.get("growth", 2), 0
        else:
            tracker += 1
        found.append(scale)
    return found


TORCH = """
import json, sys, torch
found = []
for config, kinds in json.load(sys.stdin):
    scaler = torch.amp.GradScaler("cpu", init_scale=config["init"],
        growth_factor=config.get("growth", 2.0), backoff_factor=config.get("backoff", 0.5),
        growth_interval=config["interval"])
    p = torch.nn.Parameter(torch.ones(3))
    optimizer, scales = torch.optim.SGD([p], lr=0.0), []
    for kind in kinds:
        x = {"c": 0.5, "i": float("inf"), "N": float("nan")}[kind]
        optimizer.zero_grad()
        scaler.scale((p * x).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    found.append(scales)
json.dump(found, sys.stdout)
"""


def real_grad_scaler(folder, cases):
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "torch", "numpy"], check=True)
    run = subprocess.run([python, "-c", TORCH], input=json.dumps(cases), check=True, text=True,
                         stdout=subprocess.PIPE)
    return json.loads(run.stdout)


# ---- the step ------------------------------------------------------------------------------------


def optimized(text):
    return subprocess.run([BIN / "mpcc-opt", f"--passes={PASSES}", "-"], input=text, text=True,
                          check=True, stdout=subprocess.PIPE).stdout


def inputs(rng, kind):
    x = rng.standard_normal(3).astype(np.float32)
    n, lr = np.float32(rng.integers(1, 9)), np.float32(0.5)
    if kind in "iN":
        x[rng.integers(3)] = np.inf if kind == "i" else np.nan
    if kind == "0":
        x, n = np.zeros(3, np.float32), np.float32(0)
    return x, n, np.float32(np.inf) if kind == "L" else lr


def check_trajectory(config, kinds, rng):
    """The scales behind each step."""
    text = " ".join(f"{name} {config[name]!r}" for name in DEFAULTS if name in config)
    e, model, scales = Evaluator(optimized(GRAPH.format(scale=text))), Rules(config), []
    e.run("init")
    for at, kind in enumerate(kinds):
        x, n, lr = inputs(rng, kind)
        e.set("hyper", "lr", lr)
        found = e.run("train_step", x=x, n=n)
        before = float(model.scale)
        model.run(kind, x, n, lr)
        for path, want in model.states().items():
            why = same_bits(found["state", path], np.asarray(want))
            assert not why, f"{config}: {kinds[:at + 1]}: {path}: {why}"
        assert bool(found["ok", "ok"]) == (kind == "c"), (config, kinds[:at + 1])
        assert found["gauge", "scale"] == before, (config, kinds[:at + 1])
        assert bool(found["finite", "grad:p"]) == (kind not in "iN"), (config, kinds[:at + 1])
        scales.append(float(model.scale))
    return scales


# ---- compiled ------------------------------------------------------------------------------------

STEPPED = """version 1
import "std/nn.mp"
model M {
  a = Linear(8, 16)
  b = Linear(16, 4)
  fn logits [B](x: [B, 8]) -> [B, 4] = b(relu(a(x)))
}
train M {
  batch B = 16
  data { x: f32[B, 8]; t: i32[B] }
  loss cross_entropy(logits(x), t)
  optimizer adamw(lr: linear(0.01, to: 0))
  precision bf16 scale(dynamic, init: 2^12, interval: 3)
  clip 0.5
  steps 10
}
"""
EXEMPT = {"attempt", "skipped", "scale", "clean", "hysteresis"}
SHADOWS = ("grad:", "weight:", "loss:", "next:")


def seen(m):
    """States but for shadows; the norm."""
    states = {path: m.get(path).copy() for path in m.states if not path.startswith(SHADOWS)}
    return {**states, "grad_norm": gauges(m)["grad_norm"]}


def gauges(m, entry="train_step"):
    found = m.outputs(entry)
    return {name: float(value) for (name, role), value in found.items() if role == GAUGE}


def equal(a, b, *but):
    for path, value in a.items():
        why = path in but or same_bits(np.asarray(value), np.asarray(b[path]))
        assert why in (True, None), f"{path}: {why}"


F16 = """version 1
import "std/nn.mp"
model M {
  a = Linear(8, 8)
  b = Linear(8, 4)
  fn f [B](x: [B, 8]) -> [B, 4] = b(relu(a(x)))
}
train M {
  batch B = 16
  data { x: f32[B, 8]; t: f32[B, 4] }
  loss (f(x) - t)^2
  optimizer sgd(lr: 0.001, momentum: 0.9)
  precision f16 scale(2^0)
  steps 10
}
"""


def check_scale_cancels_f16(folder):
    """Targets of size 1 to 2 from outputs near 0: cotangents of the outputs are 2 to 4 times S, of
    the hidden units a few times smaller, so in the range where f16 has all its bits."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((3, 16, 8)).astype(np.float32)
    t = (rng.choice([-1, 1], (3, 16, 4)) * rng.uniform(1, 2, (3, 16, 4))).astype(np.float32)
    traces = {}
    for k in range(12):
        model = folder / f"wide{k}.mp"
        model.write_text(F16.replace("2^0", f"2^{k}"))
        m = Model(compile_to(folder / f"wide{k}.so", model), 1)
        m.init(1)
        traces[k] = []
        for i in range(3):
            assert m.run("train_step", x=x[i], t=t[i]).committed
            traces[k].append(seen(m))
        for a, b in zip(traces[k], traces[0]):
            equal(a, b)
    print("f16 scale(2^0 … 2^11): every state the same", flush=True)


def check_scale_cancels(folder):
    rng = np.random.default_rng(3)
    images, labels = images_like(rng, 4 * 64)
    traces = {}
    for k in [None, *range(17)]:
        word = "precision bf16" + ("" if k is None else f" scale(2^{k})")
        text = MLP.read_text()
        assert text.count("precision bf16") == 1
        model = folder / f"mlp{k}.mp"
        model.write_text(text.replace("precision bf16", word))
        m = Model(compile_to(folder / f"mlp{k}.so", model, "-Dhidden=24"), 1)
        m.init(1)
        m.hyper("steps", 4)
        traces[k] = []
        for i in range(0, len(images), 64):
            assert m.run("train_step", images=images[i:i + 64], labels=labels[i:i + 64]).committed
            traces[k].append(seen(m))
            assert k is None or gauges(m)["scale"] == 2.0**k
        for a, b in zip(traces[k], traces[None]):
            equal(a, b)
    print("bf16 scale(2^0 … 2^16): every state as without", flush=True)


def batch(rng):
    x = rng.standard_normal((16, 8)).astype(np.float32)
    return {"x": x, "t": rng.integers(0, 4, 16).astype(np.int32)}


def check_infinity(library):
    rng = np.random.default_rng(4)
    m = Model(library, 2)
    m.init(1)
    m.hyper("steps", 10)
    assert m.run("train_step", **batch(rng)).committed
    good = seen(m)
    bad = batch(rng)
    bad["x"][3, 5] = np.inf
    assert not m.run("train_step", **bad).committed
    after = seen(m)
    equal(good, after, "grad_norm", *EXEMPT)
    assert after["scale"] == good["scale"] / 2 and after["attempt"] == good["attempt"] + 1
    assert after["skipped"] == 1 and after["clean"] == 0
    found = m.outputs("train_step").items()
    wrong = [name for (name, role), value in found if role == FINITE and not value]
    assert wrong[0] == "loss:loss", wrong

    weight = m.get("a.weight").copy()
    broken = weight.copy()
    broken[2, 1] = np.inf
    m.set("a.weight", broken)
    assert not m.run("train_step", **batch(rng)).committed
    m.set("a.weight", weight)
    equal(good, seen(m), "grad_norm", *EXEMPT)
    assert m.get("scale") == good["scale"] / 4 and m.get("skipped") == 2
    assert m.run("train_step", **batch(rng)).committed
    assert m.get("scale") == good["scale"] / 4 and m.get("skipped") == 0 and m.get("step") == 2
    print("an infinity moves S and the counters alone", flush=True)


def check_fresh_draws(library):
    """Behind a skipped step the same weights see the same rows through another dropout mask."""
    rng = np.random.default_rng(8)
    data, bad = batch(rng), batch(rng)
    bad["x"][0, 0] = np.inf
    losses = []
    for skips in 0, 1, 1:
        m = Model(library, 1)
        m.init(1)
        m.hyper("steps", 10)
        for _ in range(skips):
            assert not m.run("train_step", **bad).committed
        r = m.run("train_step", **data)
        assert r.committed and m.get("step") == 1 and m.get("attempt") == 1 + skips
        losses.append(r.loss)
    assert losses[0] != losses[1] and losses[1] == losses[2], losses
    print("a skipped step is followed by fresh draws", flush=True)


def check_index(library):
    """Of two machines one has a label that is none: it is told so, and neither commits, whatever the host does."""
    rng, machines = np.random.default_rng(9), [Model(library, 1), Model(library, 1)]
    data = batch(rng)
    for m in machines:
        m.init(1)
        m.hyper("steps", 10)
        assert m.run("train_step", **data).committed
    before, total = [seen(m) for m in machines], {}
    for label, m in zip((9, 3), machines):
        data["t"][7] = label
        try:
            m.run("train_step.grads", **data)
            assert label == 3, "a label that is none"
        except ModelError as e:
            assert label == 9 and e.status == E_INDEX, e
        for path in m.states:
            if path.startswith(SHADOWS):
                total[path] = total.get(path, np.float32(0)) + m.get(path)
    for m, old in zip(machines, before):
        for path, value in total.items():
            m.set(path, value)
        assert not m.run("train_step.apply").committed
        now = {path: m.get(path) for path in old if path in m.states}
        equal(now, old, "attempt", "skipped")
        assert now["skipped"] == 1 and now["scale"] == old["scale"]
    print("an index out of range on one machine is committed by none", flush=True)


def check_halves(library):
    """On one machine, and on two: half a batch each, sums added up between the halves."""
    rng = np.random.default_rng(5)
    whole, halves, other = Model(library, 1), Model(library, 1), Model(library, 1)
    for m in whole, halves, other:
        m.init(1)
        m.hyper("steps", 10)
    for _ in range(3):
        data = batch(rng)
        whole.run("train_step", **data)
        other.run("train_step", **data)
        halves.run("train_step.grads", **data)
        assert halves.get("weight:loss") == 16
        assert halves.run("train_step.apply").committed
        assert gauges(whole) == gauges(halves, "train_step.apply")
        equal(*({p: m.get(p) for p in m.states if not p.startswith(SHADOWS)}
                for m in (whole, halves)))
    data = batch(rng)
    whole.run("train_step.grads", **data)
    total = {p: whole.get(p).copy() for p in whole.states if p.startswith(SHADOWS)}
    parts = []
    for half in slice(0, 8), slice(8, 16):
        other.run("train_step.grads", rows=8, **{name: a[half].copy() for name, a in data.items()})
        parts.append({path: other.get(path).copy() for path in total})
    squares = 0.0
    for path, want in total.items():
        have = parts[0][path] + parts[1][path]
        assert np.allclose(have, want, rtol=1e-5, atol=1e-5 * np.abs(want).max()), path
        other.set(path, have)
        if path.startswith("grad:"):
            squares += np.sum(np.square(have.astype(np.float64)))
    assert other.run("train_step.apply").committed
    norm = gauges(other, "train_step.apply")["grad_norm"]
    assert abs(norm - np.sqrt(squares) / 16) <= 1e-6 * norm, (norm, np.sqrt(squares) / 16)
    print("halves commit what the whole step does", flush=True)


def check_diagnosis(folder, model):
    """A run whose steps are all skipped ends, and says what was first not finite, and where: the data."""
    program = compile_to(folder / "stuck", model)
    x = np.zeros((64, 8), np.float32)
    x[:, 3] = np.nan
    np.save(folder / "x.npy", x)
    np.save(folder / "t.npy", np.zeros(64, np.int32))
    data = [f"--data={name}={folder / name}.npy" for name in ("x", "t")]
    run = subprocess.run([program, *data, "--steps", "100"], text=True, capture_output=True)
    line = STEPPED[:STEPPED.index("x: f32")].count("\n") + 1
    assert run.returncode == 1, run
    assert "20 steps in a row" in run.stderr and f"stepped.mp:{line}:" in run.stderr, run.stderr
    assert "input 'x' is NaN at [" in run.stderr and "step 20" in run.stderr, run.stderr
    print(run.stderr.strip(), flush=True)


def check_compiled(folder):
    check_scale_cancels(folder)
    check_scale_cancels_f16(folder)
    model = folder / "stepped.mp"
    model.write_text(STEPPED)
    library = compile_to(folder / "stepped.so", model, halves=True)
    check_infinity(library)
    dropout = folder / "dropout.mp"
    dropout.write_text(STEPPED.replace("relu(a(x))", "dropout(relu(a(x)), 0.5)"))
    check_fresh_draws(compile_to(folder / "dropout.so", dropout))
    check_halves(library)
    check_index(library)
    check_diagnosis(folder, model)


def main():
    check_same_bits_sees()
    rng, cases, ours = np.random.default_rng(5), [], []
    for kinds, chance, config in CONFIGS:
        line = script(rng, kinds, chance)
        scales = check_trajectory(config, line, rng)
        print(f"{line}  {min(scales):g} … {max(scales):g}: as the model", flush=True)
        if config.get("cap") == FREE["cap"]:
            assert grad_scaler(config, line) == scales, (config, line)
            cases.append((config, line))
            ours.append(scales)
    assert len(cases) == 3
    with tempfile.TemporaryDirectory() as name:
        check_compiled(Path(name))
    if LONG:
        with tempfile.TemporaryDirectory() as name:
            assert real_grad_scaler(Path(name), cases) == ours
        print("as torch.amp.GradScaler of PyPI's current PyTorch")


if __name__ == "__main__":
    main()
