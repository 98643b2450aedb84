"""What the ops of fp8 mean, in NumPy: the part of op_table.py's table that makes and multiplies them.

Conversions are by the list of each type's numbers, products by the values of the codes in f64.
"""
import numpy as np

from op_table import FLOATS, SPECIAL, U, Case, Maker, dot_slack, dots, held, node, quiet, type_of

# fp8: the numbers from 0 up, by code; what is too large becomes the largest.
FP8 = {"f8e4m3fn": np.array([m * 2.0**-9 if e == 0 else (8 + m) * 2.0**(e - 10) for e in range(16) for m in range(8)][:127]),
       "f8e5m2": np.array([m * 2.0**-16 if e == 0 else (4 + m) * 2.0**(e - 17) for e in range(31) for m in range(4)])}


def fp8(dtype, x):
    """To nearest, ties to the even code."""
    v, a = FP8[dtype], np.minimum(np.abs(np.nan_to_num(x, nan=0)), FP8[dtype][-1])
    above = np.minimum(np.searchsorted(v, a), len(v) - 1)
    below = np.maximum(above - 1, 0)
    up, down = v[above] - a, a - v[below]
    code = np.where((up < down) | ((up == down) & (above % 2 == 0)), above, below)
    return np.where(np.isnan(x), np.nan, np.copysign(v[code], x))


def scaled_to_fp8(dtype):
    def rounded(x, scale):
        with np.errstate(all="ignore"):
            return fp8(dtype, held("f32", x * scale))
    return rounded


def fp8_operands(m):
    ties = (FP8["f8e4m3fn"][:-1] + FP8["f8e4m3fn"][1:]) / 2
    for dtype in FLOATS:
        for shape in (), (0,), (1,), (9,), (17,), (3, 17):
            yield dtype, m.floats(shape, -500, 500, dtype)[1]
        yield dtype, held(dtype, np.concatenate([SPECIAL, ties, -ties, [448, 464, 465, 57344, 61440, 65504]]))


def scaled_bound(k, roundings):
    """Of Σ|ab|, what a product of k terms of codes and their scales may be off: 2√K·u for its additions (see
    dot_slack), one more for acc, and u for each rounding that every term goes through beside them."""
    return (2 * np.sqrt(k + 1) + roundings) * U


def saturate_cases(op):
    for dtype, x in fp8_operands(Maker(22)):
        for low in FP8:
            for scale in 1.0, 0.375:
                rounded = scaled_to_fp8(low)
                yield node(op, [(dtype, x), ("f32", np.array(scale))], (low, x.shape),
                           lambda x, s, rounded=rounded: [rounded(x, s)], f64_want=lambda x, s: [quiet(np.multiply)(x, s)])
            each = np.resize(held("f32", [1.0, 0.375, 2.0**100, 0.0, np.inf, np.nan]), x.shape)
            yield node(op, [(dtype, x), ("f32", each)], (low, x.shape), lambda x, s, rounded=rounded: [rounded(x, s)],
                       f64_want=lambda x, s: [quiet(np.multiply)(x, s)])


def rounding_cases(op):
    """What became of x; the code is made by a saturate in front.  saturated asks x and the scale: a code that was rounded
    from another x, as by a matmul that quantizes before it stores x in bf16, does not count as one that is too large."""
    limit = {"f8e4m3fn": 464.0, "f8e5m2": np.nextafter(np.float32(61440), np.float32(0))}
    for dtype, x in fp8_operands(Maker(22)):
        for low in FP8:
            for scale in np.array(0.375), np.resize(held("f32", [1.0, 2.0**-7, 2.0**9]), x.shape):
                for other in (scale, 2.5 * scale)[:2 if op == "saturated" else 1]:
                    names = "%x0, %x1, %y" if op == "saturated" else "%x0, %y"
                    text = (f"%y = saturate %x0, %x2 : {type_of(low, x.shape)}\n"
                            f"%y0 = {op} {names} : {type_of('i1', x.shape)}")

                    def want(x, s, _, low=low):
                        y = quiet(np.multiply)(x, s)
                        if op == "saturated":
                            return [np.abs(held("f32", y)) > limit[low]]
                        return [(x != 0) & (scaled_to_fp8(low)(x, s) == 0)]
                    yield Case([(dtype, x), ("f32", scale), ("f32", other)], text, [("i1", x.shape)], want,
                               f64_want=lambda x, s, _: [np.zeros(x.shape, bool)])


def quantize_cases(op):
    def rest(x, s):
        return [1 / s if np.isfinite(x).all() else np.array(np.nan), np.abs(x).max() if x.size else np.array(-np.inf), np.array(not np.isfinite(x).all())]

    for dtype, x in fp8_operands(Maker(22)):
        for low in FP8:
            rounded = scaled_to_fp8(low)
            text = f"%y0, %y1, %y2, %y3 = quantize %x0, %x1 : {type_of(low, x.shape)}, f32[], f32[], i1[]"
            yield Case([(dtype, x), ("f32", np.array(0.375))], text,
                       [(low, x.shape), ("f32", ()), ("f32", ()), ("i1", ())],
                       lambda x, s, rounded=rounded: [rounded(x, s), *rest(x, s)],
                       f64_want=lambda x, s: [quiet(np.multiply)(x, s), *rest(x, s)])
    yield from quantize_block_cases(op)


def quantize_block_cases(op):
    """A scale for each place of some axes; its inverse in f32, or, of a power of two, in f8e8m0."""
    m = Maker(26)
    for shape, axes in [((3, 2, 16), (0, 1)), ((2, 3, 3, 5), (0, 2)), ((7, 4), (1,)), ((4, 1, 128), (0, 1))]:
        others = tuple(i for i in range(len(shape)) if i not in axes)
        for dtype in FLOATS:
            for low, inverse in ("f8e4m3fn", "f32"), ("f8e5m2", "f8e8m0"):
                dims = tuple(shape[i] for i in axes)
                x = m.floats(shape, -500, 500, dtype)[1]
                x.flat[:2] = [0, -0.0]
                x.flat[-1] = np.nan if low == "f8e5m2" else np.inf
                s = 2.0**m.rng.integers(-9, 9, dims) if inverse == "f8e8m0" else m.floats(dims, 0.1, 2)[1]
                text = (f"%y0, %y1, %y2, %y3 = quantize %x0, %x1 {{scale_axes=[{','.join(map(str, axes))}]}} : "
                        f"{type_of(low, shape)}, {type_of(inverse, dims)}, {type_of('f32', dims)}, i1[]")

                def want(x, s, others=others, rounded=scaled_to_fp8(low)):
                    return [rounded(x, np.expand_dims(s, others)), np.where(np.isfinite(x).all(others), 1 / s, np.nan),
                            np.abs(x).max(others), np.array(True)]

                def f64_want(x, s, want=want, others=others):
                    return [quiet(np.multiply)(x, np.expand_dims(s, others)), *want(x, s)[1:]]
                yield Case([(dtype, x), ("f32", s)], text,
                           [(low, shape), (inverse, dims), ("f32", dims), ("i1", ())], want, f64_want=f64_want)


def matmul_scaled_cases(op):
    m = Maker(23)
    for a_type, b_type in ("f8e4m3fn", "f8e4m3fn"), ("f8e5m2", "f8e4m3fn"), ("f8e4m3fn", "f8e5m2"):
        for i, (rows, k, n) in enumerate([(1, 1, 1), (3, 7, 5), (8, 9, 16), (17, 16, 15), (5, 257, 3), (2, 0, 3), (0, 3, 2)]):
            ta, tb = i & 1, i >> 1 & 1
            a, b = m.floats((k, rows) if ta else (rows, k)), m.floats((n, k) if tb else (k, n))
            text = "".join(f"%q{j}, %s{j}, %m{j}, %n{j} = quantize %x{2 * j}, %x{2 * j + 1} : {type_of(t, x[1].shape)}, f32[], f32[], i1[]\n"
                           for j, (t, x) in enumerate([(a_type, a), (b_type, b)]))
            attrs = "{" + "ta, " * ta + "tb, " * tb + "k_chunk=256}"
            text += f"%y0 = matmul_scaled %q0, %q1, %s0, %s1 {attrs} : f32[{rows},{n}]"

            def exact(a, s, b, r, ta=ta, tb=tb):
                return [dots(ta, tb)(a * s, b * r)[0] / s / r]

            def want(a, s, b, r, ta=ta, tb=tb, types=(a_type, b_type)):
                return [dots(ta, tb)(fp8(types[0], held("f32", a * s)), fp8(types[1], held("f32", b * r)))[0] / s / r]

            def slack(a, s, b, r, ta=ta, tb=tb):
                return 1.25**2 * dot_slack(ta, tb)(a, b)  # rounded operands are less than 1.25 times as large
            yield Case([a, ("f32", np.array(0.75)), b, ("f32", np.array(20.0))], text, [("f32", (rows, n))], want,
                       ulp=3, slack=slack, f64_want=exact)
            c = m.floats((rows, n))
            text = text.replace("%s0, %s1 {", "%s0, %s1, %x4 {")
            yield Case([a, ("f32", np.array(0.75)), b, ("f32", np.array(20.0)), c], text, [("f32", (rows, n))],
                       lambda *x, want=want: [want(*x[:4])[0] + x[4]], ulp=1,
                       slack=lambda *x, want=want, slack=slack: slack(*x[:4]) + 3 * U * np.abs(want(*x[:4])[0]),
                       f64_want=lambda *x, exact=exact: [exact(*x[:4])[0] + x[4]])
    yield from matmul_block_cases(op)


def matmul_block_cases(op):
    """Operands in blocks of the contracted axis; of the other axis one line each, or as many lines again, of
    which the end is cut off, or is padding to the product.  rows, k, n; block; are a's and b's blocks square."""
    m = Maker(25)
    sizes = [(1, 1, 1, 4, 0, 0), (3, 7, 5, 8, 0, 1), (8, 96, 16, 32, 0, 0), (17, 40, 15, 8, 1, 1), (5, 257, 33, 128, 0, 1),
             (130, 129, 140, 128, 0, 1), (4, 0, 3, 8, 0, 0), (0, 9, 2, 8, 0, 0), (37, 64, 50, 32, 1, 0)]
    for i, (rows, k, n, block, square_a, square_b) in enumerate(sizes):
        types = [("f8e4m3fn", "f8e4m3fn"), ("f8e5m2", "f8e4m3fn"), ("f8e4m3fn", "f8e5m2")][i % 3]
        for swaps in 0, 1, 2, 3:
            ta, tb, lead = swaps & 1, swaps >> 1, (2,) if i == 3 else ()
            inverse = "f8e8m0" if (i + swaps) % 2 else "f32"
            args, text, operands = [], "", []
            for j, (lines, square, swap) in enumerate([(rows, square_a, ta), (n, square_b, not tb)]):
                last = 0 if swap else 1  # which of the stored axes is contracted
                cut = [0, 0]
                cut[last], cut[1 - last] = k, lines
                blocks, whole, axes = list(lead), list(lead), list(range(len(lead)))
                for axis in range(2):
                    inner = block if axis == last or square else 1
                    blocks.append(-(-cut[axis] // inner))
                    axes.append(len(whole))
                    whole += [blocks[-1]] + [inner] * (axis == last or square)
                x = np.zeros(lead + tuple(b * (block if a == last or square else 1) for a, b in enumerate(blocks[-2:])))
                x[..., :cut[0], :cut[1]] = m.rng.uniform(-3, 3, lead + tuple(cut))
                s = 2.0**m.rng.integers(-3, 4, blocks) if inverse == "f8e8m0" else held("f32", m.rng.uniform(0.5, 9, blocks))
                args += [("f32", held("f32", x.reshape(whole))), ("f32", s)]
                low, padded = types[j], x.shape
                part = lead + tuple(padded[a + len(lead)] if a == last or swaps > 1 else cut[a] for a in range(2))
                text += (f"%q{j}, %s{j}, %m{j}, %n{j} = quantize %x{2 * j}, %x{2 * j + 1} {{scale_axes=[{','.join(map(str, axes))}]}} : "
                         f"{type_of(low, whole)}, {type_of(inverse, blocks)}, {type_of('f32', blocks)}, i1[]\n"
                         f"%r{j} = reshape %q{j} : {type_of(low, padded)}\n"
                         f"%o{j} = slice %r{j} {{starts={[0] * len(part)}, steps={[1] * len(part)}}} : {type_of(low, part)}\n")
                operands.append((axes, padded, part, swap))
            attrs = "{" + "ta, " * ta + "tb, " * tb + f"m={rows}, n={n}, " * (swaps > 1) + f"k_chunk={block}}}"
            acc = [m.floats(lead + (rows, n))] if i % 2 else []
            out = lead + (rows, n)
            text += f"%y0 = matmul_scaled %o0, %o1, %s0, %s1{', %x4' * len(acc)} {attrs} : {type_of('f32', out)}"

            def product(code, x, operands=operands, types=types, sizes=(rows, n)):
                held_as = []
                for j, (axes, padded, part, swap) in enumerate(operands):
                    v, s = x[2 * j], x[2 * j + 1]
                    s = np.expand_dims(s, tuple(a for a in range(v.ndim) if a not in axes))
                    v = (code(types[j], v, s) / s).reshape(padded)[tuple(slice(d) for d in part)]
                    v = v.swapaxes(-1, -2) if swap == (j == 0) else v
                    held_as.append(v[..., :sizes[0], :] if j == 0 else v[..., :sizes[1]])
                acc = x[4] if len(x) > 4 else 0
                return [held_as[0] @ held_as[1] + acc, np.abs(held_as[0]) @ np.abs(held_as[1]) + np.abs(acc)]

            def want(*x, product=product):
                return product(lambda t, v, s: fp8(t, held("f32", v * s)), x)[:1]

            def slack(*x, product=product, k=k):
                """The oracle divides, so rounded are both inverses, their product, a chain times it."""
                return scaled_bound(k, 4) * product(lambda t, v, s: fp8(t, held("f32", v * s)), x)[1]

            def exact(*x, product=product):
                return product(lambda t, v, s: v * s, x)[:1]
            yield Case(args + acc, text, [("f32", out)], want, ulp=1, slack=slack, f64_want=exact)


TABLE = {"saturate": saturate_cases, "saturated": rounding_cases, "flushed": rounding_cases,
         "quantize": quantize_cases, "matmul_scaled": matmul_scaled_cases}
