"""Training as people do it, by the command line: it learns, resumes and survives kill -9.

  learns   one epoch of Fashion-MNIST in bf16 ends at 85 % of the test images or more
  resume   killed at some step and resumed (on another number of threads), as often as it takes: the
           last checkpoint holds the bits of the run that nobody disturbed
  kills    100 kills while every step saves: what is there always loads, and ends with the bits of
           an undisturbed run.  MPCC_LONG=1: 1000
"""
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from mpcc_model import Model
from support import (LONG, MLP, compile_to, fashion_mnist, idx_bytes, images_like,
                     read_safetensors)

PARTS = "model.safetensors", "state.safetensors"


def run(*command):
    done = subprocess.run(list(map(str, command)), text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == 0, f"exit {done.returncode}: {done.stdout}"
    return done.stdout


def check_learns(folder):
    data = fashion_mnist()
    program = compile_to(folder / "mlp", MLP)
    out = run(program, "--data", f"images={data['images']}", "--data", f"labels={data['labels']}",
              "--eval-data", f"images={data['test_images']}", "--eval-data",
              f"labels={data['test_labels']}", "--epochs", 1, "--seed", 1)
    found = re.search(r"^eval.*\baccuracy ([0-9.]+)(%?).*\(10000 rows\)", out, re.M)
    assert found, out
    accuracy = float(found[1]) / (100 if found[2] else 1)
    assert accuracy >= 0.85, out
    print(f"one epoch in bf16: {accuracy:.4f} of the test images", flush=True)


# ---- kills ---------------------------------------------------------------------------------------


def small_program(folder):
    """A model, data that it trains on, and the start of its command line."""
    program = compile_to(folder / "small", MLP, "-Dhidden=8")
    images, labels = images_like(np.random.default_rng(5), 1000)  # a short last batch
    (folder / "images").write_bytes(idx_bytes(images))
    (folder / "labels").write_bytes(idx_bytes(labels))
    return [str(program), "--data", f"images={folder / 'images'}", "--data",
            f"labels={folder / 'labels'}", "--quiet"]


def same_checkpoint(a, b):
    for part in PARTS:
        x, y = read_safetensors(a / part), read_safetensors(b / part)
        assert x.keys() == y.keys() and x, (a, b)
        for name in x:
            assert x[name] == y[name], f"{a} and {b} differ in {name}"


def step_dirs(folder):
    return sorted(p for p in folder.iterdir() if p.name.startswith("step-"))


def lines_in(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def start(command):
    return subprocess.Popen(command)


def kill_when(process, due, limit=60):
    """kill -9 as soon as due() says so; whether it was still alive."""
    end = time.monotonic() + limit
    while process.poll() is None and not due():
        assert time.monotonic() < end, "no progress"
        time.sleep(0.0005)
    alive = process.poll() is None
    if alive:
        process.send_signal(signal.SIGKILL)
    status = process.wait()
    assert alive or status == 0, f"exit {status}"
    return alive


def check_resume(folder, rng):
    train = small_program(folder) + ["--steps", "200", "--seed", "4", "--every", "10"]
    run(*train, "--save", folder / "whole", "--threads", 2)
    killed, save, log = [], folder / "killed", folder / "killed.log"
    for threads in 1, 2, 3, 1, 2, 3:
        resume = ["--resume", str(save)] if save.is_dir() and step_dirs(save) else []
        command = train + ["--save", str(save), "--log", str(log), "--threads", str(threads)]
        at = lines_in(log) + int(rng.integers(5, 50))
        if not kill_when(start(command + resume), lambda: lines_in(log) >= at):
            break
        killed.append(lines_in(log))
    run(*train, "--save", save, *(["--resume", save] if step_dirs(save) else []))
    same_checkpoint(save / "step-000200", folder / "whole" / "step-000200")
    assert killed
    print(f"resumed after kills at line {killed} of the log: equal, 200 steps", flush=True)


def check_kills(folder, rng, times):
    train = small_program(folder) + ["--steps", "1000000", "--seed", "5", "--threads", "1"]
    save = folder / "kills"
    reader = Model(compile_to(folder / "reader.so", MLP, "-Dhidden=8"), threads=1)
    deadline, steps, halves = time.monotonic() + 60 * times / 100, [0], 0
    for i in range(times):
        resume = ["--resume", str(save)] if steps[-1] else []
        process = start([*train, "--save", str(save), "--every", "1", *resume])
        wait = time.monotonic() + rng.uniform(0.002, 0.08)
        kill_when(process, lambda: time.monotonic() >= wait)
        if not save.is_dir() or not step_dirs(save):
            assert not steps[-1], "the checkpoints are gone"
            continue
        halves += any(p.name.startswith(".tmp-") for p in save.iterdir())
        for path in step_dirs(save):
            reader.load(path)  # every checksum
            assert int(path.name[5:]) == reader.get("attempt"), path
        reader.load(save)  # the newest
        steps.append(int(reader.get("attempt")))
        assert steps[-1] >= steps[-2], "a step that was saved is lost"
        if time.monotonic() > deadline:
            break
    assert i + 1 >= min(times, 100) or LONG, f"only {i + 1} kills in the time given"
    last = step_dirs(save)[-1]
    check_last(train, folder, last)
    print(f"{i + 1} kills up to step {steps[-1]}, {halves} inside a save: all load, and equal",
          flush=True)


def check_last(train, folder, last):
    """An undisturbed run saves the same at that step; it is stopped behind it."""
    step = str(int(last.name[5:]))
    alone = folder / "undisturbed"
    process = start([*train, "--save", str(alone), "--every", step])
    kill_when(process, lambda: (alone / last.name).is_dir())
    same_checkpoint(last, alone / last.name)


def main():
    seed = int(os.environ.get("MPCC_SEED", "0")) or time.time_ns() & 0xFFFFFF
    print("MPCC_SEED =", seed, flush=True)
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        check_resume(Path(name), rng)
        check_kills(Path(name), rng, 1000 if LONG else 100)
        check_learns(Path(name))


if __name__ == "__main__":
    main()
