"""Values that are computed again rather than kept: by --memory-limit and by `recompute` a context of
a small GPT holds less, and every state has the bits that it has without."""
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import Model
from support import BIN, ROOT, compile_to

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

        error = refused(state // 2, GPT, *SMALL)
        assert "error: --memory-limit: a context holds" in error and "note: " in error, error
        least = re.search(r"; (\d+) is the least;", error)  # and can be had
        assert least, error
        compile_to(folder / "least.so", GPT, *SMALL, f"--memory-limit={least[1]}")


main()
