"""Codes that the scalar programs narrow f32 to, against the package ml_dtypes of PyPI and NumPy's f16.

usage: test_ml_dtypes.py TEST_FP8    MPCC_LONG=1: all 2^32 patterns; else a stride.  77: not installed

ml_dtypes does not saturate: what is to do so is clipped to the type's range before.  A subnormal f32
is zero to a program, which bf16 alone could tell.  The e8m0 of ml_dtypes rounds to nearest, ours down
(OCP Microscaling 1.0), so that one has other oracles.
"""
import os
import subprocess
import sys

try:
    import ml_dtypes
    import numpy as np
except ImportError:
    print("SKIPPED: ml_dtypes is not installed")
    sys.exit(77)

BLOCK = 1 << 20


def patterns(stride):
    for first in range(0, 1 << 32, BLOCK * stride):
        yield np.arange(first, min(first + BLOCK * stride, 1 << 32), stride, dtype=np.uint64).astype(np.uint32)


def count_differences(pipe, stride, dtype, saturate):
    bits, wrong = np.dtype(f"u{np.dtype(dtype).itemsize}"), 0
    limit = np.float32(ml_dtypes.finfo(dtype).max)
    for x in patterns(stride):
        f = x.view(np.float32)
        if dtype == ml_dtypes.bfloat16:
            f = np.where((x & 0x7F800000) == 0, np.copysign(np.float32(0), f), f)
        with np.errstate(all="ignore"):
            want = (np.clip(f, -limit, limit) if saturate else f).astype(dtype)
        got = np.frombuffer(pipe.read(len(x) * bits.itemsize), bits)
        assert len(got) == len(x)
        other = got != want.view(bits)
        if other.any():
            wrong += np.count_nonzero(~(np.isnan(want[other]) & np.isnan(got.view(dtype)[other])))
    return wrong


stride = 1 if os.environ.get("MPCC_LONG") == "1" else 1009
run = subprocess.Popen([sys.argv[1], "--codes", str(stride)], stdout=subprocess.PIPE)
failed = False
for dtype, saturate in ((ml_dtypes.float8_e4m3fn, False), (ml_dtypes.float8_e4m3fn, True),
                        (ml_dtypes.float8_e5m2, False), (ml_dtypes.float8_e5m2, True),
                        (ml_dtypes.bfloat16, False), (np.float16, False)):
    wrong = count_differences(run.stdout, stride, dtype, saturate)
    print(f"{np.dtype(dtype).name}{' saturating' if saturate else ''}: {wrong} differ, stride {stride}", flush=True)
    failed |= wrong > 0
sys.exit(failed or run.wait())
