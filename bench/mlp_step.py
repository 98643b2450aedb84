#!/usr/bin/python3
"""A whole training step of examples/mlp.mp (batch 64, f32, AdamW) against PyTorch, two threads.

usage: bench/mlp_step.py [BIN] [ROUNDS]          BIN: build/release/bin

Everybody runs a block of steps in turn, round after round, so that a change of clock or a neighbour
meets all of them; medians and best of the rounds (on a machine with other work only the best mean
much: each of PyTorch's many parallel regions waits for a thread that was sent away).  PyTorch is
eager, with torch.optim.AdamW, and gets its images as normalised f32 tensors; ours reads bytes and
normalises them in the step.  Our steps are called through ctypes; what such a call costs is
printed, not subtracted.  OPENBLAS_CORETYPE=SkylakeX may give PyTorch faster kernels than OpenBLAS picks.
"""
import ctypes
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

THREADS, BLOCK, BATCHES = 2, 25, 50
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(THREADS))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "accept"))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from mpcc_model import Model, Result, Run  # noqa: E402
from support import MLP, compile_to, images_like  # noqa: E402


def blas_in_use():
    """The BLAS that this process has really loaded, in its own words where it has some."""
    maps = Path("/proc/self/maps").read_text()
    found = sorted(set(re.findall(r"/\S*(?:blas|mkl)\S*\.so\S*", maps)))
    for path in found:
        library = ctypes.CDLL(path)
        if hasattr(library, "openblas_get_config"):
            config, core = library.openblas_get_config, library.openblas_get_corename
            config.restype = core.restype = ctypes.c_char_p
            return f"{path}: {config().decode()}, kernels for {core().decode()}"
    return f"{', '.join(found) or 'unknown'} (NOT OpenBLAS: this comparison proves nothing)"


def torch_step(images, labels):
    net = torch.nn.Sequential(torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 256),
                              torch.nn.ReLU(), torch.nn.Linear(256, 10))
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.01)
    loss_of = torch.nn.CrossEntropyLoss()
    x = ((torch.from_numpy(images).float() / 255 - 0.2860) / 0.3530).reshape(BATCHES, 64, 784)
    t = torch.from_numpy(labels).long()

    def step(i):
        optimizer.zero_grad(set_to_none=True)
        loss_of(net(x[i]), t[i]).backward()
        optimizer.step()

    return step


def our_step(library, images, labels):
    """The step, and a call that the library refuses at once: the way there and back."""
    model = Model(library, THREADS)
    model.init(1)
    model.hyper("steps", 1e6)
    entry = model.entries["train_step"].index
    run, result = Run(ctypes.sizeof(Run), 64, 0, 1), Result(struct_size=ctypes.sizeof(Result))
    nothing = Run(ctypes.sizeof(Run), 0, 0, 1)
    api, ctx = model.api, model.ctx
    call, bind, r, n, out = api.run, api.bind, *map(ctypes.byref, (run, nothing, result))
    at = [(images[i].ctypes.data, labels[i].ctypes.data) for i in range(BATCHES)]

    def step(i, keep=model):
        bind(ctx, entry, 0, at[i][0], 64 * 784)
        bind(ctx, entry, 1, at[i][1], 64)
        assert call(ctx, entry, r, out) == 0

    def empty(i, keep=model):
        bind(ctx, entry, 0, at[i][0], 64 * 784)
        bind(ctx, entry, 1, at[i][1], 64)
        call(ctx, entry, n, out)

    return step, empty


def block(step, first):
    start = time.perf_counter()
    for i in range(first, first + BLOCK):
        step(i % BATCHES)
    return (time.perf_counter() - start) / BLOCK


def main():
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 40
    torch.set_num_threads(THREADS)
    images, labels = images_like(np.random.default_rng(1), 64 * BATCHES)
    images, labels = images.reshape(BATCHES, 64, 28, 28), labels.reshape(BATCHES, 64)
    with tempfile.TemporaryDirectory() as name:
        default = compile_to(Path(name) / "mlp_default.so", MLP, "--precision=f32",
                             "--multiversion=x86-64-v3,v4,v4+avx512bf16")
        native = compile_to(Path(name) / "mlp_native.so", MLP, "--precision=f32", "-mcpu=native")
        bf16 = compile_to(Path(name) / "mlp_bf16.so", MLP, "--precision=bf16", "-mcpu=native")
        who = {"PyTorch " + torch.__version__: torch_step(images, labels)}
        who["mpcc f32"], overhead = our_step(default, images, labels)
        who["mpcc f32 -mcpu=native"], _ = our_step(native, images, labels)
        who["mpcc bf16 -mcpu=native"], _ = our_step(bf16, images, labels)
        who["(a call through ctypes)"] = overhead
        times = {key: [] for key in who}
        for step in who.values():
            block(step, 0)
        for i in range(rounds):
            for key, step in who.items():
                times[key].append(block(step, i * BLOCK))
    print("BLAS of PyTorch:", blas_in_use())
    print(f"examples/mlp.mp, batch 64, {THREADS} threads, {rounds} rounds of {BLOCK} steps:")
    median = {key: statistics.median(t) for key, t in times.items()}
    best = {key: min(t) for key, t in times.items()}
    theirs = next(iter(who))
    for key in who:
        ratios = f"{median[theirs] / median[key]:6.2f}x  ({best[theirs] / best[key]:.2f}x)"
        print(f"  {key:26} median {median[key] * 1e6:8.1f} us a step, best {best[key] * 1e6:8.1f} "
              f"{ratios if key[0] != '(' else ''}")


if __name__ == "__main__":
    main()
