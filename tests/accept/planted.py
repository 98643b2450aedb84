"""What the tests around planted.mp share: the program, one of whose dozen layers loses its digits in low
precision, data for it, the line of some words.
"""
from pathlib import Path

import numpy as np

PLANTED = Path(__file__).with_name("planted.mp")


def make_data(folder, rows, seed=1):
    """Flags that name the files x{rows}.npy and y{rows}.npy."""
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((rows, 16)).astype("f4"), rng.standard_normal((16, 4))
    noise = 0.3 * rng.standard_normal((rows, 4))
    np.save(folder / f"x{rows}.npy", x)
    np.save(folder / f"y{rows}.npy", np.argmax(np.tanh(x @ w) + noise, 1).astype("u1"))
    return "--data", f"x={folder}/x{rows}.npy", "--data", f"y={folder}/y{rows}.npy"


def line_of(words, model=PLANTED):
    """file:line, as messages have it, of the one line that holds the words."""
    found, = [i for i, text in enumerate(model.read_text().splitlines(), 1) if words in text]
    return f"{model.name}:{found}"
