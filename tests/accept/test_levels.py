"""Several instruction-set levels in one output: which instructions each level's functions use, that
a context takes the best one that this CPU has, and that all give the same bits."""
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from mpcc_model import Model, ModelError
from support import MLP, compile_to, cpu_has, levels, mpcc

LEVELS = ["x86-64-v3", "x86-64-v4", "x86-64-v4+avx512bf16"]


def functions(*flags):
    """(form, level) -> assembly of all such functions, in one text."""
    text, found, where = mpcc("-S", "-o", "-", *flags, MLP), {}, None
    for line in text.splitlines():
        label = re.match(r'"?(map|gemm|reduce|entry)\.[\w.]*?\.(x86-64[^":]*?)(\.finish)?"?:', line)
        if label:
            where = label[1], label[2]
            found.setdefault(where, [])
        elif re.match(r'"?[a-z_]\w*"?:', line):
            where = None
        elif where:
            found[where].append(line)
    return {where: "\n".join(lines) for where, lines in found.items()}


def check_registers():
    found = functions("--precision=bf16")
    assert {level for _, level in found} == set(LEVELS), sorted(found)
    for (form, level), code in found.items():
        if level == LEVELS[0] or form == "entry":
            assert "%zmm" not in code, f"{form} of {level} uses AVX-512"
        assert ("vdpbf16ps" in code) == ((form, level) == ("gemm", LEVELS[2])), (form, level)
    assert "%zmm" in found["gemm", LEVELS[1]] and "%ymm" in found["gemm", LEVELS[0]]
    forms = [form for form, level in found if level == LEVELS[2]]
    assert sorted(forms) == ["entry", "gemm"], f"only products differ with bf16: {forms}"
    # A level that makes no kernel better is left out.
    assert {level for _, level in functions("--precision=f32")} == set(LEVELS[:2])


def digest(library, cpu):
    model = Model(library, threads=2, cpu=cpu)
    model.init(7)
    model.hyper("steps", 3)
    rng = np.random.default_rng(1)
    rows = model.entries["train_step"].batch
    images = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, rows, dtype=np.uint8)
    for _ in range(3):
        model.run("train_step", images=images, labels=labels)
    return b"".join(model.get(s).tobytes() for s in model.states)


def check_choice(folder):
    """znver3 is code of x86-64-v3 too, laid out for that processor: two levels that more CPUs have."""
    library = compile_to(folder / "two.so", MLP, "--multiversion=x86-64-v3,znver3")
    assert digest(library, b"x86-64-v3") == digest(library, b"znver3:x86-64-v3")
    library = compile_to(folder / "all.so", MLP, "--multiversion=" + ",".join(LEVELS))
    lowest = digest(library, LEVELS[0].encode())
    assert digest(library, None) == lowest, "the best level has other bits"
    here = levels()
    for level in LEVELS:
        if level in here:
            assert digest(library, level.encode()) == lowest, level
            continue
        try:
            digest(library, level.encode())
        except ModelError as error:
            assert "lacks avx512" in str(error), error
        else:
            raise AssertionError(f"{level} was taken on a CPU without it")


def check_program(folder):
    """The program beside a model: info says what runs here, selftest keeps its promises."""
    program = compile_to(folder / "mlp", MLP, "--multiversion=x86-64-v3,v4")
    info = subprocess.run([program, "info"], check=True, text=True, stdout=subprocess.PIPE).stdout
    assert re.search(r"target +x86-64-v3,x86-64-v4; here x86-64-v[34]\n", info), info
    found = subprocess.run([program, "selftest", "--cpu", "x86-64-v3"], text=True,
                           stdout=subprocess.PIPE).stdout
    assert found.endswith("passed\n"), found


def main():
    check_registers()
    if not cpu_has("avx2", "fma", "f16c", "bmi2"):
        print("left out: running, this CPU lacks x86-64-v3")
        return
    with tempfile.TemporaryDirectory() as folder:
        check_choice(Path(folder))
        check_program(Path(folder))


main()
