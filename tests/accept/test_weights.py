"""No step casts a weight: in whatever precision, what a product reads low of a parameter is a state that
the update wrote.  Read from the text of the graph behind pass `precision`: in train_step and its halves,
in eval and infer, no rounding stands behind a parameter, with nothing but moves between.  (One of bf16, as
master(sr) keeps it, may be moved by way of f32 and back: that rounds nothing.)
"""
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from support import BIN, ROOT

WORDS = ["bf16", "f16 scale(dynamic)", "fp8(current)", "fp8(delayed)", "fp8(block)", "mx8", "bf16 master(split)",
         "bf16 master(sr)", "fp8(delayed) master(split)", "mx8 master(sr)"]
MOVES = {"reshape", "transpose", "slice", "pad", "broadcast", "select", "concat", "reverse", "gather", "embedding"}
ONCE = {"init", "derive", "calibrate", "replay", "origin"}  # entries that no run calls step by step
LINE = re.compile(r"\s*(%\d+(?:, %\d+)*) = ([\w.]+)(.*)")
# A part of one matrix, that is also read in f32, one of two put together, one turned, a stack, micro-batches and a tied weight.
PARTS = """version 1
model M {
  first: param[16, 32] = normal(0, 0.1)
  up: param[32, 48] = normal(0, 0.1)
  more: param[32, 16] = normal(0, 0.1)
  down: param[48, 32] = normal(0, 0.1)
  fn inner(x) = relu(x @ up[:, :16] + x @ more) @ down[8:24] + x @ concat([more, more], axis: 1) + mean(up[:, :16]^2)
  fn f(x) = inner(inner(x @ first)) @ transpose(first)
}
train M {
  batch B = 8
  accumulate 2
  data { x: f32[B, 16] }
  z = f(x)
  loss mean((z - x)^2, axis: 1)
  optimizer adamw(lr: 0.01)
  precision bf16
}
infer M {
  batch B = 4
  fn answer [B](x: f32[B, 16]) -> [B, 16] = f(x)
}
"""


class Entry:
    def __init__(self, head, masters):
        self.name, self.kind = re.match(r"entry @(\S+) (\w+)", head).groups()
        self.masters, self.weights, self.kernels, self.lows = masters, {}, [], 0
        self.found, self.views = [], {}  # casts: (line, results of its kernel); value of a view: of what

    def port(self, line):
        m = re.match(r'\s*(%\d+): (\w+)\[.*\] = state "(.*)"', line)
        if m and m[3] in self.masters:
            self.weights[m[1]] = m[2]  # value of a weight: its type
        elif m and m[3].split(":")[0] in self.masters:
            self.lows += ":bf16" in m[3] or ":f16" in m[3] or ":f8" in m[3]

    def node(self, line):
        results, op, rest = LINE.match(line).groups()
        results = results.split(", ")
        operands = re.findall(r"%\d+", rest.split("{")[0].split(":")[0])
        to = rest.rsplit(" : ", 1)[-1]
        if op in ("kernel", "loop"):
            inside = re.findall(r"(%\d+): ", rest[rest.rindex(" ("):])
            inside = inside[op == "loop":]
            self.weights |= {i: self.weights[o] for i, o in zip(inside, operands) if o in self.weights}
            self.kernels.append(results)
            return
        weights = [o for o in operands[:3 if op in ("select", "concat") else 1] if o in self.weights]
        of = self.weights[weights[0]] if weights else None
        narrow = op == "cast.policy" and not to.startswith("f32")
        if op == "bf16_join":
            self.weights |= {r: "f32" for r in results}
        elif of and (op in MOVES or (op == "cast.policy" and not narrow)):
            self.weights |= {r: of for r in results}
        elif of and (op == "saturate" or (narrow and of == "f32")):
            self.found.append((line.strip(), self.kernels[-1] if self.kernels else results))
        if not self.kernels and op == "reshape":
            self.views[results[0]] = operands[0]

    def writes(self, line):
        """Where a scale changes and the weight does not, as when it is frozen, its codes are written anew."""
        path, v = re.match(r'\s*state "(.*)" = (%\d+)', line).groups()
        v = self.views.get(v, v)
        if ":f8" in path:
            self.found = [(text, results) for text, results in self.found if v not in results]

    def leave(self, line):
        inside, outside = re.findall(r"%\d+", line), self.kernels.pop()
        self.weights |= {o: self.weights[i] for i, o in zip(inside, outside) if i in self.weights}


def read(text):
    """Entries, each with the roundings of weights in it."""
    masters = set(re.findall(r'^state param "([^"]+)"', text, re.M))
    entries = []
    for line in text.splitlines():
        if line.startswith("entry @"):
            entries.append(Entry(line, masters))
        elif entries and re.match(r"\s*state ", line):
            entries[-1].writes(line)
        elif entries and " = state " in line and re.match(r"\s+%", line):
            entries[-1].port(line)
        elif entries and LINE.match(line):
            entries[-1].node(line)
        elif entries and line.strip().startswith("yield") and entries[-1].kernels:
            entries[-1].leave(line)
    return entries


def check(folder, model, word):
    source = re.sub(r"^(\s*precision ).*$", lambda m: m[1] + word, model.read_text(), flags=re.M)
    path = folder / f"{model.stem}-{WORDS.index(word)}.mp"
    path.write_text(source)
    run = subprocess.run([BIN / "mpcc", "--emit=precision", "-Wno-fp8", "-I", model.parent, path], capture_output=True,
                         text=True)
    assert run.returncode in (0, 1) and (not run.returncode or model.parent.name == "programs"), run.stderr
    if run.returncode:
        return None
    lows = 0
    for e in read(run.stdout):
        if e.kind not in ONCE:
            assert not e.found, f"{model.name}, {word}, @{e.name} casts a weight: {e.found}"
            lows += e.lows
    return lows


def check_itself():
    """The reader sees what it looks for: a cast behind moves, into a kernel and out of it, and a code."""
    text = """state param "w" : f32[4]
entry @step step (
  %0: f32[4] = state "w"
) {
  %1 = reshape %0 : f32[2,2]
  %2 = kernel %1 {form=map} : f32[2,2] (%3: f32[2,2]) {
    %4 = transpose %3 {perm=[1,0]} : f32[2,2]
    yield %4
  }
  %5 = kernel %2 {form=map} : bf16[2,2] (%6: f32[2,2]) {
    %7 = cast.policy %6 : bf16[2,2]
    %8 = saturate %6, %9 : f8e4m3fn[2,2]
    %10 = mul %6, %6 : f32[2,2]
    %11 = cast.policy %10 : bf16[2,2]
    yield %7
  }
"""
    (entry,) = read(text)
    assert [line.split()[0] for line, _ in entry.found] == ["%7", "%8"], entry.found


def main():
    check_itself()
    examples = ROOT / "examples"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "parts.mp").write_text(PARTS)
        whole = [examples / "mlp.mp", examples / "chargpt" / "chargpt.mp", folder / "parts.mp"]
        programs = sorted((ROOT / "tests" / "programs").glob("*.mp"))
        jobs = [(folder, m, w) for m in whole for w in WORDS]
        jobs += [(folder, m, w) for m in programs for w in (WORDS if os.environ.get("MPCC_LONG") else ["mx8"])]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            found = dict(zip(jobs, pool.map(lambda j: check(*j), jobs)))
        compiled = {j: n for j, n in found.items() if n is not None}
        assert all(compiled.get((folder, m, w), 0) > 0 or "sr" in w for m in whole for w in WORDS), compiled
    print(f"{len({j[1] for j in compiled})} models, {len(compiled)} graphs: no step, eval or infer casts a weight; they read "
          f"{sum(compiled.values())} copies")


if __name__ == "__main__":
    main()
