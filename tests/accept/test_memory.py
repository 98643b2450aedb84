"""Values that are computed again rather than kept: by --memory-limit and by `recompute` a context of
a small GPT holds less, and every state has the bits that it has without; what is quantized again in
fp8 is so with the same scales."""
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import Model
from support import BIN, ROOT, compile_to, emit

GPT = ROOT / "examples" / "chargpt" / "chargpt.mp"
SMALL = ["-DT=32", "-Dd=64", "-Dlayers=3", "-Dheads=2", "-Dbatch_rows=16", "-O1"]


def train(library):
    """Bytes of a context, and all states after three steps."""
    model = Model(library, threads=2)
    model.init(3)
    model.hyper("steps", 3)
    for text in np.random.default_rng(5).integers(0, 256, (3, 16, 33), dtype=np.uint8):
        assert model.run("train_step", text=text).committed
    states = b"".join(model.get(path).tobytes() for path in model.states)
    return model.desc.arena_bytes, model.desc.state_bytes, states


def refused(limit, model, *flags):
    done = subprocess.run([BIN / "mpcc", f"--memory-limit={limit}", "-o", "/dev/null", *flags, model],
                          stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1, done
    return done.stderr


FP8 = """version 1
import "std/nn.mp"
module Block(d: int) {
  a = Linear(d, d)
  b = Linear(d, d)
  fn (x) = x + b(relu(a(x)))
}
model M {
  first = Linear(8, 32)
  blocks = repeat 3 Block(32)
  last = Linear(32, 4)
}
train M {
  batch B = 512
  data { x: f32[B, 8]; y: f32[B, 4] }
  loss sum((last(blocks(first(x))) - y)^2, axis: 1)
  optimizer adamw(lr: 0.01)
  precision fp8(delayed)
}
"""


def train_fp8(library):
    """All states after three steps."""
    model, rng = Model(library, threads=2), np.random.default_rng(5)
    model.init(3)
    for scale in 1, 100, 0.01:  # the scales of fp8 move from step to step
        x, y = (scale * rng.standard_normal((512, n)).astype(np.float32) for n in (8, 4))
        assert model.run("train_step", x=x, y=y).committed
    return {path: model.get(path).tobytes() for path in model.states}


def check_fp8(folder):
    """Operands whose scales the step itself moves are quantized a second time."""
    model = folder / "fp8.mp"
    model.write_text(FP8)
    limit = f"--memory-limit={re.search(r'; ([0-9]+) is the least;', refused(1000, model, '-O0'))[1]}"
    casts = [emit("recompute", model, *more).split("entry @eval")[0].count(" = saturate ") for more in ([], [limit])]
    kept, again = (train_fp8(compile_to(folder / f"fp8_{i}.so", model, "-O0", *more)) for i, more in enumerate(([], [limit])))
    print(f"fp8(delayed), {limit}: {casts[1]} casts to fp8 instead of {casts[0]}")
    assert casts[1] > casts[0], casts
    assert again == kept, [path for path in kept if again[path] != kept[path]]


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arena, state, kept = train(compile_to(folder / "kept.so", GPT, *SMALL))
        for i, share in enumerate((0.9, 0.7)):
            limit = state + int(share * arena)
            less, same, states = train(
                compile_to(folder / f"limit{i}.so", GPT, *SMALL, f"--memory-limit={limit}"))
            print(f"limit {limit}: {same + less} instead of {state + arena} bytes")
            assert same + less <= limit < state + arena
            assert states == kept, "other bits where values are computed again"

        again = folder / "again.mp"
        text = GPT.read_text()
        assert text.count("repeat layers Block()") == 1
        again.write_text(text.replace("repeat layers Block()", "repeat layers Block() recompute"))
        region, _, states = train(compile_to(folder / "region.so", again, *SMALL))
        print(f"recompute: arena {region} instead of {arena} bytes")
        assert region < 0.9 * arena, "a region frees too little"
        assert states == kept, "other bits where a region is computed again"

        check_fp8(folder)
        error = refused(state // 2, GPT, *SMALL)
        assert "error: --memory-limit: a context holds" in error and "note: " in error, error
        least = re.search(r"; (\d+) is the least;", error)  # and can be had
        assert least, error
        compile_to(folder / "least.so", GPT, *SMALL, f"--memory-limit={least[1]}")


main()
