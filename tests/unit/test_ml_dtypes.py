"""fp8 codes of the scalar programs against the package ml_dtypes of PyPI.

usage: test_ml_dtypes.py TEST_FP8    MPCC_LONG=1: all 2^32 patterns; else a stride.  77: not installed

Its e8m0 rounds to nearest, ours down (OCP Microscaling 1.0), so that one has other oracles.
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

BLOCK = 1 << 22


def count_differences(pipe, stride, dtype, wrong=0):
    for first in range(0, 1 << 32, BLOCK * stride):
        x = np.arange(first, min(first + BLOCK * stride, 1 << 32), stride, dtype=np.uint64)
        with np.errstate(all="ignore"):
            want = x.astype(np.uint32).view(np.float32).astype(dtype)
        got = np.frombuffer(pipe.read(len(x)), np.uint8)
        assert len(got) == len(x)
        nan = np.isnan(want.astype(np.float32)) & np.isnan(got.view(dtype).astype(np.float32))
        wrong += np.count_nonzero((got != want.view(np.uint8)) & ~nan)
    return wrong


stride = 1 if os.environ.get("MPCC_LONG") == "1" else 1009
run = subprocess.Popen([sys.argv[1], "--codes", str(stride)], stdout=subprocess.PIPE)
for dtype in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
    wrong = count_differences(run.stdout, stride, dtype)
    print(f"{np.dtype(dtype).name}: {wrong} differ, stride {stride}")
    if wrong:
        sys.exit(1)
sys.exit(run.wait())
