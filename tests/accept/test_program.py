"""The training program from the outside: data of every format, resuming, loading, infer, pictures.

  formats      one data set as IDX, NPY, CSV, safetensors and raw bytes trains to the same bits
  windows      token windows of u8, u16, u32; lanes go on where they ended
  split        the last rows are held out, and eval sees those alone
  resume       from every step of a run of 50: the same bits; without any one field of the state: not
  policy       another precision's checkpoint: said, and gone on with; refused under --resume-exact
  weights      f32, f16, bf16, transposed and renamed ones of other tools; ours read back exactly.
               MPCC_LONG=1: by the package `safetensors` of PyPI too
  infer        results of a function over a file, against NumPy
  log          formulas are of totals; the picture is XML; TensorBoard's records have right checksums
"""
import functools
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import numpy as np

import support
from support import BIN, LONG, compile_to, idx_bytes, read_safetensors

ROWS = 103
run = functools.partial(support.run, stderr=subprocess.STDOUT)

MODEL = """version 1
config d = 8
model Net {
  w: param[3, d] = normal(0, 0.3)
  v: param[d] = normal(0, 0.3)
  fn f [B](x: f32[B, 3]) -> [B] = sum(tanh(x @ w) * v, axis: 1)
}
train Net {
  batch B = 8
  data {
    x: f32[B, 3]
    y: f32[B]
  } SPLIT
  steps 50
  loss (f(x) - y)^2
  metric bound = y^2 + 1
  metric rms = sqrt(loss)
  metric ratio = loss / bound
  optimizer adamw(lr: linear(1e-2, to: 0))
}
infer Net {
  batch B = 16
  fn predict(x: f32[B, 3]) -> [B] = f(x)
}
"""


def build(folder, name, split=""):
    path = folder / f"{name}.mp"
    path.write_text(MODEL.replace("SPLIT", split))
    return compile_to(folder / name, path)


def data(rows=ROWS):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    return x, np.sin(x[:, 0]) - x[:, 1] * x[:, 2]


def write_safetensors(path, tensors, notes=None):
    """Independent of the runtime's writer: name -> (dtype, shape, bytes)."""
    head, at = {"__metadata__": notes} if notes else {}, 0
    for name, (dtype, shape, raw) in tensors.items():
        head[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t[2] for t in tensors.values()))


def last_checkpoint(folder):
    return sorted(p for p in folder.iterdir() if p.name.startswith("step-"))[-1]


def same(a, b):
    return all((a / f).read_bytes() == (b / f).read_bytes()
               for f in ("model.safetensors", "state.safetensors"))


# ---- formats -------------------------------------------------------------------------------------


def npy(path, array, version, big=False):
    with open(path, "wb") as f:
        np.lib.format.write_array(f, array.astype(array.dtype.newbyteorder(">" if big else "<")),
                                  version)


def check_formats(folder, program):
    x, y = data()
    y = y.astype(np.float32)
    files = {}
    for name, array in (("x", x), ("y", y)):
        (folder / f"{name}.idx").write_bytes(idx_bytes(array))
        npy(folder / f"{name}.npy", array, (1, 0))
        npy(folder / f"{name}-2.npy", array, (2, 0), big=True)
        npy(folder / f"{name}-3", array, (3, 0))  # by its magic, without a suffix
        (folder / f"{name}.bin").write_bytes(array.astype("<f4").tobytes())
    for kind in ".idx", ".npy", "-2.npy", "-3", ".bin":
        files[kind] = ["--data", f"x={folder}/x{kind}", "--data", f"y={folder}/y{kind}"]
    write_safetensors(folder / "both.safetensors", {
        "y": ("F32", y.shape, y.tobytes()), "x": ("F32", x.shape, x.tobytes())})
    files["both.safetensors"] = ["--data", folder / "both.safetensors"]  # by its keys
    lines = ["id,y,comment"] + [f'{i},{v!r},"a ""b"", c"' for i, v in enumerate(map(float, y))]
    (folder / "y.csv").write_text("\r\n".join(lines))
    files[".csv"] = ["--data", f"x={folder}/x.npy", "--data", folder / "y.csv"]  # by its header
    ends = {}
    for kind, flags in files.items():
        save = folder / ("save" + kind.replace(".", "-"))
        run(program, *flags, "--quiet", "--save", save)
        ends[kind] = last_checkpoint(save)
    for kind, end in ends.items():
        assert same(end, ends[".idx"]), f"{kind} trains to other bits"
    print(len(files), "formats: the same bits", flush=True)
    return files[".npy"]


def check_split(folder, flags):
    program = build(folder, "split", "split(last, 0.1)")
    out = run(program, *flags, "--quiet", "--save", folder / "split-save")
    assert "(10 rows)" in out, out
    x, y = data()
    net = read_safetensors(last_checkpoint(folder / "split-save") / "model.safetensors")
    loss = np.mean((forward(net, x[-10:]) - y[-10:]) ** 2)
    again = run(program, "eval", "--resume", folder / "split-save", *flags)
    assert again == out, (again, out)
    found = float(again.split("loss ")[1].split()[0])
    assert abs(found - loss) <= 1e-3 * loss + 5e-5, (found, loss)
    print(f"held out: 10 rows, loss {found} as NumPy has it", flush=True)


# ---- windows -------------------------------------------------------------------------------------

TOKENS = """version 1
config T = 4
model M {
  w: param[T] = zeros()
  fn f [B](t: f32[B, T]) -> [B] = sum(t * w, axis: 1)
}
train M {
  batch B = 4
  data {
    text: TYPE[_]
    tokens, targets = windows(text, T)
  } split(last, 0.25)
  epochs 1
  loss (f(f32(tokens)) - 1)^2
  metric first = f32(tokens[:, 0])
  metric last = f32(targets[:, T - 1])
  optimizer sgd(lr: 1e-9)
}
"""


def build_tokens(folder, name, kind, lanes=False):
    text = TOKENS.replace("TYPE", kind)
    if lanes:
        text = text.replace("targets = windows", "targets, fresh = lanes")
        text = text.replace("  metric first", "  metric start = fresh\n  metric first")
    path = folder / f"{name}.mp"
    path.write_text(text)
    return compile_to(folder / name, path)


def run_tokens(folder, program, file):
    log = folder / "tokens.log"
    run(program, "--data", file, "--quiet", "--log", log)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if "eval" not in line], lines[-1]


def check_kind(folder, rows, kind, file):
    """59 windows of 4 tokens; the last 14 are held out, the others are 11 batches of 4 and 1."""
    steps, last = run_tokens(folder, build_tokens(folder, kind, kind), file)
    assert len(steps) == 12 and last["rows"] == 14, (len(steps), last)
    sums = [sum(s[n] * (4 if s["step"] < 12 else 1) for s in steps) for n in ("first", "last")]
    assert np.allclose(sums, [rows[:45, 0].sum(), (rows[:45, 3] + 1).sum()], rtol=1e-6), sums
    assert math.isclose(last["first"], rows[45:, 0].mean(), rel_tol=1e-6), last
    order = [s["first"] for s in steps]
    assert order != sorted(order), "not shuffled"


def check_lanes(folder, rows, file):
    """44 of the 45 windows in 4 stretches of 11, 12 of the 14 that are held out in 4 of 3."""
    steps, last = run_tokens(folder, build_tokens(folder, "lanes", "u16", True), file)
    lanes, held = rows[:44].reshape(4, 11, 4), rows[45:57].reshape(4, 3, 4)
    assert [s["first"] for s in steps] == [lanes[:, i, 0].mean() for i in range(11)], steps
    assert [s["start"] for s in steps] == [1] + [0] * 10, steps
    assert last["rows"] == 12 and math.isclose(last["first"], held[:, :, 0].mean()), last
    assert math.isclose(last["start"], 1 / 3, rel_tol=1e-6), last


def check_windows(folder):
    tokens = np.arange(240) + 5
    rows = tokens[:236].reshape(59, 4)
    (folder / "bytes.txt").write_bytes(tokens.astype("u1").tobytes())
    (folder / "tokens.bin").write_bytes(tokens.astype("<u2").tobytes())
    np.save(folder / "tokens.npy", tokens.astype("<u4"))
    check_kind(folder, rows, "u8", folder / "bytes.txt")
    check_kind(folder, rows, "u16", folder / "tokens.bin")
    check_kind(folder, rows, "u32", folder / "tokens.npy")
    check_lanes(folder, rows, folder / "tokens.bin")
    out = run(folder / "u16", "--data", folder / "bytes.txt", "--quiet")  # 120 tokens, 29 windows
    assert "(7 rows)" in out, out
    for size, words in (241, "its 241 bytes are not whole elements of 2 (u16[n])"), \
            (8, "has 4 elements; a window of 4 needs 5"):
        (folder / "wrong.bin").write_bytes(bytes(size))
        out = run(folder / "u16", "--data", folder / "wrong.bin", code=1)
        assert words in out, out
    print("windows of u8, u16, u32, held out and shuffled; lanes in their order", flush=True)


# ---- resuming ------------------------------------------------------------------------------------


def parts(path):
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8:8 + n]), raw[8 + n:]


def without(path, field):
    """The file with one tensor or one of its notes taken away, every checksum right."""
    head, raw = parts(path)
    notes = head.pop("__metadata__")
    tensors = {k: (t["dtype"], t["shape"], raw[slice(*t["data_offsets"])])
               for k, t in sorted(head.items(), key=lambda i: i[1]["data_offsets"])}
    tensors.pop(field, None)
    notes.pop(field, None)
    notes = {k: v for k, v in notes.items() if not k.startswith("crc32")}
    notes["crc32"] = "0" * 8
    notes |= {"crc32:" + k: f"{zlib.crc32(t[2]):08x}" for k, t in tensors.items()}
    write_safetensors(path, tensors, notes)
    n = struct.unpack("<Q", path.read_bytes()[:8])[0]
    crc = f"{zlib.crc32(path.read_bytes()[:8 + n]):08x}"
    path.write_bytes(path.read_bytes().replace(b'"crc32": "00000000"', f'"crc32": "{crc}"'.encode()))


def fields_of(checkpoint):
    plain = {"part", "model", "source_hash", "compiler", "precision", "policy", "manifest", "mpcc",
             "hyper:steps"}  # total_steps again, as the hyperparameter that schedules see
    for name in "model.safetensors", "state.safetensors":
        head, _ = parts(checkpoint / name)
        notes = head.pop("__metadata__")
        for field in [*head, *notes]:
            if field not in plain and not field.startswith("crc32"):
                yield name, field


# Layers enough for one in fp8: its slots and a scaler's counters are fields, too.
DEEP = (MODEL.replace("  fn f", "  u: param[d, d] = normal(0, 0.3)\n  t: param[d, d] = normal(0, 0.3)\n  fn f")
        .replace("tanh(x @ w)", "tanh(tanh(tanh(x @ w) @ u) @ t)").replace(" SPLIT", "")
        .replace("  optimizer", "  precision fp8(delayed, history: 4) scale(dynamic, interval: 3)\n  optimizer"))


def check_resume(folder, flags):
    save, again, model = folder / "deep.whole", folder / "again", folder / "deep.mp"
    model.write_text(DEEP)
    program = compile_to(folder / "deep", model)
    run(program, *flags, "--quiet", "--save", save, "--every", 1, "--keep", 99, "--seed", 5,
        "--set", "lr=0.015")
    end = last_checkpoint(save)
    assert end.name == "step-000050"
    for step in range(1, 50):
        shutil.rmtree(again, ignore_errors=True)
        run(program, *flags, "--quiet", "--resume", save / f"step-{step:06}", "--save", again,
            "--threads", 1 + step % 3)
        assert same(last_checkpoint(again), end), f"resumed from step {step}: other bits"
    fields, refused = list(fields_of(save / "step-000020")), 0
    assert {"u:fp8.dy.history", "calibrated", "scale"} <= {field for _, field in fields}
    for name, field in fields:
        shutil.rmtree(again, ignore_errors=True)
        spoiled = folder / "spoiled"
        shutil.rmtree(spoiled, ignore_errors=True)
        shutil.copytree(save / "step-000020", spoiled)
        without(spoiled / name, field)
        done = subprocess.run([program, *map(str, flags), "--quiet", "--resume", spoiled, "--save",
                               again], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        refused += done.returncode != 0
        assert done.returncode or not same(last_checkpoint(again), end), f"{field} is not missed"
    print(f"resumed from 49 steps; {len(fields)} fields missed, {refused} by name", flush=True)


# ---- weights -------------------------------------------------------------------------------------


def check_policy(folder, program, flags):
    save, model = folder / "policy", folder / "net.mp"
    low = compile_to(folder / "low", model, "--precision=bf16")
    run(program, *flags, "--quiet", "--save", save, "--steps", 5)
    exact = ["--resume", save, "--resume-exact", "--steps"]
    assert "another precision policy" not in run(program, *flags, *exact, 6)
    assert "another precision policy" in run(low, *flags, *exact, 6, code=1)
    said = run(low, *flags, "--resume", save, "--save", save, "--steps", 6)
    assert said.count("was computed under another precision policy: f32 ") == 1, said
    assert "another precision policy" in run(program, *flags, *exact, 7, code=1)
    check_differences(folder, model, said)
    scaled = compile_to(folder / "scaled", model, "--precision=fp8(current)")
    said = run(scaled, *flags, "--resume", save, "--steps", 7).splitlines()
    assert sum("note:   recipe fp8(current); here alone" in line for line in said) == 1, said
    assert not any("recipe fp8(current):" in line for line in said), said
    without(last_checkpoint(save) / "state.safetensors", "manifest")  # as older ones are
    said = run(program, *flags, "--resume", save, "--steps", 7)
    assert "another precision policy" in said and "note:   " not in said, said
    print("policy: said op by op; refused under --resume-exact", flush=True)


def manifest_of(folder, model, *flags):
    """Op -> triple."""
    compile_to(folder / "manifest.o", model, f"--precision-manifest={folder}/manifest", *flags)
    lines = [line.split(": ", 2) for line in (folder / "manifest").read_text().splitlines()]
    assert all(len(line) == 3 for line in lines)
    assert len({line[0] for line in lines}) == len(lines)
    return {name: triple for name, triple, _ in lines}


def check_differences(folder, model, said):
    was, here = manifest_of(folder, model), manifest_of(folder, model, "--precision=bf16")
    want = [f"{op}: {was[op]}; " + (f"here {here[op]}" if op in here else "not here")
            for op in was if was[op] != here.get(op)]
    want += [f"{op}: {here[op]}; here alone" for op in here if op not in was]
    got = re.findall(r"note:   (.*)", said)
    assert got[:12] == want[:12] and len(want) > 3, (got, want)
    more = [f"and {len(want) - 12} ops more: mpcc --precision-manifest writes all"]
    assert got[12:] == (more if len(want) > 12 else []), got


def bf16(array):
    return (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def check_weights(folder, program, flags):
    rng = np.random.default_rng(7)
    w, v = rng.normal(size=(3, 8)).astype(np.float32), rng.normal(size=8).astype(np.float32)
    exact = {"w": w.astype(np.float16).astype(np.float32),
             "v": (bf16(v).astype(np.uint32) << 16).view(np.float32)}
    write_safetensors(folder / "other.safetensors", {
        "h.0.weight": ("F16", (8, 3), w.astype(np.float16).T.tobytes()),
        "head": ("BF16", (8,), bf16(v).tobytes()), "unused": ("I64", (1,), bytes(8))})
    load = ["--load", folder / "other.safetensors", "--map", "h.0.weight -> w transpose", "--map",
            "head -> v"]
    run(program, *flags, *load, "--quiet", "--steps", 1, "--set", "lr=0",
        "--save", folder / "loaded")
    found = read_safetensors(last_checkpoint(folder / "loaded") / "model.safetensors")
    for name, want in exact.items():
        dtype, shape, raw = found[name]
        assert dtype == "F32" and shape == want.shape and raw == want.tobytes(), name
    out = run(program, *flags, "--load", folder / "other.safetensors", "--only", "w", code=1)
    assert "'w' is missing" in out, out
    print("weights of other tools: f16 and bf16, renamed, transposed: exact", flush=True)


def check_package(folder, program, flags):
    """Our file read by the package, and the package's read by us, exactly."""
    venv = folder / "venv"
    run(sys.executable, "-m", "venv", "--system-site-packages", venv)
    run(venv / "bin/pip", "install", "-q", "safetensors")
    ours, theirs = last_checkpoint(folder / "whole") / "model.safetensors", folder / "theirs.safetensors"
    run(venv / "bin/python", "-c", "import sys; from safetensors.numpy import load_file, save_file\n"
        "t = load_file(sys.argv[1]); save_file(t, sys.argv[2])", ours, theirs)
    assert read_safetensors(ours) == read_safetensors(theirs)
    run(program, *flags, "--load", theirs, "--quiet", "--steps", 1, "--set", "lr=0",
        "--save", folder / "back")
    back = read_safetensors(last_checkpoint(folder / "back") / "model.safetensors")
    assert back == read_safetensors(ours), "not the same after the way through the package"
    print("safetensors of PyPI: read and written exactly", flush=True)


# ---- infer ---------------------------------------------------------------------------------------


def forward(net, x):
    w = np.frombuffer(net["w"][2], np.float32).reshape(net["w"][1]).astype(np.float64)
    v = np.frombuffer(net["v"][2], np.float32).astype(np.float64)
    return np.tanh(x @ w) @ v


def check_infer(folder, program):
    x, _ = data()
    save = folder / "whole"
    run(program, "infer", "predict", "--resume", save, "--input", f"x={folder}/x.npy", "--output",
        folder / "p.npy")
    found = np.load(folder / "p.npy")
    want = forward(read_safetensors(last_checkpoint(save) / "model.safetensors"), x)
    assert found.shape == (ROWS,) and found.dtype == np.float32
    assert np.abs(found - want).max() <= 1e-5, "infer is not what NumPy computes"
    print("infer over 103 rows in batches of 16: as NumPy has it", flush=True)


# ---- logs and pictures ---------------------------------------------------------------------------


def crc32c(raw):
    crc = 0xFFFFFFFF
    for byte in raw:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(raw):
    crc = crc32c(raw)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(raw):
    while raw:
        n, = struct.unpack("<Q", raw[:8])
        length_crc, = struct.unpack("<I", raw[8:12])
        body_crc, = struct.unpack("<I", raw[12 + n:16 + n])
        assert length_crc == masked(raw[:8]) and body_crc == masked(raw[12:12 + n]), "bad checksum"
        yield raw[12:12 + n]
        raw = raw[16 + n:]


def fields(raw):
    """(field, value) of a protobuf message."""
    def varint(i):
        value = shift = 0
        while True:
            value |= (raw[i] & 0x7F) << shift
            i, shift = i + 1, shift + 7
            if raw[i - 1] < 0x80:
                return value, i
    i = 0
    while i < len(raw):
        key, i = varint(i)
        kind = key & 7
        if kind == 0:
            value, i = varint(i)
        elif kind == 2:
            n, i = varint(i)
            value, i = raw[i:i + n], i + n
        else:
            n = {1: 8, 5: 4}[kind]
            value, i = struct.unpack("<d" if n == 8 else "<f", raw[i:i + n])[0], i + n
        yield key >> 3, value


def scalars(path):
    first, *rest = records(path.read_bytes())
    assert dict(fields(first))[3] == b"brain.Event:2"
    for event in map(dict, map(fields, rest)):
        for _, value in fields(event[5]):
            value = dict(fields(value))
            yield value[1].decode(), event[2], value[2]


def check_log(folder, flags):
    assert crc32c(b"123456789") == 0xE3069283
    program, log, tb = folder / "split", folder / "log", folder / "tb"
    run(program, *flags, "--quiet", "--log", log, "--plot", folder / "loss.svg", "--tensorboard", tb,
        "--eval-every", 10)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [line for line in lines if "eval" not in line]
    evals = [line for line in lines if "eval" in line]
    assert [s["step"] for s in steps] == list(range(1, 51))
    assert [e["step"] for e in evals] == [10, 20, 30, 40, 50]
    for line in lines:
        assert math.isclose(line["rms"], math.sqrt(line["loss"]), rel_tol=1e-6), line
        assert math.isclose(line["ratio"], line["loss"] / line["bound"], rel_tol=1e-6), line
    for s in steps:  # step n uses the rate of n - 1 steps done
        assert math.isclose(s["lr"], 1e-2 * (1 - (s["step"] - 1) / 50), rel_tol=1e-5), s
    svg = ET.parse(folder / "loss.svg").getroot()
    line = {e.get("class"): e.get("points") for e in svg.iter() if e.tag.endswith("polyline")}
    assert len(line["train"].split()) == 50 and len(line["eval"].split()) == 5, line
    assert not [p for p in folder.iterdir() if ".svg.tmp" in p.name]
    file, = tb.iterdir()
    found = {(tag, step): value for tag, step, value in scalars(file)}
    for group, of in ("train", steps), ("eval", evals):
        for line in of:  # one has nine digits, the other is f32
            for n in {"loss", "rms", "lr"} & line.keys():
                assert math.isclose(line[n], found[f"{group}/{n}", line["step"]], rel_tol=2e-7), n
    print(f"log, picture, {len(found)} scalars of TensorBoard agree", flush=True)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = build(folder, "net")
        flags = check_formats(folder, program)
        check_split(folder, flags)
        check_windows(folder)
        check_resume(folder, flags)
        run(program, *flags, "--quiet", "--save", folder / "whole", "--seed", 5)
        check_policy(folder, program, flags)
        check_weights(folder, program, flags)
        check_infer(folder, program)
        check_log(folder, flags)
        if LONG:
            check_package(folder, program, flags)


if __name__ == "__main__":
    main()
