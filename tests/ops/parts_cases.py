"""What rounding at random and the parts of an f32 mean, in NumPy: a part of op_table.py's table."""
import numpy as np

from op_table import FLAT, FLOATS, SPECIAL, WORDS, Maker, bf16, draw_bits, held, node


def neighbour(dtype, x, bits):
    """The multiple of the last place below |x| or above, by what lies between and random bits."""
    mantissa, least, most = {"bf16": (7, -126, 3.3895313892515355e38), "f16": (10, -14, 65504)}[dtype]
    a = np.where(np.abs(x) < 2.0**-126, 0, np.where(np.isfinite(x), np.abs(x), 1))
    place = 2.0**(np.maximum(np.frexp(a)[1] - 1, least) - mantissa)
    below = np.floor(a / place)
    part, bits = a / place - below, bits.view(np.uint32).astype(np.int64)
    cut = 23 - mantissa
    up = part + (bits >> 32 - cut) * 2.0**-cut >= 1
    if dtype == "f16":
        up = np.where(a < 2.0**-14, (bits >> 8) * 2.0**-24 < part, up)
    y = (below + up) * place
    return np.copysign(np.where(np.isfinite(x), np.where(y > most, np.inf, y), x), x)


def rounded_cases(op):
    m = Maker(24)
    edges = np.array([0, -1, 2**31 - 1, -2**31, 0x7FFF0000, -0x8000, 12345678], np.int32)
    for low in "bf16", "f16":
        for dtype in FLOATS:
            for shape in FLAT:
                yield node(op, [m.floats(shape, dtype=dtype), m.ints(shape, -2**31, 2**31 - 1)], (low, shape),
                           lambda x, b, low=low: [neighbour(low, x, b)], f64_want=lambda x, b: [x])
            x = held(dtype, SPECIAL + [65504, 65519, 65520, 65535, 70000, 3.39e38, 6e-8, 5.9e-8, 1e-9, 1.00390625, 6.1e-5])
            x, b = np.meshgrid(np.concatenate([x, -x]), edges)
            yield node(op, [(dtype, x.ravel()), ("i32", b.ravel())], (low, (x.size,)),
                       lambda x, b, low=low: [neighbour(low, x, b)], f64_want=lambda x, b: [x])


def stochastic_cases(op):
    m = Maker(25)
    for low in "bf16", "f16":
        for shape in (), (0,), (17,), (3, 40):
            yield node(op, [m.floats(shape), *WORDS], (low, shape),
                       lambda x, *words, low=low: [neighbour(low, x, draw_bits(x.shape, *words).view(np.int32))],
                       "site=77309411335", f64_want=lambda x, *words: [x])


# Ties that round up and down, the last that does not reach infinity and the first that does, -0.
PARTS = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0x00800000, 0x7F7F7FFF, 0x7F7F8000, 0x7F7FFFFF,
                  0x7F800000, 0xFF7F8000, 0xBF818000, 0xBF808000, 0x80000000, 0, 0x00808000, 0x00818000], np.uint32)


def part_values(m):
    for shape in FLAT:
        yield m.floats(shape)[1]
    yield PARTS.view(np.float32).astype(np.float64)


def f32_bits(x):
    return np.asarray(x).astype(np.float32).view(np.uint32).reshape(np.shape(x))


def rest_cases(op):
    for x in part_values(Maker(26)):
        yield node(op, [("f32", x)], ("u16", x.shape), lambda x: [(f32_bits(x) & 0xFFFF).astype(np.uint16)],
                   f64_want=lambda x: [np.zeros(x.shape, np.uint16)])


def join_cases(op):
    """Of every number's parts, told from its bits alone: the number."""
    for x in part_values(Maker(27)):
        rest = (f32_bits(x) & 0xFFFF).astype(np.uint16)
        up = (rest == 0x8000) & (np.abs(bf16(x)) > np.abs(x))
        yield node(op, [("i1", up), ("u16", rest), ("bf16", bf16(x))], ("f32", x.shape), lambda u, r, h, x=x: [x],
                   f64_want=lambda u, r, h: [h])


TABLE = {"stochastic_round": stochastic_cases, "round_by_bits": rounded_cases,
         "bf16_rest": rest_cases, "bf16_join": join_cases}
