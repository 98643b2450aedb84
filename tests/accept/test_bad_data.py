"""Wrong data and checkpoint files: each is refused with its message and exit code, before a step.

In a sanitized build (the second argument is then the archive of the sanitized runtime) the program
is linked with it, so that a stray read is a failure, not luck.
"""
import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

from support import MLP, compile_to, idx_bytes, images_like

ROWS = 200
CHECKED = sys.argv[2] if len(sys.argv) > 2 else ""


def build(folder):
    """mpcc links through $CC: here a script that puts in the sanitized runtime."""
    if CHECKED:
        cc = folder / "cc.sh"
        cc.write_text('#!/bin/sh\nfor a; do shift\n  case $a in\n'
                      '  */libmpcc_cli.a) ;;\n'
                      f'  */libmpcc_rt.a) set -- "$@" {CHECKED} ;;\n'
                      '  *) set -- "$@" "$a" ;;\n  esac\ndone\n'
                      'exec cc -fsanitize=address,undefined "$@"\n')
        cc.chmod(0o755)
        os.environ["CC"] = str(cc)
    program = compile_to(folder / "train", MLP, "-Dhidden=8")
    assert not CHECKED or b"__asan_report_load" in program.read_bytes(), "it is not sanitized"
    return program


class Case:
    """A run in its own folder, with good files that one function spoils."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.data = {"images": folder / "images", "labels": folder / "labels"}

    def run(self, *more):
        flags = [f(x) for name, path in self.data.items()
                 for f, x in ((str, "--data"), (str, f"{name}={path}"))]
        return subprocess.run([self.program, "--steps", "4", "--quiet", *flags, *map(str, more)],
                              cwd=self.folder, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60)


# ---- data ----------------------------------------------------------------------------------------


def edit(name, change):
    return lambda f: (f / name).write_bytes(change((f / name).read_bytes()))


def replace(name, array):
    return lambda f: (f / name).write_bytes(idx_bytes(array))


def packed(change):
    return edit("images", lambda raw: change(gzip.compress(raw, 1)))


def flip(raw, at):
    return raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1:]


def claim(rows):
    return lambda raw: raw[:4] + struct.pack(">I", rows) + raw[8:]


def bad_label(raw):
    return raw[:8] + b"\x0a" * (len(raw) - 8)


def npy(name, array, **more):
    """The file as NPY, found by its magic."""
    def spoil(f):
        np.lib.format.write_array(open(f / name, "wb"), array, **more)
    return spoil


def npy_edit(change):
    def spoil(f):
        npy("images", np.zeros((ROWS, 28, 28), np.uint8))(f)
        edit("images", change)(f)
    return spoil


def csv(text):
    """The labels from a CSV file instead."""
    def spoil(f):
        (f / "labels.csv").write_text(text)
        return {"labels": f / "labels.csv"}
    return spoil


def tensors(header, data=b""):
    """Both from a safetensors file instead."""
    def spoil(f):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        (f / "d.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
        return {"images": f / "d.safetensors"}
    return spoil


def column(cells):
    return "id,labels\n" + "".join(f"{i},{c}\n" for i, c in enumerate(cells))


OTHER_FORMATS = {
    "npy of f64": (npy("images", np.zeros((ROWS, 28, 28))), 1,
                   f"does not fit 'images': expected u8[rows, 28, 28], found f64[{ROWS}, 28, 28]"),
    "npy other dims": (npy("images", np.zeros((ROWS, 784), np.uint8)), 1,
                       f"expected u8[rows, 28, 28], found u8[{ROWS}, 784]"),
    "npy in Fortran order": (npy("images", np.zeros((ROWS, 28, 28), np.uint8, order="F")), 1,
                             "is in Fortran order: save np.ascontiguousarray(x) instead"),
    "npy of objects": (npy("labels", np.array([None] * ROWS)), 1,
                       "not a header of a plain array near 'O'"),
    "npy with fields": (npy("labels", np.zeros(ROWS, [("a", "u1")])), 1,
                        "not a header of a plain array near '[('a'"),
    "npy without rows": (npy("labels", np.zeros(0, np.uint8)), 1, "holds no rows"),
    "npy cut off": (npy_edit(lambda raw: raw[:-1]), 1,
                    f"is truncated: expected {784 * ROWS} bytes of data, found {784 * ROWS - 1}"),
    "npy too long": (npy_edit(lambda raw: raw + b"1"), 1, "has 1 bytes after its data"),
    "npy ends in header": (npy_edit(lambda raw: raw[:40]), 1, "ends inside its header"),
    "npy of version 9": (npy_edit(lambda raw: raw[:6] + b"\x09" + raw[7:]), 1,
                         "is not an NPY file of version 1, 2 or 3"),
    "npy claims 2^90": (npy_edit(lambda raw: raw.replace(b"28, 28", b"999999999999999999, 99")), 1,
                        "its header claims more bytes than can exist"),
    "csv without it": (csv("id,label\n1,2\n"), 1, "has no column 'labels', did you mean 'label'?"),
    "csv missing value": (csv(column([1, 2, "", 3])), 1,
                          "line 4, column 'labels': a value is missing"),
    "csv not a number": (csv(column([1, "two"])), 1,
                         "line 3, column 'labels': 'two' is not of type u8"),
    "csv too large": (csv(column([256])), 1, "line 2, column 'labels': '256' is not of type u8"),
    "csv fewer cells": (csv(column([1]) + "7\n"), 1, "line 3: fewer than the header's 2 cells"),
    "csv open quote": (csv(column([1, '"2'])), 1, "line 3: a quote is never closed"),
    "csv NUL": (csv(column([1, "\0"])), 1, "line 3: a cell of more than 255 bytes, or with a NUL"),
    "csv fewer rows": (csv(column([1] * 5)), 1, f"'images' has {ROWS} rows, 'labels' has 5"),
    "st other key": (tensors({"image": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}), 1,
                     "has no tensor 'images', did you mean 'image'?"),
    "st other type": (tensors({"images": {"dtype": "I8", "shape": [1, 2], "data_offsets": [0, 2]}},
                              b"12"), 1, "expected u8[rows, 28, 28], found I8[1, 2]"),
    "st hole": (tensors({"images": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, b"12"),
                1, "a hole in the data before 'images'"),
    "st bad JSON": (tensors(b'{"images":{]'), 1, "header, byte"),
}

DATA = {
    "missing": (lambda f: (f / "images").unlink(), 1, "cannot open"),
    "a folder": (lambda f: ((f / "images").unlink(), (f / "images").mkdir()), 1, "images'"),
    "empty": (edit("images", lambda raw: b""), 1, "is empty"),
    "no known header": (edit("images", lambda raw: b"\x89PNG" + raw), 1,
                        "it has no header that is known, and its "
                        f"{784 * ROWS + 20} bytes are not whole rows of 784 (u8[rows, 28, 28])"),
    "ends in its header": (edit("images", lambda raw: raw[:9]), 1, "ends inside its header"),
    "cut off": (edit("images", lambda raw: raw[:-1]), 1,
                f"is truncated: expected {784 * ROWS} bytes of data, found {784 * ROWS - 1}"),
    "too long": (edit("images", lambda raw: raw + b"12345"), 1, "has 5 bytes after its data"),
    "other dims": (replace("images", np.zeros((ROWS, 28, 27), np.uint8)), 1,
                   f"does not fit 'images': expected u8[rows, 28, 28], found u8[{ROWS}, 28, 27]"),
    "other rank": (replace("labels", np.zeros((ROWS, 1), np.uint8)), 1,
                   f"does not fit 'labels': expected u8[rows], found u8[{ROWS}, 1]"),
    "other type": (replace("images", np.zeros((ROWS, 28, 28), np.float32)), 1,
                   f"does not fit 'images': expected u8[rows, 28, 28], found f32[{ROWS}, 28, 28]"),
    "no rows": (replace("labels", np.zeros(0, np.uint8)), 1, "holds no rows"),
    "claims 2^32 rows": (edit("images", claim(2**32 - 1)), 1,
                         f"is truncated: expected {784 * (2**32 - 1)} bytes"),
    "fewer rows": (replace("labels", np.zeros(ROWS - 1, np.uint8)), 1,
                   f"'images' has {ROWS} rows, 'labels' has {ROWS - 1}"),
    "gzip cut off": (packed(lambda raw: raw[:-20]), 1, "is damaged"),
    "gzip flipped": (packed(lambda raw: flip(raw, len(raw) // 2)), 1, "is damaged"),
    "gzip checksum": (packed(lambda raw: flip(raw, len(raw) - 6)), 1, "is damaged"),
    "gzip too long": (packed(lambda raw: gzip.compress(gzip.decompress(raw) + b"x")), 1,
                      "has bytes after its data"),
    "gzip claims 2^32 rows": (packed(lambda raw: gzip.compress(claim(2**32 - 1)(
        gzip.decompress(raw)), 9)), 1, "is too short for the"),
    "label 10": (edit("labels", bad_label), 1, "cross_entropy: a run-time index is out of range"),
}

# ---- checkpoints ---------------------------------------------------------------------------------

MODEL, STATE = "model.safetensors", "state.safetensors"


def parts(raw):
    n = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8:8 + n]), raw[8 + n:]


def joined(head, data):
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def rehead(change, name=MODEL):
    """The header changed, its checksum made right again: what is wrong must be found by itself."""
    def spoil(raw):
        head, data = parts(raw)
        change(head)
        head["__metadata__"]["crc32"] = "0" * 8
        plain = joined(head, data)
        n = len(plain) - len(data)
        head["__metadata__"]["crc32"] = f"{zlib.crc32(plain[:n]):08x}"
        return joined(head, data)
    return edit(f"ckpt/step-000004/{name}", spoil)


def in_model(change):
    return edit(f"ckpt/step-000004/{MODEL}", change)


def drop_bias(head):
    """The last tensor and its checksum go; the rest must still be without holes."""
    last = max((k for k in head if k != "__metadata__"), key=lambda k: head[k]["data_offsets"][1])
    head["also"] = head.pop(last)
    head["__metadata__"]["crc32:also"] = head["__metadata__"].pop("crc32:" + last)


def other_shape(head):
    head["net.2.weight"]["shape"] = [4, 16]


def overlap(head):
    first, second = sorted((k for k in head if k != "__metadata__"),
                           key=lambda k: head[k]["data_offsets"])[:2]
    size = head[first]["data_offsets"][1]
    head[second]["data_offsets"] = [x - size for x in head[second]["data_offsets"]]


def huge(head):
    head["net.2.weight"]["shape"] = [2**40, 2**40]


def no_epoch(head):
    del head["__metadata__"]["epoch"]


def foreign(f):
    shutil.rmtree(f / "ckpt")
    (f / "ckpt").mkdir()


CHECKPOINTS = {
    "no checkpoint": (foreign, 1, "no checkpoint in 'ckpt'"),
    "no such folder": (lambda f: shutil.rmtree(f / "ckpt"), 1, "ckpt"),
    "half of one": (lambda f: (f / "ckpt/step-000004" / STATE).unlink(), 1, "no checkpoint in"),
    "empty file": (in_model(lambda raw: b""), 1, "not a safetensors file: shorter than 8 bytes"),
    "not safetensors": (in_model(lambda raw: b"\x80\x02}q\x00" + raw), 1,
                        "not a safetensors file: a header of"),
    "bad JSON": (in_model(lambda raw: raw[:8] + b"{]" + raw[10:]), 1, "header, byte 9:"),
    "cut off": (in_model(lambda raw: raw[:-4]), 1, "bytes of data, found"),
    "a bit of a weight": (in_model(lambda raw: flip(raw, len(raw) - 30)), 1,
                          "damaged: the checksum of 'net."),
    "a bit of the header": (in_model(lambda raw: raw.replace(b'"model":"mlp"', b'"model":"mlq"')),
                            1, "damaged: the header's checksum is wrong"),
    "another name": (rehead(drop_bias), 1, "is missing"),
    "another shape": (rehead(other_shape), 1,
                      "'net.2.weight': expected F32[8, 8], found F32[4, 16]"),
    "overlap": (rehead(overlap), 1, "tensors overlap before"),
    "2^80 elements": (rehead(huge), 1, "which is not bytes"),
    "no epoch": (rehead(no_epoch, STATE), 1, "metadata of the run is missing or damaged"),
}


def refused(program, template, spoil, code, words, *more):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "case"
        shutil.copytree(template, folder)
        instead = spoil(folder)
        before = sorted(p for p in folder.rglob("*"))
        case = Case(program, folder)
        case.data |= instead if isinstance(instead, dict) else {}
        done = case.run(*more)
        assert done.returncode == code, (done.returncode, done.stdout)
        assert words in done.stdout and "Sanitizer" not in done.stdout, done.stdout
        assert done.stdout.startswith("train: error: ") or "note:" in done.stdout, done.stdout
        assert sorted(p for p in folder.rglob("*")) == before, "it left something behind"
        return done.stdout.splitlines()[-1].replace(str(folder) + "/", "")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program, good = build(folder), folder / "good"
        good.mkdir()
        images, labels = images_like(np.random.default_rng(2), ROWS)
        (good / "images").write_bytes(idx_bytes(images))
        (good / "labels").write_bytes(idx_bytes(labels))
        done = Case(program, good).run("--save", good / "ckpt")
        assert done.returncode == 0, done.stdout
        assert Case(program, good).run("--resume", "ckpt").returncode == 0
        for what, (spoil, code, words) in (DATA | OTHER_FORMATS).items():
            print(f"{what:22} {refused(program, good, spoil, code, words)}", flush=True)
        for what, (spoil, code, words) in CHECKPOINTS.items():
            line = refused(program, good, spoil, code, words, "--resume", "ckpt")
            print(f"{what:22} {line}", flush=True)


if __name__ == "__main__":
    main()
