"""A power cut keeps what was synced and any part of the rest.  The shim's log of a training run that saves
at every step is replayed up to each point, on a model of a disk: the contents of a file are safe
behind its fsync; a name is safe behind the fsync of its directory.  What is not safe may be there or
not, in any combination; for each point several are tried, the two extremes always.  After each cut the
newest checkpoint that a run would resume from must load, every checksum right, and be at most one
interval old.

usage: test_powercut.py BIN SHIM
"""
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accept"))
import numpy as np

from mpcc_model import Model, ModelError
from support import LONG, MLP, compile_to, idx_bytes, images_like

SHIM = Path(sys.argv[2]).resolve()
STEPS = 6


def records(path):
    raw, at = path.read_bytes(), 0
    while at < len(raw):
        what = chr(raw[at])
        number, na, nb = struct.unpack_from("<qQQ", raw, at + 8)
        at += 32
        a, b, at = raw[at:at + na], raw[at + na:at + na + nb], at + na + nb
        yield what, number, a, b


class Disk:
    """Nodes (files: bytes; directories: names), what is safe of each, and what was done since."""

    def __init__(self, root):
        self.root = str(root)
        self.node, self.safe = [{}], [{}]  # node 0: the root; a dict is a directory
        self.open = {}
        self.synced = 0  # saves that a complete run of syncs has made safe

    def find(self, path):
        at = 0
        for part in self.parts(path):
            at = self.node[at].get(part)
            if at is None:
                return None
        return at

    def parts(self, path):
        assert path.startswith(self.root + "/") or path == self.root, path
        return [p for p in path[len(self.root):].split("/") if p]

    def parent(self, path):
        parts = self.parts(path)
        return self.find(self.root + "/" + "/".join(parts[:-1])), parts[-1]

    def add(self, path, what):
        where, name = self.parent(path)
        self.node.append(what)
        self.safe.append(None)
        self.node[where][name] = len(self.node) - 1

    def apply(self, what, number, a, b):
        path = a.decode() if what in "ormudx" else ""
        if what in "ormudx" and not path.startswith(self.root):
            return
        if what == "o":
            if self.find(path) is None:
                self.add(path, b"")
            self.open[number] = self.find(path)
        elif what == "c":
            self.open.pop(number, None)
        elif what == "w" and number in self.open:
            self.node[self.open[number]] += a
        elif what == "s" and number in self.open:
            at = self.open[number]
            self.safe[at] = dict(self.node[at]) if isinstance(self.node[at], dict) else self.node[at]
        elif what == "m":
            self.add(path, {})
        elif what in "ud":
            where, name = self.parent(path)
            del self.node[where][name]
        elif what in "rx":
            where, name = self.parent(path)
            to, other = self.parent(b.decode())
            moved = self.node[where][name]
            if what == "x":
                self.node[where][name] = self.node[to][other]
            else:
                del self.node[where][name]
            self.node[to][other] = moved

    def cut(self, choose, out, at=0):
        """Writes what may be left; choose() decides for each thing that is not safe."""
        now, safe = self.node[at], self.safe[at]
        if isinstance(now, dict):
            out.mkdir(exist_ok=True)
            left = {}
            for name in sorted(set(now) | set(safe or {})):
                new, old = now.get(name), (safe or {}).get(name)
                kept = new if new == old or choose() else old
                if kept is not None:
                    left[name] = kept
            for name, node in left.items():
                self.cut(choose, out / name, node)
        else:
            data = now if safe == now or choose() else (safe or b"")
            if data == now and safe != now and choose():
                data = now[:len(now) // 2]  # some blocks of it
            out.write_bytes(data)


def check_state(reader, folder, least):
    """The step that a run would go on from."""
    found = [p for p in folder.iterdir() if p.name.startswith("step-")] if folder.is_dir() else []
    if not found:
        assert not least, f"nothing is left, step {least} was there"
        return
    reader.load(folder)
    step = int(reader.get("attempt"))
    assert step >= least, f"step {step}; {least} was safe"


def replay(folder, save, log, reader, rng):
    disk, least, renamed, cuts = Disk(folder / "disk"), 0, None, 0
    for what, number, a, b in log:
        disk.apply(what, number, a, b)
        if what in "rx" and b"/step-" in b:
            renamed = int(b.decode()[-6:])
        if what in "sS" and renamed and disk.open.get(number) == disk.find(str(save)):
            least, renamed = renamed, None
        choices = [lambda: False, lambda: True] + [lambda: rng.random() < 0.5] * (8 if LONG else 2)
        for choose in choices:
            left = folder / "left"
            shutil.rmtree(left, ignore_errors=True)
            disk.cut(choose, left)
            check_state(reader, left / "save", least)
            cuts += 1
    assert least == STEPS, f"the last save that was safe: {least}"
    return cuts


def without_syncs(log, lost):
    """The log of a program that forgets to sync its files, or its directories: S does nothing."""
    kinds, changed = {}, []
    for what, number, a, b in log:
        if what == "o":
            flags = struct.unpack("<i", b)[0]
            kinds[number] = "directory" if flags & os.O_DIRECTORY else "file"
        changed.append(("S" if what == "s" and kinds.get(number) == lost else what, number, a, b))
    return changed


def check_notices(folder, save, log, reader, rng, lost):
    try:
        replay(folder, save, log, reader, rng)
    except (AssertionError, ModelError) as e:
        print(f"without syncing each {lost}: {str(e).splitlines()[0][:100]}")
        return
    raise AssertionError(f"nobody notices that no {lost} is synced")


def main():
    seed = int(os.environ.get("MPCC_SEED", "0")) or random.randrange(1 << 24)
    print("MPCC_SEED =", seed, flush=True)
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        program = compile_to(folder / "small", MLP, "-O0", "-Dhidden=8")
        reader = Model(compile_to(folder / "reader.so", MLP, "-O0", "-Dhidden=8"), threads=1)
        images, labels = images_like(np.random.default_rng(5), 200)
        (folder / "images").write_bytes(idx_bytes(images))
        (folder / "labels").write_bytes(idx_bytes(labels))
        save, log = folder / "disk" / "save", folder / "log"
        (folder / "disk").mkdir()
        subprocess.run([program, "--data", f"images={folder / 'images'}", "--data",
                        f"labels={folder / 'labels'}", "--quiet", "--steps", str(STEPS), "--every",
                        "1", "--keep", "2", "--save", save],
                       check=True, env={**os.environ, "LD_PRELOAD": str(SHIM), "FAULT_LOG": str(log)})
        cuts = replay(folder, save, list(records(log)), reader, rng)
        for lost in "file", "directory":  # the test must notice a sync that is missing
            check_notices(folder, save, without_syncs(list(records(log)), lost), reader, rng, lost)
    print(f"{cuts} cuts: the newest checkpoint loads, none that was safe is lost")


if __name__ == "__main__":
    main()
