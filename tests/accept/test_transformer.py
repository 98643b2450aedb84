"""A transformer (embedding tied to the head, products with leading axes, patterns, slices) compiled
against the evaluator: every state after three steps, a short batch among them, bit for bit, in f32
and bf16, on one and three threads; in f32 also against the graph before grouping."""
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import Model, widen
from support import Evaluator, compile_to, emit, same_bits

HERE = Path(__file__).resolve().parent
MODEL = HERE / "transformer.mp"
SEED, STEPS = 7, ((4, 0), (3, 1), (4, 2))


def text(seed):
    return np.random.default_rng(seed).integers(0, 40, (4, 8), dtype=np.uint8)


def evaluated(graph):
    e = Evaluator(graph, seed=SEED)
    e.set("hyper", "steps", np.array(3, np.float32))
    states = e.run("init")
    if "entry @derive" in graph:
        e.run("derive")
    for rows, seed in STEPS:
        states.update(e.run("train_step", rows=rows, text=text(seed)[:rows]))
    return {path: value for (role, path), value in states.items() if role == "state"}


def compiled(library, threads):
    m = Model(library, threads)
    m.init(SEED)
    for rows, seed in STEPS:
        m.run("train_step", rows=rows, text=text(seed))
    states = {path: np.copy(m.get(path)) for path in m.states}
    m.close()
    return states


def compare(got, want, what):
    assert len(want) > 20
    for path, value in want.items():
        have = widen(got[path]) if got[path].dtype == np.uint16 else got[path]
        differs = same_bits(have, value)
        assert not differs, f"{what}: {path}: {differs}"


with tempfile.TemporaryDirectory() as folder:
    for precision in "f32", "bf16":
        flag = f"--precision={precision}"
        want = evaluated(emit("schedule", MODEL, flag))
        if precision == "f32":
            compare(evaluated(emit("dce", MODEL, flag)), want, "grouped and not")
        library = compile_to(Path(folder) / f"{precision}.so", MODEL, flag)
        for threads in 1, 3:
            compare(compiled(library, threads), want, f"{precision}, {threads} threads")
        print(f"{precision}: {len(want)} states equal the evaluator's")
