"""mpcc compare, and the values that a program built --with-values writes.

  planted      of a dozen layers one subtracts large numbers (planted.mp): its line is named
  equal        f32 beside f32 parts nowhere: every difference is 0
  measures     max, relative L2 and mean signed error are NumPy's, of the files the programs write
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
from support import BIN, compile_to, read_safetensors, run


def compare(precision, data, *flags, steps=60):
    return json.loads(run(BIN / "mpcc", "compare", PLANTED, f"--precision={precision}", "--json",
                          *flags, "--", *data, "--steps", steps, "--threads", 2))


def tensors(path):
    return {name: np.frombuffer(raw, "f4").reshape(shape)
            for name, (dtype, shape, raw) in read_safetensors(path).items() if dtype == "F32"}


def check_planted(folder, data):
    picture = folder / "both.svg"
    for precision in "bf16", "fp8(current)":
        c = compare(f"{precision},f32", data, "--plot", picture)
        part = c["part"]
        assert (part["line"], part["op"], part["path"]) == (line_of("h - mean(h"), "sub", "centre"), part
        others = [v["grown"] for v in c["values"]
                  if v["phase"] == "forward" and v["line"] != part["line"]]
        assert part["grown"] > 10 * max(others), (part, max(others))
        assert len(c["losses"]) == 60 and c["losses"][0][0] == 1
    text = run(BIN / "mpcc", "compare", PLANTED, "--precision=bf16,f32", "--", *data, "--steps", 2)
    assert text.splitlines()[-1].startswith(f"they part at {part['line']}, sub of centre: "), text
    svg = ET.parse(picture).getroot()
    lines = {e.get("class"): e.get("points").split() for e in svg.iter() if e.tag.endswith("polyline")}
    labels = [e.text for e in svg.iter() if e.tag.endswith("text")]
    assert len(lines["train"]) == len(lines["train other"]) == 60
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


def stem(name):
    return name.rsplit(" ", 1)[0]


def check_measures(folder, data):
    """The same runs by hand.  Returns the program that trains in bf16."""
    c, files, programs = compare("bf16,f32", data), {}, {}
    assert len(c["values"]) > 60
    for word in "bf16", "f32":
        programs[word] = compile_to(folder / word, PLANTED, "--with-values", f"--precision={word}")
        run(programs[word], *data, "--steps", 60, "--values", folder / f"{word}.safetensors", "--save",
            folder / f"{word}.ckpt", "--quiet", "--threads", 1)
        files[word] = tensors(folder / f"{word}.safetensors")
        model = tensors(folder / f"{word}.ckpt" / "step-000060" / "model.safetensors")
        files[word].update({f"weight {n} - - #0 F32": t for n, t in model.items()})
    wide = {stem(n): t.astype("f8") for n, t in files["f32"].items()}
    for v in c["values"]:
        name = f"{v['phase']} {v['path']} {v['op']} {v['line']} #{v['number']}"
        x = files["bf16"][f"{name} {v['stored'][0]}"].astype("f8")
        d = x - wide[name]
        norm = np.linalg.norm(wide[name])
        for got, want in ((v["max"], abs(d).max()), (v["mean"], d.mean()),
                          (v["relative_l2"], np.linalg.norm(d) / norm if norm else 0)):
            assert math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-12), (name, got, want)
    print(f"measures: {len(c['values'])} pairs as NumPy has them", flush=True)
    return programs["bf16"]


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


def check_wrong(plain, data):
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
    print("wrong command lines are refused, each by its message", flush=True)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = make_data(folder, 2048)
        check_planted(folder, data)
        check_equal(data)
        plain, with_values = compile_to(folder / "plain", PLANTED), check_measures(folder, data)
        check_values(folder)
        check_same_bits(folder, data, plain, with_values)
        check_wrong(plain, data)


if __name__ == "__main__":
    main()
