"""A step with attention, norms, draws, dropout and losses: compiled code = evaluator, bit for bit, in f32,
bf16 and f16, on 1 and 3 threads, with full and short batches; draws differ from step to step."""
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import Model
from support import Evaluator, compile_to, emit

HERE = Path(__file__).resolve().parent
SEED, STEPS = 0x123456789A, (4, 3, 1, 4)


def evaluated(precision, x, t):
    """States behind each step."""
    text = emit("schedule", HERE / "math.mp", precision)
    e = Evaluator(text, seed=SEED)
    e.run("init")
    if "entry @derive" in text:
        e.run("derive")
    e.set("hyper", "lr", np.array(0.05, np.float32))
    for rows in STEPS:
        found = e.run("train_step", rows=rows, x=x[:rows], t=t[:rows])
        yield found


def same(got, want, what):
    assert got.shape == want.shape and got.tobytes() == want.tobytes(), what


def compare(library, want, threads, x, t):
    m = Model(library, threads=threads)
    m.init(SEED)
    compared = 0
    for step, rows in enumerate(STEPS):
        committed = m.run("train_step", rows=rows, x=x[:rows], t=t[:rows]).committed
        assert committed == want[step]["ok", "ok"], (threads, step)  # f16 may begin with a skip
        for (role, name), value in want[step].items():
            if role != "state":
                continue
            got = np.copy(m.get(name))
            if got.dtype == value.dtype:  # low copies are of types NumPy lacks
                same(got, value, (threads, step, name))
                compared += 1
    m.close()
    return compared


with tempfile.TemporaryDirectory() as folder:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 16, 8), dtype=np.float32)
    x[2, :8] = -3  # rows of the mask without a key
    x[3] = -3
    t = rng.integers(-1, 5, (4, 16), dtype=np.int32)
    for name in "f32", "bf16", "f16":
        flag = f"--precision={name}"
        want = list(evaluated(flag, x, t))
        losses = [float(w["loss", "loss"]) for w in want]
        assert np.isfinite(losses).all() and losses[0] != losses[3], losses
        library = compile_to(Path(folder) / f"math_{name}.so", HERE / "math.mp", flag)
        counts = [compare(library, want, threads, x, t) for threads in (1, 3)]
        assert min(counts) >= 40, counts
        print(f"{name}: {counts[0]} states of {len(STEPS)} steps equal, 1 and 3 threads")
