"""mpcc --bisect-precision: training runs that find which demotions cost the loss.

  planted      of a dozen layers one subtracts large numbers (planted.mp): its line is named, and no
               other; the flag and the words for the source it proposes give the same program
  overflow     a run that ends with an error is no good one
  two          two such layers are both named
  nothing      where low precision keeps the budget, nothing is to be done
  trials       what was run once is not run again, and the answer is the same
  stopped      Ctrl-C ends it; the same command goes on
  wrong        command lines that have no sense, each with its error
"""
import math
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from planted import PLANTED, line_of, make_data
from support import BIN, mpcc, run

ARGUMENTS = "--steps", "150", "--threads", "1"


def bisect(model, data, *flags, **more):
    return run(BIN / "mpcc", "--bisect-precision", model, "--budget=2%", *flags, "--", *data,
               *ARGUMENTS, **more)


def kept(text):
    """Lines behind "in f32:": file:line and module."""
    part = text.split("in f32:\n")[1].split("as flags:")[0]
    return re.findall(r"^  (\S+)  (.+?):", part, re.M)


def manifest(folder, model, *flags):
    """Of the train step, without reasons: who wanted it differs."""
    mpcc(f"--precision-manifest={folder}/manifest", *flags, "-o", folder / "x.o", model)
    return [line.rsplit(": ", 1)[0] for line in (folder / "manifest").read_text().splitlines()]


def check_planted(folder, data):
    text = bisect(PLANTED, data, f"--trials={folder}/trials")
    where = line_of("h - mean(h")
    assert kept(text) == [(where, "centre")], text
    flag = re.search(r"--keep=\S+", text)[0]
    assert flag == f"--keep=centre@{where}:f32"
    words = re.search(r"in the source:\n  \S+  (.*)", text)[1]
    lines = PLANTED.read_text().splitlines()
    lines[int(where.split(":")[1]) - 1] = words
    (folder / PLANTED.name).write_text("\n".join(lines))
    by_flag = manifest(folder, PLANTED, flag)
    by_words = manifest(folder, folder / PLANTED.name)
    assert by_flag == by_words != manifest(folder, PLANTED)
    runs = len([line for line in text.splitlines() if re.match(r" *\d+: ", line)])
    sites = int(re.search(r"^ *1: (\d+) of", text, re.M)[1])
    assert runs <= 2 * math.log2(sites), (runs, sites)  # both halves of what holds it, again and again
    print(f"planted: {flag} of {sites} in {runs} trials, and `{words}`", flush=True)
    return text


def check_trials(folder, data, text):
    """The data is gone, so nothing could run."""
    files = list(folder.glob("[xy]*.npy"))
    assert len(files) == 2, files
    for file in files:
        file.rename(file.with_suffix(".gone"))
    again = bisect(PLANTED, data, f"--trials={folder}/trials")
    for file in files:
        file.with_suffix(".gone").rename(file)
    assert again.replace(", known", "") == text.replace(", known", "")
    other = run(BIN / "mpcc", "--bisect-precision", PLANTED, "--precision=f32", f"--trials={folder}/trials", "--",
                *data, "--steps", 2)
    f32, same = other.splitlines()[:2]
    assert ", known" not in f32 and ", known" in same, other
    print("trials: nothing runs twice, the answer is the same; another run is another trial", flush=True)


OVERFLOW = """version 1
model Overflow {
  w: param[8, 16] = normal(0, 1)
  v: param[4, 8] = normal(0, 1)
  fn logits(x) {
    h = x @ transpose(w) * 60000.0
    y = (h - mean(h, axis: -1, keep: true)) * (1.0 / 60000.0)
    return tanh(y) @ transpose(v)
  }
}
train Overflow {
  batch B = 64
  data { x: f32[B, 16]; y: u8[B] }
  loss cross_entropy(logits(x), y)
  optimizer sgd(lr: 0.1)
  precision f16 scale(dynamic)
}
"""


def check_overflow(folder, data):
    """A run that skips every step ends with an error: its loss is as high as any."""
    model = folder / "overflow.mp"
    model.write_text(OVERFLOW)
    text = run(BIN / "mpcc", "--bisect-precision", model, "--budget=2%", "--", *data, "--steps", 25, "--threads", 1)
    assert re.search(r"^as the program says +loss inf ", text, re.M), text
    assert kept(text) == [(line_of("h = x @", model), "the model")], text
    assert "low, the loss is +inf %" in text, text
    print("overflow: what has no loss is too high", flush=True)


def check_two(folder, data):
    text = PLANTED.read_text().replace("more = repeat", "centre2 = Centred(d, d)\n  more = repeat")
    text = text.replace("centre(blocks(first(x)))", "centre2(gelu(centre(blocks(first(x)))))")
    (folder / "two.mp").write_text(text)
    found = kept(bisect(folder / "two.mp", data))
    where = line_of("h - mean(h", folder / "two.mp")
    assert sorted(found) == [(where, "centre"), (where, "centre2")], found
    print(f"two: {found}", flush=True)


def check_nothing(folder, data):
    (folder / "benign.mp").write_text(PLANTED.read_text().replace("+ 300.0", "+ 0.0"))
    text = bisect(folder / "benign.mp", data)
    assert "holds as it is: nothing is to be kept in f32" in text and "in f32:" not in text, text
    print("nothing: bf16 that bears it is left alone", flush=True)


def check_stopped(folder, data):
    """As Ctrl-C does it: to the group."""
    env = {**os.environ, "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir()
    command = [BIN / "mpcc", "--bisect-precision", PLANTED, f"--trials={folder}/stopped", "--",
               *data, "--steps", "100000000"]
    p = subprocess.Popen(list(map(str, command)), env=env, text=True, start_new_session=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not list((folder / "tmp").glob("*/log.jsonl")):
        assert p.poll() is None, p.communicate()
        time.sleep(0.02)
    os.killpg(p.pid, signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 130 and "goes on from" in err, (p.returncode, out, err)
    assert not list((folder / "tmp").iterdir())
    print("stopped: leaves nothing behind, says how to go on", flush=True)


def check_wrong(folder, data):
    flag = "--bisect-precision"
    for words, code, message in (
            ([PLANTED, "--budget=1%"], 2, "a flag of another command: --budget"),
            (["run", PLANTED, "--trials=x"], 2, "a flag of another command: --trials"),
            ([flag, PLANTED, "--budget=much", "--", *data], 2, "--budget is a share of the loss"),
            ([flag, PLANTED, "--budget=-1%", "--", *data], 2, "--budget is a share of the loss"),
            ([flag, "--", *data], 2, "a model file is wanted"),
            ([flag, "--version"], 0, "mpcc "),
            ([flag, PLANTED, "--target=cuda", "--", *data], 2, "so --target has no place"),
            ([flag, PLANTED, "--", "--data", "x=none.npy"], 1, "none.npy"),
            ([flag, PLANTED, "--", "--data", "x=none.npy"], 1, "the reference, ended without a finite loss"),
            ([flag, PLANTED, f"--trials={PLANTED}", "--", *data], 1, "is not a file of --trials"),
            ([flag, PLANTED, "--keep=centre@planted.mp:1:f32", "--", *data], 1,
             "--keep=centre@planted.mp:1: nothing is computed there"),
            ([flag, PLANTED, "--precision=f32", "--budget=-0", "--", *data, *ARGUMENTS], 0, "as it is")):
        assert message in (out := run(BIN / "mpcc", *words, code=code)), out
    print("wrong command lines are refused, each by its message", flush=True)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = make_data(folder, 4096)
        text = check_planted(folder, data)
        check_trials(folder, data, text)
        check_overflow(folder, data)
        check_two(folder, data)
        check_nothing(folder, data)
        check_stopped(folder, data)
        check_wrong(folder, data)


if __name__ == "__main__":
    main()
