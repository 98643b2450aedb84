"""Layers in fp8, compiled against the evaluator, bit for bit.

Five layers: the first and the head stay bf16, and so do the embedding and a layer that asks for it;
the two others multiply in fp8 forward and backward, by each recipe.  Without and with a loss scale,
whole and in micro-batches, on 1 to 3 threads, for the lowest level of instructions at -O0 and
the highest at -O3.
Saturation hides no infinity and no
NaN from the guard.
"""
import re
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import Model
from support import emit
from test_precision import B, batches, check_levels

MODEL = """version 1
config D = 12
model M {
  table: param[21, D] = normal(0, 0.5)
  first: param[D, D] = normal(0, 0.3)
  u: param[2 * D, D] = normal(0, 0.3)
  v: param[2 * D, D] = normal(0, 0.3)
  w: param[D, D] = normal(0, 0.3)
  head: param[21, D] = normal(0, 0.3)
  fn f(t) {
    x = table[t] @ first
    x = x + relu(x @ transpose(u)) @ v
    precision(bf16) { x = x + relu(x @ w) }
    return x @ transpose(head)
  }
}
train M {
  batch B = 6
  data { x: i32[B, 5]; y: i32[B, 5] }
  loss mean(cross_entropy(f(x), y), axis: 1)
  optimizer adamw(lr: 0.01)
  accumulate ACCUMULATE
  precision WORD
}
"""

# Frozen layers in a loop, forward alone: what they saw of each iteration counts.
LOOP = (MODEL.replace("  fn f", "  q: param[D, D] = normal(0, 0.3)\n  r: param[D, D] = normal(0, 0.3)\n  fn f")
        .replace("    precision(bf16)", "    b, all = scan(fn (h, s) { return relu(h @ q) @ r + s, h }, stop(x), "
                 "over: zeros[3, D]() + 1)\n    x = x + b\n    precision(bf16)")
        .replace("  precision WORD", '  frozen "{q,r}"\n  precision WORD'))

# A part of a weight, for one layer in fp8 and, the same part, for one in bf16.
PARTS = (MODEL.replace("u: param[2 * D, D]", "u: param[3 * D, D]").replace("transpose(u)", "transpose(u[D:])")
         .replace("x + relu(x @ w) }", "x + relu(x @ w) + relu(x @ transpose(u[D:])) @ v }"))

# the recipe, micro-batches a step, the width: of blocks, below one, and two of which none is whole
CASES = [("fp8", 1, 12), ("fp8(delayed, history: 3) scale(dynamic) residual(f32)", 2, 12), ("fp8(current)", 2, 12),
         ("fp8(current) scale(2^8)", 1, 12), ("fp8(block)", 2, 12), ("fp8(block) scale(2^8)", 1, 130),
         ("mx8 scale(dynamic)", 1, 12), ("mx8", 2, 66)]


def products(text, op):
    """Result types of the products of train_step."""
    step = text.split("entry @train_step")[1].split("\n}")[0]
    return re.findall(rf" = {op} .* : (\S+)", step)


def check_guard(library, rows):
    for bad in np.inf, -np.inf, np.nan:
        m = Model(library)
        m.init(1)
        m.hyper("steps", 4)
        for path in "u", "v":
            good = m.get(path).copy()
            assert m.run("train_step", rows=rows, **next(batches(rows))).committed, path
            wrong = good.copy()
            wrong[-3, 4] = bad
            m.set(path, wrong)
            assert not m.run("train_step", rows=rows, **next(batches(rows))).committed, (path, bad)
            m.set(path, good)
        m.close()


def check_case(folder, name, source, word, times, width, count):
    model = folder / f"{name}.mp"
    model.write_text(source.replace("WORD", word).replace("ACCUMULATE", str(times))
                     .replace("D = 12", f"D = {width}"))
    rows = B * times - 1
    text = emit("fp8", model)
    found = len(products(text, "matmul_scaled")), len(products(text, "matmul"))
    assert found == count, found
    quantized = re.findall(r"quantize .* : (f8\w+)", text)
    assert {"f8e4m3fn", "f8e5m2"} == set(quantized), quantized
    check_guard(check_levels(folder / name, model, rows, word), rows)
    print(f"{word}, {times} micro-batches: equal", flush=True)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i, (word, times, width) in enumerate(CASES):
            check_case(folder, f"model{i}", MODEL, word, times, width, (6, 9))
        check_case(folder, "loop", LOOP, "fp8(delayed, history: 2) scale(2^4)", 2, 12, (8, 9))
        check_case(folder, "parts", PARTS, "fp8(delayed, history: 3)", 2, 12, (4, 17))


if __name__ == "__main__":
    main()
