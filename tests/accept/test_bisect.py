"""mpcc --bisect-precision: training runs that find which demotions cost the loss.

  planted      of a dozen layers one subtracts large numbers (planted.mp): its line is named, and no
               other; the flag and the words for the source it proposes give the same program
  two          two such layers are both named
  nothing      where low precision keeps the budget, nothing is to be done
  trials       what was run once is not run again, and the answer is the same
  stopped      Ctrl-C ends it; the same command goes on
  wrong        command lines that have no sense, each with its error
"""
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
    return re.findall(r"^  (\S+)  (\S+?):", part, re.M)


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
    print(f"planted: {flag} in {runs} trials, and `{words}`", flush=True)
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
    print("trials: nothing runs twice, the answer is the same", flush=True)


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
        check_two(folder, data)
        check_nothing(folder, data)
        check_stopped(folder, data)
        check_wrong(folder, data)


if __name__ == "__main__":
    main()
