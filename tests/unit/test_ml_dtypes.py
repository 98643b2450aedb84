"""Codes that the scalar programs narrow f32 to, against the package ml_dtypes of PyPI and NumPy's f16.

usage: test_ml_dtypes.py TEST_FP8    MPCC_LONG=1: all 2^32 patterns; else a stride.  77: not installed

ml_dtypes does not saturate: what is to do so is clipped to the type's range before.  A subnormal f32
is zero to a program, which bf16 alone could tell.  The e8m0 of ml_dtypes rounds to nearest, ours down
(OCP Microscaling 1.0), so that one has other oracles.
"""
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

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


def count_differences(name, dtype):
    bits, wrong = np.dtype(f"u{np.dtype(dtype).itemsize}"), 0
    limit = np.float32(ml_dtypes.finfo(dtype).max)
    run = subprocess.Popen([sys.argv[1], "--codes", name, str(STRIDE)], stdout=subprocess.PIPE)
    for x in patterns(STRIDE):
        f = x.view(np.float32)
        if dtype == ml_dtypes.bfloat16:
            f = np.where((x & 0x7F800000) == 0, np.copysign(np.float32(0), f), f)
        with np.errstate(all="ignore"):
            want = (np.clip(f, -limit, limit) if name.endswith("_sat") else f).astype(dtype)
        got = np.frombuffer(run.stdout.read(len(x) * bits.itemsize), bits)
        assert len(got) == len(x)
        other = got != want.view(bits)
        if other.any():
            wrong += np.count_nonzero(~(np.isnan(want[other]) & np.isnan(got.view(dtype)[other])))
    assert run.wait() == 0
    return wrong


NAMES = {"f32_to_e4m3": ml_dtypes.float8_e4m3fn, "f32_to_e5m2": ml_dtypes.float8_e5m2, "f32_to_bf16": ml_dtypes.bfloat16,
         "f32_to_f16": np.float16, "f32_to_e4m3_sat": ml_dtypes.float8_e4m3fn, "f32_to_e5m2_sat": ml_dtypes.float8_e5m2}
STRIDE = 1 if os.environ.get("MPCC_LONG") == "1" else 1009

failed = False
with ProcessPoolExecutor() as pool:
    for name, wrong in zip(NAMES, pool.map(count_differences, NAMES, NAMES.values())):
        print(f"{name}: {wrong} differ, stride {STRIDE}", flush=True)
        failed |= wrong > 0
sys.exit(int(failed))
