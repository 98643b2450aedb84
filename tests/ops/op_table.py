"""What every op of ops.def means, in NumPy: the table that test_table.py runs.

TABLE gives for each op its cases.  A case is operands, the text of the nodes, and what the results
should be: computed in f64 (ints in i64) from the operands, never by the code under test.  The ops of
fp8 are in fp8_cases.py, those that round at random and take numbers apart in parts_cases.py.
"""
import math

import numpy as np
import torch

from philox import philox, uniform
from support import round_bf16

FLOATS, INTS, NUMBERS = ("f32", "bf16", "f16"), ("i32", "u8"), ("f32", "bf16", "f16", "i32", "u8")
BATCH, ROWS = 5, 3
FLAT = [(), (0,), (1,), (7,), (8,), (9,), (15,), (16,), (17,), (0, 3), (3, 17), (2, 3, 5),
        (2, 1, 3, 1, 1, 2, 1, 2)]
SPECIAL = [0.0, -0.0, 1e-40, -1e-40, 2.0**-126, -2.0**-126, 1, -1, 0.5, -2.5, 3.4028234663852886e38,
           -3.4028234663852886e38, np.inf, -np.inf, np.nan]
# ulp of f32 that a result may be off, as tests/unit/oracle.h has it: there on a stride, long over all f32.
ULP = {"exp": 2, "expm1": 2, "log": 2, "log1p": 2, "tanh": 2, "sigmoid": 2, "erf": 2, "rsqrt": 1.5,
       "silu": 2, "gelu": 2, "gelu_tanh": 2, "softplus": 2, "sin": 2, "cos": 2, "pow": 2}


def bf16(x):
    """f64 -> the nearest bf16, as f64."""
    with np.errstate(all="ignore"):
        return round_bf16(np.asarray(x, np.float32)).astype(np.float64)


def held(dtype, x):
    """x as elements of that type: f64 for floats."""
    with np.errstate(all="ignore"):
        if dtype == "bf16":
            return bf16(np.asarray(x, np.float64))
        if dtype in ("f32", "f16"):
            return np.asarray(x).astype({"f32": np.float32, "f16": np.float16}[dtype]).astype(np.float64)
        return np.asarray(x).astype({"i32": np.int32, "u16": np.uint16, "u8": np.uint8, "i1": np.bool_}[dtype])


class Case:
    """operands: (dtype, array).  text: nodes that make %y0, %y1, … of %x0, %x1, …  results: (dtype,
    shape).  want: operands -> arrays, in f64.  ulp: of the result's type beyond its rounding; slack:
    operands -> what it may be off besides.  rows: first axes are the batch, ROWS of BATCH are real;
    tagged says of which operands and results (all).  f64_slack: the part of slack that f64 has.
    f64_want: where f64 does not round."""

    def __init__(self, operands, text, results, want, ulp=0, slack=None, rows=False, tagged=None,
                 f64_slack=1e-8, f64_want=None):
        self.operands, self.text, self.results, self.want = operands, text, results, want
        self.ulp, self.slack, self.rows, self.tagged = ulp, slack, rows, tagged
        self.f64_slack, self.f64_want = f64_slack, f64_want or want

    def is_tagged(self, name, shape):
        return self.rows and bool(shape) and shape[0] == BATCH and (
            self.tagged is None or name in self.tagged)


def type_of(dtype, shape, tagged=False):
    return f"{dtype}[{'rows ' * tagged}{','.join(map(str, shape))}]"


def wrap(dtype, x):
    """An integer result, modulo the width of its type."""
    x = np.asarray(x, np.int64)
    return x.astype(np.int32) if dtype == "i32" else (x & 255).astype(np.uint8)


def node(op, operands, out, want, attrs="", given=False, **more):
    """A case of one node."""
    dtype, shape = out
    rows, tagged = more.get("rows", False), more.get("tagged")
    mark = rows and bool(shape) and shape[0] == BATCH and (tagged is None or "y0" in tagged)
    names = ", ".join(f"%x{i}" for i in range(len(operands)))
    text = f"%y0 = {op} {names}{' {' + attrs + '}' if attrs else ''} : {type_of(dtype, shape, mark)}"
    return Case(operands, text, [out], want, **more)


class Maker:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def floats(self, shape, lo=-3, hi=3, dtype="f32"):
        return dtype, held(dtype, self.rng.uniform(lo, hi, shape))

    def ints(self, shape, lo=-99, hi=99, dtype="i32"):
        if dtype == "u8":
            lo, hi = 0, 255
        return dtype, self.rng.integers(lo, hi + 1, shape).astype(np.int64).astype(
            {"i32": np.int32, "u8": np.uint8}[dtype])

    def bools(self, shape):
        return "i1", self.rng.integers(0, 2, shape).astype(bool)

    def any(self, dtype, shape, lo=-3, hi=3):
        if dtype == "i1":
            return self.bools(shape)
        return self.ints(shape, dtype=dtype) if dtype in INTS else self.floats(shape, lo, hi, dtype)


# ---- elementwise -----------------------------------------------------------------------------------


def elementwise(fn, types=FLOATS, lo=-3, hi=3, result=None, n=2, special=True, slack=0):
    """fn: of n arrays; result: another type than the operands'; slack: beside the op's ulp."""

    def cases(op):
        m = Maker(len(op))
        for dtype in types:
            out = result or dtype
            ulp = ULP.get(op, 0)
            more = {"slack": lambda *x: np.full(x[0].shape, slack)} if slack else {}

            def want(*x, out=out, dtype=dtype):
                y = fn(*(v.astype(np.int64) for v in x)) if dtype in INTS else fn(*x)
                return [wrap(out, y) if out in INTS else y]

            shapes = FLAT if dtype in ("f32", "i32", "i1") else [(0,), (1,), (9,), (17,), (3, 17)]
            for shape in shapes:
                args = [m.any(dtype, shape, lo, hi) for _ in range(n)]
                yield node(op, args, (out, shape), want, ulp=ulp, **more)
            args = [m.any(dtype, (BATCH, 9), lo, hi) for _ in range(n)]
            yield node(op, args, (out, (BATCH, 9)), want, ulp=ulp, rows=True, **more)
            edges = {"i32": [0, 1, -1, 7, 2**31 - 1, -2**31], "u8": [0, 1, 127, 128, 255],
                     "i1": [False, True]}.get(dtype, SPECIAL)
            if special:
                grid = np.meshgrid(*[held(dtype, edges)] * n)
                yield node(op, [(dtype, g.ravel()) for g in grid], (out, (grid[0].size,)), want, ulp=ulp, **more)

    cases.refused = [d for d in NUMBERS + ("i1",) if d not in types]
    cases.operands, cases.result = n, result
    return cases


def quiet(fn):
    def run(*x):
        with np.errstate(all="ignore"):
            return fn(*x)
    return run


def unary(fn, **more):
    return elementwise(quiet(fn), n=1, **more)


def binary(fn, **more):
    return elementwise(quiet(fn), **more)


def of_torch(fn):
    return lambda x: fn(torch.tensor(x, dtype=torch.float64)).numpy()


def sigmoid(x):
    t = np.exp(-np.abs(x))
    return np.where(x < 0, t / (1 + t), 1 / (1 + t))


def silu(x):
    return np.where(x < -745, -0.0, x * sigmoid(x))


def erfc(x):
    return torch.erfc(torch.tensor(x, dtype=torch.float64)).numpy()


def gelu(x):
    return np.where(x < -40, -0.0, x * 0.5 * erfc(-x / math.sqrt(2)))


def gelu_tanh(x):
    v = math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)
    return np.where(x < -40, -0.0, x * sigmoid(v))


def power(x, y):
    return np.power(x, y)


def floor_pow2(x):
    _, e = np.frexp(x)
    return np.where(x == 0, 0.0, np.where(np.isfinite(x), np.ldexp(1.0, e - 1), np.inf))


def derivative(fn):
    """By autograd, with the limits where a tail is 0 · inf."""
    def run(x):
        t = torch.tensor(np.clip(x, -40, 40), dtype=torch.float64, requires_grad=True)
        fn(t).sum().backward()
        return np.where(np.isnan(x), x, t.grad.numpy())
    return run


def select_cases(op):
    m = Maker(21)
    for dtype in NUMBERS + ("i1",):
        for shape in FLAT:
            yield node(op, [m.bools(shape), m.any(dtype, shape), m.any(dtype, shape)], (dtype, shape),
                       lambda c, x, y: [np.where(c, x, y)])


# ---- reductions ------------------------------------------------------------------------------------

U = 2.0**-24
REDUCED = [((0,), (0,)), ((1,), (0,)), ((7,), (0,)), ((31,), (0,)), ((33,), (0,)), ((4095,), (0,)),
           ((4096,), (0,)), ((4097,), (0,)), ((3, 8), (1,)), ((3, 9), (0,)), ((63, 5), (0,)),
           ((64, 5), (0,)), ((65, 17), (0,)), ((3, 0), (1,)), ((0, 3), (0,)), ((2, 3, 5), (0, 2)),
           ((2, 3, 5), (1,)), ((2, 3, 5), (0, 1, 2)), ((2, 3, 4, 5), (1, 3))]


def without(shape, axes):
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def reduction(fn, types, total=False):
    def cases(op):
        for dtype in types:
            yield from reductions_of(op, quiet(fn), dtype, total and dtype in FLOATS)
    return cases


def reductions_of(op, fn, dtype, is_sum):
    m = Maker(7)

    def make(x, axes, **more):
        def want(x):
            y = fn(x.astype(np.int64) if dtype in INTS else x, axes)
            return [wrap(dtype, y) if dtype in INTS else y]

        def slack(x):
            """2 sqrt(K) u of the sum of absolute values: rounding errors are as good as random."""
            with np.errstate(all="ignore"):
                return 2 * np.sqrt(np.prod([x.shape[a] for a in axes])) * U * np.abs(x).sum(axes)

        attrs = "axes=[" + ",".join(map(str, axes)) + "]"
        return node(op, [(dtype, x)], (dtype, without(x.shape, axes)), want, attrs,
                    slack=slack if is_sum else None, **more)

    for shape, axes in REDUCED:
        yield make(m.any(dtype, shape)[1], axes)
    for axes in (0,), (1,), (0, 1):
        yield make(m.any(dtype, (BATCH, 9))[1], axes, rows=True, tagged=["x0"] + ["y0"] * (0 not in axes))
    if dtype in FLOATS:  # each special value among others, in a vector's body and its tail
        x = m.any(dtype, (len(SPECIAL), 19))[1].copy()
        x[np.arange(len(SPECIAL)), np.arange(len(SPECIAL))] = held(dtype, SPECIAL)
        x[:, -1] = x[::-1, 0]
        yield make(x, (1,))
        yield make(np.ascontiguousarray(x.T), (0,))


def largest(fn, empty):
    def run(x, axes):
        if x.size == 0 and 0 in [x.shape[a] for a in axes]:
            return np.full(without(x.shape, axes), empty[x.dtype.kind])
        return fn(x, axis=axes)
    return run


# ---- what moves elements -----------------------------------------------------------------------------


def moved(op, shape, out, fn, attrs="", types=NUMBERS + ("i1",), **more):
    m = Maker(3)
    for dtype in types:
        yield node(op, [m.any(dtype, shape)], (dtype, out), lambda x: [fn(x)], attrs, **more)


def views(*each):
    def cases(op):
        for shape, out, fn, attrs, *more in each:
            yield from moved(op, shape, out, fn, attrs, **(more[0] if more else {}))
    return cases


def broadcast_to(out, axes):
    def run(x):
        shape = [1] * len(out)
        for i, a in enumerate(axes):
            shape[a] = x.shape[i]
        order = np.argsort(axes, kind="stable")
        return np.broadcast_to(x.transpose(order).reshape(shape), out)
    return run


def padded(out, where):
    def run(x):
        y = np.zeros(out, x.dtype)
        y[where] = x
        return y
    return run


def concat_cases(op):
    m = Maker(5)
    for dtype in NUMBERS + ("i1",):
        for axis, dims in (0, [(2, 3), (1, 3), (0, 3)]), (1, [(3, 1), (3, 8)]), (0, [(7,), (9,), (1,)]):
            args = [m.any(dtype, d) for d in dims]
            shape = list(dims[0])
            shape[axis] = sum(d[axis] for d in dims)
            yield node(op, args, (dtype, tuple(shape)), lambda *x, axis=axis: [np.concatenate(x, axis)],
                       f"axis={axis}")


def cast_value(x, to):
    with np.errstate(all="ignore"):
        if to in INTS and x.dtype.kind == "f":
            low, high = {"i32": (-2**31, 2**31 - 1), "u8": (0, 255)}[to]
            return wrap(to, np.clip(np.nan_to_num(np.trunc(x), nan=0, posinf=2.0**40, neginf=-2.0**40), low, high))
        if to in INTS:
            return wrap(to, x.astype(np.int64))
        if to == "i1":
            return x != 0
        return x.astype(np.float64)


def cast_cases(op):
    m, all_types = Maker(6), NUMBERS + ("i1",)
    for a in all_types:
        for b in all_types:
            for x in [m.any(a, s, -300, 300)[1] for s in ((), (0,), (9,), (17,))] + [
                    held(a, SPECIAL + [65504, 65520, 1e9, 3e9, 254.9, 255.5, -0.9] if a in FLOATS
                         else [0, 1, 200] if a != "i1" else [0, 1])]:
                yield node(op, [(a, x)], (b, x.shape), lambda x, b=b: [cast_value(x, b)])


def mask_rows_cases(op):
    m = Maker(8)
    for dtype in NUMBERS + ("i1",):
        for shape in (BATCH,), (BATCH, 9):
            yield node(op, [m.any(dtype, shape)], (dtype, shape), lambda x: [x], rows=True)


def untag_rows_cases(op):
    m = Maker(24)

    def padded(x):
        y = np.zeros((BATCH,) + x.shape[1:], x.dtype)
        y[:len(x)] = x
        return [y]
    for dtype in NUMBERS + ("i1",):
        for shape in (BATCH,), (BATCH, 9):
            yield node(op, [m.any(dtype, shape)], (dtype, shape), padded, rows=True, tagged=["x0"])


# ---- sources -----------------------------------------------------------------------------------------


def constant_cases(op):
    for dtype, value in ("f32", 0.1), ("bf16", 0.1), ("f16", 70000), ("i32", -7), ("u8", 200), ("i1", 1):
        for shape in (), (0,), (9,):
            yield Case([], f"%y0 = constant {{value={value}}} : {type_of(dtype, shape)}", [(dtype, shape)],
                       lambda d=dtype, v=value, s=shape: [np.full(s, v, np.float64 if d in FLOATS else np.int64)])


def iota_cases(op):
    for dtype in "f32", "bf16", "i32", "u8":
        for shape, axis in ((9,), 0), ((0,), 0), ((3, 17), 1), ((3, 17), 0), ((2, 3, 5), 1):
            def want(shape=shape, axis=axis):
                y = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
                return [np.broadcast_to(y, shape)]
            yield Case([], f"%y0 = iota {{axis={axis}}} : {type_of(dtype, shape)}", [(dtype, shape)], want)


def normal_quantile(u):
    """f64: the inverse distribution function at (signed u + 1/2) / 2^32 from the middle."""
    p = ((u.astype(np.int64) + 2**31) % 2**32 + 0.5) / 2**32
    return torch.special.ndtri(torch.tensor(p, dtype=torch.float64)).numpy()


WORDS = ("i32", np.array(123456789, np.int32)), ("i32", np.array(-7, np.int32)), ("i32", np.array(3, np.int32))


def draws(fn, slack):
    def cases(op):
        for n in 2, 3:
            for dtype in FLOATS:
                for shape in (), (0,), (1,), (17,), (3, 9):
                    yield node(op, list(WORDS[:n]), (dtype, shape),
                               lambda *w, s=shape: [fn(s, *w)], "site=77309411335",
                               slack=lambda *w, s=shape: np.full(s, slack), f64_slack=1)
    return cases


def draw_bits(shape, lo, hi, draw=0):
    return philox(np.arange(int(np.prod(shape))).reshape(shape), lo, hi, 77309411335 & 0xFFFFFFFF,
                  77309411335 >> 32, draw)


def bits_cases(fn, slack):
    def cases(op):
        bits = np.array([0, 1, -1, 2**31 - 1, -2**31, 255, 256, 123456789, -123456789], np.int32)
        for x in bits, Maker(4).ints((3, 17), -2**31, 2**31 - 1)[1], np.zeros(0, np.int32):
            yield node(op, [("i32", x)], ("f32", x.shape), lambda x: [fn(x.view(np.uint32))],
                       slack=lambda x: np.full(x.shape, slack), f64_slack=1)
    return cases


def philox_cases(op):
    m = Maker(2)
    for shape in FLAT:
        args = [m.ints(shape, -2**31, 2**31 - 1) for _ in range(6)]

        def want(e, lo, hi, site_lo, site_hi, draw):
            return [philox(e, lo, hi, site_lo, site_hi, draw).view(np.int32)]
        yield node(op, args, ("i32", shape), want)


def dropout_cases(op):
    m = Maker(12)
    for dtype in FLOATS:
        for shape in (), (0,), (17,), (3, 40):
            def want(x, *words):
                kept = (draw_bits(x.shape, *words) >> 8) * 2.0**-24 >= np.float32(0.25)
                return [np.where(kept, x / 0.75, 0.0)]
            yield node(op, [m.floats(shape, dtype=dtype), *WORDS], (dtype, shape), want,
                       "site=77309411335, rate=0.25", ulp=1)


# ---- contraction, indexing ---------------------------------------------------------------------------


def matmul_cases(op):
    m = Maker(9)
    sizes = [(1, 1, 1), (3, 7, 5), (8, 9, 16), (17, 16, 15), (7, 0, 9), (0, 3, 2), (2, 3, 0), (5, 257, 3)]
    for i, (rows, k, n) in enumerate(sizes):
        for a_type, b_type in ("f32", "f32"), ("bf16", "bf16"), ("f16", "f16"), ("bf16", "f32"):
            ta, tb = i & 1, i >> 1 & 1
            for lead in [()] if a_type != "f32" else [(), (3,)]:
                a = m.floats(lead + ((k, rows) if ta else (rows, k)), dtype=a_type)
                b = m.floats(lead + ((n, k) if tb else (k, n)), dtype=b_type)
                acc = [m.floats(lead + (rows, n))] if a_type == "bf16" or lead else []
                attrs = "ta, " * ta + "tb, " * tb + f"k_chunk={4 if i % 3 else 256}"
                yield node(op, [a, b] + acc, ("f32", lead + (rows, n)), dots(ta, tb), attrs,
                           slack=dot_slack(ta, tb))
    a, b = m.floats((BATCH, 7)), m.floats((7, 9))
    yield node(op, [a, b], ("f32", (BATCH, 9)), dots(0, 0), "k_chunk=256", slack=dot_slack(0, 0), rows=True,
               tagged=["x0", "y0"])
    text = (f"%m = mask_rows %x0 : f32[rows {BATCH},7]\n"  # over the batch: whoever builds it masks
            "%y0 = matmul %m, %x1 {ta, k_chunk=256} : f32[7,9]")
    yield Case([m.floats((BATCH, 7)), m.floats((BATCH, 9))], text, [("f32", (7, 9))], dots(1, 0),
               slack=dot_slack(1, 0), rows=True, tagged=["x0", "x1"])


def dots(ta, tb):
    def run(a, b, acc=0.0):
        return [(a.swapaxes(-1, -2) if ta else a) @ (b.swapaxes(-1, -2) if tb else b) + acc]
    return run


def dot_slack(ta, tb):
    def run(a, b, acc=0.0):
        k = a.shape[-2 if ta else -1] + 1
        return 2 * np.sqrt(k) * U * dots(ta, tb)(np.abs(a), np.abs(b), np.abs(acc))[0]
    return run


INDEX = np.array([0, 6, 3, -1, 7, 2**31 - 1, -2**31, 2, 5], np.int32)  # beyond the row: clamped


def gather_cases(op):
    m = Maker(10)
    for dtype in NUMBERS:
        x = m.any(dtype, (9, 7))
        yield node(op, [x, ("i32", INDEX)], (dtype, (9,)),
                   lambda x, i: [x[np.arange(9), np.clip(i, 0, 6)]])
        yield node(op, [m.any(dtype, (0, 7)), ("i32", INDEX[:0])], (dtype, (0,)), lambda x, i: [x[:, 0]])


def embedding_cases(op):
    m = Maker(10)
    for dtype in FLOATS:
        for d in 1, 8, 9, 17, 0:
            yield node(op, [m.any(dtype, (7, d)), ("i32", INDEX)], (dtype, (9, d)),
                       lambda x, i: [x[np.clip(i, 0, 6)]])
    yield node(op, [m.any("f32", (7, 9)), ("i32", INDEX[:BATCH])], ("f32", (BATCH, 9)),
               lambda x, i: [x[np.clip(i, 0, 6)]], rows=True, tagged=["x1", "y0"])


def scatter_cases(op):
    m = Maker(11)

    def want(x, i, acc=0.0):
        y = np.zeros((7,) + x.shape[1:]) + acc
        np.add.at(y, np.clip(i, 0, 6), x)
        return [y]

    def slack(x, i, acc=0.0):
        return 2 * 3 * U * want(np.abs(x), i, np.abs(acc))[0]
    for dtype in FLOATS:
        for d in (), (1,), (8,), (17,):
            args = [m.floats((9,) + d, dtype=dtype), ("i32", INDEX)]
            for acc in [], [m.floats((7,) + d)]:
                yield node(op, args + acc, ("f32", (7,) + d), want, slack=slack)
    text = (f"%m = mask_rows %x0 : f32[rows {BATCH},9]\n%y0 = scatter_add %m, %x1 : f32[7,9]")
    yield Case([m.floats((BATCH, 9)), ("i32", INDEX[:BATCH])], text, [("f32", (7, 9))], want, slack=slack,
               rows=True, tagged=["x0", "x1"])


def one_hot_cases(op):
    for dtype in NUMBERS:
        for n in 1, 7, 9:
            yield node(op, [("i32", INDEX)], (dtype, (9, n)), lambda i, n=n: [1 * (i[:, None] == np.arange(n))])


# ---- rows --------------------------------------------------------------------------------------------

LAST = [(1, 1), (3, 7), (2, 8), (3, 9), (2, 15), (2, 17), (0, 4), (2, 3, 33), (17,)]


def rowwise(fn, out=None, cut=False, kappa=lambda x: 1, special=True):
    """Along the last axis; n of its elements: (sqrt n + 8) u kappa of the largest."""
    def cases(op):
        m = Maker(13)

        def slack(x, *more):
            n = x.shape[-1]
            with np.errstate(all="ignore"):
                return (np.sqrt(n) + 8) * U * kappa(x) * np.maximum(np.abs(fn(x, *more)), 1)
        for dtype in FLOATS:
            for shape in LAST:
                yield node(op, [m.floats(shape, dtype=dtype)], (out or dtype, shape[:-1] if cut else shape),
                           lambda x: [fn(x)], slack=None if out else slack)
            yield node(op, [m.floats((BATCH, 9), dtype=dtype)], (out or dtype, (BATCH,) if cut else (BATCH, 9)),
                       lambda x: [fn(x)], slack=None if out else slack, rows=True)
            if special:
                x = held(dtype, [[1, -np.inf, 2], [np.nan, 0, 1], [60, 50, -60], [1e-40, 0, -0.0], [5, 5, 5]])
                yield node(op, [(dtype, x)], (out or dtype, x.shape[:-1] if cut else x.shape),
                           lambda x: [quiet(fn)(x)], slack=None if out else slack)
    return cases


def softmax(x):
    t = np.exp(x - x.max(-1, keepdims=True)) if x.size else x
    return t / t.sum(-1, keepdims=True)


def logsumexp(x):
    if not x.size:
        return x[..., 0]
    top = x.max(-1, keepdims=True)
    return (top + np.log(np.exp(x - top).sum(-1, keepdims=True)))[..., 0]


def log_softmax(x):
    return x - logsumexp(x)[..., None]


def argmax(x):
    return x.argmax(-1) if x.size else np.zeros(x.shape[:-1], np.int64)


def spread(x):
    return 1 + np.abs(x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)


def layer_norm(x, *more):
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.01)
    y = y * more[0] if more else y
    return y + more[1] if len(more) > 1 else y


def rms_norm(x, *more):
    y = x / np.sqrt((x * x).mean(-1, keepdims=True) + 0.01)
    return y * more[0] if more else y


def norms(fn, most, kappa):
    def cases(op):
        m = Maker(14)

        def slack(x, *more):
            """Of the terms of the last sum; kappa of a row of one is that of x itself."""
            size = np.abs(fn(x)) * (np.abs(more[0]) if more else 1) + (np.abs(more[1]) if more[1:] else 0)
            return (np.sqrt(x.shape[-1]) + 8) * U * kappa(x) * np.maximum(size, 1)
        for dtype in FLOATS:
            for shape in LAST[1:]:
                for n in range(most + 1):
                    args = [m.floats(shape, dtype=dtype)] + [m.floats(shape[-1:], dtype="f32") for _ in range(n)]
                    yield node(op, args, (dtype, shape), lambda *x: [fn(*x)], "eps=0.01", slack=slack)
    return cases


def cross_entropy_cases(op):
    m = Maker(15)

    def want(z, i, s=0.0):
        at = np.take_along_axis(z, np.clip(i, 0, z.shape[-1] - 1)[..., None], -1)[..., 0]
        return [logsumexp(z) - (1 - s) * at - s * z.mean(-1)]

    def slack(z, i, s=0.0):
        return (np.sqrt(z.shape[-1]) + 8) * U * np.full(i.shape, np.abs(z).max(initial=1) * 2)
    for dtype in FLOATS:
        for shape in LAST:
            index = m.ints(shape[:-1], 0, shape[-1] - 1)
            for s in [], [("f32", held("f32", 0.1))]:
                yield node(op, [m.floats(shape, dtype=dtype), index] + s, (dtype, shape[:-1]), want, slack=slack)


def bce(z, y):
    return np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))


def bce_cases(op):
    m = Maker(16)
    for dtype in FLOATS:
        for shape in FLAT:
            z, y = m.floats(shape, -9, 9, dtype), m.floats(shape, 0, 1, dtype)
            yield node(op, [z, y], (dtype, shape), lambda z, y: [bce(z, y)],
                       slack=lambda z, y: 4 * U * (np.abs(z) + 1))


# ---- the program's own gradients, the step, regions ----------------------------------------------------


def custom_grad_cases(op):
    m = Maker(17)
    for shape in (), (7,), (3, 17):
        t = type_of("f32", shape)
        text = (f"%d = cotangent : {t}*S\n%g = mul %d, %x0 : {t}*S\n"
                f"%y0 = custom_grad %x0, %d, %x0, %g : {t}")
        yield Case([m.floats(shape)], text, [("f32", shape)], lambda x: [x])


def cotangent_cases(op):
    """Where no gradient is asked for it is 0; unscaled here, as no value leaves with the scale."""
    text = ('%d = cotangent : f32[9]*S\n%s = constant {value=4} : f32[9]*S\n%e = add %d, %s : f32[9]*S\n'
            "%y0 = div %e, %s : f32[9]")
    yield Case([], text, [("f32", (9,))], lambda: [np.ones(9)])


def loss_seed_cases(op):
    for n in [4.0, 2.0], [0.0, 2.0], [3.0, 0.0], [0.0, 0.0], [5.0]:
        def want(*n):
            least = min([x for x in n if x > 0], default=0)
            return [np.array(least / n[0] if n[0] > 0 else 0.0)]
        yield node(op, [("f32", np.array(x)) for x in n], ("f32", ()), want, "index=0", ulp=1)


def scale_min_cases(op):
    for a, b in (8.0, 2.0), (0.25, 1024.0), (4.0, 4.0):
        text = (f"%a = constant {{value={a}}} : f32[]*S\n%b = constant {{value={b}}} : f32[]*S1\n"
                "%m = scale_min %a, %b : f32[]*min(S,S1)\n%i = constant {value=1} : f32[]*min(S,S1)\n"
                "%y0 = div %m, %i : f32[]")
        yield Case([], text, [("f32", ())], lambda a=a, b=b: [np.array(min(a, b))])


def rescale_cases(op):
    """A cotangent of scale S as one of min(S, S1) = S/4; unscaled before and behind."""
    m = Maker(23)
    for dtype in FLOATS:
        for shape in FLAT:
            t = type_of(dtype, shape)
            text = (f"%s = constant {{value=1}} : {t}*S\n%c = mul %x0, %s : {t}*S\n"
                    f"%r = constant {{value=0.25}} : {t}*S^-1*min(S,S1)\n"
                    f"%z = rescale %c, %r : {t}*min(S,S1)\n%i = constant {{value=1}} : {t}*min(S,S1)\n"
                    f"%y0 = div %z, %i : {t}")
            yield Case([m.floats(shape, dtype=dtype)], text, [(dtype, shape)], lambda x: [x / 4])


def commit_cases(op):
    m = Maker(18)
    for dtype in NUMBERS:
        for ok in True, False:
            for shape in (), (0,), (9,), (3, 17):
                yield node(op, [("i1", np.array(ok)), m.any(dtype, shape), m.any(dtype, shape)], (dtype, shape),
                           lambda ok, new, old: [new if ok else old])


def loop_cases(op):
    """h' = h · k + x[i], forward and backward, h and its square seen after each round."""
    m = Maker(19)
    for trip in 1, 2, 7:
        for reverse in False, True:
            text = (f"%y0, %y1 = loop %x0, %x1, %x2 {{trip={trip}, carries=1, slices=1"
                    f"{', reverse' * reverse}}} : f32[9], f32[{trip},9] (%i: i32[], %h: f32[9], %s: f32[9], %k: f32[9]) {{\n"
                    "%a = mul %h, %k : f32[9]\n%b = add %a, %s : f32[9]\n%c = mul %b, %b : f32[9]\nyield %b, %c\n}")

            def want(h, xs, k, reverse=reverse):
                seen = np.zeros(xs.shape)
                for i in reversed(range(len(xs))) if reverse else range(len(xs)):
                    h = h * k + xs[i]
                    seen[i] = h * h
                return [h, seen]
            yield Case([m.floats((9,), -1, 1), m.floats((trip, 9), -1, 1), m.floats((9,), -1, 1)], text,
                       [("f32", (9,)), ("f32", (trip, 9))], want,
                       slack=lambda h, xs, k: 64 * U)  # |h| < 8, each round adds 2 roundings


def kernel_cases(op):
    m = Maker(20)
    text = ("%y0 = kernel %x0, %x1 {form=map} : f32[17] (%a: f32[17], %b: f32[17]) {\n"
            "%c = max %a, %b : f32[17]\nyield %c\n}")
    yield Case([m.floats((17,)), m.floats((17,))], text, [("f32", (17,))], lambda a, b: [np.maximum(a, b)])


def and_all(x, axes):
    return x.all(axis=axes)


def or_any(x, axes):
    return x.any(axis=axes)


REORDER = [((3, 8), (2, 12), lambda x: x.reshape(2, 12), ""), ((), (1, 1), lambda x: x.reshape(1, 1), ""),
           ((0, 3), (2, 0), lambda x: x.reshape(2, 0), ""), ((2, 1, 3, 1, 1, 2, 1, 2), (24,), np.ravel, "")]
TURN = [((3, 17), (17, 3), lambda x: x.T, "perm=[1,0]"), ((2, 3, 4), (4, 2, 3), lambda x: x.transpose(2, 0, 1), "perm=[2,0,1]"),
        ((0, 3), (3, 0), lambda x: x.T, "perm=[1,0]"), ((16, 8), (8, 16), lambda x: x.T, "perm=[1,0]"),
        ((2, 1, 3, 1, 1, 2, 1, 2), (2, 1, 2, 1, 1, 3, 1, 2), lambda x: x.transpose(7, 6, 5, 4, 3, 2, 1, 0), "perm=[7,6,5,4,3,2,1,0]")]
STRETCH = [((), (9,), broadcast_to((9,), []), "axes=[]"), ((1, 3), (3, 2, 17), broadcast_to((3, 2, 17), [2, 0]), "axes=[2,0]"),
           ((17,), (3, 17), broadcast_to((3, 17), [1]), "axes=[1]"), ((3,), (3, 17), broadcast_to((3, 17), [0]), "axes=[0]"),
           ((), (0,), broadcast_to((0,), []), "axes=[]")]
CUT = [((9,), (4,), lambda x: x[1::2], "starts=[1], steps=[2]"), ((17,), (17,), lambda x: x[::-1], "starts=[16], steps=[-1]"),
       ((5, 9), (2, 3), lambda x: x[1::3, 7:4:-1], "starts=[1,7], steps=[3,-1]"), ((5, 9), (0, 9), lambda x: x[:0], "starts=[0,0], steps=[1,1]"),
       ((BATCH, 9), (BATCH, 4), lambda x: x[:, 2:6], "starts=[0,2], steps=[1,1]", {"rows": True})]
PUT = [((3,), (9,), padded((9,), np.s_[1:6:2]), "starts=[1], steps=[2]"), ((2, 3), (5, 17), padded((5, 17), np.s_[1:4:2, 16:13:-1]), "starts=[1,16], steps=[2,-1]"),
       ((0,), (7,), padded((7,), np.s_[:0]), "starts=[0], steps=[1]")]

NEAREST = {"f": np.inf, "i": 2**31 - 1}
TABLE = {
    "constant": constant_cases, "iota": iota_cases,
    "uniform": draws(lambda s, *w: (draw_bits(s, *w) >> 8) * 2.0**-24, 0),
    "normal": draws(lambda s, *w: normal_quantile(draw_bits(s, *w)), 3e-6), "philox": philox_cases,
    "bits_to_uniform": bits_cases(lambda u: (u >> 8) * 2.0**-24, 0), "bits_to_normal": bits_cases(normal_quantile, 3e-6),
    "reshape": views(*REORDER), "transpose": views(*TURN), "broadcast": views(*STRETCH), "slice": views(*CUT),
    "pad": views(*PUT), "concat": concat_cases, "cast": cast_cases, "cast.policy": cast_cases,
    "mask_rows": mask_rows_cases, "untag_rows": untag_rows_cases,
    "add": binary(np.add, types=NUMBERS), "sub": binary(np.subtract, types=NUMBERS),
    "mul": binary(np.multiply, types=NUMBERS), "div": binary(np.divide),
    "max": binary(np.maximum, types=NUMBERS), "min": binary(np.minimum, types=NUMBERS),
    "neg": unary(np.negative, types=NUMBERS), "sqrt": unary(np.sqrt, lo=0), "exp": unary(np.exp),
    "expm1": unary(np.expm1), "log": unary(np.log, lo=0.01), "tanh": unary(np.tanh), "sigmoid": unary(sigmoid),
    "relu": unary(lambda x: np.where(x <= 0, 0.0, x)), "log1p": unary(np.log1p, lo=-0.99),
    "rsqrt": unary(lambda x: 1 / np.sqrt(x), lo=0.01), "pow": binary(power, lo=0.1), "erf": unary(of_torch(torch.erf)),
    "gelu": unary(gelu), "gelu_tanh": unary(gelu_tanh), "silu": unary(silu),
    "gelu_grad": unary(derivative(torch.nn.functional.gelu), special=False, slack=4 * U),
    "gelu_tanh_grad": unary(derivative(lambda t: torch.nn.functional.gelu(t, approximate="tanh")), special=False, slack=8 * U),
    "softplus": unary(lambda x: np.where(x > 0, x, 0) + np.log1p(np.exp(-np.abs(x)))),
    "sin": unary(np.sin), "cos": unary(np.cos), "abs": unary(np.abs), "sign": unary(np.sign),
    "round": unary(np.rint), "floor": unary(np.floor), "floor_pow2": unary(floor_pow2),
    "eq": binary(np.equal, types=NUMBERS + ("i1",), result="i1"), "ne": binary(np.not_equal, types=NUMBERS + ("i1",), result="i1"),
    "lt": binary(np.less, types=NUMBERS + ("i1",), result="i1"), "le": binary(np.less_equal, types=NUMBERS + ("i1",), result="i1"),
    "gt": binary(np.greater, types=NUMBERS + ("i1",), result="i1"), "ge": binary(np.greater_equal, types=NUMBERS + ("i1",), result="i1"),
    "and": binary(np.logical_and, types=("i1",)), "or": binary(np.logical_or, types=("i1",)),
    "select": select_cases, "not": unary(np.logical_not, types=("i1",)), "isfinite": unary(np.isfinite, result="i1"),
    "sum": reduction(lambda x, a: x.sum(axis=a), NUMBERS, total=True),
    "reduce_max": reduction(largest(np.max, {"f": -np.inf, "i": -2**31}), NUMBERS),
    "reduce_min": reduction(largest(np.min, NEAREST), NUMBERS),
    "reduce_and": reduction(and_all, ("i1",)), "reduce_or": reduction(or_any, ("i1",)),
    "matmul": matmul_cases, "gather": gather_cases, "embedding": embedding_cases, "scatter_add": scatter_cases,
    "one_hot": one_hot_cases,
    "softmax": rowwise(softmax), "log_softmax": rowwise(log_softmax, kappa=lambda x: np.maximum(np.abs(x), 1)),
    "logsumexp": rowwise(logsumexp, cut=True, special=False), "argmax": rowwise(argmax, out="i32", cut=True),
    "layer_norm": norms(layer_norm, 2, spread), "rms_norm": norms(rms_norm, 1, lambda x: 1),
    "dropout": dropout_cases, "cross_entropy": cross_entropy_cases, "bce_logits": bce_cases,
    "stop": views(*[(s, s, lambda x: x, "") for s in ((), (0,), (17,))]), "cotangent": cotangent_cases,
    "custom_grad": custom_grad_cases, "scale_min": scale_min_cases, "rescale": rescale_cases,
    "loss_seed": loss_seed_cases, "commit": commit_cases, "loop": loop_cases,
    "kernel": kernel_cases,
}
