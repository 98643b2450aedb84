"""Compiles the examples of a page of documentation.

check_docs.py MPCC PAGE

    ```mp           a whole file: compiles
    ```mp file      items of a file        each put into a program, together with those of its kind
    ```mp model     items of a model       before it; the program compiles after each
    ```mp train     items of a train block
    ```mp error     a whole file: its errors are at the lines that end in `// error: message`, no others
"""
import re
import subprocess
import sys

PROGRAM = """version 1
module Linear(i: int, o: int) {
  weight: param[o, i] = he_uniform()
  fn (x: [..., i]) -> [..., o] = x @ transpose(weight)
}
%(file)s
model M {
  first = Linear(8, 8)
%(model)s
}
train M {
  batch B = 4
  data { x: f32[B, 8] }
  loss sum(first(x), axis: 1)%(use)s
  optimizer sgd(lr: 0.1)
%(train)s
}
"""

USES = {"features": " + sum(features(x), axis: 1)", "closer": " + closer(x)",
        "gap": " + sum(gap(x), axis: 1)",
        "bent": " + sum(bent(x), axis: 1)",
        "mixed": " + sum(mixed(x), axis: 1)"}


def compile(mpcc, text):
    run = subprocess.run([mpcc, "--emit=grad", "-"], input=text, capture_output=True, text=True,
                         timeout=60)
    return run.returncode, re.findall(r"^-:(\d+):\d+: error: (.*)$", run.stderr, re.M), run.stderr


def check_errors(mpcc, text):
    lines = text.split("\n")
    expected = [(str(i), l.split("// error: ")[1]) for i, l in enumerate(lines, 1) if "// error: " in l]
    status, errors, said = compile(mpcc, text)
    if status == 1 and sorted(errors) == sorted(expected):
        return ""
    return f"expected {expected}, got\n{said}"


def main():
    mpcc, page = sys.argv[1:3]
    with open(page) as f:
        examples = re.findall(r"^```mp *(\w*)\n(.*?)^```$", f.read(), re.M | re.S)
    parts = {"file": "", "model": "", "train": "", "use": ""}
    failed = 0
    for kind, text in examples:
        if kind == "error":
            wrong = check_errors(mpcc, text)
        elif kind == "":
            status, _, said = compile(mpcc, text)
            wrong = said if status else ""
        else:
            parts[kind] += text
            # What the model has must be trained.
            parts["use"] = "".join(call for name, call in USES.items() if name in parts["model"])
            status, _, said = compile(mpcc, PROGRAM % parts)
            wrong = said if status else ""
        if wrong:
            failed += 1
            print(f"example `mp {kind}` does not do what the page says:\n{text}\n{wrong}")
    print(f"{page}: {len(examples)} examples, {failed} failed")
    return 1 if failed or not examples else 0


sys.exit(main())
