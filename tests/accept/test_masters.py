"""What weights are rounded from: `master(split)` and `master(sr)`.

Split: an mlp and a small GPT, dropout and skipped steps and saving and loading included, have every bit of
the run with f32 masters; a checkpoint of either goes on under the other.  Both: compiled code has the
evaluator's bits.  1000 updates far below half a unit of bf16 against f64: split stays within the
roundings of f32, the mean of sr within six standard deviations of what rounding at random has, while
rounding to nearest would stay where it began.
"""
import tempfile
from pathlib import Path

import numpy as np

import test_bitwise as mlp
import test_chargpt_bitwise as gpt
from mpcc_model import DERIVED, PART, Model, widen
from support import (check_same_bits_sees, compile_to, emit, levels, read_safetensors, round_bf16, same_bits,
                     with_optimizer)

SIZES = 37, 3, 30  # hidden, classes, batch: no vector, no block, numbers of weights that 8 does not divide
LEVELS = levels()
FLAGS = [f"-Dhidden={SIZES[0]}", f"-Dclasses={SIZES[1]}"]


def planes(count):
    return max(n for n in (1, 2, 4, 8) if count % n == 0)


def parts(x):
    """An f32 in what it is kept as."""
    x = np.ascontiguousarray(np.where(np.abs(x) < 2.0**-126, np.copysign(np.float32(0), x), x))
    high, rest = round_bf16(x), (x.view(np.uint32) & 0xFFFF).astype(np.uint16)
    up = ((rest == 0x8000) & (np.abs(high) > np.abs(x))).reshape(planes(x.size), -1)
    bits = (up.astype(np.uint32) << np.arange(len(up))[:, None]).sum(axis=0).astype(np.uint8)
    return {"bf16": high, "rest": rest, "up": bits}


class EvaluatedInParts(mlp.Evaluated):
    """The states are the parts; who plays sees and sets the f32."""

    def set(self, path, array):
        kept = parts(array) if path.endswith("weight") else {}
        for part, value in kept.items():
            self.e.set("state", f"{path}:{part}", value)
        if not kept:
            super().set(path, array)

    @staticmethod
    def joined(found):
        for role, name in list(found):
            path, _, part = name.partition(":")
            if part == "rest":
                high, rest, bits = (found[role, f"{path}:{p}"] for p in ("bf16", "rest", "up"))
                n = planes(high.size)
                up = (bits[None, :] >> np.arange(n)[:, None] & 1).reshape(high.shape)
                above = (rest > 0x8000) | ((rest == 0x8000) & (up == 1))
                found[role, path] = ((high.view(np.uint32) | rest) - (above.astype(np.uint32) << 16)).view(np.float32)
        return found

    def init(self):
        return self.joined(super().init())

    def run(self, *args):
        return self.joined(super().run(*args))


def model_with(folder, name, precision, optimizer="adamw(lr: linear(2e-3, to: 0), weight_decay: 0.01)"):
    path = with_optimizer(folder, name, optimizer)
    text = path.read_text().replace("batch B = 64", f"batch B = {SIZES[2]}")
    assert text.count("precision bf16") == 1
    path.write_text(text.replace("precision bf16", "precision " + precision))
    return path


def shared(trace):
    """Without the forms that only one of two programs has."""
    return [(what, {k: v for k, v in seen.items() if ":" not in k[1] or k[1].endswith((":m", ":v")) or k[0] != "state"})
            for what, seen in trace]


def check_mlp(folder):
    play = lambda player: list(mlp.play(player, SIZES[1], SIZES[2]))  # noqa: E731
    whole = compile_to(folder / "whole.so", model_with(folder, "whole", "bf16"), *FLAGS)
    wanted = play(mlp.Compiled(whole, 1))
    for name, precision in ("split", "bf16 master(split)"), ("sr", "bf16 master(sr)"), (
            "half", "f16 scale(2^4) master(sr)"):
        model = model_with(folder, name, precision)
        player = EvaluatedInParts if name == "split" else mlp.Evaluated
        oracle = play(player(emit("schedule", model, *FLAGS)))
        for number, (level, opt, threads) in enumerate([(LEVELS[0], "-O0", 1), (LEVELS[0], "-O3", 3), (LEVELS[-1], "-O3", 2)]):
            library = compile_to(folder / f"{name}{number}.so", model, *FLAGS, opt, f"-mcpu={level}")
            trace = play(mlp.Compiled(library, threads))
            mlp.check_meaning(trace)
            mlp.compare(trace, oracle, f"{name} {level} {opt} {threads} threads")
            if name == "split":
                mlp.compare(shared(trace), shared(wanted), "split against f32 masters")
        print(f"mlp, {precision}: the evaluator's bits, {LEVELS[0]} and {LEVELS[-1]}, -O0 and -O3, 1 to 3 threads", flush=True)
    print("mlp, split: the bits of f32 masters", flush=True)


def check_gpt(folder):
    traces = {}
    for name, precision in ("gpt_whole", "bf16"), ("gpt_split", "bf16 master(split)"):
        library = compile_to(folder / f"{name}.so", gpt.model_text(folder, name, precision, 2))
        traces[name] = list(gpt.played(library, 2, (12, 7, 12)))
    copies = 0
    for (what, _, whole), (_, _, split) in zip(traces["gpt_whole"], traces["gpt_split"]):
        for key, value in whole.items():
            assert not same_bits(split[key], value), (what, key)
            copies += key[1].endswith(":bf16")
    assert copies > 20, copies
    print("small GPT, split: every state and output has the bits of f32 masters", flush=True)


# ---- checkpoints -------------------------------------------------------------------------------------


def steps(m, rng, n):
    for _ in range(n):
        images, labels = mlp.images_like(rng, SIZES[2])
        m.run("train_step", images=images, labels=labels % SIZES[1])


def everything(m):
    return {path: m.get(path).copy() for path, s in m.states.items() if s.kind not in (DERIVED, PART)}


def check_resume(folder):
    """Of each, a run that is stopped and goes on; from a checkpoint of f32 masters under split and back."""
    libraries = {name: folder / f"{name}{'' if name == 'whole' else '1'}.so" for name in ("whole", "split", "sr", "half")}

    def start(name):
        m = Model(libraries[name], 2)
        m.init(5)
        m.hyper("steps", 8.0)
        return m

    ends, files = {}, {}
    for name in libraries:
        m, rng = start(name), np.random.default_rng(3)
        steps(m, rng, 3)
        m.save(folder / f"ck_{name}")
        files[name] = {part: read_safetensors(folder / f"ck_{name}" / f"{part}.safetensors") for part in ("model", "state")}
        steps(m, rng, 2)
        ends[name] = everything(m)
    assert files["split"] == files["whole"], "the files of split are not those of f32 masters"
    for name in "sr", "half":
        kept = {dtype for dtype, _, _ in files[name]["model"].values()}
        assert kept == {"BF16" if name == "sr" else "F16"}, kept
    for saved, loaded in ("split", "split"), ("split", "whole"), ("whole", "split"), ("sr", "sr"), ("half", "half"):
        m, rng = start(loaded), np.random.default_rng(3)
        for _ in range(3):
            mlp.images_like(rng, SIZES[2])  # those of the steps before
        m.load(folder / f"ck_{saved}")
        steps(m, rng, 2)
        for path, value in everything(m).items():
            assert not same_bits(value, ends[saved][path]), (saved, loaded, path)
    m = start("sr")
    try:
        m.load(folder / "ck_whole")
    except Exception as e:
        assert "expected BF16[" in str(e) and "found F32[" in str(e), e
    else:
        raise AssertionError("f32 weights were rounded where a run was to go on")
    check_ties(start("split"), folder)
    print("resumed: split, sr; split from f32 masters and back; sr from f32 is refused", flush=True)


def check_ties(m, folder):
    """Ties on either side of even numbers, in every plane of bits: kept by set, by a skipped step, by a checkpoint."""
    shape = m.get("net.0.weight").shape
    bits = np.random.default_rng(2).integers(0x3F00, 0x4000, shape).astype(np.uint32) << 16 | 0x8000
    ties = (bits | (np.arange(bits.size).reshape(shape) % 3 == 0).astype(np.uint32) << 31).view(np.float32)
    m.set("net.0.weight", ties)
    assert not same_bits(m.get("net.0.weight"), ties), "set"
    assert not same_bits(widen(m.get("net.0.weight:bf16")), round_bf16(ties)), "the low part"
    m.hyper("lr", np.inf)
    steps(m, np.random.default_rng(3), 1)
    assert m.get("skipped") == 1 and not same_bits(m.get("net.0.weight"), ties), "a skipped step"
    m.save(folder / "ck_ties")
    m.init(1)
    m.load(folder / "ck_ties")
    assert not same_bits(m.get("net.0.weight"), ties), "a checkpoint"


# ---- tiny updates ------------------------------------------------------------------------------------

TINY = """version 1
config N = 8192
model M {
  w: param[N, 1] = uniform(0.6, 0.9)
  fn f(x) = x @ w
}
train M {
  batch B = 1
  data { x: f32[B, N] }
  loss sum(f(x), axis: 1)
  optimizer sgd(lr: RATE)
  precision WORD
}
"""
COUNT, RATE, SIXFOLD = 1000, float(np.float32(1.5e-5)), 6


def check_tiny(folder):
    """Gradients are x, exact in bf16 and f16: mean 1, spread 1/2.  An update is about 2^-16, a unit of bf16 2^-8."""
    x = np.clip(np.rint(np.random.default_rng(17).normal(1, 0.5, (COUNT, 8192)) * 64) / 64, -3, 3)
    path, moved = RATE * x.sum(axis=0), RATE * np.abs(x).sum(axis=0)
    rounding = COUNT * 2.0**-25  # of f32 numbers below 1
    for name, word, unit in ("split", "bf16 master(split)", None), ("sr", "bf16 master(sr)", 2.0**-8), (
            "half", "f16 scale(2^0) master(sr)", 2.0**-11):
        model = folder / f"tiny_{name}.mp"
        model.write_text(TINY.replace("RATE", repr(RATE)).replace("WORD", word))
        m = Model(compile_to(folder / f"tiny_{name}.so", model), 1)
        m.init(9)

        def weights():
            return (widen(m.get("w")) if name == "sr" else m.get("w")).astype(np.float64).ravel()
        first = weights()
        for g in x.astype(np.float32):
            assert m.run("train_step", x=g[None]).committed
        off = weights() - (first - path)
        if unit is None:
            assert np.abs(off).max() <= rounding and m.states["w:rest"].kind == PART, np.abs(off).max()
            print(f"1000 tiny updates, split: at most {np.abs(off).max():.1e} off, moved {moved.mean():.1e}")
            continue
        # From a number of the type an update of d moves by a unit with probability d / unit, so its variance is below
        # d · unit; those of independent updates add up, and of independent weights.
        bound = SIXFOLD * np.sqrt((moved * unit).sum()) / off.size + rounding
        assert abs(off.mean()) <= bound <= 0.05 * moved.mean(), (off.mean(), bound)
        spread = off.std() / np.sqrt((moved * unit).mean())
        assert 0.7 <= spread <= 1.05, f"{spread}: the draws are not independent"
        assert not (weights() % unit).any(), "not all are of the type"
        print(f"1000 tiny updates, {word}: mean {off.mean():+.1e} off, bound {bound:.1e}, moved {moved.mean():.1e}")


def main():
    check_same_bits_sees()
    with tempfile.TemporaryDirectory() as name:
        check_tiny(Path(name))
        check_mlp(Path(name))
        check_resume(Path(name))
        check_gpt(Path(name))


if __name__ == "__main__":
    main()
