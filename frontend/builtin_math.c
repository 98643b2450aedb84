/* builtin_math.c: elementwise functions.
 *
 * Of numbers they are computed, in f64 by libm; of tensors they become nodes, in f32 by the
 * programs of ir/scalar.def.  One row says both, so that `exp(1)` in a declaration and exp(x) in a
 * function are the same function. */
#include "frontend/builtin.h"

#include <math.h>

static Val call_unary(Sema *s, const Builtin *b, const Call *c) {
  double f;
  if (val_number(c->arg[0].val, &f)) return number_make(s, c->loc, b->fold(f));
  return tensor_unary(s, b->op, c->arg[0].val, c->arg[0].loc);
}

static double fold_relu(double x) { return x > 0 ? x : 0; }
static double fold_sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double fold_rsqrt(double x) { return 1 / sqrt(x); }
static double fold_gelu(double x) { return x / 2 * erfc(-x * 0.70710678118654752440); }
static double fold_silu(double x) { return x * fold_sigmoid(x); }
static double fold_softplus(double x) { return fold_relu(x) + log1p(exp(-fabs(x))); }
static double fold_sign(double x) { return (x > 0) - (x < 0); }

static double fold_gelu_tanh(double x) {
  return x * fold_sigmoid(1.5957691216057307117 * (x + 0.044715 * x * x * x));
}

/* Of an int: an int. */
static Val call_abs(Sema *s, const Builtin *b, const Call *c) {
  Val x = c->arg[0].val;
  if (x.kind != VAL_INT || x.i == INT64_MIN) return call_unary(s, b, c);
  return val_int(x.i < 0 ? -x.i : x.i);
}

static Val call_extreme(Sema *s, const Builtin *b, const Call *c) { /* max, min */
  double x, y;
  if (call_positional(c) == 1) return call_extreme_along(s, b, c);
  if (c->n > 2) {
    diag_error(s->diag, c->arg[2].loc, "%s of two takes no `%s`", b->name, c->arg[2].name);
    return val_bad();
  }
  Val l = c->arg[0].val, r = c->arg[1].val;
  bool largest = b->op == OP_max;
  if (l.kind == VAL_INT && r.kind == VAL_INT) return val_int((l.i > r.i) == largest ? l.i : r.i);
  if (val_number(l, &x) && val_number(r, &y)) return val_float((x > y) == largest ? x : y);
  ValueId v[2];
  if (!tensor_unify(s, 2, (Val[]){l, r}, v, c->loc, b->name)) return val_bad();
  if (value_type(s->g, v[0]).dtype != DT_i1) return val_tensor(build2(&s->b, b->op, v[0], v[1]));
  diag_error(s->diag, c->loc, "%s of bools", b->name);
  return val_bad();
}

static Val call_where(Sema *s, const Builtin *b, const Call *c) {
  Val sides[2] = {c->arg[1].val, c->arg[2].val};
  ValueId v[3] = {tensor_of(s, c->arg[0].val, c->arg[0].loc)};
  double f;
  if (v[0] == NO_ID) return val_bad();
  if (value_type(s->g, v[0]).dtype != DT_i1) {
    diag_error(s->diag, c->arg[0].loc, "%s: the condition is %s, i1 is wanted", b->name,
               val_describe(s, c->arg[0].val));
    return val_bad();
  }
  if (val_number(sides[0], &f) && val_number(sides[1], &f)) /* numbers alone are f32 */
    sides[0] =
        val_tensor(build_constant(&s->b, type_scalar(DT_f32), (val_number(sides[0], &f), f)));
  if (!tensor_unify(s, 2, sides, v + 1, c->loc, b->name)) return val_bad();
  if (!tensor_align(s, 3, v, c->loc, b->name)) return val_bad();
  return val_tensor(build_select(&s->b, v[0], v[1], v[2]));
}

static Val call_stop(Sema *s, const Builtin *b, const Call *c) {
  ValueId x = tensor_of(s, c->arg[0].val, c->arg[0].loc);
  return x == NO_ID ? val_bad() : val_tensor(build1(&s->b, b->op, x));
}

static Val call_clamp_numbers(const Val *of, double x, double lo, double hi) {
  double y = x < lo ? lo : x;
  int pick = y > hi ? 2 : x < lo ? 1 : 0;
  bool ints = of[0].kind == VAL_INT && of[1].kind == VAL_INT && of[2].kind == VAL_INT;
  return ints ? of[pick] : val_float(y > hi ? hi : y);
}

/* Where lo > hi it is hi; NaN stays.  The gradient of x passes at the bounds, as PyTorch has it. */
static Val call_clamp(Sema *s, const Builtin *b, const Call *c) {
  double x, lo, hi;
  Val of[3] = {c->arg[0].val, c->arg[1].val, c->arg[2].val};
  bool numbers = val_number(of[0], &x) && val_number(of[1], &lo) && val_number(of[2], &hi);
  if (numbers) return call_clamp_numbers(of, x, lo, hi);
  ValueId v[3];
  if (!tensor_unify(s, 3, of, v, c->loc, b->name)) return val_bad();
  if (dtype_kind[value_type(s->g, v[0]).dtype] == 'b') {
    diag_error(s->diag, c->loc, "%s of bools", b->name);
    return val_bad();
  }
  ValueId low = build2(&s->b, OP_lt, v[0], v[1]);
  ValueId y = build_select(&s->b, low, v[1], v[0]);
  ValueId high = build2(&s->b, OP_gt, y, v[2]);
  return val_tensor(build_select(&s->b, high, v[2], y));
}

static Val call_lerp(Sema *s, const Builtin *b, const Call *c) { /* x + t (y - x) */
  double x, y, t;
  Val of[3] = {c->arg[0].val, c->arg[1].val, c->arg[2].val};
  bool numbers = val_number(of[0], &x) && val_number(of[1], &y) && val_number(of[2], &t);
  if (numbers) return number_make(s, c->loc, x + t * (y - x));
  ValueId v[3];
  if (!floats_unify(s, b, c, 3, v)) return val_bad();
  ValueId part = build2(&s->b, OP_mul, v[2], build2(&s->b, OP_sub, v[1], v[0]));
  return val_tensor(build2(&s->b, OP_add, v[0], part));
}

static const Builtin table[] = {
    BUILTIN("relu", 1, 1, .call = call_unary, .op = OP_relu, .fold = fold_relu),
    BUILTIN("exp", 1, 1, .call = call_unary, .op = OP_exp, .fold = exp),
    BUILTIN("expm1", 1, 1, .call = call_unary, .op = OP_expm1, .fold = expm1),
    BUILTIN("log", 1, 1, .call = call_unary, .op = OP_log, .fold = log),
    BUILTIN("sqrt", 1, 1, .call = call_unary, .op = OP_sqrt, .fold = sqrt),
    BUILTIN("tanh", 1, 1, .call = call_unary, .op = OP_tanh, .fold = tanh),
    BUILTIN("sigmoid", 1, 1, .call = call_unary, .op = OP_sigmoid, .fold = fold_sigmoid),
    BUILTIN("stop", 1, 1, .call = call_stop, .op = OP_stop),
    BUILTIN("expm1", 1, 1, .call = call_unary, .op = OP_expm1, .fold = expm1),
    BUILTIN("log1p", 1, 1, .call = call_unary, .op = OP_log1p, .fold = log1p),
    BUILTIN("rsqrt", 1, 1, .call = call_unary, .op = OP_rsqrt, .fold = fold_rsqrt),
    BUILTIN("erf", 1, 1, .call = call_unary, .op = OP_erf, .fold = erf),
    BUILTIN("gelu", 1, 1, .call = call_unary, .op = OP_gelu, .fold = fold_gelu),
    BUILTIN("gelu_tanh", 1, 1, .call = call_unary, .op = OP_gelu_tanh, .fold = fold_gelu_tanh),
    BUILTIN("silu", 1, 1, .call = call_unary, .op = OP_silu, .fold = fold_silu),
    BUILTIN("softplus", 1, 1, .call = call_unary, .op = OP_softplus, .fold = fold_softplus),
    BUILTIN("sin", 1, 1, .call = call_unary, .op = OP_sin, .fold = sin),
    BUILTIN("cos", 1, 1, .call = call_unary, .op = OP_cos, .fold = cos),
    BUILTIN("abs", 1, 1, .call = call_abs, .op = OP_abs, .fold = fabs),
    BUILTIN("sign", 1, 1, .call = call_unary, .op = OP_sign, .fold = fold_sign),
    BUILTIN("round", 1, 1, .call = call_unary, .op = OP_round, .fold = rint),
    BUILTIN("floor", 1, 1, .call = call_unary, .op = OP_floor, .fold = floor),
    BUILTIN("max", 1, 2, .call = call_extreme, .op = OP_max, .named = "axis keep"),
    BUILTIN("min", 1, 2, .call = call_extreme, .op = OP_min, .named = "axis keep"),
    BUILTIN("clamp", 3, 3, .call = call_clamp, .op = OP_select),
    BUILTIN("lerp", 3, 3, .call = call_lerp, .op = OP_mul),
    BUILTIN("where", 3, 3, .call = call_where, .op = OP_select),
};

const BuiltinTable builtin_math = BUILTIN_TABLE(table);
