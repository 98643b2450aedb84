#!/usr/bin/env python3
"""The polynomials of ir/scalar.def and how they were found.

Each fit is a weighted minimax approximation by Lawson's method: least squares on Chebyshev points,
the weights multiplied by the error again and again until the error is level.  The coefficients
are rounded to f32 from the lowest power up, each time refitting the higher ones, which then absorb
what the rounding did.  Values come from mpmath with 60 digits.  Printed: the coefficients, lowest
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


def lawson(A, y):
    """min over c of max |A c - y|, nearly."""
    w = np.full(len(y), 1.0 / len(y))
    best, best_error = None, np.inf
    for _ in range(300):
        s = np.sqrt(w)
        scale = np.abs(A).max(axis=0)
        c = np.linalg.lstsq(A / scale * s[:, None], y * s, rcond=1e-16)[0] / scale
        e = np.abs(A @ c - y)
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


def cdf_middle(z):
    x = mp.sqrt(z)
    return mp.erf(x / mp.sqrt(2)) / 2 / x


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


MILLS = 0.375


def mills(t):
    """Phi(-x) exp(x**2/2) / t in t = 1 / (1 + MILLS x)"""
    x = (1 / t - 1) / MILLS
    return mp.erfc(x / mp.sqrt(2)) / 2 * mp.exp(x * x / 2) / t


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
    # (Phi(x) - 1/2) / x in x^2; the relative error of Phi(-|x|)
    "cdf_middle": (
        cdf_middle, 1e-9, 0.6**2, range(5), lambda z: mp.sqrt(z) / mp.ncdf(-mp.sqrt(z))
    ),
    "mills": (
        mills, 1 / (1 + MILLS * 14), 1 / (1 + MILLS * 0.59), range(9), lambda t: 1 / mills(t)
    ),
    # the normal quantile over x: in w - 2.5 near the middle, in sqrt(w) - 3 for the tails
    "quantile_middle": (middle, -2.5, 2.5, range(9), lambda v: 1 / middle(v)),
    "quantile_tail": (tail, -0.77, 1.65, range(9), lambda v: 1 / tail(v)),
}


def main():
    text = (pathlib.Path(__file__).parent.parent / "ir" / "scalar.def").read_text()
    literals = re.findall(r"0x1[0-9a-f.]*p[+-]\d+|0\.5", text)
    known = {float.fromhex(t) if "x" in t else float(t) for t in literals}
    for name in sys.argv[1:] or FITS:
        c, e = fit(*FITS[name])
        print(f"{name}: error {e:.2e}")
        for v in c:
            print("   ", np.float32(v), v.hex(), "" if abs(v) in known else "not in scalar.def")


if __name__ == "__main__":
    main()
