"""precision_rows.py MPCC MPCC_OPT: what each op stores between kernels, by the rows of docs/precision.md.

Of an op on the low result of a product, read by two kernels: `follow` and `widest` are stored low.  Of one on
that and on what a region of f32 has made: `widest` is stored in f32, `follow` low.  What is a loss or a sum is
f32 always.  An op on floats that is in no row here fails.
"""
import re
import subprocess
import sys

FOLLOW = """exp expm1 log log1p rsqrt pow softplus sqrt tanh sigmoid erf gelu gelu_grad gelu_tanh gelu_tanh_grad silu sin cos
 relu max min abs neg sign round floor mask_rows softmax log_softmax layer_norm rms_norm dropout stop""".split()
WIDEST = "add sub mul div select concat".split()
F32 = "sum floor_pow2 bce_logits scatter_add".split()
# By tests of their own, or never between kernels: integers, draws, products, tables, casts, what the step is made of.
OTHERS = """constant iota uniform normal philox bits_to_uniform bits_to_normal stochastic_round round_by_bits reshape transpose
 broadcast cast cast.policy bf16_rest bf16_join untag_rows eq ne lt le gt ge and or not isfinite reduce_max reduce_min reduce_and
 reduce_or matmul matmul_scaled quantize saturate saturated flushed gather embedding one_hot logsumexp cross_entropy argmax
 cotangent custom_grad slice pad scale_min rescale loss_seed commit loop kernel""".split()
ATTRS = {"layer_norm": "eps=0.1", "rms_norm": "eps=0.1", "dropout": "site=1, rate=0.5", "concat": "axis=1",
         "sum": "axes=[2]"}
OPERANDS = {"select": "%c, {}, {}", "concat": "%low, {}, {}, %low", "dropout": "{}, %i, %i", "scatter_add": "{}, %j"}
RESULT = {"concat": "rows 8,24", "scatter_add": "9,6"}
BINARY = WIDEST + ["pow", "max", "min", "bce_logits"]

mpcc, opt = sys.argv[1:3]


def stored(op, x, y):
    """The type that two kernels read the op's result in."""
    names = OPERANDS.get(op, "{}, {}" if op in BINARY else "{}").format(x, y)
    if op == "sum":
        names = "%u"
    attrs = f" {{{ATTRS[op]}}}" if op in ATTRS else ""
    dims = RESULT.get(op, "rows 8,6")
    rows, columns = dims.replace("rows ", "").split(",")
    tag = "rows " if "rows" in dims else ""
    text = f"""train precision bf16
entry @f eval batch 8 (%x: f32[rows 8,6] = input "x", %w: f32[6,6] = input "w", %c: i1[rows 8,6] = input "c", %i: i32[] = input "i",
                       %j: i32[rows 8] = input "j", %u: f32[rows 8,6,4] = input "u") {{
  %low = matmul %x, %w {{k_chunk=256}} : f32[rows 8,6]
  %wide = matmul %x, %w {{tb, k_chunk=256, prec=f32}} : f32[rows 8,6]
  %y = {op} {names}{attrs} : f32[{dims}]
  %0 = reduce_max %y {{axes=[0]}} : f32[{columns}]
  %1 = reduce_min %y {{axes=[1]}} : f32[{tag}{rows}]
  return value "0" = %0, value "1" = %1
}}
"""
    run = subprocess.run([opt, "--passes=expand,group,precision", "-"], input=text, capture_output=True, text=True)
    assert run.returncode == 0, f"{op}: {run.stderr}"
    read = []
    for kernel in re.findall(r"= kernel .*?\(([^\n]*)\) {\n(.*?)\n    yield", run.stdout, re.S):
        if re.search(r"= reduce_m(?:ax .* {axes=\[0\]|in .* {axes=\[1\])", kernel[1]):
            read += re.findall(rf": (\w+)\[{dims}\]", kernel[0])
    assert read, f"{op}: both kernels make it"
    return read[-1]


page = subprocess.run([mpcc, "--print-ops"], capture_output=True, text=True).stdout
known = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and line.count(" | ") >= 7}
rows = FOLLOW + WIDEST + F32 + OTHERS
assert sorted(rows) == sorted(known), f"in no row: {known - set(rows)}; no op: {set(rows) - known}"
wrong = []
for op in FOLLOW + WIDEST + F32:
    want = "f32" if op in F32 else "bf16"
    cases = [("%low", "%low", want)]
    if op in BINARY:
        cases.append(("%low", "%wide", "f32" if op in WIDEST else want))
    for x, y, type in cases:
        got = stored(op, x, y)
        if got != type:
            wrong.append(f"{op} of {x}, {y} is stored in {got}, not {type}")
print("\n".join(wrong))
sys.exit(bool(wrong))
