"""mpcc compare, and the values that a program built --with-values writes.

  planted      of a dozen layers one subtracts large numbers (planted.mp): its line is named
  benign       where no line is to blame, the largest is told
  equal        f32 beside f32 parts nowhere: every difference is 0
  measures     max, relative L2, mean signed error and how much it grew are NumPy's, of the files the
               programs write
  values       the first layer and the last bias' gradient are what NumPy makes of weights and data;
               under f16 they are without the loss scale; those of step 3 after resuming at 2 are
               those of step 3
  picture      both losses in one
  same bits    --with-values changes no weight
  wrong        flags that have no place, each with its error
"""
import json
import math
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from planted import PLANTED, line_of, make_data
from support import BIN, compile_to, read_notes, read_safetensors, run


def compare(precision, data, *flags, steps=60, model=PLANTED):
    return json.loads(run(BIN / "mpcc", "compare", model, f"--precision={precision}", "--json",
                          *flags, "--", *data, "--steps", steps, "--threads", 2))


def tensors(path):
    return {name: np.frombuffer(raw, "f4").reshape(shape)
            for name, (dtype, shape, raw) in read_safetensors(path).items() if dtype == "F32"}


def three(folder):
    """The same with two layers beside the centre that lose less."""
    text = PLANTED.read_text()
    module = text[text.index("module Centred"):text.index("model Planted")]
    text = text.replace(module, module + module.replace("Centred", "Less").replace("300.0", "200.0"))
    text = text.replace("  centre = Centred(d, d)\n", """  left = Less(d, d)
  centre = Centred(d, d)
  right = Less(d, d)
  l = Layer(d, d)
  c = Layer(d, d)
  r = Layer(d, d)
  fn beside(x) = l(left(x)) + c(centre(x)) + r(right(x))
""")
    text = text.replace("centre(blocks(first(x)))", "beside(blocks(first(x)))")
    (folder / PLANTED.name).write_text(text)
    return folder / PLANTED.name


def check_planted(folder, data):
    picture = folder / "both.svg"
    for precision, model in ("bf16", three(folder)), ("fp8(current)", PLANTED):
        c = compare(f"{precision},f32", data, "--plot", picture, model=model)
        part, where = c["part"], line_of("h - mean(h")
        assert (part["line"], part["op"], part["path"]) == (where, "sub", "centre"), part
        forward = {v["path"]: v["grown"] for v in c["values"] if v["phase"] == "forward" and v["grown"] > 32}
        assert set(forward) == ({"left", "centre", "right"} if model != PLANTED else {"centre"}), forward
        others = [v["grown"] for v in c["values"] if v["phase"] == "forward" and v["path"] not in forward]
        assert part["grown"] > 10 * max(others), (part, max(others))
        assert len(c["losses"]) == 60 and c["losses"][0][0] == 1
    lines = run(BIN / "mpcc", "compare", PLANTED, "--precision=fp8(current),f32", "--values-step=3", "--", *data,
                "--steps", 60, "--threads", 2).splitlines()
    assert lines[0].endswith("fp8(current) compared with f32, values of step 3"), lines[0]
    assert lines[-1].startswith(f"they part at {part['line']}, sub of centre: "), lines[-1]
    x, y = c["losses"][-1][1:]
    assert lines[-2].split() == ["60", f"{x:.6g}", f"{y:.6g}", f"{100 * (x - y) / abs(y):.3f}", "%"], lines[-2]
    svg = ET.parse(picture).getroot()
    drawn = {e.get("class"): e.get("points").split() for e in svg.iter() if e.tag.endswith("polyline")}
    labels = [e.text for e in svg.iter() if e.tag.endswith("text")]
    assert len(drawn["train"]) == len(drawn["train other"]) == 60 and drawn["train"] != drawn["train other"]
    assert "fp8(current)" in labels and "f32" in labels
    print(f"planted: {part['line']}, {part['grown']:.0f} times what went into it; "
          f"elsewhere at most {max(others):.1f}", flush=True)


def check_equal(data):
    c = compare("f32,f32", data)
    assert c["same"] and c["part"] is None and c["alone"] == [0, 0], c
    assert len(c["values"]) > 60
    assert all(v["max"] == v["relative_l2"] == v["mean"] == 0 for v in c["values"])
    assert all(x == y for _, x, y in c["losses"])
    assert {v["phase"] for v in c["values"]} == {"forward", "backward", "gradient", "weight"}
    print(f"equal: {len(c['values'])} pairs of f32 and f32, all differences 0", flush=True)


def check_benign(folder, data):
    """Where nothing is to blame the verdict says what comes nearest to it."""
    model = folder / "benign.mp"
    model.write_text(PLANTED.read_text().replace("+ 300.0", "+ 0.0"))
    words = "--precision=bf16,f32", model, "--", *data, "--steps", 2
    verdict = run(BIN / "mpcc", "compare", *words).splitlines()[-1]
    values = [v for v in compare("bf16,f32", data, model=model, steps=2)["values"] if v["phase"] != "weight"]
    most = max(values, key=lambda v: v["grown"])
    assert verdict == ("no value differs by much more than what went into it; by most "
                       f"{most['line']}, {most['op']} of {most['path']}: {most['grown']:.2g} times that"), verdict
    print(f"benign: {verdict}", flush=True)


def stem(name):
    return name.rsplit(" ", 1)[0]


def name_of(v):
    return f"{v['phase']} {v['path']} {v['op']} {v['line']} #{v['number']} {v['stored'][0]}"


def check_measures(folder, data):
    """The same runs by hand.  Returns the program that trains in f16."""
    words = "f32", "f16"
    c, files, programs = compare(",".join(words), data), {}, {}
    assert len(c["values"]) > 60
    for word in words:
        programs[word] = compile_to(folder / word, PLANTED, "--with-values", f"--precision={word}")
        run(programs[word], *data, "--steps", 60, "--values", folder / f"{word}.safetensors", "--save",
            folder / f"{word}.ckpt", "--quiet", "--threads", 1)
        files[word] = tensors(folder / f"{word}.safetensors")
        model = tensors(folder / f"{word}.ckpt" / "step-000060" / "model.safetensors")
        files[word].update({f"weight {n} - - #0 F32": t for n, t in model.items()})
    x, y = files.values()
    by_stem = {stem(n): t for n, t in y.items()}
    other = {n: by_stem[stem(n)].astype("f8") for n in x if stem(n) in by_stem}
    relative = {n: np.linalg.norm(x[n] - t) / (np.linalg.norm(t) or 1) for n, t in other.items()}
    assert c["alone"] == [len(x) - len(other), len(by_stem.keys() - set(map(stem, other)))], c["alone"]
    for v in c["values"]:
        d = x[name_of(v)].astype("f8") - other[name_of(v)]
        for got, want in ((v["max"], abs(d).max()), (v["mean"], d.mean()), (v["relative_l2"], relative[name_of(v)])):
            assert math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-12), (v, got, want)
    check_grown(c, read_notes(folder / "f32.safetensors")["reads"].splitlines(), list(x), relative)
    print(f"measures: {len(c['values'])} pairs as NumPy has them", flush=True)
    return programs["f16"]


def check_grown(c, reads, names, relative):
    """What a value differs by beside the most of what went into it, or one rounding to f16; the two programs
    part where that is the most of a phase.  What is in one alone stands for what went into it."""
    read = {}
    for name, line in zip(names, reads):
        read[name] = max((relative[names[int(k)]] for k in line.split()), default=0)
        relative.setdefault(name, read[name])
    first = [v for v in c["values"] if v["phase"] == c["part"]["phase"]]
    assert c["part"] == max(first, key=lambda v: v["grown"]) and c["part"]["phase"] == "forward", c["part"]
    several = 0
    for v in c["values"]:
        if v["phase"] == "weight":
            continue
        want = relative[name_of(v)] / max(read[name_of(v)], 2.0**-11)
        assert math.isclose(v["grown"], want, rel_tol=1e-9, abs_tol=1e-12), (v, want)
        several += read[name_of(v)] > 2.0**-11
    assert several > 20, several


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def same_rows(x, y, tolerance):
    """In some order, each row of x is one of y."""
    apart = np.abs(x[:, None, :] - y[None, :, :]).max(2)
    assert apart.min(1).max() <= tolerance, (apart.min(1).max(), tolerance)
    assert len(set(apart.argmin(1))) == len(x)


def check_values(folder):
    """One batch is all the data, so only the order of its rows is not known."""
    data = make_data(folder, 64, seed=2)
    x = np.load(folder / "x64.npy").astype("f8")
    gradients = {}
    for word in "f32", "f16":
        program, saved = folder / f"v{word}", folder / f"v{word}.ckpt"
        compile_to(program, PLANTED, "--with-values", f"--precision={word}")
        run(program, *data, "--steps", 2, "--save", saved, "--quiet")
        weights = tensors(saved / "step-000002" / "model.safetensors")
        for more, file in (("--resume", saved), "resumed"), (("--values-step", "3"), "whole"):
            run(program, *data, "--steps", 3, "--values", folder / file, "--quiet", *more)
        got, whole = tensors(folder / "resumed"), tensors(folder / "whole")
        assert all(np.array_equal(got[n], whole[n]) for n in got) and len(got) == len(whole)
        first, = [t for n, t in got.items() if n.startswith("forward first gelu ")]
        want = gelu(x @ weights["first.weight"].T.astype("f8") + weights["first.bias"])
        # f16: two roundings of operands and one of the result, of sums of 16 products
        tolerance = 1e-5 if word == "f32" else 3 * 2**-11 * np.abs(want).max()
        same_rows(first, want, tolerance)
        dz, = [t for n, t in got.items() if n.startswith("backward head mul ")]
        db, = [t for n, t in got.items() if n.startswith("gradient head.bias ")]
        assert np.allclose(db, dz.astype("f8").sum(0), rtol=1e-5, atol=1e-5)
        assert np.abs(dz).max() <= 1 + 2**-10  # a cross entropy's, so without S = 2^15
        gradients[word] = db
    assert 0.5 < np.linalg.norm(gradients["f16"]) / np.linalg.norm(gradients["f32"]) < 2
    print("values: as NumPy computes them, unscaled, of the step that was asked for", flush=True)


def check_same_bits(folder, data, plain, with_values):
    """Room for every value changes none."""
    models = []
    for i, program in enumerate((plain, with_values)):
        run(program, *data, "--steps", 20, "--save", folder / f"bits{i}", "--quiet")
        models.append(tensors(folder / f"bits{i}" / "step-000020" / "model.safetensors"))
    assert models[0] and models[0].keys() == models[1].keys()
    assert all(np.array_equal(models[0][n], models[1][n]) for n in models[0])
    print("--with-values trains to the same bits", flush=True)


def check_wrong(plain, with_values, data):
    mpcc = BIN / "mpcc"
    for words, message in (
            (["compare", PLANTED, "--", *data], "two precisions are wanted: --precision=bf16,f32"),
            (["compare", "--precision=bf16", PLANTED], "two precisions are wanted"),
            (["compare", "--precision=bf16,f32,f16", PLANTED], "two precisions are wanted"),
            (["compare", "--precision=bf16,f33", PLANTED], "not: f33"),
            (["compare", "--precision=bf16,f32"], "a model file is wanted"),
            (["compare", "--precision=bf16,f32", PLANTED, "-o", "x"], "so -o, --emit"),
            (["compare", "--precision=bf16,f32", PLANTED, "--target=cuda"], "so --target has no place"),
            (["compare", "--precision=bf16,f32", PLANTED, "--", "--log", "x"], "no place: --log"),
            ([PLANTED, "--plot", "x.svg"], "a flag of another command: --plot"),
            (["run", "--json", PLANTED], "a flag of another command: --json")):
        assert message in (out := run(mpcc, *words, code=2)), out
    for words, message in ((["--values", "x"], "build the program with mpcc --with-values"),
                           (["--values-step", "2"], "--values-step needs --values"),
                           (["--beside", "x"], "--beside is of --plot")):
        assert message in (out := run(plain, *data, "--steps", 1, *words, code=2)), out
    assert "--values-step 3 is none of this run" in run(with_values, *data, "--steps", 2, "--values", "x",
                                                        "--values-step", 3, code=2)
    print("wrong command lines are refused, each by its message", flush=True)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = make_data(folder, 2048)
        check_planted(folder, data)
        check_equal(data)
        check_benign(folder, data)
        plain, with_values = compile_to(folder / "plain", PLANTED, "--precision=f16"), check_measures(folder, data)
        check_values(folder)
        check_same_bits(folder, data, plain, with_values)
        check_wrong(plain, with_values, data)


if __name__ == "__main__":
    main()
