"""A run in f16 whose gradients outgrow the loss scale recovers.

A linear regression on one batch; the loss is multiplied by a gain that a schedule raises by a factor
of a million and then holds.  S has to fall many times.  From the log alone: S moves as the scaler
says, a skipped step moves nothing but S, the loss is that of NumPy's descent over the committed
steps, and once the gain stands still training goes on to the end.  The checkpoint has the counters.
"""
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from support import compile_to, read_safetensors

B, STEPS, RAMP, INTERVAL = 32, 150, 60, 8
# Errors are stored in f16, 2^-11 of each, so 2^-10 of the sum of their squares.  As much again for weights: of an
# update's direction 2^-11 is rounding, too, and descent makes less of it.  (Most that was measured: 2^-12.5.)
NEAR = 2**-9

MODEL = f"""version 1
model M {{
  w: param[8, 4] = zeros()
  fn f [B](x: [B, 8]) -> [B, 4] = x @ w
}}
train M {{
  batch B = {B}
  data {{ x: f32[B, 8]; t: f32[B, 4] }}
  hyper gain = fn (s, n) = exp(0.24 * min(s, {RAMP}))
  loss sum((f(x) - t)^2, axis: 1) * gain
  optimizer sgd(lr: 0.05)
  clip 1
  steps {STEPS}
  precision f16 scale(dynamic, init: 2^15, interval: {INTERVAL}, floor: 2^-10)
}}
"""


def descent(x, t, log):
    """The loss before each step; a skipped one moves nothing."""
    w, low = np.zeros((8, 4)), x.astype(np.float16).astype(np.float64)
    for line in log:
        error = low @ w.astype(np.float16).astype(np.float64) - t
        yield line["gain"] * np.mean(np.sum(error**2, axis=1))
        g = line["gain"] * 2 * low.T @ error / B
        if not line["skipped"]:
            w -= 0.05 * min(1, 1 / np.linalg.norm(g)) * g


def check_scale(log):
    """S before each step, from the steps before; the number of times that it fell."""
    scale, clean, falls = 2.0**15, 0, 0
    for i, line in enumerate(log):
        assert line["scale"] == scale, (i, line, scale)
        clean = 0 if line["skipped"] else clean + 1
        falls += line["skipped"]
        if line["skipped"]:
            scale /= 2
        elif clean == INTERVAL:
            scale, clean = scale * 2, 0
    return scale, clean, falls


def main():
    rng = np.random.default_rng(4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        x = rng.standard_normal((B, 8)).astype(np.float32)
        t = (x @ rng.standard_normal((8, 4)) + 0.01 * rng.standard_normal((B, 4))).astype(np.float32)
        np.save(folder / "x.npy", x)
        np.save(folder / "t.npy", t)
        model = folder / "ramp.mp"
        model.write_text(MODEL)
        program = compile_to(folder / "ramp", model)
        run = subprocess.run([program, f"--data=x={folder}/x.npy", f"--data=t={folder}/t.npy",
                              f"--log={folder}/log", f"--save={folder}/ckpt"], text=True, capture_output=True)
        assert run.returncode == 0, run.stderr
        log = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
        log = [line for line in log if "gain" in line]
        assert len(log) == STEPS
        scale, clean, falls = check_scale(log)
        late = [line for line in log if line["gain"] > 0.99 * np.exp(0.24 * RAMP)]
        for i, (line, want) in enumerate(zip(log, descent(x, t, log))):
            near = line["loss"] is not None and abs(line["loss"] - want) <= NEAR * want
            assert line["skipped"] or near, (i, line, want)
        assert falls >= 8 and len(late) > 30, (falls, len(late))
        losses = [line["loss"] / line["gain"] for line in log if not line["skipped"]]
        assert losses[-1] < 0.01 * losses[0], losses
        state = read_safetensors(next((folder / "ckpt").glob("step-*")) / "state.safetensors")
        have = {n: np.frombuffer(state[n][2], np.float32 if n == "scale" else np.int32)[0]
                for n in ("scale", "clean", "step", "attempt", "skipped")}
        want = {"scale": scale, "clean": clean, "step": STEPS - falls, "attempt": STEPS,
                "skipped": 0 if not log[-1]["skipped"] else have["skipped"]}
        assert have == want, (have, want)
        print(f"S fell {falls} times, from 2^15 to {min(line['scale'] for line in log):g}; "
              f"loss / gain {losses[0]:.3g} -> {losses[-1]:.3g}")


if __name__ == "__main__":
    main()
