"""The evaluator against PyTorch through evaltool: an MLP's forward pass, loss and metric in f64.

usage: test_evaltool.py EVALTOOL
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

GRAPH = """graph "mlp"
state param "w" : f32[16,20]
state param "b" : f32[16]
state param "v" : f32[10,16]
entry @eval eval batch 6 (
  %x: u8[rows 6,20] = input "images",
  %t: i32[rows 6] = input "labels",
  %w: f32[16,20] = state "w",
  %b: f32[16] = state "b",
  %v: f32[10,16] = state "v"
) {
  %s = cast %x : f32[rows 6,20]
  %k = constant {value=0.00392156862745098} : f32[]
  %l = broadcast %k {axes=[]} : f32[rows 6,20]
  %n = mul %s, %l : f32[rows 6,20]
  %h = matmul %n, %w {tb, k_chunk=256} : f32[rows 6,16]
  %c = broadcast %b {axes=[1]} : f32[rows 6,16]
  %d = add %h, %c : f32[rows 6,16]
  %r = relu %d : f32[rows 6,16]
  %z = matmul %r, %v {tb, k_chunk=256} : f32[rows 6,10]
  %e = cross_entropy %z, %t : f32[rows 6]
  %f = sum %e {axes=[0]} : f32[]
  %a = argmax %z : i32[rows 6]
  %g = eq %a, %t : i1[rows 6]
  %i = cast %g : f32[rows 6]
  %j = sum %i {axes=[0]} : f32[]
  %p = softmax %z : f32[rows 6,10]
  return
    metric "accuracy" = %j,
    value "loss" = %f,
    value "p" = %p
}
"""
ROWS = 4


def arguments(rng):
    return {
        "input.images": rng.integers(0, 256, (ROWS, 20), dtype=np.uint8),
        "input.labels": rng.integers(0, 10, ROWS, dtype=np.int32),
        "state.w": rng.standard_normal((16, 20)),
        "state.b": rng.standard_normal(16),
        "state.v": rng.standard_normal((10, 16)),
    }


def expected(args):
    a = {name: torch.from_numpy(value) for name, value in args.items()}
    h = torch.relu(a["input.images"].double() / 255 @ a["state.w"].T + a["state.b"])
    z = h @ a["state.v"].T
    labels = a["input.labels"].long()
    return {
        "value.loss": torch.nn.functional.cross_entropy(z, labels, reduction="sum").numpy(),
        "metric.accuracy": (z.argmax(1) == labels).sum().double().numpy(),
        "value.p": torch.softmax(z, 1).numpy(),
    }


def run(tool, folder, args, mode):
    for name, value in args.items():
        np.save(folder / (name + ".npy"), value)
    (folder / "g.ir").write_text(GRAPH)
    subprocess.run([tool, folder / "g.ir", f"--in={folder}", f"--out={folder}", f"--rows={ROWS}",
                    "eval"] + mode, check=True)


def main():
    args = arguments(np.random.default_rng(1))
    want = expected(args)
    for mode, kind, tolerance in ([["--f64"], np.float64, 1e-13], [[], np.float32, 2e-6]):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            run(sys.argv[1], folder, args, mode)
            for result, value in want.items():
                got = np.load(folder / (result + ".npy"))
                assert got.dtype == kind, (result, got.dtype)
                got = got[:ROWS] if got.ndim else got
                worst = np.max(np.abs(got - value)) / np.max(np.abs(value))
                assert worst <= tolerance, (mode, result, worst)
    print("ok")


if __name__ == "__main__":
    main()
