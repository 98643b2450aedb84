#!/usr/bin/env python3
"""The polynomials of ir/scalar.def and how they were found.

Each fit is a weighted minimax approximation by Lawson's method: least squares on Chebyshev points,
the weights multiplied by the error again and again until the error is level.  The coefficients
are rounded to f32 from the lowest power up, each time refitting the higher ones, which then absorb
what the rounding did.  A quotient n(x) / m(x) is fitted as a(x) m(x) = b(x) n(x), linear in both.  Values come from mpmath with 60 digits.  Printed: the coefficients, lowest
power first, and the largest weighted error (f32's half ulp is 6e-8 relative); a coefficient that
ir/scalar.def does not hold is marked.

    python3 scripts/minimax.py [name ...]        needs numpy and mpmath
"""
import pathlib
import re
import sys

import mpmath as mp
import numpy as np

mp.mp.dps = 60
POINTS = 800


def lawson(A, y, weight=lambda c: 1.0, rounds=300):
    """min over c of max |A c - y| weight(c), nearly; the weight may depend on c a little."""
    w, scaled = np.full(len(y), 1.0 / len(y)), weight(np.zeros(A.shape[1]))
    best, best_error = None, np.inf
    for _ in range(rounds):
        s = np.sqrt(w) * scaled
        scale = np.abs(A * np.reshape(s, (-1, 1))).max(axis=0)
        c = np.linalg.lstsq(A / scale * np.reshape(s, (-1, 1)), y * s, rcond=1e-17)[0] / scale
        scaled = weight(c)
        e = np.abs(A @ c - y) * scaled
        if e.max() < best_error:
            best, best_error = c, e.max()
        w = w * (e + 1e-3 * e.max())
        w /= w.sum()
    return best, best_error


def fit(f, lo, hi, powers, weight=lambda x: 1, fixed=()):
    """f(x) ~ sum c_i x**powers[i] on [lo, hi]; weight(x) * error is level.  fixed: leading c_i."""
    k = np.arange(POINTS)
    xs = (lo + hi) / 2 - (hi - lo) / 2 * np.cos(np.pi * (k + 0.5) / POINTS)
    w = np.array([float(weight(mp.mpf(x))) for x in xs])
    y = np.array([float(f(mp.mpf(x))) for x in xs])
    A = np.stack([xs**p for p in powers], axis=1)
    done = [float(c) for c in fixed]
    while len(done) < len(powers):
        rest = y - A[:, : len(done)] @ np.array(done) if done else y
        c, _ = lawson(A[:, len(done) :] * w[:, None], rest * w)
        done.append(float(np.float32(c[0])))
    return done, np.abs((A @ np.array(done) - y) * w).max()


def em1(x):
    return (mp.expm1(x) - x) / x**2 if x else mp.mpf(1) / 2


def log_tail(f):
    """(log(1 + f) - f) / f**2"""
    if abs(f) < mp.mpf("1e-12"):
        return mp.mpf(-1) / 2 + f / 3
    return (mp.log1p(f) - f) / f**2


def tanh_tail(z):
    """(tanh(x)/x - 1) / x**2 in z = x**2"""
    x = mp.sqrt(z)
    return (mp.tanh(x) / x - 1) / z


def erf_small(z):
    x = mp.sqrt(z)
    return mp.erf(x) / x


def quantile_over_x(w):
    """z / x in w = -log(1 - x**2), where x = erf(z / sqrt 2)"""
    if w < mp.mpf("1e-12"):
        return mp.sqrt(mp.pi / 2)
    x = mp.sqrt(-mp.expm1(-w))
    return mp.sqrt(2) * inverse_erf(x, mp.exp(-w) / (1 + x)) / x


def inverse_erf(x, rest):
    """erfinv; rest = 1 - x without cancellation"""
    if x < 0.9:
        return mp.erfinv(x)
    z = mp.sqrt(-mp.log(rest))
    for _ in range(60):  # Newton on log erfc
        step = (mp.log(mp.erfc(z)) - mp.log(rest)) * mp.erfc(z) * mp.sqrt(mp.pi) / 2 * mp.exp(z * z)
        z += step
        if abs(step) < mp.mpf(10) ** -40:
            break
    return z


def quotient(a, b, hi, degree_m, degree_n, m, n, weight):
    """a(x) m(x) ~ b(x) n(x) on [0, hi], places denser near 0; m, n: leading coefficients that are
    given; weight(x, m(x), n(x)) * error is level."""
    k = np.arange(POINTS)
    xs = hi * (0.5 - 0.5 * np.cos(np.pi * (k + 0.5) / POINTS)) ** 2
    a, b = (np.array([float(f(mp.mpf(x))) for x in xs]) for f in (a, b))
    powers = np.stack([xs**i for i in range(1 + max(degree_m, degree_n))], axis=1)
    m, n = ([float(np.float32(c)) for c in given] for given in (m, n))
    while len(m) <= degree_m or len(n) <= degree_n:
        more_m, more_n = powers[:, len(m) : degree_m + 1], powers[:, len(n) : degree_n + 1]
        given_m, given_n, split = powers[:, : len(m)] @ m, powers[:, : len(n)] @ n, more_m.shape[1]
        A = np.concatenate([a[:, None] * more_m, -b[:, None] * more_n], axis=1)
        full = lambda c: weight(xs, given_m + more_m @ c[:split], given_n + more_n @ c[split:])
        c, e = lawson(A, b * given_n - a * given_m, full, 150)
        if split and (len(m) <= len(n) or len(n) > degree_n):
            m.append(float(np.float32(c[0])))
        else:
            n.append(float(np.float32(c[split])))
    return m, n, e


TURN = mp.sqrt(2 * mp.pi)


def half_erfcx(a):
    """Phi(-a) exp(a**2/2)"""
    return mp.erfc(a / mp.sqrt(2)) / 2 * mp.exp(a * a / 2)


def gelu_slope(a):
    """the derivative of gelu at -a over phi(a)"""
    return TURN * half_erfcx(a) - a


GELU_ROOT = mp.findroot(gelu_slope, 0.75)


def gelu_factor(a):
    return gelu_slope(a) / (GELU_ROOT - a) - 1


def gelu_tanh_slope(a):
    """the derivative of gelu_tanh at -a"""
    slope = 2 * mp.sqrt(2 / mp.pi)
    e = mp.exp(-slope * (a + mp.mpf("0.044715") * a**3))
    return (e - a * slope * (1 + mp.mpf("0.134145") * a * a) * e / (1 + e)) / (1 + e)


GELU_TANH_ROOT = mp.findroot(gelu_tanh_slope, 0.75)


def gelu_tanh_near(r):
    r = r or mp.mpf(10) ** -20
    return -gelu_tanh_slope(GELU_TANH_ROOT + r) / r


def gelu_tanh_near_tail(r):
    """without the constant term, which comes in two pieces"""
    return (gelu_tanh_near(r) - gelu_tanh_near(0)) / r


ROOT = float(mp.sqrt(2))
NEAR, FAR = 1 / ROOT - 1, ROOT - 1


def middle(v):
    return quantile_over_x(v + 2.5)


def tail(v):
    return quantile_over_x((v + 3) ** 2)


# name: function, interval, powers, weight of the error, coefficients that are given
FITS = {
    # exp(r) = 1 + r + r^2 q(r); the relative error of exp
    "exp": (em1, -0.3471, 0.3471, range(5), lambda r: r * r),
    # the same for expm1, on a wider interval; the relative error of expm1
    "expm1": (em1, -0.525, 0.525, range(6), lambda r: r * r / abs(mp.expm1(r))),
    "log": (log_tail, NEAR, FAR, range(9), lambda f: f * f / abs(mp.log1p(f)), [-0.5]),
    "tanh": (tanh_tail, 1e-9, 0.62**2, range(5), lambda z: z),
    # erf(x) = x + x p(x^2)
    "erf_near": (lambda z: erf_small(z) - 1, 1e-9, 0.9**2, range(7), lambda z: 1 / erf_small(z)),
    # log erfc(x); its absolute error times erfc/erf is the relative error of erf
    "erf_far": (
        lambda x: mp.log(mp.erfc(x)), 0.9, 4.0, range(8), lambda x: mp.erfc(x) / mp.erf(x)
    ),
    # of gelu_tanh's derivative over the distance from its zero; the relative error of that
    "gelu_tanh_grad": (
        gelu_tanh_near_tail, -0.3, 0.3, range(6), lambda r: r / gelu_tanh_near(r)
    ),
    # the normal quantile over x: in w - 2.5 near the middle, in sqrt(w) - 3 for the tails
    "quantile_middle": (middle, -2.5, 2.5, range(9), lambda v: 1 / middle(v)),
    "quantile_tail": (tail, -0.77, 1.65, range(9), lambda v: 1 / tail(v)),
}


# name: a, b, end of the interval, degrees of m and n, leading coefficients that are given, weight
QUOTIENTS = {
    # Phi(-a) exp(a^2/2) = m / (a sqrt(2 pi) m + n)
    "gelu": (
        lambda a: 1 - a * TURN * half_erfcx(a), half_erfcx, 14.5, 5, 4, [0.97],
        [1.94], lambda a, m, n: 1 / m,
    ),
    # derivative of gelu at -a = phi(a) (root - a) (1 + n / m)
    "gelu_grad": (
        gelu_factor, lambda a: 1, 14.5, 4, 3, [1.72], [], lambda a, m, n: 1 / (m + n)
    ),
}


def two_pieces(name, v):
    high = np.float32(float(v))
    print(f"{name} =", float(high).hex(), "+", float(np.float32(float(v - mp.mpf(float(high))))).hex())


def main():
    text = (pathlib.Path(__file__).parent.parent / "ir" / "scalar.def").read_text()
    literals = re.findall(r"0x1[0-9a-f.]*p[+-]\d+|0\.5", text)
    known = {float.fromhex(t) if "x" in t else float(t) for t in literals}
    for name in sys.argv[1:] or [*FITS, *QUOTIENTS]:
        if name in FITS:
            c, e = fit(*FITS[name])
        else:
            m, n, e = quotient(*QUOTIENTS[name])
            c = m + n
        print(f"{name}: error {e:.2e}")
        for v in c:
            print("   ", np.float32(v), v.hex(), "" if abs(v) in known else "not in scalar.def")
    two_pieces("zero of gelu's derivative", GELU_ROOT)
    two_pieces("zero of gelu_tanh's", GELU_TANH_ROOT)
    two_pieces("slope there", gelu_tanh_near(0))


if __name__ == "__main__":
    main()
