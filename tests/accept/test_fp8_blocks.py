"""Recipes of fp8 against a model of them in NumPy that shares nothing with the compiler.

Of a program with one layer in fp8 the graph behind pass `fp8` is run up to its three products (the
layer, the gradients of its input and of its weight), with what they were made of as results.  Each
operand, cut into blocks along the axis that is contracted or whole, must have the model's scales and
codes, bit for bit; the product must be that of the codes within the row `f32` of verification's
tolerances, and near the product of what was quantized.  Axes other than the batch are filled with
zeros to multiples of 16.  How many elements saturated, how many became zero, is counted for each slot.
Sizes: 1, and around 16 and a block; a partial batch.
Where ml_dtypes is installed it does the model's rounding, else a table of the numbers of each type.
"""
import re
import sys
from pathlib import Path

import numpy as np

from support import Evaluator, mpcc

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None
sys.path.append(str(Path(__file__).resolve().parents[1] / "ops"))
from fp8_cases import FP8, fp8, scaled_bound

MODEL = """version 1
model M {
  first: param[3, K] = normal(0, 1)
  inner: param[K, N] = normal(0, 0.2)
  last: param[N, 2] = normal(0, 1)
  fn f(x) { return relu(relu(x @ first) @ inner) @ last }
}
train M {
  batch B = ROWS
  data { x: f32[B, 3] }
  z = f(x)
  loss mean(z * z, axis: 1)
  optimizer sgd(lr: 0.1)
  precision WORD
}
"""
SHAPES = [(16, 16, 16), (1, 15, 17), (15, 17, 1), (17, 1, 15), (127, 129, 16), (129, 127, 130), (300, 40, 33), (33, 260, 257)]
EMAX = {"f8e4m3fn": 8, "f8e5m2": 15}
# How far a product may be from that of what was quantized, relative L2: a check of sense.
# Half a unit is 2^-4 of an e4m3 number at most and 2^-3 of an e5m2, over a binade 2.7 % and 5.3 % in the mean
# square; of two operands, independent, 3.8 % and (beside e4m3) 5.9 %.  The rest is for products of few terms.
SANE = {"f8e4m3fn": 0.06, "f8e5m2": 0.12}
DELAYED = {"f8e4m3fn": np.float32(300), "f8e5m2": np.float32(1e6)}  # what the states are set to: too much for some
WIDE = 1 << 40  # a block that is everything
BLOCK = {"mx8": 32, "fp8(block)": 128, "fp8(current)": WIDE, "fp8(delayed)": WIDE}
NODE = re.compile(r"  (%\w+(?:, %\w+)*) = (\w+) (.*) : (.*)")


class Graph:
    """The nodes of train_step as text: name of a result -> (op, operands, number of the result, type)."""

    def __init__(self, text):
        entry = re.search(r"entry @train_step step (batch \d+) (\(.*?\n\) \{\n)(.*?)\n  return\n", text, re.S)
        self.batch, self.args, self.body = entry.groups()
        self.node = {}
        self.counts = dict((name, v) for name, v in re.findall(r'count "([^"]*)" = (%\w+)', text))
        for results, op, rest, types in NODE.findall(self.body):
            for i, (name, t) in enumerate(zip(results.split(", "), re.findall(r"\w+\[[^\]]*\][^,]*", types))):
                self.node[name] = op, re.findall(r"%\w+", rest), i, t, rest

    def products(self):
        return [(name, ops, rest) for name, (op, ops, _, _, rest) in self.node.items() if op == "matmul_scaled"]

    def through(self, name, *ops):
        while self.node.get(name, [None])[0] in ops:
            name = self.node[name][1][0]
        return name

    def probe(self, values):
        returns = ",\n".join(f'    value "{n[1:]}" = {n}' for n in values)
        states = "\n".join(re.findall(r"^(?:state|hyper|source|train) .*$", self.text, re.M))
        return f'graph "probe"\n{states}\n\nentry @probe infer {self.batch} {self.args}{self.body}\n  return\n{returns}\n}}\n'


def model_codes(dtype, x, scale):
    """Values of the codes of x · scale, one product in f32, rounded once."""
    with np.errstate(all="ignore"):
        y = x.astype(np.float32) * scale.astype(np.float32)
    if not ml_dtypes:
        return fp8(dtype, y.astype(np.float64))
    most = np.float32(FP8[dtype][-1])
    kind = {"f8e4m3fn": ml_dtypes.float8_e4m3fn, "f8e5m2": ml_dtypes.float8_e5m2}[dtype]
    return np.clip(y, -most, most).astype(kind).astype(np.float64)


def model_scale_inv(recipe, dtype, amax):
    if recipe == "fp8(delayed)":
        return float(np.float32(1) / DELAYED[dtype])
    if recipe == "mx8":
        _, e = np.frexp(amax)
        return np.where(amax > 0, np.ldexp(1.0, np.maximum(e - 1 - EMAX[dtype], -126)), 2.0**-126)
    scale = np.float32(FP8[dtype][-1]) / np.where(amax > 0, amax, 1).astype(np.float32)
    return (np.float32(1) / np.where(amax > 0, scale, np.float32(1))).astype(np.float64)


def model_scale(recipe, dtype, amax):
    if recipe == "fp8(delayed)":
        return DELAYED[dtype]
    if recipe == "mx8":
        return 1 / model_scale_inv(recipe, dtype, amax)
    return np.where(amax > 0, np.float32(FP8[dtype][-1]) / np.where(amax > 0, amax, 1).astype(np.float32), 1)


def quantized(recipe, dtype, x, weight):
    """[lines, k] -> values of the codes, scale_inv of each element's block, which saturated, which became zero."""
    block = BLOCK[recipe]
    high = WIDE if block == WIDE else block if weight and recipe != "mx8" else 1
    codes, inverse, scaled = np.empty(x.shape), np.empty(x.shape), np.empty(x.shape, np.float32)
    for i in range(0, x.shape[0], high):
        for k in range(0, x.shape[1], block):
            at = slice(i, i + high), slice(k, k + block)
            amax = np.abs(x[at]).max()
            scale = model_scale(recipe, dtype, amax)
            codes[at] = model_codes(dtype, x[at], scale)
            inverse[at] = model_scale_inv(recipe, dtype, amax)
            scaled[at] = x[at].astype(np.float32) * np.float32(scale)
    # halfway to what would be the next number, and, of e5m2, that itself, which ties to the even one
    beyond = np.abs(scaled) > 464 if dtype == "f8e4m3fn" else np.abs(scaled) >= 61440
    return codes, inverse, beyond, (x != 0) & (codes == 0)


def lines(x, swap):
    return x.swapaxes(-1, -2) if swap else x


def check_operand(what, recipe, dtype, weight, source, codes, scale_inv, untouched):
    """source [lines, k], codes filled up but along the axis `untouched`, scale_inv by block."""
    want, inverse, saturated, flushed = quantized(recipe, dtype, source, weight)
    rows, k = source.shape
    for axis, n in enumerate(source.shape):
        tagged = axis == untouched
        whole = BLOCK[recipe] if axis == 0 and weight and recipe == "fp8(block)" and n > 128 else 16
        assert codes.shape[axis] == (n if tagged else -(-n // whole) * whole), f"{what}: {codes.shape}, of {source.shape}"
    assert not codes[rows:].any() and not codes[:, k:].any(), f"{what}: padding is not zeros"
    assert np.array_equal(codes[:rows, :k], want), f"{what}: codes"
    if scale_inv.ndim:
        got = np.repeat(scale_inv, BLOCK[recipe], 1)[:, :k]
        scale_inv = got[:rows] if len(got) >= rows else np.repeat(got, BLOCK[recipe], 0)[:rows]
    assert np.array_equal(np.broadcast_to(scale_inv, inverse.shape), inverse), f"{what}: scales"
    return want, inverse, saturated, flushed


def relative(got, want):
    return np.linalg.norm(got - want) / np.linalg.norm(want)


def check(recipe, k, n, batch, rows):
    folder_text = MODEL.replace("WORD", recipe).replace("K", str(k)).replace("N", str(n)).replace("ROWS", str(batch))
    text = mpcc("--emit=fp8", "-", input=folder_text)
    g = Graph(text)
    g.text = text
    products = g.products()
    assert len(products) == 3, [p[0] for p in products]
    probes = []
    for name, (a, b, sa, sb), rest in products:
        for y, s in (a, sa), (b, sb):
            code = g.through(y, "reshape", "slice")
            x = g.node[code][1][0]
            probes += [y, s, g.through(x, "reshape", "pad", "transpose", "untag_rows")]
        probes.append(name)
    probes += g.counts.values()
    e = Evaluator(g.probe(sorted(set(probes))), seed=3)
    rng = np.random.default_rng(k + n)
    for name, shape, size in ("first", (3, k), 1.0), ("inner", (k, n), 0.2), ("last", (n, 2), 1.0):
        w = rng.normal(0, size, shape)
        w.flat[::7] *= 1e-9 if name == "inner" else 1  # some become zero
        e.set("state", name, w.astype(np.float32))
    for name in re.findall(r'^state counter "([^"]*)"', text, re.M):
        dtype = "f8e5m2" if ".dy" in name else "f8e4m3fn"
        size = int(re.search(rf'"{re.escape(name)}" : \w+\[(\d*)', text)[1] or 0)
        e.set("state", name, np.full((size,) if size else (), DELAYED[dtype] if name.endswith(".scale") else 0, np.float32))
    found = e.run("probe", rows=rows, x=rng.normal(0, 1, (batch, 3)).astype(np.float32))
    value = {name: found["value", name[1:]].astype(np.float64) for name in probes}
    worst, seen, counts = 0, set(), dict.fromkeys(g.counts, 0)
    for (name, (a, b, sa, sb), rest), what in zip(products, ("forward", "input's", "weight's")):
        held, plain, e5m2 = [], [], False
        for i, (y, s) in enumerate([(a, sa), (b, sb)]):
            source = g.through(g.node[g.through(y, "reshape", "slice")][1][0], "reshape", "pad", "transpose", "untag_rows")
            weight = "rows" not in g.node.get(source, [0, 0, 0, ""])[3]
            dtype = g.node[y][3].split("[")[0]
            e5m2 |= dtype == "f8e5m2"
            swap = f"t{'ab'[i]}" not in rest if i else "ta" in rest
            x = value[source]
            if what == "weight's":
                x = np.where((np.arange(batch) < rows)[:, None], x, 0).T
            elif weight and what == "forward":
                x = x.T
            # the batch, where an operand still knows of it: lines forward, contracted in the weight's gradient
            tagged = None if weight or (BLOCK[recipe] != WIDE and what == "weight's") else 1 if what == "weight's" else 0
            y_lines, s_lines = lines(value[y], swap), lines(value[s], swap) if value[s].ndim else value[s]
            if tagged is not None:  # of padding rows nothing is promised, or counted
                assert y_lines.shape[tagged] == batch
                x, y_lines = (v.take(range(rows), tagged) for v in (x, y_lines))
                s_lines = s_lines[:rows] if s_lines.ndim else s_lines
            codes, inverse, saturated, flushed = check_operand(f"{recipe} {k}x{n}, {batch}, {what} {'ab'[i]}", recipe,
                                                               dtype, weight, x, y_lines, s_lines, tagged)
            code = g.through(y, "reshape", "slice")
            for kind, marks in ("saturated", saturated), ("underflow", flushed):
                if (kind, code) not in seen:
                    counts[f"{kind}:inner:fp8.{'w' if weight else 'dy' if dtype == 'f8e5m2' else 'x'}"] += marks.sum()
                seen.add((kind, code))
            held.append(codes * inverse)
            plain.append(x)
        got, want = value[name][:len(held[0])], held[0] @ held[1].T
        size = np.abs(held[0]) @ np.abs(held[1]).T
        inner = held[0].shape[1]
        # two roundings beside the sum: of the inverse scales' product and of a chain times it, or of a total
        # times one and the other; the inverses are those of the operands, which are the model's
        assert (np.abs(got - want) <= scaled_bound(inner, 2) * size).all(), f"{recipe}: {what} product"
        far = relative(got, plain[0] @ plain[1].T) if recipe != "fp8(delayed)" else 0
        worst = max(worst, far)
        assert far <= SANE["f8e5m2" if e5m2 else "f8e4m3fn"], f"{recipe} {k}x{n}, {batch}: {what} product is {far:.3f} off"
    assert len(counts) == 6, counts
    got = {name: int(value[v]) for name, v in g.counts.items()}
    assert got == counts, f"{recipe} {k}x{n}, {batch}: counted {got}, expected {counts}"
    return worst, sum(v for name, v in got.items() if "saturated" in name), sum(v for name, v in got.items() if "underflow" in name)


def main():
    for recipe, saturates in ("fp8(block)", False), ("mx8", True), ("fp8(current)", False), ("fp8(delayed)", True):
        found = np.array([check(recipe, k, n, batch, rows) for k, n, batch in SHAPES for rows in {batch, max(1, batch - 2)}])
        saturated, flushed = found[:, 1:].sum(0).astype(int)
        assert bool(saturated) == saturates and flushed > 0, f"{recipe}: the counters were not tried"
        print(f"{recipe}: scales and codes of the model, products within {found[:, 0].max():.1%}, {saturated} saturated, "
              f"{flushed} flushed; rounded by {'ml_dtypes' if ml_dtypes else 'tables'}", flush=True)


if __name__ == "__main__":
    main()
