"""The loss scale as a state machine and as a unit that cancels.

1. Trajectories of scale, counters and weights on scripted steps (finite, infinite, NaN, no weight,
   a learning rate that is not finite) against a model written here from docs/precision.md, and,
   where there is no hysteresis, floor or cap, against one written from torch.amp.GradScaler's.
   MPCC_LONG=1: against GradScaler itself, of the current PyTorch from PyPI.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from support import BIN, LONG, Evaluator, check_same_bits_sees, same_bits

PASSES = ("simplify, grad, optimize, simplify, cse, dce, expand, simplify, cse, dce, group, precision, "
          "order, schedule")

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

FREE = {"floor": 2.0**-20, "cap": 2.0**100}  # as good as none
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


class Model:
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
    e, model, scales = Evaluator(optimized(GRAPH.format(scale=text))), Model(config), []
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
    if LONG:
        with tempfile.TemporaryDirectory() as name:
            assert real_grad_scaler(Path(name), cases) == ours
        print("as torch.amp.GradScaler of PyPI's current PyTorch")


if __name__ == "__main__":
    main()
