"""The acceptance programs of tests/programs, small, through the whole compiler, and run: a training
step, an evaluation, every function of infer, by the C ABI, with finite results.

What they compute is checked elsewhere, op by op; here they show that what the frontend takes the
passes, the planner and the code generator take, too.
"""
import tempfile
import time
from pathlib import Path

import numpy as np

from mpcc_model import DTYPES, INFER, PARAM, STEP, Model, dims_of
from support import ROOT, compile_to

PROGRAMS = ROOT / "tests" / "programs"

# name -> configs; one a program that has a config for each of its sizes
GPT2 = dict(layers=2, heads=2, d=32, V=97, ctx=32, P=8, N=6)
SMALL = {
    "clip": dict(E=16, T=7, V=49, d=16, layers=1, heads=2, S=32, p=16),
    "gpt2": GPT2,
    "llama": dict(layers=2, d=32, heads=4, kv_heads=2, ff=48, V=61, ctx=24, P=8),
    "lora": {"g." + name: value for name, value in GPT2.items()},
    "mlp": dict(hidden=16),
    "moe": dict(d=16, ff=24, E=4, layers=2, heads=2, T=8, V=61),
    "optimizers": dict(T=16, d=32, layers=2, heads=2),
    "ppo": dict(H=16),
    "seq2seq": dict(layers=2, d=32, heads=2, ff=48, V=53, S=10, T=9),
    "tabular": dict(H=16),
    "vae": dict(H=32),
}
# Indices that are in range whatever they index.
INDICES = {"clip": 49, "gpt2": 97, "llama": 61, "lora": 97, "moe": 61, "optimizers": 97,
           "seq2seq": 53, "mlp": 10, "tabular": 4, "ppo": 4}


def filled(rng, tensor, indices):
    """Data of the input's type: floats above 0, for their logarithms, indices in range; a lone int
    is a place, 0."""
    dims, kind = dims_of(tensor), np.dtype(DTYPES[tensor.dtype][1])
    if kind.kind == "b":
        return rng.integers(0, 2, dims).astype(kind)
    if kind.kind == "f":
        return (np.ones(dims) if not dims else rng.uniform(0.1, 2, dims)).astype(kind)
    return (np.zeros(dims) if not dims else rng.integers(0, indices, dims)).astype(kind)


def run(m, rng, entry, indices):
    """Binds data to an entry and runs it; what came out is finite, unless the step was skipped."""
    inputs = {name: filled(rng, t, indices) for name, t in m.entries[entry].inputs.items()}
    result = m.run(entry, **inputs)
    skipped = m.entries[entry].kind == STEP and not result.committed
    for (name, _), value in m.outputs(entry).items():
        assert skipped or value.dtype.kind != "f" or np.isfinite(value).all(), f"{entry}: {name} is not finite"
    return result


def train_and_ask(name, m):
    rng = np.random.default_rng(7)
    indices = INDICES.get(name, 2)
    m.init(3)
    if "steps" in (h.name.decode() for h in m.desc.hypers[:m.desc.n_hypers]):
        m.hyper("steps", 100)
    for path in m.paths(PARAM):
        if not np.any(m.get(path)):  # nothing that a step multiplies is all zeros
            m.set(path, 0.1 * rng.standard_normal(m.get(path).shape).astype(np.float32))
    before = {path: m.get(path).copy() for path in m.paths(PARAM)}
    attempts = 1
    while not run(m, rng, "train_step", indices).committed:
        attempts += 1
        assert attempts <= 10, "no step committed"  # a dynamic scale begins too large
    moved = [path for path in before if not np.array_equal(before[path], m.get(path))]
    assert moved, "no parameter moved"
    run(m, rng, "eval", indices)
    functions = [e.name for e in m.entries.values() if e.kind == INFER]
    for entry in functions:
        run(m, rng, entry, indices)
    return f"committed attempt {attempts}, {len(moved)} of {len(before)} parameters, " + " ".join(functions)


def main():
    with tempfile.TemporaryDirectory() as folder:
        for name, configs in SMALL.items():
            start = time.time()
            flags = [word for c in configs.items() for word in ("-D", "%s=%s" % c)]
            library = compile_to(Path(folder) / (name + ".so"), PROGRAMS / (name + ".mp"), "-O0",
                                 *flags)
            m = Model(library, threads=2)
            said = train_and_ask(name, m)
            m.close()
            print(f"{name:12} {time.time() - start:4.1f} s  {said}", flush=True)


main()
