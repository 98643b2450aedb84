"""Runs the acceptance programs, which are written in the whole language, through this version.

check_programs.py MPCC FOLDER

Each of FOLDER/*.mp is refused: first its first construct of a later version, by name at its line;
then, with its imports taken out, whatever comes next.  Each of FOLDER/bad/*.mp is refused, too:
where its first line says, if what is wrong with it is within reach of this version, else by the
name of a construct that comes later.  Nothing crashes: the exit status is 1 and no sanitizer speaks.
"""
import glob
import os
import re
import subprocess
import sys

LATER = "not supported by this version of mpcc"
# Errors that this version meets before a construct of a later one; the others import the layer
# library or are reached from `infer` only.
IN_REACH = ("lex_", "parse_", "limit_", "dim_exact", "dim_never_alone", "dim_overflow", "dim_zero")

failures = []


def compile(mpcc, name, text):
    run = subprocess.run([mpcc, "-fsyntax-only", "-"], input=text, capture_output=True, text=True,
                         timeout=60)
    sound = run.returncode == 1 and "Sanitizer" not in run.stderr and "runtime error" not in run.stderr
    errors = re.findall(r"^-:(\d+):(\d+): error: (.*)$", run.stderr, re.M)
    check(name, sound and errors, "is refused with status 1 and an error\n" + run.stderr)
    return errors[0] if errors else ("0", "0", "")


def check(name, good, what):
    if not good:
        failures.append(f"{name}: {what}")


def check_program(mpcc, path):
    name = os.path.basename(path)
    with open(path) as f:
        text = f.read()
    line, _, message = compile(mpcc, name, text)
    check(name, LATER in message, f"is refused by name, not `{message}`")
    imported = [i for i, l in enumerate(text.split("\n"), 1) if l.startswith("import")]
    check(name, not imported or int(line) == imported[0], f"is refused at its import, not at {line}")
    compile(mpcc, name + " without imports", re.sub(r"(?m)^import.*$", "", text))


def check_bad(mpcc, path):
    name = os.path.basename(path)
    with open(path) as f:
        text = f.read()
    line, col, message = compile(mpcc, name, text)
    said = re.match(r"// error: (\d+):(\d+) about", text)
    if name.startswith(IN_REACH):
        any_column = "(any column of" in text.split("\n")[0]
        check(name, line == said.group(1) and (col == said.group(2) or any_column),
              f"is refused at {said.group(1)}:{said.group(2)}, not {line}:{col}")
    else:
        check(name, LATER in message, f"is refused by name, not `{message}`")
    compile(mpcc, name, re.sub(r"(?m)^import.*$", "", text) + "\n]")


def main():
    mpcc, folder = sys.argv[1:3]
    programs = sorted(glob.glob(os.path.join(folder, "*.mp")))
    bad = sorted(glob.glob(os.path.join(folder, "bad", "*.mp")))
    check("programs", len(programs) >= 18 and len(bad) >= 42, "are there")
    for path in programs:
        check_program(mpcc, path)
    for path in bad:
        check_bad(mpcc, path)
    print("\n".join(failures))
    return 1 if failures else 0


sys.exit(main())
