"""Every op × element type × shape × special value: the evaluator against NumPy in f64 and in f32, then
compiled code against the evaluator, bit for bit.

usage: test_table.py EVALTOOL MPCC MPCC_OPT OPTOOL [OP…]

cases.py says where it stands what each op means; a row of ops.def that is not there fails the test.
Elementwise ops are refused on every type that the table does not name.  In f64 a result is
within 1e-12 of its size or of its slack; in f32 within the ulp, or the derived slack, that the case
states.  Subnormal f32 numbers are zeros for the code and for the oracle.  OPTOOL compiles the same
graphs and runs them on its own random and special operands: the lowest level at -O0, this machine's at
-O3, with MPCC_LONG=1 all levels, with MPCC_ONE_LEVEL=1 (a sanitized build) the lowest alone.
"""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "accept"))
from cases import TABLE
from fp8_cases import FP8
from op_table import BATCH, FLOATS, ROWS, bf16, type_of
from support import LONG, levels

EVALTOOL, MPCC, OPT, OPTOOL = sys.argv[1:5]
# A sanitized build looks for wrong memory, not for wrong bits: of each row every fourth case.
THIN = 4 if os.environ.get("MPCC_ONE_LEVEL") == "1" else 1
DIGITS = {"f32": 24, "bf16": 8, "f16": 11}
LEAST = {"f32": -126, "bf16": -126, "f16": -24}  # exponent of the smallest number kept
MOST = {"f32": 3.4028234663852886e38, "bf16": 3.3895313892515355e38, "f16": 65504.0}


def rows_of_ops_def():
    page = subprocess.run([MPCC, "--print-ops"], check=True, text=True, stdout=subprocess.PIPE).stdout
    return [line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and " | " in line
            and len(line.split(" | ")) >= 8]


# ---- graphs ------------------------------------------------------------------------------------------


def entry_text(op, cases, rows):
    """One entry of all cases: operand i of case k is input `x{k}_{i}`, result i is value `y{k}_{i}`."""
    args, body, results = [], [], []
    for k, case in cases:
        for i, (dtype, x) in enumerate(case.operands):
            mark = case.is_tagged(f"x{i}", x.shape)
            args.append(f'%{k}x{i}: {type_of(dtype, x.shape, mark)} = input "x{k}_{i}"')
        body.append(case.text.replace("%", f"%{k}"))
        results += [f'value "y{k}_{i}" = %{k}y{i}' for i in range(len(case.results))]
    name = op.replace(".", "_")
    head = f"entry @{name}_rows infer batch {BATCH}" if rows else f"entry @{name} infer"
    return f"{head} ({', '.join(args)}) {{\n" + "\n".join(body) + f"\nreturn {', '.join(results)}\n}}\n"


def renamed(text):
    """IR names begin with a letter."""
    return re.sub(r"%(\d+)([a-z]\w*)", r"%\2_\1", text)


# ---- the evaluator -----------------------------------------------------------------------------------


def operands_for(case, f64):
    """What is set: floats as they are, real rows only."""
    for i, (dtype, x) in enumerate(case.operands):
        x = x[:ROWS] if case.is_tagged(f"x{i}", x.shape) else x
        yield i, (x.astype(np.float64 if f64 else np.float32) if dtype in FLOATS else x), x


def evaluate(folder, text, entry, cases, f64, rows):
    (folder / "g.ir").write_text('graph "t"\n' + text)
    for old in folder.glob("*.npy"):
        old.unlink()
    with np.errstate(all="ignore"):
        for k, case in cases:
            for i, x, _ in operands_for(case, f64):
                np.save(folder / f"input.x{k}_{i}.npy", x)
    subprocess.run([EVALTOOL, folder / "g.ir", f"--in={folder}", f"--out={folder}", entry] +
                   [f"--rows={ROWS}"] * rows + ["--f64"] * f64, check=True)
    return {(k, i): np.load(folder / f"value.y{k}_{i}.npy")
            for k, case in cases for i in range(len(case.results))}


# ---- comparing ---------------------------------------------------------------------------------------


def flush(x):
    return np.where(np.abs(x) < 2.0**-126, np.copysign(0.0, x), x)


def ulp_of(dtype, x):
    """Distance between neighbours at x, of numbers that are normal."""
    with np.errstate(all="ignore"):
        _, e = np.frexp(np.where(np.isfinite(x), x, 0))
    return np.ldexp(1.0, np.maximum(e, LEAST[dtype] + (DIGITS[dtype] if dtype == "f16" else 1)) - DIGITS[dtype])


def rounded(dtype, x):
    with np.errstate(all="ignore"):
        return bf16(x) if dtype == "bf16" else x.astype({"f32": np.float32, "f16": np.float16}[dtype]).astype(float)


def check_floats(what, got, want, allowed, dtype):
    """Within `allowed`; infinite where the want rounds to infinity, NaN where it is NaN, 0 where 0."""
    top = rounded(dtype, want) if dtype else want
    with np.errstate(all="ignore"):
        near = ~(np.abs(got - want) > allowed) & ~np.isnan(got)
        near |= (np.isinf(got) | (np.abs(got) >= MOST.get(dtype, np.inf))) & np.isinf(top) & (np.sign(got) == np.sign(top))
    ok = np.where(np.isnan(want), np.isnan(got), np.where(np.isinf(want), got == want, near))
    signs = (want == 0) & (got == 0) & (np.signbit(want) != np.signbit(got))
    if not ok.all():
        i = np.unravel_index(np.argmin(ok), ok.shape)
        raise AssertionError(f"{what} at {tuple(map(int, i))}: {got[i]!r}, expected {want[i]!r} ± {np.broadcast_to(allowed, ok.shape)[i]:.3g}")
    return signs.any()


def check_case(what, case, k, found, f64):
    seen = [x for _, _, x in operands_for(case, f64)]
    if not f64:
        seen = [flush(x) if d in FLOATS else x for (d, _), x in zip(case.operands, seen)]
    want = (case.f64_want if f64 else case.want)(*seen)
    slack = case.slack(*seen) if case.slack else 0.0
    for i, (dtype, shape) in enumerate(case.results):
        got, w = found[k, i], np.asarray(want[i])
        real = case.is_tagged(f"y{i}", shape)
        assert got.shape == shape, f"{what}: shape {got.shape}, expected {shape}"
        if real and case.text.split()[2] == "mask_rows":
            assert not got[ROWS:].any(), f"{what}: padding is not 0"
        got = got[:ROWS] if real else got
        assert got.shape == w.shape, f"{what}: shape {got.shape}, of the oracle {w.shape}"
        if (dtype in FP8 or dtype == "f8e8m0") and not f64:
            assert np.array_equal(got, w, equal_nan=True), f"{what}: {got}, expected {w}"
            continue
        if dtype not in FLOATS and dtype not in FP8 and dtype != "f8e8m0":
            assert np.array_equal(got.astype(np.int64), w.astype(np.int64)), f"{what}: {got}, expected {w}"
            continue
        got, w = got.astype(np.float64), w.astype(np.float64)
        if f64:
            with np.errstate(all="ignore"):
                check_floats(what, got, w, 1e-12 * np.maximum(np.abs(w), 1e-300) + case.f64_slack * slack, None)
            continue
        # rounding to f32 is within what the program may be off; then to the storage type
        f32 = ulp_of("f32", w) * max(case.ulp, 0.5)
        low = ulp_of(dtype, w) * 0.5 if dtype != "f32" else 0.0
        flushed = 2.0**-126 * 1.01 if dtype != "f16" else 0.0
        small = np.where(np.abs(w) < 2.0**-125, flushed, 0.0)
        check_floats(what, got, w, (f32 + low + slack) * (1 + 1e-9) + small, dtype)


def check_itself():
    one = np.ones(3)
    for bad in np.array([1, np.nan, 1]), np.array([1, np.inf, 1]), one + 3e-7:
        for a, b in (bad, one), (one, bad):
            try:
                check_floats("itself", a, b, 1.2e-7, "f32")
            except AssertionError:
                continue
            raise SystemExit("the comparison passes on what it must refuse")


def check_refused(folder, op):
    """How many types the verifier, or the rule of the result's type, refuses."""
    cases = TABLE[op]
    for dtype in getattr(cases, "refused", []):
        args = ", ".join(f'%x{i}: {dtype}[3] = input "x{i}"' for i in range(cases.operands))
        operands = ", ".join(f"%x{i}" for i in range(cases.operands))
        (folder / "refused.ir").write_text(
            f'graph "t"\nentry @e infer ({args}) {{\n%y = {op} {operands} : {cases.result or dtype}[3]\n'
            'return value "y" = %y\n}\n')
        run = subprocess.run([OPT, folder / "refused.ir"], capture_output=True, text=True)
        assert run.returncode == 1 and f"error: {op}: " in run.stderr, f"{op} of {dtype}: {run.stderr or 'accepted'}"
    return len(getattr(cases, "refused", []))


def compiled(folder, op, text, run_levels):
    """How many runs agreed."""
    (folder / "ops.ir").write_text(text)
    run = subprocess.run([OPTOOL, folder / "ops.ir", *run_levels], capture_output=True, text=True)
    count = re.fullmatch(r"optool: (\d+) checks, 0 failed\n", run.stdout)
    assert run.returncode == 0 and count and int(count[1]) > 0, f"{op}: {run.stdout}{run.stderr[:4000]}"
    return int(count[1])


# ---- the run -----------------------------------------------------------------------------------------


def main():
    check_itself()
    known, wanted = rows_of_ops_def(), sys.argv[5:]
    assert len(known) > 80, known
    assert set(known) == set(TABLE), f"not in the table: {set(known) - set(TABLE)}, not in ops.def: {set(TABLE) - set(known)}"
    count, failures, texts = 0, [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for op in wanted or known:
            numbered = list(enumerate(TABLE[op](op)))[::THIN]
            assert numbered, f"{op}: no case"
            for rows in False, True:
                cases = [(k, c) for k, c in numbered if c.rows == rows]
                if not cases:
                    continue
                text = renamed(entry_text(op, cases, rows))
                if op != "kernel":  # what the passes make of all others
                    texts[op] = texts.get(op, "") + text
                entry = op.replace(".", "_") + "_rows" * rows
                for f64 in True, False:
                    try:
                        found = evaluate(folder, text, entry, cases, f64, rows)
                    except subprocess.CalledProcessError:
                        failures.append(f"{op}: the evaluator refuses")
                        break
                    for k, case in cases:
                        types = " ".join(type_of(d, x.shape) for d, x in case.operands)
                        try:
                            check_case(f"{op} {types}{' rows' * rows} {'f64' if f64 else 'f32'}", case, k, found, f64)
                        except AssertionError as e:
                            failures.append(str(e))
                count += len(cases)
        assert not failures, f"{len(failures)} failures:\n" + "\n".join(failures[:60])
        refused = sum(check_refused(folder, op) for op in wanted or known)
        print(f"{refused} types refused")
        print(f"{count} cases of {len(wanted or known)} ops: the evaluator agrees with NumPy", flush=True)
        few = levels()[:1] if os.environ.get("MPCC_ONE_LEVEL") == "1" else [levels()[0], levels()[-1]]
        run_levels = levels() if LONG else few
        checks = sum(compiled(folder, op, text, run_levels) for op, text in texts.items())
        print(f"{checks} runs of compiled entries ({', '.join(run_levels)}): the evaluator's bits")


if __name__ == "__main__":
    main()
