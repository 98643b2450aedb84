"""Ops and their gradients against PyTorch: a table of ops × shapes (none, one, prime, around a vector) ×
special values, in f64 and in f32.

usage: test_ops.py EVALTOOL MPCC_OPT

A case is a graph with parameters p (and q), z = OP(p, q) and the loss Σ coef · z; `grad` adds the
gradients.  In f64 everything agrees to 1e-11 of the largest number, in f32 to 2e-6 (forward, some
ulp; the ulp of each function alone are test_scalar's) and 2e-5 (gradients: chains of a few roundings).
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

EVALTOOL, OPT = sys.argv[1:3]
FLAT = [(), (1,), (7,), (8,), (9,), (0, 3), (3, 17), (2, 3, 5)]
ROWS = [(1, 1), (3, 7), (2, 8), (3, 9), (2, 3, 33), (0, 4)]
SPECIAL = np.array([0, -0.0, 1e-40, -1e-40, 1, -1, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan, 2.5, -2.5],
                   np.float32)


def dims(shape):
    return "[" + ",".join(map(str, shape)) + "]"


class Case:
    """lo, hi: where p and q lie.  z: shape of the result from p's.  extra: an index input of p's shape
    less its last axis.  infinite: what PyTorch says at infinities is what we say."""

    def __init__(self, name, torch_fn, body=None, shapes=FLAT, lo=-3, hi=3, q=None, z=lambda s: s,
                 index=False, infinite=True, special=None):
        self.name, self.fn, self.shapes, self.lo, self.hi = name, torch_fn, shapes, lo, hi
        self.q, self.z, self.index, self.infinite = q, z, index, infinite
        operands = "%p" + (", %q" if q else "") + (", %i" if index else "")
        self.body = body or (lambda s: f"%z = {name} {operands} : f32{dims(z(s))}")
        self.special = (shapes is FLAT and not q) if special is None else special

    def text(self, shape):
        z = self.z(shape)
        states = f'state param "p" : f32{dims(shape)}\n'
        args = f'%p: f32{dims(shape)} = state "p"'
        if self.q:
            q = self.q(shape)
            states += f'state param "q" : f32{dims(q)}\n'
            args += f', %q: f32{dims(q)} = state "q"'
        if self.index:
            args += f', %i: i32{dims(shape[:-1])} = input "i"'
        args += f', %coef: f32{dims(z)} = input "coef", %n: f32[] = input "n"'
        axes = list(range(len(z)))
        total = f"%l = sum %c {{axes={dims(axes)}}} : f32[]\n" if axes else "%l = neg %d : f32[]\n"
        before = "" if axes else "%d = neg %c : f32[]\n"
        return (f'graph "t"\n{states}entry @step step ({args}) {{\n{self.body(shape)}\n'
                f"%c = mul %z, %coef : f32{dims(z)}\n{before}{total}"
                f'return loss "l" = %l, weight "l" = %n, value "z" = %z\n}}\n')


def last(s):
    return s[:-1]


def along_last(op):
    return lambda s: f"%z = {op} %p {{axes=[{len(s) - 1}]}} : f32{dims(s[:-1])}"


def norm(op, operands):
    return lambda s: f"%z = {op} {operands} {{eps=0.001}} : f32{dims(s)}"


def rms_norm(p, q):
    return p * torch.rsqrt((p * p).mean(-1, keepdim=True) + 0.001) * q


def smooth(p, i):
    return F.cross_entropy(p.reshape(-1, p.shape[-1]), i.reshape(-1), reduction="none",
                           label_smoothing=0.1).reshape(i.shape)


def cross_entropy(p, i):
    return F.cross_entropy(p.reshape(-1, p.shape[-1]), i.reshape(-1), reduction="none").reshape(i.shape)


def same(s):
    return s


CASES = [
    Case("exp", torch.exp), Case("expm1", torch.expm1), Case("log", torch.log, lo=0.1),
    Case("log1p", torch.log1p, lo=-0.9), Case("sqrt", torch.sqrt, lo=0.1),
    Case("rsqrt", torch.rsqrt, lo=0.1), Case("tanh", torch.tanh), Case("sigmoid", torch.sigmoid),
    Case("erf", torch.erf), Case("relu", torch.relu), Case("gelu", F.gelu, infinite=False),
    Case("gelu_tanh", lambda x: F.gelu(x, approximate="tanh"), infinite=False),
    Case("silu", F.silu, infinite=False), Case("softplus", lambda x: F.softplus(x, threshold=1e9)),
    Case("sin", torch.sin, lo=-30, hi=30), Case("cos", torch.cos, lo=-30, hi=30),
    Case("abs", torch.abs), Case("neg", torch.neg),
    Case("pow", torch.pow, lo=0.2, q=same), Case("mul", torch.mul, q=same),
    Case("div", torch.div, q=same, lo=0.5), Case("max", torch.maximum, q=same),
    Case("min", torch.minimum, q=same),
    Case("bce_logits", lambda p, q: F.binary_cross_entropy_with_logits(p, q, reduction="none"),
         q=same),
    Case("softmax", lambda x: torch.softmax(x, -1), shapes=ROWS),
    Case("log_softmax", lambda x: torch.log_softmax(x, -1), shapes=ROWS),
    Case("logsumexp", lambda x: torch.logsumexp(x, -1), shapes=ROWS, z=last),
    Case("reduce_max", lambda x: torch.amax(x, -1), along_last("reduce_max"), ROWS, z=last),
    Case("reduce_min", lambda x: torch.amin(x, -1), along_last("reduce_min"), ROWS, z=last),
    Case("sum", lambda x: x.sum(-1), along_last("sum"), ROWS, z=last),
    Case("layer_norm", lambda p, q: F.layer_norm(p, p.shape[-1:], q, q, 0.001),
         norm("layer_norm", "%p, %q, %q"), ROWS[1:], q=lambda s: s[-1:]),
    Case("rms_norm", rms_norm, norm("rms_norm", "%p, %q"), ROWS, q=lambda s: s[-1:]),
    Case("cross_entropy", cross_entropy, shapes=ROWS, z=last, index=True),
    Case("smoothing", smooth,
         lambda s: "%s = constant {value=0.1} : f32[]\n"
                   f"%z = cross_entropy %p, %i, %s : f32{dims(s[:-1])}",
         ROWS, z=last, index=True),
]


def evaluate(folder, text, values, f64):
    (folder / "f.ir").write_text(text)
    graph = subprocess.run([OPT, "--passes=grad", folder / "f.ir"], check=True, text=True,
                           stdout=subprocess.PIPE).stdout
    (folder / "g.ir").write_text(graph)
    for name, value in values.items():
        np.save(folder / f"{name}.npy", value)
    subprocess.run([EVALTOOL, folder / "g.ir", f"--in={folder}", f"--out={folder}", "step"] +
                   ["--f64"] * f64, check=True)
    names = ["value.z"] + ["grad." + n[6:] for n in values if n.startswith("state.")]
    return [np.load(folder / f"{n}.npy") for n in names]


def expected(case, values):
    def tensor(name):
        return torch.tensor(values[name], dtype=torch.float64, requires_grad=name.startswith("state."))
    leaves = [tensor(n) for n in ("state.p", "state.q") if n in values]
    index = [torch.tensor(values["input.i"]).long()] if case.index else []
    z = case.fn(*leaves, *index)
    (z * tensor("input.coef")).sum().backward()
    return [t.detach().numpy() for t in [z] + [x.grad for x in leaves]]


def check(name, got, want, tolerance):
    assert got.shape == want.shape, (name, got.shape, want.shape)
    assert np.array_equal(np.isnan(got), np.isnan(want)), (name, got, want)
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite], want[~finite], equal_nan=True), (name, got, want)
    if finite.any():
        off = np.max(np.abs(got[finite] - want[finite])) / max(np.max(np.abs(want[finite])), 1e-30)
        assert not off > tolerance, (name, off, tolerance)


def random_case(folder, rng, case, shape):
    values = {"state.p": rng.uniform(case.lo, case.hi, shape).astype(np.float32),
              "input.coef": rng.standard_normal(case.z(shape)).astype(np.float32),
              "input.n": np.array(1, np.float32)}
    if case.q:
        values["state.q"] = rng.uniform(case.lo, case.hi, case.q(shape)).astype(np.float32)
    if case.index:
        values["input.i"] = rng.integers(0, shape[-1], shape[:-1], dtype=np.int32)
    for f64 in True, False:
        got, want = evaluate(folder, case.text(shape), values, f64), expected(case, values)
        forward, backward = (1e-11, 1e-11) if f64 else (2e-6, 2e-5)
        for k, (g, w) in enumerate(zip(got, want)):
            what = (case.name, shape, "f64" if f64 else "f32", "gradient" if k else "value")
            check(what, g, w, backward if k else forward)


def flush(x):
    return np.where(np.abs(x) < 2.0**-126, np.copysign(np.float32(0), x), x)


def special_check(folder, case):
    """Of values at the edges each is within 1e-6 of its own size; subnormal ones are zeros."""
    x = SPECIAL if case.infinite else SPECIAL[np.isfinite(SPECIAL) | np.isnan(SPECIAL)]
    values = {"state.p": x, "input.coef": np.zeros(len(x), np.float32),
              "input.n": np.array(1, np.float32)}
    got = flush(evaluate(folder, case.text(x.shape), values, False)[0])
    want = case.fn(torch.tensor(flush(x)).double()).float().numpy()
    for g, w, v in zip(got, want, x):
        ok = np.isnan(g) if np.isnan(w) else g == w or abs(g - w) <= 1e-6 * abs(w)
        assert ok, (case.name, float(v), float(g), float(w))


def main():
    rng, count = np.random.default_rng(1), 0
    nan = np.array([np.nan])
    for bad in nan, np.array([1.1]):  # the comparison sees what it must refuse
        try:
            check("itself", bad, np.array([1.0]), 1e-3)
        except AssertionError:
            continue
        raise SystemExit("the comparison passes on what it must refuse")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in CASES:
            for shape in case.shapes:
                random_case(folder, rng, case, shape)
                count += 1
            if case.special:
                special_check(folder, case)
                count += 1
    print(f"{count} cases of {len(CASES)} ops agree with PyTorch, forward and backward")


if __name__ == "__main__":
    main()
