"""Where a training program's time goes, kernel by kernel.

    python3 bench/kernels.py build/release/bin model.mp [-mcpu=… …] -- --data … --steps 20 --threads 1

Compiles the model, samples the program with `perf record` (the clock will do: no counters are needed) and prints
a line a kernel: its share of the samples, how often an entry launches it, what it reads and writes.  The number in a
kernel's name is that of the emitted function; equal layers share one.
"""
import collections, difflib, os, re, subprocess, sys, tempfile


def launches(mpcc, flags):
    """Of each function: where it is called, and as what; calls of --emit=ll stand in the order of --emit=plan."""
    emit = lambda kind: subprocess.run([mpcc, f"--emit={kind}", "-o", "-", *flags], check=True, text=True,
                                       capture_output=True).stdout
    calls, plan = collections.defaultdict(list), collections.defaultdict(list)
    entry = None
    for line in emit("ll").splitlines():
        if line.startswith("define"):
            entry = line
        m = re.match(r"\s+(?:tail )?call void @(?:[\w.]+\.)?((?:map|reduce|gemm|scatter)\.\d+)\(", line)
        if m:
            calls[entry].append(m[1])
    for line in emit("plan").splitlines():
        if line.startswith("entry"):
            entry = re.match(r"entry @(\w+)", line)[1]
        m = re.match(r"\s+((?:map|reduce|gemm|scatter) .*)", line)
        if m:
            plan[entry].append(re.sub(r"(state|arena|index)\+\d+:", "", m[1]))
    for entry, steps in plan.items():
        forms = [s.split()[0] for s in steps]
        names = max(calls.values(), key=lambda n: matches(n, forms).ratio())
        for i, j, n in matches(names, forms).get_matching_blocks():
            yield from ((names[i + k], entry, steps[j + k]) for k in range(n))


def matches(names, forms):
    return difflib.SequenceMatcher(None, [n.split(".")[0] for n in names], forms, autojunk=False)


def samples(program, arguments):
    with tempfile.TemporaryDirectory() as tmp:
        data = os.path.join(tmp, "perf.data")
        subprocess.run(["perf", "record", "-q", "-e", "cpu-clock", "-F", "999", "-o", data, program, *arguments],
                       check=True)
        text = subprocess.run(["perf", "report", "-i", data, "--no-children", "-F", "overhead,symbol", "--stdio"],
                              check=True, text=True, capture_output=True).stdout
    for line in text.splitlines():
        m = re.match(r"\s*([\d.]+)%\s+\[(.)\]\s+(\S+)", line)
        if m:
            yield float(m[1]), m[3]


def main():
    if "--" not in sys.argv or len(sys.argv) < 4:
        sys.exit(__doc__)
    cut = sys.argv.index("--")
    mpcc, flags, arguments = os.path.join(sys.argv[1], "mpcc"), sys.argv[2:cut], sys.argv[cut + 1:]
    known = collections.defaultdict(list)
    for name, entry, step in launches(mpcc, flags):
        known[name].append((entry, step))
    with tempfile.TemporaryDirectory() as tmp:
        program = os.path.join(tmp, "program")
        subprocess.run([mpcc, *flags, "-o", program], check=True)
        for share, symbol in samples(program, arguments):
            name = ".".join(symbol.split(".")[-2:])
            at = known.get(name) or known.get(".".join(symbol.split(".")[-3:-1]))
            if share < 0.05:
                continue
            count = collections.Counter(e for e, _ in at) if at else {}
            of = " ".join(f"{e}×{n}" for e, n in count.items())
            print(f"{share:6.2f} %  {name if at else symbol:<14} {of:<24} {at[0][1] if at else ''}")


main()
