"""Ops and their gradients against PyTorch: a table of ops × shapes (none, one, prime, around a vector) ×
special values, in f64 and in f32.

usage: test_ops.py EVALTOOL MPCC_OPT MPCC

Every op that has a gradient (`mpcc --print-ops`) is in the table; one that is not fails the test.
A case is a graph with parameters p (and q), z = OP(p, q) and the loss Σ coef · z; `grad` adds the
gradients.  In f64 everything agrees to 1e-11 of the largest number, in f32 to 2e-6 (forward, some
ulp; the ulp of each function alone are test_scalar's) and 2e-5 (gradients: chains of a few roundings).
"""
import functools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from philox import uniform

EVALTOOL, OPT, MPCC = sys.argv[1:4]
FLAT = [(), (1,), (7,), (8,), (9,), (0, 3), (3, 17), (2, 3, 5)]
ROWS = [(1, 1), (3, 7), (2, 8), (3, 9), (2, 3, 33), (0, 4)]
SPECIAL = np.array([0, -0.0, 1e-40, -1e-40, 1, -1, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan, 2.5, -2.5],
                   np.float32)


def dims(shape):
    return "[" + ",".join(map(str, shape)) + "]"


class Case:
    """lo, hi: where p and q lie.  z: shape of the result from p's.  extra: an index input of p's shape
    less its last axis, of numbers below p's last dim (below its first with index=len).  infinite:
    what PyTorch says at infinities is what we say.  grid: numbers that bf16 holds.  rows: of a batch
    that is the first of z's dims only so many are real."""

    def __init__(self, name, torch_fn, body=None, shapes=FLAT, lo=-3, hi=3, q=None, z=lambda s: s,
                 index=False, infinite=True, special=None, grid=False, rows=0):
        self.name, self.fn, self.shapes, self.lo, self.hi = name, torch_fn, shapes, lo, hi
        self.q, self.z, self.index, self.infinite = q, z, index, infinite
        self.grid, self.rows = grid, rows
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
        tagged = "[rows " + dims(z)[1:] if self.rows else dims(z)
        args += f', %coef: f32{tagged} = input "coef", %n: f32[] = input "n"'
        batch = f"batch {z[0]} " if self.rows else ""
        axes = list(range(len(z)))
        total = f"%l = sum %c {{axes={dims(axes)}}} : f32[]\n" if axes else "%l = neg %d : f32[]\n"
        before = "" if axes else "%d = neg %c : f32[]\n"
        return (f'graph "t"\n{states}entry @step step {batch}({args}) {{\n{self.body(shape)}\n'
                f"%c = mul %z, %coef : f32{tagged}\n{before}{total}"
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


def square(p, q):
    return (p * q) ** 2


def custom_square(s):
    """A rule of its own that says what the derivative is: 2pq · q and 2pq · p."""
    t = f"f32{dims(s)}"
    return (f"%a = mul %p, %q : {t}\n%y = mul %a, %a : {t}\n%dy = cotangent : {t}*S\n"
            f"%e = mul %dy, %a : {t}*S\n%t = add %e, %e : {t}*S\n%gp = mul %t, %q : {t}*S\n"
            f"%gq = mul %t, %p : {t}*S\n%z = custom_grad %y, %dy, %p, %q, %gp, %gq : {t}")


def there_and_back(op):
    return lambda s: f"%a = {op} %p : bf16{dims(s)}\n%z = {op} %a : f32{dims(s)}"


def one(body, z):
    """A body and the dims of its z, for the one shape it is written for."""
    return {"body": lambda s: body + f" : f32{dims(z)}", "z": lambda s: z, "special": False}


def masked(p):
    return p.expand(5, 4) * (torch.arange(5) < 3).double()[:, None]


def dropped(p):
    return p * torch.tensor((uniform(p.shape, 5, 5, 7, 5) >= 0.25) / 0.75)


def table(p, i):
    return p[i]


def dots(ta, tb, batch=()):
    """Products of [3, 7] and [7, 9], either stored transposed."""
    def product(p, q):
        return (p.transpose(-1, -2) if ta else p) @ (q.transpose(-1, -2) if tb else q)
    a, b = batch + ((7, 3) if ta else (3, 7)), batch + ((9, 7) if tb else (7, 9))
    word = "{" + "ta, " * ta + "tb, " * tb + "k_chunk=4}"
    return Case("matmul", product, shapes=[a], q=lambda s: b,
                **one(f"%z = matmul %p, %q {word}", batch + (3, 9)))


MOVES = [
    Case("reshape", lambda p: p.reshape(2, 6), shapes=[(3, 4)], **one("%z = reshape %p", (2, 6))),
    Case("transpose", lambda p: p.permute(2, 0, 1), shapes=[(2, 3, 4)],
         **one("%z = transpose %p {perm=[2,0,1]}", (4, 2, 3))),
    Case("broadcast", lambda p: p.transpose(0, 1)[:, None].expand(3, 2, 4), shapes=[(1, 3)],
         **one("%z = broadcast %p {axes=[2,0]}", (3, 2, 4))),
    Case("slice", lambda p: p[1::3].flip(1)[:, 1:3], shapes=[(5, 4)],
         **one("%z = slice %p {starts=[1,2], steps=[3,-1]}", (2, 2))),
    Case("pad", lambda p: torch.stack([0 * p[0], p[0], 0 * p[0], p[1], 0 * p[0]]), shapes=[(2, 3)],
         **one("%z = pad %p {starts=[1,0], steps=[2,1]}", (5, 3))),
    Case("concat", lambda p, q: torch.cat([p, q, p], 1), shapes=[(2, 3)], q=lambda s: (2, 1),
         **one("%z = concat %p, %q, %p {axis=1}", (2, 7))),
    Case("mask_rows", masked, shapes=[(4,)], rows=3, z=lambda s: (5, 4), special=False,
         body=lambda s: "%a = broadcast %p {axes=[1]} : f32[rows 5,4]\n%z = mask_rows %a : f32[rows 5,4]"),
    Case("select", lambda p, q: torch.where(p > q, p, q * 2), q=same,
         body=lambda s: f"%k = gt %p, %q : i1{dims(s)}\n%two = add %q, %q : f32{dims(s)}\n"
                        f"%z = select %k, %p, %two : f32{dims(s)}"),
    Case("dropout", dropped, shapes=[(3, 40), (0,), (7,)], special=False,
         body=lambda s: "%w = constant {value=5} : i32[]\n"
                        f"%z = dropout %p, %w, %w, %w {{site=7, rate=0.25}} : f32{dims(s)}"),
    Case("custom_grad", square, custom_square, q=same),
    dots(False, False), dots(True, False), dots(False, True), dots(True, True), dots(True, True, (2,)),
    Case("gather", lambda p, i: p.gather(-1, i[..., None])[..., 0], shapes=ROWS, z=last, index=True),
    Case("embedding", table, shapes=[(3, 7), (5, 5), (1, 1)], index=len,
         body=lambda s: f"%z = embedding %p, %i : f32{dims(s[:-1] + s[1:])}", z=lambda s: s[:-1] + s[1:]),
]

CASES = MOVES + [
    Case("add", torch.add, q=same), Case("sub", torch.sub, q=same),
    Case("cast", lambda p: p * 1, there_and_back("cast"), grid=True, special=False),
    Case("cast.policy", lambda p: p * 1, there_and_back("cast.policy"), grid=True, special=False),
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
    # Of rows of one the norms' gradient is 0 or cancels to eps / x²: nothing to compare in f32.
    Case("layer_norm", lambda p, q: F.layer_norm(p, p.shape[-1:], q, q, 0.001),
         norm("layer_norm", "%p, %q, %q"), ROWS[1:], q=lambda s: s[-1:]),
    Case("rms_norm", rms_norm, norm("rms_norm", "%p, %q"), ROWS[1:], q=lambda s: s[-1:]),
    Case("cross_entropy", cross_entropy, shapes=ROWS, z=last, index=True),
    Case("smoothing", smooth,
         lambda s: "%s = constant {value=0.1} : f32[]\n"
                   f"%z = cross_entropy %p, %i, %s : f32{dims(s[:-1])}",
         ROWS, z=last, index=True),
]


@functools.cache
def with_gradients(text):
    """The same in f64 and in f32."""
    return subprocess.run([OPT, "--passes=grad", "-"], input=text, check=True, text=True, stdout=subprocess.PIPE).stdout


def evaluate(folder, text, values, f64, rows=0):
    (folder / "g.ir").write_text(with_gradients(text))
    for name, value in values.items():
        np.save(folder / f"{name}.npy", value)
    subprocess.run([EVALTOOL, folder / "g.ir", f"--in={folder}", f"--out={folder}",
                    f"--rows={rows}", "step"] + ["--f64"] * f64, check=True)
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
        assert off <= tolerance, (name, off, tolerance)


def random_case(folder, rng, case, shape):
    def number(x):
        return np.float32(np.round(x * 32) / 32 if case.grid else x)
    values = {"state.p": number(rng.uniform(case.lo, case.hi, shape)),
              "input.coef": number(rng.uniform(-3, 3, case.z(shape))),
              "input.n": np.array(1, np.float32)}
    if case.q:
        values["state.q"] = rng.uniform(case.lo, case.hi, case.q(shape)).astype(np.float32)
    if case.index:
        below = shape[0] if case.index is len else shape[-1]
        values["input.i"] = rng.integers(0, below, shape[:-1], dtype=np.int32)
    for f64 in True, False:
        got = evaluate(folder, case.text(shape), values, f64, case.rows)
        want = expected(case, values)
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


def check_table():
    """Column `gradient` of the printed table: `yes` is tested here, or refused by name."""
    page = subprocess.run([MPCC, "--print-ops"], check=True, text=True, stdout=subprocess.PIPE).stdout
    rows = [[cell.strip() for cell in line.split(" | ")] for line in page.splitlines()
            if line.startswith("| `") and line.count(" | ") == 7]
    differentiable = {cells[0].strip("|` ") for cells in rows if cells[-2] == "yes"}
    assert len(differentiable) > 40, rows
    untested = differentiable - {case.name for case in CASES} - {"loop"}
    assert not untested, f"ops with a gradient that no case tests: {sorted(untested)}"


def check_loop_refused(folder):
    """The one rule that is an error so far; with a gradient it must come into the table."""
    text = ('graph "t"\nstate param "p" : f32[3]\nentry @step step (%p: f32[3] = state "p") {\n'
            "%z = loop %p {trip=2, carries=1, slices=0} : f32[3] (%i: i32[], %h: f32[3]) {\n"
            "%a = exp %h : f32[3]\nyield %a\n}\n%l = sum %z {axes=[0]} : f32[]\n"
            '%n = constant {value=1} : f32[]\nreturn loss "l" = %l, weight "l" = %n\n}\n')
    (folder / "loop.ir").write_text(text)
    run = subprocess.run([OPT, "--passes=grad", folder / "loop.ir"], capture_output=True, text=True)
    assert run.returncode and "has no gradient in this version" in run.stderr, run.stderr


def main():
    check_table()
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
        check_loop_refused(folder)
        for case in CASES:
            for shape in case.shapes:
                random_case(folder, rng, case, shape)
                count += 1
            if case.special:
                special_check(folder, case)
                count += 1
    print(f"{count} cases of {len({c.name for c in CASES})} ops agree with PyTorch, forward and backward")


if __name__ == "__main__":
    main()
