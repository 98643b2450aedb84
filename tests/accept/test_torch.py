"""Losses, gradients and optimizers against PyTorch, on the same weights and batches.

Gradients: the evaluator in f64 runs the graph behind `grad`, whose results are sums over the rows.
Compiled code shows its gradients through a model whose optimizer is sgd(lr: 1, momentum: 0.9):
after one step from fresh state the moment `PATH:m` is 0.9 * 0 + g, the gradient with every bit.

Trajectories: 20 steps with short batches in between and a learning rate that falls to 0.  Adam's
update of a weight whose gradients all but vanish is the sign of rounding errors, in PyTorch's f32
just as in ours (it is printed beside ours); so labels are drawn at random, which keeps gradients
alive, and one of the two Adams has an eps that they do not drown in.  Micro-batches (accumulate) take
the steps of the whole batches.
"""
import re
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import MOMENT, PARAM, Model
from support import (MLP, Evaluator, check_far_sees_nan, compile_to, distance, emit, far,
                     images_like, skip, with_optimizer)

try:
    import torch
except ImportError:
    skip("this Python has no torch (Debian: python3-torch)")

STEPS, SMALL = 20, "-Dhidden=48"
ROWS = [64, 64, 23, 64, 1, 64, 63] * 3  # of each step
OPTIMIZERS = {
    "adamw": ("adamw(lr: linear(2e-3, to: 0), weight_decay: 0.1)",
              lambda p: torch.optim.AdamW(p, lr=2e-3, weight_decay=0.1), 2e-3),
    "adam": ("adam(lr: linear(1e-3, to: 0), betas: (0.8, 0.99), eps: 1e-4, weight_decay: 0.01)",
             lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.8, 0.99), eps=1e-4,
                                        weight_decay=0.01), 1e-3),
    "sgd": ("sgd(lr: linear(0.05, to: 0))", lambda p: torch.optim.SGD(p, lr=0.05), 0.05),
    "nesterov": ("sgd(lr: linear(0.02, to: 0), momentum: 0.9, nesterov: true)",
                 lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True), 0.02),
    "rmsprop": ("rmsprop(lr: linear(1e-3, to: 0), alpha: 0.9, eps: 1e-4, momentum: 0.5, weight_decay: 0.01)",
                lambda p: torch.optim.RMSprop(p, lr=1e-3, alpha=0.9, eps=1e-4, momentum=0.5, weight_decay=0.01),
                1e-3),
    "momentum": ("sgd(lr: linear(0.02, to: 0), momentum: 0.9, weight_decay: 0.01)",
                 lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=0.01), 0.02),
}


def torch_loss(params, images, labels):
    x = torch.from_numpy(images.astype(np.float64)).to(params["net.0.weight"].dtype)
    x = (x.reshape(len(x), -1) / 255 - 0.2860) / 0.3530
    for layer in "024":
        x = x @ params[f"net.{layer}.weight"].T + params[f"net.{layer}.bias"]
        x = torch.relu(x) if layer != "4" else x
    return torch.nn.functional.cross_entropy(x, torch.from_numpy(labels.astype(np.int64)))


def torch_params(weights, dtype=torch.float64):
    return {path: torch.tensor(w, dtype=dtype, requires_grad=True) for path, w in weights.items()}


def torch_gradients(weights, images, labels, dtype=torch.float64):
    params = torch_params(weights, dtype)
    loss = torch_loss(params, images, labels)
    loss.backward()
    return {"loss": loss.detach().numpy(), **{p: t.grad.numpy() for p, t in params.items()}}


def weights_of(model, rng):
    """Fresh ones, but biases that are not 0."""
    model.init(1)
    for path in model.paths(PARAM):
        if path.endswith("bias"):
            model.set(path, rng.normal(0, 0.1, model.get(path).shape).astype(np.float32))
    return {path: model.get(path).copy() for path in model.paths(PARAM)}


def worst(got, want):
    return max(distance(np.asarray(got[name]), value) for name, value in want.items())


def compare(what, got, want, tolerance, also=None):
    """also: what PyTorch makes of it in f32, to be printed."""
    for name, value in want.items():
        why = far(np.asarray(got[name]), np.asarray(value), tolerance)
        assert not why, f"{what}: {name}: {why}"
    theirs = f"; PyTorch's f32: {worst(also, want):.1e}" if also else ""
    print(f"{what:36} worst of {len(want)}: {worst(got, want):.1e}, accepted {tolerance:.0e}"
          f"{theirs}", flush=True)


# ---- one batch -----------------------------------------------------------------------------------


def evaluated_gradients(graph, weights, images, labels, rows):
    e = Evaluator(graph, f64=True)
    e.run("init")
    for path, w in weights.items():
        e.set("state", path, w.astype(np.float64))
    e.set("hyper", "steps", np.array(float(STEPS)))
    e.set("hyper", "lr", np.array(0.0))
    found = e.run("train_step", rows=rows, images=images, labels=labels)
    n = found["weight", "loss"]
    assert n == rows
    return {name: value / n for (role, name), value in found.items() if role in ("loss", "grad")}


def compiled_gradients(model, images, labels, rows):
    r = model.run("train_step", rows=rows, images=images, labels=labels)
    assert r.committed and r.weight == rows
    found = {path[:-2]: model.get(path).copy() for path in model.paths(MOMENT)}
    return {"loss": np.array(r.loss), **found}


def check_gradients(folder, rows):
    rng = np.random.default_rng(rows)
    probe = with_optimizer(folder, "probe", "sgd(lr: 1, momentum: 0.9)")
    model = Model(compile_to(folder / f"probe{rows}.so", probe, "--precision=f32"))
    weights = weights_of(model, rng)
    images, labels = images_like(rng, rows)
    want = torch_gradients(weights, images, labels)
    assert len(want) == 7
    graph = emit("grad", MLP, "--precision=f32")
    got = evaluated_gradients(graph, weights, images, labels, rows)
    compare(f"gradients, evaluator f64, {rows} rows", got, want, 1e-10)
    got = compiled_gradients(model, images, labels, rows)
    compare(f"gradients, compiled f32, {rows} rows", got, want, 1e-5,
            torch_gradients(weights, images, labels, torch.float32))


# ---- trajectories --------------------------------------------------------------------------------


def batches():
    rng = np.random.default_rng(7)
    return [(images_like(rng, rows)[0], rng.integers(0, 10, rows, dtype=np.uint8))
            for rows in ROWS[:STEPS]]


def torch_trajectory(weights, optimizer, lr, dtype=torch.float64):
    params, losses = torch_params(weights, dtype), []
    o = optimizer(list(params.values()))
    for step, (images, labels) in enumerate(batches()):
        o.param_groups[0]["lr"] = lr * (1 - step / STEPS)
        o.zero_grad()
        loss = torch_loss(params, images, labels)
        loss.backward()
        o.step()
        losses.append(float(loss))
    return {"losses": np.array(losses), **{p: t.detach().numpy() for p, t in params.items()}}


def evaluated_trajectory(graph, weights):
    e, losses = Evaluator(graph, f64=True), []
    e.run("init")
    for path, w in weights.items():
        e.set("state", path, w.astype(np.float64))
    e.set("hyper", "steps", np.array(float(STEPS)))
    e.set("hyper", "lr", np.array(np.nan))  # by its schedule
    for images, labels in batches():
        found = e.run("train_step", rows=len(labels), images=images, labels=labels)
        losses.append(found["loss", "loss"] / found["weight", "loss"])
    return {"losses": np.array(losses), **{p: e.get("state", p) for p in weights}}


def compiled_trajectory(model, weights):
    losses = []
    for path, w in weights.items():
        model.set(path, w)
    model.hyper("steps", STEPS)
    for images, labels in batches():
        losses.append(model.run("train_step", rows=len(labels), images=images, labels=labels).loss)
    return {"losses": np.array(losses), **{p: model.get(p) for p in weights}}


def in_micro_batches(source, times):
    """The same rows a step, in so many micro-batches: the same sums in another order."""
    text, n = re.subn(r"batch B = 64", f"batch B = {64 // times}\\n  accumulate {times}",
                      source.read_text())
    assert n == 1, "the program has no batch of 64"
    path = source.with_name(f"{source.stem}_{times}.mp")
    path.write_text(text)
    return path


def check_trajectory(folder, name, times=1):
    text, optimizer, lr = OPTIMIZERS[name]
    source = with_optimizer(folder, name, text)
    if times > 1:
        source, name = in_micro_batches(source, times), f"{name} in {times}"
    model = Model(compile_to(folder / (source.stem + ".so"), source, "--precision=f32", SMALL))
    weights = weights_of(model, np.random.default_rng(3))
    want = torch_trajectory(weights, optimizer, lr)
    got = evaluated_trajectory(emit("optimize", source, "--precision=f32", SMALL), weights)
    compare(f"{STEPS} steps of {name}, evaluator f64", got, want, 1e-9)
    compare(f"{STEPS} steps of {name}, compiled f32", compiled_trajectory(model, weights), want,
            1e-5, torch_trajectory(weights, optimizer, lr, torch.float32))


def main():
    torch.set_num_threads(1)
    check_far_sees_nan()
    with tempfile.TemporaryDirectory() as name:
        for rows in 64, 23, 1:
            check_gradients(Path(name), rows)
        for optimizer in OPTIMIZERS:
            check_trajectory(Path(name), optimizer)
        for times in 2, 16:
            check_trajectory(Path(name), "momentum", times)


if __name__ == "__main__":
    main()
