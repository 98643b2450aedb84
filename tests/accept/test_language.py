"""Functions of the language whose results show only from outside: what draws give, whether matrices
are orthogonal, gradients of prefixes.

usage: test_language.py BIN
"""
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import SUM, Model
from support import compile_to, far, same_bits

HERE = Path(__file__).resolve().parent
N, M, B = 10, 3, 4


def check_orthogonal(library):
    starts = []
    for threads in 1, 3:
        m = Model(library, threads=threads)
        m.init(5)
        starts.append({path: m.get(path).copy() for path in "wide tall deep one square".split()})
        m.close()
    for path, w in starts[0].items():
        assert same_bits(w, starts[1][path]) is None, f"{path}: depends on the threads"
        w = w.reshape(w.shape[0], -1).astype(np.float64)
        rows = w if w.shape[0] <= w.shape[1] else w.T
        error = np.abs(rows @ rows.T - np.eye(len(rows))).max()
        assert error <= 1e-5, f"{path}: {error:.2g} from orthonormal"
    m = Model(library)
    signs, means = set(), []
    for seed in range(64):  # of the sphere's points any is as likely as another
        m.init(seed)
        signs.add(float(m.get("one")[0, 0]))
        means.append(m.get("wide")[0].mean())
    m.close()
    assert signs == {-1.0, 1.0}, signs
    deviation = np.std(means) * 40  # of the mean of 40: sqrt(1/40) / sqrt(40)
    assert 0.7 <= deviation <= 1.3, deviation


def places(x, y):
    """Where in x with two zeros around it y lies."""
    wide = np.pad(x, 2)
    return [(i, j) for i in range(5) for j in range(5)
            if np.array_equal(wide[i:i + N, j:j + M], y)]


def check_draws(m):
    rng = np.random.default_rng(2)
    x = 1 + rng.permutation(B * N * M).reshape(B, N, M).astype(np.float32)  # exact in bf16
    turned, moved = [], []
    for draw in range(100):
        m.run("flip", draw=draw, x=x)
        y = m.outputs("flip")["0", 0]
        for k in range(B):
            backward = np.array_equal(y[k], x[k, ::-1])
            assert backward or np.array_equal(y[k], x[k]), "a flip is neither"
            turned.append(backward)
        m.run("crop", draw=draw, x=x)
        y = m.outputs("crop")["0", 0]
        for k in range(B):
            found = places(x[k], y[k])
            assert len(found) == 1, f"a crop lies at {found}"
            moved += found
    assert 0.4 <= np.mean(turned) <= 0.6, np.mean(turned)
    counts = np.array([[sum(p[axis] == i for p in moved) for i in range(5)] for axis in (0, 1)])
    assert counts.min() >= 50 and counts.max() <= 112, counts  # 80 each, deviation 8
    assert len(set(moved)) == 25, "some place is never taken"


def check_prefixes(m):
    try:
        import torch
    except ImportError:
        print("no PyTorch: gradients of prefixes are left out")
        return
    x = np.random.default_rng(3).uniform(0.5, 1.5, (B, N, M)).astype(np.float32)
    w = torch.ones(M, dtype=torch.float64, requires_grad=True)
    t = torch.from_numpy(x).double()
    y = torch.cumsum(t * w, 1) * t + torch.cumprod(t * w, 1)
    loss = y.sum((1, 2)).mean()
    loss.backward()
    r = m.run("train_step", x=x)
    assert r.committed
    for name, got, want in (("loss", np.array(r.loss), loss.detach().numpy()),
                            ("gradient", (1 - m.get("w")) * 8, w.grad.numpy())):
        assert far(got, want, 2e-2) is None, (name, got, want)  # x * w and its gradient are bf16


class Recurrence:
    """slots.mp: the states of some batches, and what a step makes of them."""

    def __init__(self, *slots):
        self.h = np.full((*slots, 2, 2, 4), 0.5, np.float32)

    def step(self, x, w):
        now = w * x + np.float32(0.5) * self.h[..., 0, :, :]
        self.h = np.stack([now, self.h[..., 0, :, :]], -3)
        return now + self.h[..., 1, :, :]


def check_slots(folder):
    """k micro-batches have k states, which go on from step to step and into checkpoints; those of
    eval start anew with each evaluation; infer's go on."""
    program, library = (compile_to(folder / name, HERE / "slots.mp") for name in ("slots", "slots.so"))
    rng = np.random.default_rng(4)
    data = rng.uniform(0.5, 1.5, (24, 4)).astype(np.float32)
    m, r = Model(library, threads=2), Recurrence(3)
    m.init(1)
    for x in data.reshape(4, 6, 4)[:3]:
        w = m.get("w").copy()
        out = r.step(x.reshape(3, 2, 4), w)
        result = m.run("train_step", x=x)
        assert result.committed and abs(result.loss - (out ** 2).sum() / 6) <= 1e-4 * result.loss
        assert m.get("h").shape == (3, 2, 2, 4)
        assert np.allclose(m.get("h"), r.h, rtol=1e-6), "the slots of train"
    w = m.get("w").copy()
    m.save(folder / "saved")
    other = Model(library)
    other.init(2)
    other.load(folder / "saved")
    assert same_bits(other.get("h"), m.get("h")) is None, "slots in a checkpoint"
    for _ in range(2):  # evaluations of three batches
        r, total = Recurrence(), 0
        for i in range(3):
            x = data[2 * i:2 * i + 2]
            total += (r.step(x, w) ** 2).sum()
            m.run("eval", x=x, new_total=i == 0)
        got = m.outputs("eval")["loss", SUM]
        assert abs(got - total) <= 1e-5 * total, ("eval starts anew", got, total)
    r = Recurrence()
    for i in range(3):
        x = data[2 * i:2 * i + 2]
        m.run("next", x=x)
        assert np.allclose(m.outputs("next")["0", 0], r.step(x, w), rtol=1e-6), "infer goes on"
    m.close()
    other.close()
    check_program(folder, program, data)


def check_program(folder, program, data):
    """The program's evaluations, in between and at the end, are those of a fresh start."""
    np.save(folder / "x.npy", data)
    lines = []
    for word in ("--eval-every=4", "--eval-every=2"):
        log = folder / (word + ".jsonl")
        subprocess.run([program, "--data", f"x={folder / 'x.npy'}", "--eval-data",
                        f"x={folder / 'x.npy'}", word, "--log", log, "--seed", "1"],
                       check=True, stdout=subprocess.DEVNULL)
        found = [json.loads(line) for line in log.read_text().splitlines()]
        lines.append([line for line in found if line.get("eval")])
    assert len(lines[1]) > len(lines[0]) >= 1, lines
    assert lines[0][-1]["loss"] == lines[1][-1]["loss"], "eval's state is left from the last one"


def main():
    with tempfile.TemporaryDirectory() as folder:
        library = compile_to(Path(folder) / "language.so", HERE / "language.mp")
        check_orthogonal(library)
        m = Model(library, threads=2)
        m.init(1)
        check_draws(m)
        check_prefixes(m)
        m.close()
        check_slots(Path(folder))
    print("ok")


main()
