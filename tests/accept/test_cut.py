"""The cut against the greedy placement of casts: it costs no more and moves no more bytes, in every
entry of every example and of every acceptance program that compiles, in bf16, f16 and by itself; and
where products are no question (a written precision) every one of them reads low.  A program compiles
under all of these words or is refused under all.  docs/precision.md has the numbers of the two examples.

    python3 tests/accept/test_cut.py BIN --table      the table of docs/precision.md
"""
import concurrent.futures
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from support import BIN, ROOT

MLP = ROOT / "examples" / "mlp.mp"
GPT = ROOT / "examples" / "chargpt" / "chargpt.mp"
WORDS = "bf16", "f16", "auto"
COMPILE = 13  # two examples, eleven of the acceptance programs


def explain(model, *flags):
    """None: the program holds something that this version refuses."""
    run = subprocess.run([BIN / "mpcc", "--explain-precision=json", *flags, model], capture_output=True, text=True)
    assert run.returncode in (0, 1), f"{model} {flags}: exit {run.returncode}: {run.stderr}"
    return json.loads(run.stdout) if run.returncode == 0 else None


def check(model, word):
    """Entries seen (None: refused); of how many the cut costs less."""
    report = explain(model, "--precision=" + word)
    if report is None:
        return model, word, None, 0
    better = 0
    for e in report["entries"]:
        cut, greedy, where = e["chosen"], e["greedy"], f"{model} {word} {e['name']}"
        assert cut["cost"] <= greedy["cost"], f"{where}: cost {cut['cost']}, greedy {greedy['cost']}"
        assert word == "auto" or cut["bytes"] <= greedy["bytes"], f"{where}: {cut['bytes']}, greedy {greedy['bytes']}"
        better += cut["cost"] < greedy["cost"]
    for o in report["ops"] if word != "auto" else ():
        assert "low does not pay" not in o["why"], f"{model} {word}: {o}"
    assert report["entries"], f"{model} {word}: no entry"
    return model, word, len(report["entries"]), better


def main():
    models = [MLP, GPT, *sorted((ROOT / "tests" / "programs").glob("*.mp"))]
    seen = {}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for model, word, entries, better in pool.map(lambda j: check(*j), [(m, w) for m in models for w in WORDS]):
            if entries is not None:
                seen[model, word] = better
                print(f"{str(model.relative_to(ROOT)):28} {word:5} {entries:2} entries, cheaper than greedy in {better}")
    compiled = {m for m, _ in seen}
    assert len(compiled) == COMPILE and set(seen) == {(m, w) for m in compiled for w in WORDS}, sorted(seen)
    assert sum(seen.values()) > 0, seen
    check_docs()


def row(model, name, flags):
    e = next(e for e in explain(model, *flags)["entries"] if e["name"] == "train_step")
    mb = lambda n: f"{n / 1e6:.2f}"
    casts = lambda m: f"{m['casts']} in {m['kernels']}"
    g, c = e["greedy"], e["chosen"]
    return (f"| {name} | {mb(e['f32']['bytes'])} | {mb(g['bytes'])} | {mb(c['bytes'])} | {casts(g)} | {casts(c)} "
            f"| {mb(g['cast_bytes'])} | {mb(c['cast_bytes'])} |")


def plain_rows():
    return [(m, f"`{m.name}`, {w}", [f"--precision={w}"]) for m in (MLP, GPT) for w in ("bf16", "f16", "auto", "fp8")]


def check_docs():
    """The table says what the compiler says: of the small model all, of the large one a row."""
    docs = (ROOT / "docs" / "precision.md").read_text().splitlines()
    for r in plain_rows():
        if r[0] == MLP or r[1].endswith("fp8"):
            assert row(*r) in docs, row(*r)


def table():
    wide = Path(tempfile.mkdtemp()) / "chargpt.mp"
    text = GPT.read_text()
    assert "precision bf16" in text
    wide.write_text(text.replace("precision bf16", "precision bf16 residual(f32)"))
    rows = [*plain_rows(), (wide, "`chargpt.mp`, bf16 `residual(f32)`", ["-I", str(GPT.parent)])]
    print("| | all f32 | greedy | cut | casts, greedy | casts, cut | copies, greedy | copies, cut |\n|" + "---|" * 8)
    for r in rows:
        print(row(*r))


table() if "--table" in sys.argv else main()
