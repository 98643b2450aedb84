"""`scan` in compiled infer entries, against NumPy: reverse, an axis, nesting, scalars in and out,
partial batches, one and more threads with the same bits, f32 and bf16."""
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import VALUE, Model
from support import compile_to

HERE = Path(__file__).resolve().parent


def cell(m, h, x):
    w, b = m.get("w").astype(np.float64), m.get("b").astype(np.float64)
    return np.tanh(h @ w + x + b)


def run_over(m, h, xs, k, order):
    h, out = h.astype(np.float64), np.zeros(xs.shape)
    for i in order:
        h = out[:, i] = cell(m, h, xs[:, i].astype(np.float64) * k)
    return h, out


def value(m, entry, name):
    return m.outputs(entry)[name, VALUE]


def near(got, want, tol):
    off = np.abs(np.asarray(got, np.float64) - want).max()
    assert off <= tol, off


def decoded(m, first):
    e, out, seen, t = m.get("e").astype(np.float64), [], [], first
    for _ in range(5):
        x = e[t]
        seen.append(x)
        score = np.einsum("nbd,bd->bn", np.array(seen), x)
        a = np.exp(score - score.max(1, keepdims=True))
        y = np.einsum("bn,nbd->bd", a / a.sum(1, keepdims=True), np.array(seen))
        t = (cell(m, y, x) @ e.T).argmax(1)
        out.append(t)
    return np.array(out).T


def check_sample(m):
    """With equal logits 64 draws of 11 are all the same with probability 11^-63; a token that has
    another's logit less 1e4 is never drawn."""
    z = np.zeros((3, 11), np.float32)
    z[:, 4] = -1e4
    m.run("sample", z=z)
    drawn = np.array(value(m, "sample", "0"))
    assert drawn.shape == (64, 3) and all(len(set(column)) > 1 for column in drawn.T)
    assert ((0 <= drawn) & (drawn < 11) & (drawn != 4)).all()
    return drawn


def check(m, rng, tol, exact):
    """A cell's derivative by h is at most |w| < 4: 7 steps carry an error of one by less than 7·4^7
    in the worst case, by far less on such data; tol is a few hundred units of the type."""
    h = rng.standard_normal((3, 4), dtype=np.float32)
    xs = rng.standard_normal((3, 7, 4), dtype=np.float32)
    for rows in 3, 2, 1:
        m.run("forward", rows=rows, h=h, xs=xs, k=np.array(0.5, np.float32))
        last, count, out = (value(m, "forward", n) for n in "012")
        want_last, want = run_over(m, h, xs, 0.5, range(7))
        near(last[:rows], want_last[:rows], tol), near(out[:rows], want[:rows], tol)
        assert count == 7 and count.dtype == np.int32
        m.run("backward", rows=rows, h=h, xs=xs)
        want_last, want = run_over(m, h, xs, 1, reversed(range(7)))
        near(value(m, "backward", "0")[:rows], want_last[:rows], tol)
        near(value(m, "backward", "1")[:rows], want[:rows], tol)
    x = rng.standard_normal((6, 4), dtype=np.float32)
    m.run("nested", xs=x)
    assert np.array_equal(value(m, "nested", "squares"), x * x)
    assert value(m, "nested", "total") == 100
    m.run("read", x=h)
    assert np.array_equal(value(m, "read", "w"), m.get("w"))
    assert np.array_equal(value(m, "read", "x"), h)
    first = rng.integers(0, 11, 3, dtype=np.int32)
    m.run("decode", first=first)
    if exact:  # no two logits are as near as the errors
        assert np.array_equal(value(m, "decode", "0"), decoded(m, first))
    drawn = check_sample(m)
    return [drawn] + [np.array(v) for e in ("forward", "backward", "nested", "decode")
                      for v in m.outputs(e).values()]


with tempfile.TemporaryDirectory() as folder:
    for precision, tol in ("f32", 2e-5), ("bf16", 0.2):
        lib = compile_to(Path(folder) / f"{precision}.so", HERE / "scan.mp", f"--precision={precision}")
        all_bits = []
        for threads in 1, 3:
            m = Model(lib, threads=threads)
            m.init(3)
            all_bits.append(check(m, np.random.default_rng(1), tol, precision == "f32"))
            m.close()
        assert all(np.array_equal(a, b) for a, b in zip(*all_bits)), "threads change bits"
        print(f"{precision}: scans agree with NumPy to {tol}; 1 and 3 threads agree bit for bit")
