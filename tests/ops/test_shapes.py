"""Indexing, patterns, joins and products of the language against PyTorch, evaluated in f64, with all
rows real and with two.

usage: test_shapes.py MPCC EVALTOOL MODEL
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

B, T, D, V, AT = 3, 5, 6, 7, 2
NAMES = ("scores stacked heads mixed parts joined written fixed padded rows column hot line "
         "summed multiplied three outer counted").split()


def arguments(rng, rows):
    return {
        "input.x": rng.standard_normal((rows, T, D)),
        "input.ids": rng.integers(0, V, (rows, T), dtype=np.int32),
        "input.at": np.array(AT, dtype=np.int32),
        "state.tok": rng.standard_normal((V, D)),
        "state.w": rng.standard_normal((2, D, 3)),
    }


def expected(args):
    a = {name.split(".")[1]: torch.from_numpy(value) for name, value in args.items()}
    x, w, ids = a["x"], a["w"], a["ids"].long()
    rows = x.shape[0]
    written, fixed = x.clone(), x.clone()
    written[:, AT:AT + 2] = 0.5 * x[:, :2]
    fixed[:, 1:3, 2:5] = x[:, :2, :3]
    halves = torch.stack([x[..., :3], x[..., 3:]])
    line = torch.linspace(0, 1, T, dtype=torch.float64) + torch.arange(T) + torch.arange(1, T + 1)
    return [
        x @ x.transpose(1, 2),
        x[:, None] @ w,
        x.reshape(rows, T, 2, 3).permute(0, 2, 1, 3),
        torch.einsum("btd,hdo->bhot", x, w),
        torch.cat([x[:, 1::2].flip(2), 2 * x[:, -1:]], 1),
        halves.permute(1, 2, 3, 0).reshape(rows, T, D),
        written,
        fixed,
        torch.nn.functional.pad(x, (0, 0, 1, 2)),
        a["tok"][ids],
        x[:, :, AT],
        torch.nn.functional.one_hot(ids, V).double(),
        line.expand(rows, T),
        torch.cumsum(x, 1),
        torch.cumprod(x, 2),
        torch.einsum("btd,hdo,btd->bho", x, w, x),
        torch.einsum("bt,bd->btd", x[:, :, 0], x[:, 0]),
        torch.cumsum(ids, 1).sum(1).int(),
    ]


def evaluate(mpcc, tool, model, folder, args, rows):
    for name, value in args.items():
        np.save(folder / (name + ".npy"), value)
    graph = subprocess.run([mpcc, "--emit=graph", model, "-o", "-"], check=True, capture_output=True)
    (folder / "g.ir").write_bytes(graph.stdout)
    subprocess.run([tool, folder / "g.ir", f"--in={folder}", f"--out={folder}", f"--rows={rows}",
                    "shapes", "--f64"], check=True)


def main():
    mpcc, tool, model = sys.argv[1:4]
    for rows in (B, 2):
        args = arguments(np.random.default_rng(rows), rows)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            evaluate(mpcc, tool, model, folder, args, rows)
            names = sorted(folder.glob("value.*.npy"))
            want = expected(args)
            assert len(names) == len(want), (len(names), len(want))
            for i, value in enumerate(want):
                got = np.load(folder / f"value.{NAMES[i]}.npy")[:rows]
                worst = np.max(np.abs(got - value.numpy()))
                assert got.shape == tuple(value.shape) and worst <= 1e-12, (NAMES[i], worst)
    print("ok")


if __name__ == "__main__":
    main()
