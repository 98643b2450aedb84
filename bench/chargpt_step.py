#!/usr/bin/python3
"""A whole training step of bench/chargpt.mp (4 layers, T 128, d 192, batch 16) against PyTorch.

usage: bench/chargpt_step.py [BIN] [ROUNDS] [THREADS] [compile]      BIN: build/release/bin

Needs numpy and torch; a current PyTorch comes from PyPI, in a venv outside the repository.  Everybody
runs a block of steps in turn, round after round.  Printed are the median and the best wall time of a
step and the median of the processor's time, which a machine with other work disturbs least (with
one thread; waiting threads may spin), and the share of the limit: the products' operations at
the rate of fused multiply-adds that bench/gemm_peak.c measures with the level's vectors.
PyTorch: eager, with `compile` torch.compile too; scaled_dot_product_attention, AdamW (fused), the
norm clipped at 1; f32, and bf16 by autocast.
"""
import ctypes
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = [a for a in sys.argv[1:] if a != "compile"]
sys.argv[1:] = WORDS
ROUNDS = int(WORDS[1]) if len(WORDS) > 1 else 12
THREADS = int(WORDS[2]) if len(WORDS) > 2 else 2
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(THREADS))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "accept"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from mpcc_model import Model, Result, Run  # noqa: E402
from support import BIN, compile_to  # noqa: E402

MODEL = Path(__file__).resolve().parent / "chargpt.mp"
T, D, LAYERS, HEADS, V, B = 128, 192, 4, 6, 256, 16
BLOCK, BATCHES = 2, 8


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = torch.nn.LayerNorm(D), torch.nn.LayerNorm(D)
        self.wqkv, self.proj = torch.nn.Linear(D, 3 * D), torch.nn.Linear(D, D)
        self.up, self.down = torch.nn.Linear(D, 4 * D), torch.nn.Linear(4 * D, D)

    def forward(self, x):
        q, k, v = self.wqkv(self.ln1(x)).reshape(-1, T, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(-1, T, D))
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class CharGpt(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = torch.nn.Embedding(V, D)
        self.pos = torch.nn.Parameter(0.02 * torch.randn(T, D))
        self.blocks = torch.nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.lnf = torch.nn.LayerNorm(D)
        torch.nn.init.normal_(self.tok.weight, std=0.02)

    def forward(self, tokens):
        return self.lnf(self.blocks(self.tok(tokens) + self.pos)) @ self.tok.weight.T


def torch_step(x, y, bf16, compiled):
    net = CharGpt()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1,
                                  **({"fused": True} if torch.__version__ >= "2.4" else {}))
    x, y = torch.from_numpy(x).long(), torch.from_numpy(y).long()
    forward = torch.compile(net) if compiled else net

    def step(i):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(forward(x[i]).reshape(-1, V).float(), y[i].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    return step


def our_step(library, x, y):
    model = Model(library, THREADS)
    model.init(1)
    model.hyper("steps", 1e6)
    entry = model.entries["train_step"].index
    run, result = Run(ctypes.sizeof(Run), B, 0, 1), Result(struct_size=ctypes.sizeof(Result))

    def step(i, keep=model):
        model.api.bind(model.ctx, entry, 0, x[i].ctypes.data, B * T)
        model.api.bind(model.ctx, entry, 1, y[i].ctypes.data, B * T)
        assert model.api.run(model.ctx, entry, ctypes.byref(run), ctypes.byref(result)) == 0

    return step


def flop():
    """Of the products of a step: forward, and twice that backward."""
    weights = LAYERS * 12 * D * D + V * D
    attention = LAYERS * 2 * T * D
    return 6 * (weights + attention) * B * T


def peaks():
    """GFLOP/s of a thread, by vector width."""
    tool = BIN / "gemm_peak"
    if not tool.exists():
        return {}
    out = subprocess.run([tool, "3"], check=True, text=True, capture_output=True).stdout
    return {m[1]: float(m[2]) for m in re.finditer(r"^peak\s+(\w+)\s+-\s+\S+\s+(\S+)", out, re.M)}


def block(step, first):
    wall, cpu = time.perf_counter(), time.process_time()
    for i in range(first, first + BLOCK):
        step(i % BATCHES)
    return (time.perf_counter() - wall) / BLOCK, (time.process_time() - cpu) / BLOCK


def main():
    torch.set_num_threads(THREADS)
    rng = np.random.default_rng(1)
    text = rng.integers(32, 127, (BATCHES, B, T + 1), dtype=np.uint8)
    x, y = np.ascontiguousarray(text[:, :, :-1]), np.ascontiguousarray(text[:, :, 1:])
    peak = peaks()
    who, limit = {}, {}
    with tempfile.TemporaryDirectory() as name:
        for precision in "f32", "bf16":
            for level, vectors in ("x86-64-v3", "avx2"), ("native", "avx512" if "avx512" in peak else "avx2"):
                library = Path(name) / f"{precision}_{vectors}_{level[0]}.so"
                compile_to(library, MODEL, f"--precision={precision}", f"-mcpu={level}")
                key = f"mpcc {precision} {level}"
                who[key], limit[key] = our_step(library, x, y), vectors
        for precision in "f32", "bf16":
            for compiled in (False, True) if "compile" in sys.orig_argv else (False,):
                key = f"PyTorch {precision}{' compiled' * compiled}"
                who[key] = torch_step(x, y, precision == "bf16", compiled)
        times = {key: [] for key in who}
        for step in who.values():
            block(step, 0)
        for i in range(ROUNDS):
            for key, step in who.items():
                times[key].append(block(step, i * BLOCK))
    print(f"PyTorch {torch.__version__}; {THREADS} threads, {ROUNDS} rounds of {BLOCK} steps, {flop() / 1e9:.1f} GFLOP of products a step")
    print(f"{'':28}{'median':>9}{'best':>9}{'cpu':>9}  ms a step{'of limit':>10}")
    for key, rounds in times.items():
        wall, cpu = zip(*rounds)
        median, best, busy = statistics.median(wall), min(wall), statistics.median(cpu)
        share = f"{flop() / (best * THREADS * peak[limit[key]] * 1e9):10.0%}" if limit.get(key) in peak else ""
        print(f"{key:28}{median * 1e3:9.1f}{best * 1e3:9.1f}{busy * 1e3:9.1f}           {share}")


if __name__ == "__main__":
    main()
