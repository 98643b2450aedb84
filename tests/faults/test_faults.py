"""Every call to the system may fail: memory, threads, opening, writing (wholly or by half), syncing,
renaming.  For each kind of call and every n the n-th one fails, once or from then on, while a training
program loads a checkpoint, trains and saves.  It must end with an exit status and a message, never
with a signal; and the checkpoint that was there before must still be what it was.

usage: test_faults.py BIN SHIM    MPCC_LONG=1: every n; else a stride, so that it takes a minute
"""
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accept"))
import numpy as np

from support import LONG, MLP, compile_to, idx_bytes, images_like, mpcc

SHIM = Path(sys.argv[2]).resolve()
CALLS = "alloc", "thread", "open", "write", "short", "fsync", "rename", "mkdir", "unlink", "close"
PARTS = "model.safetensors", "state.safetensors"


def run(command, fault=None, hit=None):
    env = dict(os.environ)
    if fault:
        env.update(LD_PRELOAD=str(SHIM), FAULT=fault, FAULT_HIT=str(hit))
    return subprocess.run(list(map(str, command)), env=env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60)


class Training:
    def __init__(self, folder):
        self.folder = folder
        self.program = compile_to(folder / "small", MLP, "-O0", "-Dhidden=8")
        images, labels = images_like(np.random.default_rng(5), 200)
        (folder / "images").write_bytes(idx_bytes(images))
        (folder / "labels").write_bytes(idx_bytes(labels))
        self.before = folder / "before"
        done = run(self.command(self.before, 2))
        assert done.returncode == 0, done.stderr

    def command(self, save, steps, *more):
        return [self.program, "--data", f"images={self.folder / 'images'}", "--data",
                f"labels={self.folder / 'labels'}", "--quiet", "--threads", 2, "--steps", steps,
                "--every", 1, "--save", save, *more]

    def check(self, fault):
        """False: the program makes fewer calls than n."""
        save, hit = self.folder / "save", self.folder / "hit"
        shutil.rmtree(save, ignore_errors=True)
        hit.unlink(missing_ok=True)
        shutil.copytree(self.before, save)
        done = run(self.command(save, 4, "--resume", save, "--log", self.folder / "log"), fault, hit)
        if not hit.exists():
            assert done.returncode == 0, (fault, done.stderr)
            return False
        assert done.returncode >= 0, f"{fault}: signal {-done.returncode}"
        assert done.returncode == 0 or done.stderr.strip(), f"{fault}: it says nothing"
        old, new = self.before / "step-000002", save / "step-000002"
        if new.exists() or done.returncode:
            for part in PARTS:
                assert (new / part).read_bytes() == (old / part).read_bytes(), fault
        again = run(self.command(save, 5, "--resume", save))
        assert again.returncode == 0, f"{fault}, then: {again.stderr}"
        left = [p.name for p in save.iterdir() if p.name.startswith(".tmp")]
        assert not left, f"{fault}: {left} stays"
        return True


def check_training(folder):
    training = Training(folder)
    for call in CALLS:
        n, tried = 1, 0
        while all([training.check(f"{call}:{n}"), training.check(f"{call}:{n}+")]):
            tried += 2
            n += 1 if LONG or n < 12 else 1 + n // 8
        print(f"{call}: {tried} runs, up to the {n - 1}th call", flush=True)
        assert tried or call in ("unlink",), f"no {call} happened: the shim is not at work"


def check_compiler(folder):
    """A failing compilation leaves no output, or the old one."""
    out, hit = folder / "out", folder / "hit"
    for kind, flags in ("object", ["-c"]), ("program", []), ("graph", ["--emit=graph"]):
        for call in "open", "write", "short", "rename":
            for n in range(1, 100):
                out.write_text("old")
                hit.unlink(missing_ok=True)
                done = run([Path(sys.argv[1]) / "mpcc", "-O0", *flags, MLP, "-o", out],
                           f"{call}:{n}", hit)
                if not hit.exists():
                    break
                assert done.returncode >= 0, (kind, call, n)
                if done.returncode:
                    assert out.read_text() == "old" and done.stderr.strip(), (kind, call, n)
                left = list(folder.glob("out.*"))
                assert not left, (kind, call, n, left)
    print("compiler: no half outputs")


def main():
    with tempfile.TemporaryDirectory() as name:
        check_compiler(Path(name))
        check_training(Path(name))


if __name__ == "__main__":
    main()
