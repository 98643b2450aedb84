"""Limits at N and N + 1: what is just allowed compiles, one more is an error at its place.

usage: test_limits.py BIN

A row makes a program (or IR text) of a size.  At the limit the tool must succeed; one beyond, it must
exit with 1, name line and column, show the line with a caret and say what is wrong.  How far a program
may unroll is counted in work, which changes with the compiler: that the limit is sharp, and not below
10^5 operations, is found by halving (MPCC_LONG=1); so is the size of a file, of 2^28 bytes.
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from support import BIN, LONG

NAMES = [a + b for a in "abcdefghijklm" for b in "abcdefghijklm"]


def program(body="", width=4, batch="2", declarations="", inputs="x: f32[B, 4]", loss="sum(x @ w, axis: 1)", train=""):
    return f"""version 1
{declarations}
model M {{
  w: param[4, 3] = he_uniform()
{body}
}}
train M {{
  batch B = {batch}
  data {{ {inputs} }}
  loss {loss}
  optimizer sgd(lr: 0.1)
{train}
}}
"""


def ones(n):
    return ", ".join(["1"] * n)


def nested(opening, closing, inner):
    return lambda n: program(declarations=f"a = {opening * n}{inner}{closing * n}")


def many_parameters(n):
    names = NAMES[:n]
    return program(declarations=f"fn f({', '.join(names)}) = {names[0]}\nc = f({ones(n)})")


def carries(n):
    hs = ", ".join(NAMES[:n])
    inits = ", ".join(["0.0"] * n)
    return program() + (f"infer M {{\n  batch B = 1\n  fn f(x: [B, 4]) {{\n    r = scan(fn ({hs}, i) {{ return {hs} }}, "
                        f"{inits}, over: iota(2))\n    return x\n  }}\n}}\n")


def top(n):
    return program(inputs="x: f32[B, 4]; y: f32[B, 70]",
                   loss=f"sum(x @ w, axis: 1) + sum(top_k(y, {n})[0], axis: 1)")


def ir_rank(n):
    dims = ",".join(["1"] * n)
    return f'graph "t"\nentry @e infer (%x: f32[{dims}] = input "x") {{\n  return value "y" = %x\n}}\n'


def ir_type(n):
    return f'graph "t"\nentry @e infer (%x: f32[{n}] = input "x") {{\n  return value "y" = %x\n}}\n'


def ir_blocks(n):
    """A loop in a loop in a loop: n blocks below the entry's."""
    head = "".join(f"%r{i} = loop %h{i} {{trip=1, carries=1, slices=0}} : f32[] (%i{i}: i32[], %h{i + 1}: f32[]) {{\n"
                   for i in range(n))
    tail = "".join(f"yield %{'r' + str(i) if i < n else 'h' + str(i)}\n}}\n" for i in range(n, 0, -1))
    return f'graph "t"\nentry @e infer (%h0: f32[] = input "x") {{\n{head}{tail}return value "y" = %r0\n}}\n'


def unrolled(n):
    return program(f"  fn f(y) {{\n    for i in range({n}) {{ y = tanh(y) }}\n    return y\n  }}", loss="sum(f(x @ w), axis: 1)")


def imports(folder, n):
    """A chain of n files behind the program's own."""
    for i in range(1, n + 1):
        (folder / f"i{i}.mp").write_text("version 1\n" + f'import "i{i + 1}.mp"\n' * (i < n) + f"c{i} = 1\n")
    return program().replace("version 1\n", 'version 1\nimport "i1.mp"\n', 1)

# name, text of a size, the largest size, what is said beyond it
MPCC = [
    ("brackets", nested("(", ")", "1"), 200, "brackets nest at most 200 deep"),
    ("signs", nested("-", "", "1"), 997, "nested too deeply: at most 1000 levels"),
    ("terms", nested("1+", "", "1"), 997, "nested too deeply: at most 1000 levels"),
    ("ints", lambda n: program(declarations=f"a = {n}"), 2**63 - 1, "does not fit into 64 bits"),
    ("sum of ints", lambda n: program(declarations=f"a = {n} + 1"), 2**63 - 2, "does not fit in 64 bits"),
    ("parameters", many_parameters, 64, "65 parameters; 64 are supported"),
    ("carries", carries, 63, "65 parameters; 64 are supported"),
    ("axes", lambda n: program(f"  v: param[{ones(n)}] = zeros()", loss="sum(x @ w, axis: 1) + sum(v)"), 8,
     "9 axes; 8 are supported"),
    ("elements", lambda n: program(inputs=f"x: f32[B, 4]; y: u8[B, {n}]", batch="1"), 2**43,
     "a tensor of more than 2^43 elements"),
    ("product of dims", lambda n: program(inputs=f"x: f32[B, 4]; y: u8[B, {n}]", batch=str(2**20)), 2**23,
     "a tensor of more than 2^43 elements"),
    ("batch", lambda n: program(batch=str(n)), 2**31 - 1, "`batch` must be from 1 to 2147483647, not 2147483648"),
    ("batch above 0", lambda n: program(batch=str(2 - n)), 1, "`batch` must be from 1 to 2147483647, not 0"),
    ("top_k", top, 64, "k is an int from 1 to 64"),
    ("f16 number", lambda n: program(loss=f"sum(f16(x @ w) + {n}, axis: 1)"), 65519, "does not fit in f16"),
]
OPT = [
    ("ir axes", ir_rank, 8, "of at most 8 axes"),
    ("ir blocks", ir_blocks, 32, "blocks are nested more than 32 deep"),
    ("ir bytes", ir_type, 2**44, "a type that does not exist or is too large"),
]


def run(tool, path):
    flags = ["--emit=graph", "-o", "/dev/null"] if tool == "mpcc" else []
    return subprocess.run([BIN / tool, *flags, path], capture_output=True, text=True, timeout=120)


def check_refused(what, r, said):
    place = re.search(r"^\S+:\d+:\d+: error: (.*)\n +\d+ \| .*\n +\| +\^", r.stderr, re.M)
    assert r.returncode == 1 and place, f"{what}: exit {r.returncode}, {r.stderr[:500]}"
    assert said in place[1], f"{what}: {place[1]}; expected: {said}"


def check(tool, path, what, make, most, said):
    path.write_text(make(most))
    r = run(tool, path)
    assert r.returncode == 0, f"{what}: {most} refused: {r.stderr[:500]}"
    path.write_text(make(most + 1))
    check_refused(f"{what}, {most + 1}", run(tool, path), said)
    print(f"{what}: {most}, not {most + 1}")


def check_imports(folder):
    path, deepest = folder / "imports.mp", 63  # files behind one that the program imports
    for n in deepest, deepest + 1:
        path.write_text(imports(folder, n))
        r = run("mpcc", path)
        if n == deepest:
            assert r.returncode == 0, r.stderr[:500]
    check_refused("imports", r, "imports nest deeper than 64")
    print(f"imports: {deepest}, not {deepest + 1}")


def fits(path, n):
    path.write_text(unrolled(n))
    r = run("mpcc", path)
    if r.returncode:
        check_refused(f"{n} operations", r, "the program unrolls to more than mpcc compiles")
    return r.returncode == 0


def check_unrolled(path):
    low, high = 10**5, 10**6
    assert fits(path, low) and not fits(path, high)
    while LONG and high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(path, middle) else (low, middle)
    print(f"unrolled operations: {low}, not {high}")


def check_file_size(path):
    text, most = program().encode(), 2**28
    for n in most, most + 1:
        path.write_bytes(text + b" " * (n - len(text)))
        r = run("mpcc", path)
        assert (r.returncode == 0) == (n == most), (n, r.stderr[:500])
    assert "this file is too large: at most 268435456 bytes" in r.stderr, r.stderr[:500]
    print(f"bytes of a file: {most}, not {most + 1}")


def check_windows(folder):
    """A window of T needs T + 1 elements; lanes need a row for each of the batch."""
    for kind, names, batch, most, said in [
            ("windows", "tokens, targets", 1, 17, "has 16 elements; a window of 16 needs 17"),
            ("lanes", "tokens, targets, fresh", 2, 33, "no batch is left for train_step (of 2 rows)")]:
        model, data = folder / f"{kind}.mp", folder / "text"
        model.write_text(f"""version 1
model M {{ e: param[256, 4] = normal(0, 1) }}
train M {{
  batch B = {batch}
  data {{ text: u8[_]; {names} = {kind}(text, 16) }}
  loss cross_entropy(e[tokens] @ transpose(e), targets)
  optimizer sgd(lr: 0.1)
  steps 1
}}
""")
        subprocess.run([BIN / "mpcc", model, "-o", folder / kind], check=True)
        for n in most, most - 1:
            data.write_bytes(b"x" * n)
            r = subprocess.run([folder / kind, "--data", f"text={data}"], capture_output=True, text=True, timeout=60)
            assert (r.returncode == 0) == (n == most), f"{kind} of {n}: exit {r.returncode}, {r.stderr}"
        assert r.returncode == 1 and said in r.stderr, r.stderr
        print(f"{kind} of 16 from {most} elements, not from {most - 1}")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for row in MPCC:
            check("mpcc", folder / "t.mp", *row)
        for row in OPT:
            check("mpcc-opt", folder / "t.ir", *row)
        check_imports(folder)
        check_unrolled(folder / "t.mp")
        check_windows(folder)
        if LONG:
            check_file_size(folder / "t.mp")


if __name__ == "__main__":
    main()
