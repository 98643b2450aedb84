"""messages.py ROOT MPCC_OPT: every message of the verifier is one that some test makes it say.

The messages are the formats of calls of `refuse` and the like in the verifier's sources.  What was said is
the whole text of what mpcc-opt refuses of the files verify-*.ir, split as they are; and of graphs that no
text can say, and of plans, what tests/unit/test_verify.c and test_program.c expect.  A new rule without a test is named here.
"""
import re
import subprocess
import sys
from pathlib import Path

root, opt = Path(sys.argv[1]), sys.argv[2]
CALL = re.compile(r"\b(?:refuse|node_report|verify_report|wrong)\(")
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|[(),]')
TEXT = re.compile(r'"(?:[^"\\]|\\.)*"(?:\s*"(?:[^"\\]|\\.)*")*')


def texts(code):
    """The literals of a piece of C, those that stand side by side as one."""
    return ["".join(re.findall(r'"((?:[^"\\]|\\.)*)"', m)).replace(r"\"", '"') for m in TEXT.findall(code)]


def formats(path):
    """Of each call the literals of the first argument that has one: both sides of a ?:, too."""
    code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
    for call in CALL.finditer(code):
        depth, start = 1, call.end()
        for token in TOKEN.finditer(code, call.end()):
            depth += {"(": 1, ")": -1}.get(token[0], 0)
            if depth == 0 or (depth == 1 and token[0] == ","):
                found = texts(code[start:token.start()])
                yield from found
                if found or depth == 0:
                    break
                start = token.end()


def pattern(text):
    """What it prints as: behind the op, entry or node, before the operands' types."""
    parts = map(re.escape, re.split(r"%(?:\.\*s|l*[sdug])", text))
    return re.compile("(?:.*: )?" + ".*".join(parts) + r"(?: \(.*\))?")


said = set()
for test in "test_verify.c", "test_program.c":
    said |= set(texts((root / "tests/unit" / test).read_text()))
for test in sorted((root / "tests/lit/ir").glob("verify-*.ir")):
    run = subprocess.run([opt, "--split-input-file", test], capture_output=True, text=True)
    said |= set(re.findall(r"error: (.*)", run.stderr))

sources = [*sorted(root.glob("ir/verify*.c")), root / "ir/unit.c", root / "ir/shape.c"]
messages = [(path.name, text) for path in sources for text in formats(path)]
missing = [m for m in messages if not any(pattern(m[1]).fullmatch(line) for line in said)]
for name, text in missing:
    print(f"no test makes {name} say: {text}")
if len(messages) < 200:
    print(f"{len(messages)} messages were found: this script no longer reads the sources")
sys.exit(bool(missing) or len(messages) < 200)
