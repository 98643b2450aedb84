"""The compiler's own time and memory grow with the depth of a model, not with its square.

usage: test_deep.py BIN

A GPT of 2 and one of 8 layers, through all passes.  Under fp8(delayed) each layer brings dozens of
slots and states, so a pass that walks all of them for each of them shows.  What is linear costs four
times as much, less for what does not depend on depth, somewhat more for caches; what is quadratic
tends to 16.  (Before group, order and recompute were mended: 31 times the seconds, 12 the memory.)
"""
import os
import subprocess

from support import BIN, ROOT

MODEL = ROOT / "examples" / "chargpt" / "chargpt.mp"
MOST = 9


def cost(layers):
    """Processor seconds, the least of three, and the most memory at once, in kB."""
    seconds = []
    for _ in range(3):
        child = subprocess.Popen([BIN / "mpcc", MODEL, f"-Dlayers={layers}", "--precision=fp8(delayed)",
                                  "--emit=schedule", "-o", os.devnull], stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert not child.returncode, f"mpcc: {child.returncode}"
        seconds.append(usage.ru_utime)
    return min(seconds), usage.ru_maxrss


few, many = cost(2), cost(8)
for name, a, b in zip(("seconds", "kB"), few, many):
    print(f"{name}: {a:g} for 2 layers, {b:g} for 8")
    assert b <= MOST * a, f"{name} grow by {b / a:.1f} where depth grows by 4"
