"""What the acceptance tests share: tools and data, the evaluator behind files, comparisons.

A test is called as `test_x.py BIN`, BIN the folder of mpcc and evaltool.  It prints what it
measured and ends with an exception, or with skip() where something that it needs is missing.
"""
import gzip
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MLP = ROOT / "examples" / "mlp.mp"
FASHION = Path("/usr/share/datasets/fashion-mnist")
LONG = os.environ.get("MPCC_LONG") == "1"
BIN = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "build" / "release" / "bin"

# The layer that models of the tests are made of, for str.format: its lines are the model file's own.
LINEAR = """module Linear(i: int, o: int) {{
  weight: param[o, i] = he_uniform()
  bias: param[o] = zeros()
  fn (x) = x @ transpose(weight) + bias
}}
"""


def skip(why):
    print("SKIPPED:", why)
    sys.exit(77)


def fashion_mnist():
    """Name -> file, of the Debian package."""
    files = {"images": "train-images-idx3-ubyte.gz", "labels": "train-labels-idx1-ubyte.gz",
             "test_images": "t10k-images-idx3-ubyte.gz", "test_labels": "t10k-labels-idx1-ubyte.gz"}
    if not FASHION.is_dir():
        skip(f"{FASHION} is missing (Debian: dataset-fashion-mnist)")
    return {name: FASHION / file for name, file in files.items()}


def cpu_has(*flags):
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return set(flags) <= set(re.findall(r"\w+", text))


def levels():
    """-mcpu values that this machine runs; says which are left out."""
    if os.uname().machine not in ("x86_64", "amd64"):
        return ["armv8-a", "native"]
    v4 = cpu_has("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
    if not v4:
        print("left out: -mcpu=x86-64-v4 (this CPU lacks AVX-512)")
    dots = v4 and cpu_has("avx512_bf16")
    if not dots:
        print("left out: -mcpu=x86-64-v4+avx512bf16 (this CPU lacks AVX512-BF16)")
    return (["x86-64-v3"] + ["x86-64-v4"] * v4 + ["x86-64-v4+avx512bf16"] * dots + ["native"])


def builds():
    """(level, -O): each at -O3, and at -O0 but for native, which has the instructions of a level before it
    and schedules them otherwise: -O0 does not."""
    return [(level, opt) for level in levels() for opt in ("-O0", "-O3") if (level, opt) != ("native", "-O0")]


# ---- compiling -----------------------------------------------------------------------------------


def mpcc(*args, **more):
    command = [str(BIN / "mpcc"), *map(str, args)]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, **more).stdout


def emit(stage, model, *flags):
    return mpcc(f"--emit={stage}", *flags, model)


def compile_to(output, model, *flags, halves=False):
    """A library's symbol is named for its file, where mpcc_model looks for it.  Without a word about
    levels it holds this machine's best alone, which takes half the time."""
    named = [f"--name={output.stem}"] if output.suffix == ".so" else []
    whole = ["--no-halves"] if output.suffix == ".so" and not halves else []
    levels_named = any(f.startswith(("-mcpu", "--multiversion")) for f in map(str, flags))
    mpcc("-o", output, *named, *whole, *([] if levels_named else ["-mcpu=native"]), *flags, model)
    return output


def with_optimizer(folder, name, optimizer):
    """examples/mlp.mp with another optimizer."""
    text, n = re.subn(r"optimizer \w+\(.*\)", "optimizer " + optimizer, MLP.read_text())
    assert n == 1, "examples/mlp.mp has no optimizer line"
    path = folder / (name + ".mp")
    path.write_text(text)
    return path


# ---- running -------------------------------------------------------------------------------------


def run(*command, code=0, stderr=subprocess.PIPE, **more):
    """What a command that ends with `code` says; where that is an error, also on stderr."""
    done = subprocess.run(list(map(str, command)), text=True, stdout=subprocess.PIPE, stderr=stderr, **more)
    assert done.returncode == code, (command, done.returncode, done.stdout, done.stderr)
    return done.stdout + (done.stderr or "") if code else done.stdout


# ---- the evaluator -------------------------------------------------------------------------------


class Evaluator:
    """Entries of IR text on arguments and states that stay from run to run, by evaltool."""

    def __init__(self, text, f64=False, seed=0):
        self.temp = tempfile.TemporaryDirectory()
        self.folder = Path(self.temp.name)
        self.flags = ["--f64"] * f64 + [f"--seed={seed}"]
        (self.folder / "graph.ir").write_text(text)

    def set(self, role, name, value):
        np.save(self.folder / f"{role}.{name}.npy", value)

    def get(self, role, name):
        return np.load(self.folder / f"{role}.{name}.npy")

    def run(self, *entries, rows=0, **inputs):
        """Results of the last entry: (role, name) -> array."""
        for name, array in inputs.items():
            self.set("input", name, array)
        with tempfile.TemporaryDirectory() as out:
            subprocess.run([BIN / "evaltool", self.folder / "graph.ir", f"--in={self.folder}",
                            f"--out={out}", f"--rows={rows}", *self.flags, *entries], check=True)
            found = {}
            for path in Path(out).iterdir():
                role, _, name = path.name[:-len(".npy")].partition(".")
                found[role, name] = np.load(path)
                if role == "state":
                    self.set(role, name, found[role, name])
        return found


# ---- comparing -----------------------------------------------------------------------------------


def round_bf16(x):
    """f32 -> the nearest bf16, ties to even, as f32; a NaN stays one."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    low = (bits.astype(np.int64) + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return np.where(np.isnan(x), np.float32(np.nan), low.astype(np.uint32).view(np.float32))


def far(got, want, tolerance):
    """None, or how far got is from want by either norm.  What is not finite is far."""
    if got.shape != want.shape:
        return f"shape {got.shape}, expected {want.shape}"
    if not np.isfinite(want).all():  # inf <= tolerance * inf
        return "the expected value is not finite"
    diff = (got.astype(np.float64) - want).ravel()
    for name, order in ("2", 2), ("inf", np.inf):
        error, size = np.linalg.norm(diff, order), np.linalg.norm(np.ravel(want), order)
        if not error <= tolerance * size:
            return f"norm {name}: {error:.3g} off, of {size:.3g}: more than {tolerance:.0e}"
    return None


def distance(got, want):
    """The worse of both relative norms, to report."""
    diff, want = (got.astype(np.float64) - want).ravel(), np.ravel(want).astype(np.float64)
    sizes = [(np.linalg.norm(diff, n), np.linalg.norm(want, n)) for n in (2, np.inf)]
    return max(error / size if size else error for error, size in sizes)


def check_far_sees_nan():
    one = np.ones(3)
    assert far(one, one, 0) is None
    for bad in np.array([1, np.nan, 1]), np.array([1, np.inf, 1]), one[:2], one + 1e-3:
        assert far(bad, one, 1e-5), "the comparison passes on what it must refuse"
        assert far(one, bad, 1e-5), "and so the other way round"


def same_bits(got, want):
    """None, or the first place where the bits differ.  Any NaN equals any NaN."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype}{got.shape}, expected {want.dtype}{want.shape}"
    a, b = got.ravel(), want.ravel()
    bits = f"u{a.dtype.itemsize}"
    differs = a.view(bits) != b.view(bits)
    if a.dtype.kind == "f":
        differs &= ~(np.isnan(a) & np.isnan(b))
    if not differs.any():
        return None
    i = int(np.argmax(differs))
    return f"{differs.sum()} of {a.size} differ, first at {i}: {a[i]!r}, expected {b[i]!r}"


def check_same_bits_sees():
    one = np.array([1, np.nan, 0], np.float32)
    assert same_bits(one, one.copy()) is None
    for i, other in (0, np.nextafter(np.float32(1), np.float32(2))), (2, -0.0), (2, np.nan):
        changed = one.copy()
        changed[i] = other
        assert same_bits(changed, one), "the comparison passes on what it must refuse"


# ---- data ----------------------------------------------------------------------------------------

IDX_CODES = {np.dtype("u1"): 8, np.dtype("i1"): 9, np.dtype("i2"): 11, np.dtype("i4"): 12,
             np.dtype("f4"): 13, np.dtype("f8"): 14}


def idx_bytes(array):
    head = struct.pack(f">HBB{array.ndim}I", 0, IDX_CODES[array.dtype], array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def read_idx(path):
    raw = gzip.decompress(Path(path).read_bytes())
    assert raw[:3] == b"\0\0\x08"
    dims = struct.unpack(f">{raw[3]}I", raw[4:4 + 4 * raw[3]])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(dims)


def images_like(rng, rows):
    """Images and labels that can be learned: a block of each class is brighter."""
    labels = rng.integers(0, 10, rows, dtype=np.uint8)
    images = rng.integers(0, 160, (rows, 28, 28), dtype=np.uint8)
    for i, label in enumerate(labels):
        images[i, 2 * label:2 * label + 8, 4:20] += 95
    return images, labels


def safetensors_head(raw):
    """The header, and where the tensors' bytes begin."""
    n = 8 + struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8:n]), n


def read_safetensors(path):
    """Name -> (dtype, shape, bytes)."""
    raw = Path(path).read_bytes()
    head, start = safetensors_head(raw)
    head.pop("__metadata__", None)
    data = raw[start:]
    return {name: (t["dtype"], tuple(t["shape"]), data[slice(*t["data_offsets"])])
            for name, t in head.items()}


def read_notes(path):
    """The strings beside the tensors, by key."""
    return safetensors_head(Path(path).read_bytes())[0]["__metadata__"]
