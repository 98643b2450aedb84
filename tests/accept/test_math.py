"""A step with attention, norms, draws, dropout and losses: compiled code = evaluator, bit for bit, in f32,
bf16 and f16, on 1 and 3 threads, with full and short batches.  Draws: the same for the same number, others
for another, distributed as they say."""
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import VALUE, Model
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


def near(mean, want, deviation, n):
    """Five deviations of a mean of n; the seed is fixed, so the test is too."""
    assert abs(mean - want) <= 5 * deviation / n**0.5, (mean, want)


def check_draws(library):
    m = Model(library, threads=2)
    m.init(SEED)
    z = np.zeros((64, 3), np.float32)
    z[:, 1], z[:, 2] = np.log(2), -np.inf  # chances 1/3, 2/3, 0

    def draw(number):
        m.run("draws", draw=number, z=z)
        return [np.copy(m.outputs("draws")[name, VALUE]) for name in ("n", "u", "i", "c", "same")]
    runs = [draw(k) for k in range(40)]
    again = draw(7)
    m.close()
    for i in range(4):
        same(again[i], runs[7][i], i)
        assert not np.array_equal(runs[7][i], runs[8][i]), i
    same(again[4], z, "dropout outside of training")
    normal, uniform, ints, classes = (np.array([r[i] for r in runs]) for i in range(4))
    n = normal.size
    near(normal.mean(), 2, 3, n), near(((normal - 2) ** 2).mean(), 9, 9 * 2**0.5, n)
    near(uniform.mean(), 0, 3**-0.5, n)
    assert uniform.min() >= -1 and uniform.max() < 1
    assert ints.min() == 10 and ints.max() == 16
    for v in range(10, 17):
        near((ints == v).mean(), 1 / 7, (6 / 49) ** 0.5, n)
    near((classes == 1).mean(), 2 / 3, (2 / 9) ** 0.5, classes.size)
    assert classes.max() == 1


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
        check_draws(library)
        print(f"{name}: {counts[0]} states of {len(STEPS)} steps equal, 1 and 3 threads")
