"""examples/chargpt on the text that `bible` prints: in bf16 40 steps at its own width fall below the loss
of single bytes on the held-out tail, 200 steps of a narrower one below that of bigrams; the program writes
text, and the three precisions start alike.

  MPCC_LONG=1: below the bigrams at its own width, a run of ten minutes' length at most; and f32, bf16, f16
  over three seeds, 300 steps each: the gap of each mean to f32's lies within the spread of f32's seeds.
"""
import re
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from support import LONG, ROOT, compile_to, skip

MODEL = ROOT / "examples" / "chargpt" / "chargpt.mp"
HELD_OUT = 0.1


def bible():
    try:
        text = subprocess.run(["bible", "Gen1:1-Rev22:21"], check=True, stdout=subprocess.PIPE).stdout
    except (OSError, subprocess.CalledProcessError):
        skip("`bible` is missing (Debian: bible-kjv, bible-kjv-text)")
    assert len(text) > 4_000_000, len(text)
    return text


def counted_losses(text):
    """Nats a byte on the tail, of the single bytes and of the pairs counted in front of it; add-one smoothing."""
    bytes_ = np.frombuffer(text, np.uint8).astype(np.int64)
    cut = int(len(bytes_) * (1 - HELD_OUT))
    pairs = bytes_[:-1] * 256 + bytes_[1:]
    counts = np.bincount(pairs[:cut - 1], minlength=256 * 256).reshape(256, 256) + 1
    single, double = np.log(counts.sum(0) / counts.sum()), np.log(counts / counts.sum(1, keepdims=True))
    return -float(single[bytes_[cut + 1:]].mean()), -float(double.flat[pairs[cut:]].mean())


class Text:
    """Training data, and a tail to judge by that is quick to read."""

    def __init__(self, folder, text):
        cut = int(len(text) * (1 - HELD_OUT))
        self.train, self.tail = folder / "train.txt", folder / "tail.txt"
        self.train.write_bytes(text[:cut])
        self.tail.write_bytes(text[cut:] if LONG else text[cut:cut + 64_000])


def run(program, text, *flags):
    out = subprocess.run([program, "--data", f"text={text.train}", "--eval-data", f"text={text.tail}",
                          *map(str, flags)], text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    assert out.returncode == 0, out.stdout
    return float(re.search(r"^eval +loss ([0-9.]+)", out.stdout, re.M)[1]), out.stdout


def checkpoint_of(program):
    return program.with_suffix(".ckpt")


def check_learns(folder, text, goal, steps, *flags):
    program = compile_to(folder / f"chargpt{steps}", MODEL, "-mcpu=native", *flags)
    began = time.monotonic()
    loss, out = run(program, text, "--steps", steps, "--seed", 1, "--save", checkpoint_of(program))
    took = time.monotonic() - began
    print(f"bf16 {' '.join(flags)}, {steps} steps in {took:.0f} s: {loss:.4f} nats held out, less than {goal:.4f}",
          flush=True)
    assert loss < goal, out
    return program, took


def check_writes(program):
    written = subprocess.run([program, "infer", "next", "--resume", checkpoint_of(program), "--text",
                              "tokens=In the beginning ", "--tokens", "80", "--input", "temperature=0.7",
                              "--quiet"], check=True, stdout=subprocess.PIPE).stdout
    letters = sum(chr(b).isalpha() or b in b" ,.;:\n" for b in written)
    assert len(written) >= 80 and letters >= 0.9 * len(written), written
    print(written.decode("latin-1"))


def check_precisions(folder, text):
    small = "-Dd=128", "-Dheads=4", "-Dbatch_rows=8"
    seeds, steps = ((1, 2, 3), 300) if LONG else ((1,), 20)
    found = {}
    for precision in "f32", "bf16", "f16":
        program = compile_to(folder / precision, MODEL, "-mcpu=native", f"--precision={precision}", *small)
        found[precision] = [run(program, text, "--steps", steps, "--seed", s)[0] for s in seeds]
        print(f"{precision:4s} {steps} steps, seeds {seeds}: "
              + " ".join(f"{x:.4f}" for x in found[precision]), flush=True)
    f32 = found["f32"]
    # One seed, 20 steps: bf16 within verification's 1e-2 of a training curve.  f16 is behind, as
    # a dynamic scale skips its first steps until S fits: the loss falls from log 256 to 4.32 in these 20
    # steps, 0.06 each, so 5 % of it is three and a half steps.
    short = {"bf16": 0.01, "f16": 0.05}
    for precision in "bf16", "f16":
        gap = abs(np.mean(found[precision]) - np.mean(f32))
        if LONG:
            assert gap <= max(f32) - min(f32), (precision, gap, f32)
        else:
            assert gap <= short[precision] * np.mean(f32), (precision, gap, f32)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder, raw = Path(name), bible()
        text, (single, double) = Text(folder, raw), counted_losses(raw)
        if LONG:
            program, took = check_learns(folder, text, double, 1500)
            assert took < 600, f"{took:.0f} s"
        else:
            check_learns(folder, text, single, 40, "-Dbatch_rows=8")
            program, _ = check_learns(folder, text, double, 200, "-Dd=128", "-Dlayers=2", "-Dheads=4")
        check_writes(program)
        check_precisions(folder, text)


if __name__ == "__main__":
    main()
