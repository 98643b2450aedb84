"""Philox4x32-10 (Salmon et al. 2011) in NumPy, written from the paper: the oracle of draws."""
import numpy as np

M32 = np.uint64(0xFFFFFFFF)


def philox(element, seed_lo, seed_hi, site_lo=0, site_hi=0, draw=0):
    """Word 0 at counter (element, draw, site_lo, site_hi) under key (seed_lo, seed_hi), as u32."""
    words = np.broadcast_arrays(*(np.asarray(w).astype(np.int64).astype(np.uint64) & M32
                                  for w in (element, draw, site_lo, site_hi, seed_lo, seed_hi)))
    a, b, c, d, k0, k1 = words
    for _ in range(10):
        x, y = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (y >> np.uint64(32)) ^ b ^ k0, y & M32, (x >> np.uint64(32)) ^ d ^ k1, x & M32
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & M32, (k1 + np.uint64(0xBB67AE85)) & M32
    return a.astype(np.uint32)


def uniform(shape, seed_lo, seed_hi, site=0, draw=0):
    """Of each element in row-major order, a multiple of 2^-24 in [0, 1)."""
    element = np.arange(int(np.prod(shape))).reshape(shape)
    return (philox(element, seed_lo, seed_hi, site & 0xFFFFFFFF, site >> 32, draw) >> 8) * 2.0**-24
