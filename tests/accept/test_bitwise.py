"""Compiled code against the evaluator, bit for bit: every state and every output of every step.

One scenario is played by both: full batches, short ones, weights that overflow, a label that does
not exist, a learning rate that is not finite, and a moment that ruins a weight.  The evaluator runs
the kernels (the graph behind `schedule`) and, in f32, also the graph before grouping (behind
`dce`): in f32 grouping must not change a bit.  Compiled code is tried on 1, 2 and 3 threads, at -O0
and -O3, for every level of instructions that this machine has.
"""
import hashlib
import re
import tempfile
from pathlib import Path

import numpy as np

import mpcc_model
from mpcc_model import Model, ModelError
from support import (MLP, Evaluator, builds, check_same_bits_sees, compile_to, emit, images_like, same_bits,
                     with_optimizer)

SEED, TOTAL_STEPS = 0x123456789A, 7.0
COUNTERS = {"step", "attempt", "skipped"}
SCALER = {"scale", "clean", "hysteresis"}  # of f16: what a skipped step is there to move


class Evaluated:
    """The scenario's player that is the oracle."""

    def __init__(self, text):
        self.e = Evaluator(text, seed=SEED)
        self.e.set("hyper", "steps", np.array(TOTAL_STEPS, np.float32))
        self.derives = "entry @derive" in text
        self.lr = float(re.search(r'hyper "lr" = (\S+)', text)[1])  # nan: follows its schedule

    def init(self):
        states = self.e.run("init")
        return {**states, **self.derive()}

    def derive(self):
        return self.e.run("derive") if self.derives else {}

    def set(self, path, array):
        self.e.set("state", path, array)
        self.derive()

    def run(self, entry, rows, lr, images, labels):
        self.e.set("hyper", "lr", np.array(self.lr if np.isnan(lr) else lr, np.float32))
        found = self.e.run(entry, rows=rows, images=images, labels=labels)
        loss = float(found["loss", "loss"]) / float(found["weight", "loss"])
        return {**found, ("result", "loss"): np.array(loss)}


class Compiled:
    ROLES = {mpcc_model.IS_OK: "ok", mpcc_model.FAULT_INDEX: "fault",
             mpcc_model.FAULT_NONFINITE: "nonfinite", mpcc_model.WEIGHT: "weight",
             mpcc_model.HYPER: "hyper", mpcc_model.FINITE: "finite", mpcc_model.GAUGE: "gauge"}

    def __init__(self, library, threads):
        self.m = Model(library, threads)
        self.m.init(0)
        self.m.hyper("steps", TOTAL_STEPS)

    def states(self):
        found = {}
        for path, s in self.m.states.items():
            value = self.m.get(path)
            kind = mpcc_model.DTYPES[s.tensor.dtype][0]
            low = {"bf16": mpcc_model.widen, "f16": lambda x: x.astype(np.float32)}
            found["state", path] = low.get(kind, np.copy)(value)
        return found

    def init(self):
        self.m.init(SEED)
        return self.states()

    def set(self, path, array):
        self.m.set(path, array)

    def outputs(self, entry, committed):
        found = {}
        for (name, role), value in self.m.outputs(entry).items():
            if role in (mpcc_model.SUM, mpcc_model.WEIGHT):  # totals: of committed runs only
                if not committed:
                    continue
                value = value.astype(np.float32)
            kind = "loss" if name == "loss" else "metric"
            found[self.ROLES.get(role, kind), name] = value.copy()
        return found

    def run(self, entry, rows, lr, images, labels):
        self.m.hyper("lr", lr)
        status, loss, committed = 0, None, False
        try:
            r = self.m.run(entry, rows=rows, images=images, labels=labels)
            loss, committed = r.loss, r.committed
        except ModelError as e:
            status = e.status
        found = {**self.states(), **self.outputs(entry, committed),
                 ("status", ""): np.array(status), ("committed", ""): np.array(bool(committed))}
        if loss is not None:
            found["result", "loss"] = np.array(loss)
        return found


# ---- the scenario --------------------------------------------------------------------------------


def flush(array):
    """As `set` does: no subnormal numbers inside."""
    return np.where(np.abs(array) < 2.0**-126, np.copysign(np.float32(0), array), array)


def play(player, classes, batch):
    """Pairs (what happened, everything that can be seen behind it)."""
    rng = np.random.default_rng(11)
    images, labels = images_like(rng, 6 * batch)
    labels %= classes
    at = iter(range(0, len(images), batch))

    def step(rows, lr=np.nan, entry="train_step", **other):
        i = next(at)
        return player.run(entry, rows, lr, images[i:i + rows],
                          other.get("labels", labels[i:i + rows]))

    first = player.init()
    yield "init", first
    weight = flush(first["state", "net.2.weight"].copy())
    weight.flat[:4] = 1e-40, -1e-42, -0.0, 1.5e-38
    player.set("net.2.weight", weight if isinstance(player, Compiled) else flush(weight))
    yield "full batch", step(batch)
    last = step(batch * 5 // 14 + 1)
    yield "short batch", last
    good = last["state", "net.2.weight"]
    bad = good.copy()
    bad.flat[::3] = 3e38
    bad.flat[-1] = np.inf
    player.set("net.2.weight", bad)
    yield "overflow", step(batch)
    player.set("net.2.weight", good)
    yield "one row", step(1)
    yield "no such label", step(3, labels=np.full(3, classes, np.uint8))
    at = iter(range(0, len(images), batch))
    yield "lr not finite", step(batch, lr=np.inf)
    yield "full batch again", step(batch)
    yield "eval", step(batch - 1, entry="eval")
    for moment, value in ("net.2.weight:v", -1), ("net.2.weight:m", 3e38):
        if ("state", moment) in first:
            ruined = first["state", moment].copy()
            ruined.flat[-1] = value
            player.set(moment, ruined)
            yield "ruin", step(batch, lr=100)
            break


EXPECTED = {  # status, committed
    "overflow": (0, False), "no such label": (mpcc_model.E_INDEX, False),
    "lr not finite": (0, False), "ruin": (mpcc_model.E_NONFINITE, False)}


def check_meaning(trace):
    """What must be so whoever plays: skipped steps change nothing but counters and the loss scale."""
    before = {}
    for what, seen in trace:
        status, committed = EXPECTED.get(what, (0, True))
        if what != "init":
            found = int(seen["status", ""]), bool(seen["committed", ""])
            assert found == (status, committed), (what, found)
        if what in EXPECTED and what != "ruin":
            assert seen["state", "skipped"] == before["state", "skipped"] + (status == 0) or status
            assert seen["state", "attempt"] == before["state", "attempt"] + 1, what
            for key, value in seen.items():
                if key[0] != "state" or key[1].split(":")[0] in COUNTERS | SCALER | {"net.2.weight"}:
                    continue
                assert same_bits(value, before[key]) is None, (what, key)
        before = seen


def compare(trace, oracle, label):
    for (what, seen), (_, want) in zip(trace, oracle):
        totals = () if seen.get(("committed", ""), True) else ("loss", "metric", "weight", "result")
        missing = [key for key in want if key not in seen and key[0] not in totals]
        assert not missing, (label, what, missing)
        for key, value in want.items():
            if key in seen:
                why = same_bits(seen[key], value)
                assert not why, f"{label}: {what}: {' '.join(key)}: {why}"
    assert len(trace) == len(oracle)


# ---- the matrix ----------------------------------------------------------------------------------


class Oracles:
    """Traces of the evaluator by the text of the graph: levels often share one."""

    def __init__(self):
        self.known = {}

    def of(self, stage, model, classes, batch, *flags):
        text = emit(stage, model, *flags)
        key = hashlib.sha256(text.encode()).digest(), classes, batch
        if key not in self.known:
            self.known[key] = list(play(Evaluated(text), classes, batch))
        return self.known[key]


def check(library, threads, oracles, classes, batch, label):
    trace = list(play(Compiled(library, threads), classes, batch))
    check_meaning(trace)
    for oracle in oracles:
        compare(trace, oracle, label)


def check_mlp(folder, oracles):
    for precision in "bf16", "f16", "f32":
        for level, opt in builds():
            flags = [f"--precision={precision}", f"-mcpu={level}"]
            stages = ["schedule"] + ["dce"] * (precision == "f32")
            wanted = [oracles.of(stage, MLP, 10, 64, *flags) for stage in stages]
            name = "_".join(["mlp", precision, re.sub(r"\W", "_", level), opt[1:]])
            library = compile_to(folder / (name + ".so"), MLP, *flags, opt)
            for threads in 1, 2, 3:
                check(library, threads, wanted, 10, 64, f"{name}, {threads} threads")
            print(f"{name:28} equal on 1, 2 and 3 threads ({', '.join(stages)})", flush=True)


ODD = [("sgd(lr: linear(0.1, to: 0.01), momentum: 0.9, weight_decay: 0.01)", 37, 3, 64),
       ("adam(lr: 1e-2, betas: (0, 0.5), eps: 1e-3)", 1, 2, 5), ("sgd(lr: 0.1)", 129, 17, 33)]


def check_odd(folder, oracles):
    """Sizes that fit no vector and no block."""
    for i, (optimizer, hidden, classes, batch) in enumerate(ODD):
        model = with_optimizer(folder, f"odd{i}", optimizer)
        model.write_text(model.read_text().replace("batch B = 64", f"batch B = {batch}"))
        for precision in "bf16", "f16", "f32":
            flags = [f"-Dhidden={hidden}", f"-Dclasses={classes}", f"--precision={precision}"]
            library = compile_to(folder / f"odd{i}_{precision}.so", model, *flags)
            wanted = [oracles.of("schedule", model, classes, batch, *flags)]
            if precision == "f32":
                wanted.append(oracles.of("dce", model, classes, batch, *flags))
            check(library, 2, wanted, classes, batch, f"{optimizer}, hidden {hidden}, {precision}")
        print(f"hidden {hidden}, classes {classes}, batch {batch}: equal", flush=True)


def check_long(folder, oracles):
    """A parameter of one long row: threads share its sums and its update's guard by blocks."""
    text = MLP.read_text()
    model = folder / "long.mp"
    model.write_text(text.replace("  net = [", "  long: param[9001] = normal(0, 0.1)\n  net = [")
                     .replace("    net((", "    (1 + mean(long * long)) * net(("))
    assert "mean(long" in model.read_text()
    scaled = folder / "long_scaled.mp"  # 2^15 is too much for its first step
    scaled.write_text(model.read_text().replace("precision bf16", "precision f16 scale(2^8)"))
    for precision, model in ("bf16", model), ("f16", scaled), ("f32", model):
        flags = ["-Dhidden=8", f"--precision={precision}"]
        wanted = [oracles.of("schedule", model, 10, 64, *flags)]
        library = compile_to(folder / f"long_{precision}.so", model, *flags)
        for threads in 1, 2, 3:
            check(library, threads, wanted, 10, 64, f"one long row, {precision}, {threads} threads")
    print("one long row: equal on 1, 2 and 3 threads", flush=True)


def main():
    check_same_bits_sees()
    oracles = Oracles()
    with tempfile.TemporaryDirectory() as name:
        check_odd(Path(name), oracles)
        check_long(Path(name), oracles)
        check_mlp(Path(name), oracles)


if __name__ == "__main__":
    main()
