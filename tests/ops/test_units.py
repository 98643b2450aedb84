"""Column UNIT of ops.def against arithmetic: what the verifier says of loss scales is what becomes of numbers.

usage: test_units.py EVALTOOL MPCC MPCC_OPT

A value of type T*S^e is S^e times what it would be without a loss scale.  So of each op, its operands
carrying S to each power from -1 to 2: where the verifier says that the result carries S^r, the op of operands
times 2^(6e) is 2^(6r) times the op of the operands, bit for bit in f64.  And it says so wherever that holds,
but for REFUSED.  Operands that are no floats carry nothing.  Cases are those of cases.py,
so an op without one fails here; ops whose rule is about more than exponents are in RULED, with what
tests/lit/ir refuses of them.
"""
import itertools
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "accept"))
from cases import TABLE
from op_table import BATCH, FLOATS, ROWS, type_of

EVALTOOL, MPCC, OPT = sys.argv[1:4]
LIT = Path(__file__).resolve().parents[1] / "lit" / "ir"
POWERS, NEVER, SHIFT, LARGEST = (-1, 0, 1, 2), 90, 6, 64
AT_ONCE = 20  # errors that mpcc-opt shows

# Where some exponents would do, and none is let through all the same.
REFUSED = {
    "rsqrt": "of even powers: what is scaled is divided by its sqrt",
    "layer_norm": "scale and bias are parameters", "rms_norm": "its scale is a parameter",
    "bf16_rest": "bits", "bf16_join": "bits", "commit": "what a step keeps carries none",
}
# A rule about more than its operands' exponents: what of it is refused.
RULED = {
    "constant": "sub: operands of different loss scale", "iota": "iota: the operands give i32[4], not i32[4]*S",
    "cotangent": "cotangent: must be floats that carry S once",
    "custom_grad": "custom_grad: a gradient must be linear in dy, so carry the loss scale once",
    "quantize": "the scale must take the loss scale out of the operand",
    "matmul_scaled": "matmul_scaled: quantized operands must not carry the loss scale",
    "saturated": "saturated: the operands give i1[4,4], not i1[4,4]*S",
    "flushed": "flushed: the operands give i1[4,4], not i1[4,4]*S",
    "loss_seed": "loss_seed: a weight must not carry the loss scale",
    "scale_min": "scale_min: operands must be loss scales", "rescale": "rescale: x must carry its loss scale once",
    "loop": "loop: argument 1 of the block has another type",
    "kernel": "kernel: argument 0 of the block has another type than the operand",
}


def case_of(op):
    """One that has one node, of numbers, floats in f32 if there are such, the most operands and elements."""
    def plain(c):
        return "\n" not in c.text and all(0 < x.size <= LARGEST and np.isfinite(x).all() for _, x in c.operands)

    def rank(c):
        types = [d for d, _ in c.operands]
        return "f32" in types, types.count("f32"), not c.rows, len(types), max(x.size for _, x in c.operands)
    fit = [c for c in TABLE[op](op) if plain(c)]
    assert fit, f"{op}: no case for its unit"
    case = max(fit, key=rank)
    first = case.operands[0][1] if case.operands else None
    for dtype, x in case.operands[1:]:
        if dtype in FLOATS and x.shape == first.shape:  # comparisons want some that are equal
            x.flat[::2] = first.flat[::2]
    return case


def entry(case, copies, unit_of_result=""):
    """Of `copies` of this case: its number, and the power of S that each operand carries."""
    args, body, results = [], [], []
    for k, powers in copies:
        for i, ((dtype, x), e) in enumerate(zip(case.operands, powers)):
            unit = f"*S^{e}" if e else ""
            args.append(f'%x{i}_{k}: {type_of(dtype, x.shape, case.is_tagged(f"x{i}", x.shape))}{unit} = input "x{i}_{k}"')
        body.append(re.sub(r"%(\w+)", rf"%\1_{k}", case.text) + unit_of_result)
        results += [f'value "y{k}" = %y0_{k}']
    return f"entry @e infer batch {BATCH} ({', '.join(args)}) {{\n" + "\n".join(body) + f"\nreturn {', '.join(results)}\n}}\n"


def verdict(error):
    """The power of S that the verifier finds in a node that states another; None: it refuses the operands."""
    gives = re.search(r"the operands give [^*]*?(?:\*S(?:\^(-?\d+))?)?, not", error)
    return None if not gives else int(gives[1] or 1) if "*S" in gives[0].split(", not")[0] else 0


def verdicts(folder, case, copies):
    pieces, lines = "", []
    for at in range(0, len(copies), AT_ONCE):
        first = pieces.count("\n") + 2  # behind the entry's own line
        lines += [first + i for i in range(len(copies[at:at + AT_ONCE]))]
        text = entry(case, copies[at:at + AT_ONCE], f"*S^{NEVER}")
        pieces += re.sub(r"return .*", "return", text) + "// -----\n"
    (folder / "v.ir").write_text(pieces)
    run = subprocess.run([OPT, "--split-input-file", folder / "v.ir"], capture_output=True, text=True)
    found = {int(line): error for line, error in re.findall(r":(\d+):\d+: error: (.*)", run.stderr)}
    assert set(found) == set(lines), f"S^{NEVER} is no result, and passes: {case.text}"
    return [verdict(found[line]) for line in lines]


def same_power(y, scaled):
    """r where scaled = y · 2^(6r) in every bit, None: there is none."""
    for r in sorted(range(-6, 7), key=abs):
        factor = 2.0**(SHIFT * r) if y.dtype.kind == "f" else 1
        if np.array_equal(y * factor, scaled, equal_nan=True):
            return r if y.dtype.kind == "f" else 0
    return None


def evaluated(folder, case, copies):
    (folder / "e.ir").write_text(entry(case, [(k, [0] * len(e)) for k, e in copies]))
    for k, powers in copies:
        for i, ((dtype, x), e) in enumerate(zip(case.operands, powers)):
            x = x[:ROWS] if case.is_tagged(f"x{i}", x.shape) else x
            np.save(folder / f"input.x{i}_{k}.npy", x.astype(np.float64) * 2.0**(SHIFT * e) if dtype in FLOATS else x)
    subprocess.run([EVALTOOL, folder / "e.ir", f"--in={folder}", f"--out={folder}", "--f64", "e"] + [f"--rows={ROWS}"] * case.rows, check=True)
    y = {k: np.load(folder / f"value.y{k}.npy") for k, _ in copies}
    return {k: v.astype(np.int64) if case.results[0][0][0] in "iu" else v for k, v in y.items()}


def check(folder, op):
    case = case_of(op)
    floats = [d in FLOATS for d, _ in case.operands]
    mixed = [p for p in itertools.product(*[POWERS if f else (0,) for f in floats])]
    others = [p for p in itertools.product((0, 2), repeat=len(floats)) if any(e and not f for e, f in zip(p, floats))]
    copies = list(enumerate(mixed + others))
    said = verdicts(folder, case, copies)
    assert said[len(mixed):] == [None] * len(others), f"{op}: an operand that is no float may carry S"
    y = evaluated(folder, case, copies[:len(mixed)])
    plain = y[mixed.index(tuple([0] * len(floats)))]
    assert said[mixed.index(tuple([0] * len(floats)))] == 0, f"{op}: refused without a loss scale"
    for k, powers in copies[:len(mixed)]:
        holds = same_power(plain, y[k])
        assert said[k] is None or op not in REFUSED or not any(powers), f"{op} of S^{powers}: accepted"
        if said[k] is not None:
            assert holds is not None, f"{op} of S^{powers}: accepted, and the result is no power of S"
            assert said[k] == holds, f"{op} of S^{powers}: S^{said[k]}, in numbers S^{holds}"
        elif holds is not None:
            assert op in REFUSED, f"{op} of S^{powers}: refused, and the result is S^{holds}"
    return len(copies)


def main():
    page = subprocess.run([MPCC, "--print-ops"], check=True, text=True, stdout=subprocess.PIPE).stdout
    known = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and line.count(" | ") >= 7}
    assert len(known) > 80 and set(RULED) | set(REFUSED) <= known, known
    refused = "".join(path.read_text() for path in LIT.glob("verify-*.ir"))
    failures, count = [], 0
    with tempfile.TemporaryDirectory() as name:
        for op in sorted(known):
            if op in RULED:
                if f"expected-error@+1 {{{{{RULED[op]}" not in refused:
                    failures.append(f"{op}: tests/lit/ir refuses no such thing as: {RULED[op]}")
                continue
            try:
                count += check(Path(name), op)
            except (AssertionError, subprocess.CalledProcessError) as e:
                failures.append(str(e))
    assert not failures, f"{len(failures)} failures:\n" + "\n".join(failures)
    print(f"{count} assignments of loss scales to operands of {len(known) - len(RULED)} ops: as in numbers")


if __name__ == "__main__":
    main()
