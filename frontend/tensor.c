/* tensor.c: arithmetic on tensors: what the user wrote becomes nodes of equal dims and types.
 *
 * Numbers lift to constants, u8 and u16 widen to i32; dims are joined in broadcast.c.  Where the
 * batch lies is followed through every op: an op that mixes rows is refused, because the last batch
 * may be partial and its padding must reach nothing.
 */
#include "frontend/sema.h"

#include <float.h>
#include <math.h>
#include <string.h>

bool tensors_allowed(Sema *s, Loc loc) {
  if (s->building) return true;
  diag_error(s->diag, loc, "tensors are computed in functions and in `train`, not in declarations");
  return false;
}

ValueId tensor_of(Sema *s, Val v, Loc loc) {
  if (v.kind == VAL_BAD) return NO_ID;
  if (!val_is_tensor(v)) {
    diag_error(s->diag, loc, "a tensor is wanted, not %s", val_describe(s, v));
    return NO_ID;
  }
  if (!tensors_allowed(s, loc)) return NO_ID;
  return v.kind == VAL_PARAM ? param_value(s, v.param, loc) : v.tensor;
}

bool mixes_rows(Sema *s, ValueId x, int axis, Loc loc, const char *what) {
  if (value_type(s->g, x).rows != axis || s->deciding) return false;
  const char *batch = s->batch_name ? s->batch_name : "the batch";
  if (s->total)
    diag_error(s->diag, loc,
               "%s over %s mixes rows: leave the %s unreduced, its mean is over the real rows",
               what, batch, s->total);
  else
    diag_error(s->diag, loc, "%s over %s mixes rows and the last batch may be partial: tail(drop)",
               what, batch);
  return true;
}

ValueId tensor_widen(Sema *s, ValueId v) {
  DType d = (DType)value_type(s->g, v).dtype;
  return d == DT_u8 || d == DT_u16 ? build_cast(&s->b, v, DT_i32) : v;
}

/* ---- lifting --------------------------------------------------------------------------------- */

/* A compile-time value as a constant of t's dims and element type; `was` names the type as the user
 * knows it, before widening. */
static bool lift(Sema *s, Val v, Type t, DType was, ValueId *out, Loc loc) {
  double f = v.kind == VAL_BOOL ? (double)v.i : 0;
  bool is_bool = v.kind == VAL_BOOL, wants_bool = t.dtype == DT_i1;
  const char *of = dtype_name[was];
  *out = NO_ID;
  if (!val_number(v, &f) && !is_bool)
    diag_error(s->diag, loc, "a tensor or a number is wanted, not %s", val_describe(s, v));
  else if (is_bool != wants_bool)
    diag_error(s->diag, loc, "%s with %s%s", of, is_bool ? "a bool" : "a number",
               wants_bool ? ": write f32(x)" : "");
  else if (dtype_kind[t.dtype] == 'i' && v.kind == VAL_FLOAT)
    diag_error(s->diag, loc, "%s with a float: write f32(x)", of);
  else if (dtype_kind[t.dtype] == 'i' && (f < INT32_MIN || f > INT32_MAX))
    diag_error(s->diag, loc, "%s does not fit in i32", val_describe(s, v));
  else if (fabs(f) > FLT_MAX && !isinf(f))
    diag_error(s->diag, loc, "%s does not fit in f32", val_describe(s, v));
  else if (t.dtype == DT_f16 && !dtype_holds(DT_f16, f))
    diag_error(s->diag, loc, "%s does not fit in f16: write f32(x)", val_describe(s, v));
  else *out = build_constant(&s->b, t, f);
  return *out != NO_ID;
}

static bool same_dtype(Sema *s, DType a, DType b, Loc loc) {
  bool a_float = dtype_kind[a] == 'f', b_float = dtype_kind[b] == 'f';
  if (a_float != b_float)
    diag_error(s->diag, loc, "%s with a float: write f32(x)", dtype_name[a_float ? b : a]);
  else diag_error(s->diag, loc, "%s with %s: write a cast", dtype_name[a], dtype_name[b]);
  return false;
}

bool tensor_unify(Sema *s, uint32_t n, const Val *v, ValueId *out, Loc loc, const char *what) {
  DType was = DT_COUNT, wide = DT_COUNT;
  for (uint32_t i = 0; i < n; i++) {
    out[i] = NO_ID;
    if (v[i].kind == VAL_BAD) return false;
    if (!val_is_tensor(v[i])) continue;
    DType own = (DType)val_type(s, v[i]).dtype;
    if ((out[i] = tensor_of(s, v[i], loc)) == NO_ID) return false;
    out[i] = tensor_widen(s, out[i]);
    DType d = (DType)value_type(s->g, out[i]).dtype;
    if (was != DT_COUNT && wide != d) return same_dtype(s, was, own, loc);
    wide = d;
    was = own;
  }
  if (was == DT_COUNT) return tensor_of(s, v[0], loc) != NO_ID; /* which reports it */
  Type t;
  if (!dims_join(s, n, out, &t, loc, what)) return false;
  t.dtype = (uint8_t)wide;
  for (uint32_t i = 0; i < n; i++) {
    if (out[i] != NO_ID) out[i] = broadcast_to(s, out[i], t);
    else if (!lift(s, v[i], t, was, &out[i], loc)) return false;
  }
  return true;
}

bool tensor_lift(Sema *s, Val *v, DType d, Loc loc) {
  ValueId x;
  s->b.loc = loc;
  if (!lift(s, *v, type_scalar(d), d, &x, loc)) return false;
  *v = val_tensor(x);
  return true;
}

/* ---- ops ------------------------------------------------------------------------------------- */

Val tensor_unary(Sema *s, Op op, Val x, Loc loc) {
  ValueId v = tensor_of(s, x, loc);
  if (v == NO_ID) return val_bad();
  s->b.loc = loc;
  v = tensor_widen(s, v);
  char kind = dtype_kind[value_type(s->g, v).dtype];
  if (op == OP_neg && kind == 'b') {
    diag_error(s->diag, loc, "`-` of %s: write `not`", val_describe(s, x));
    return val_bad();
  }
  if (op == OP_not || op == OP_neg || kind == 'f') return val_tensor(build1(&s->b, op, v));
  diag_error(s->diag, loc, "%s of %s: floats are wanted, write f32(x)", op_name[op],
             val_describe(s, x));
  return val_bad();
}

/* ---- powers ---------------------------------------------------------------------------------- */

/* x^n by squaring, n >= 1. */
static ValueId whole_power(Sema *s, ValueId x, int64_t n) {
  ValueId r = NO_ID;
  for (; n; n /= 2) {
    if (n % 2) r = r == NO_ID ? x : build2(&s->b, OP_mul, r, x);
    if (n > 1) x = build2(&s->b, OP_mul, x, x);
  }
  return r;
}

/* To a power that multiplication, division or a root gives; NO_ID: to none such. */
static ValueId exact_power(Sema *s, ValueId x, double n) {
  enum { MOST = 64 };
  bool floats = value_is_float(s->g, x);
  if (n == 0) return build_like(&s->b, x, 1);
  if (n == rint(n) && n > 0 && n <= MOST) return whole_power(s, x, (int64_t)n);
  if (!floats) return NO_ID;
  if (n == 0.5) return build1(&s->b, OP_sqrt, x);
  if (n == -0.5) return build1(&s->b, OP_rsqrt, x);
  if (n != rint(n) || n > 0 || n < -MOST) return NO_ID;
  ValueId one = build_like(&s->b, x, 1);
  return build2(&s->b, OP_div, one, whole_power(s, x, (int64_t)-n));
}

static Val refuse_power(Sema *s, Loc loc, Val x, Val n) {
  const char *base = val_describe(s, x), *power = val_describe(s, n);
  diag_error(s->diag, loc,
             "`^` of %s and %s: floats, or ints to a whole power from 0 to 64, are wanted", base,
             power);
  return val_bad();
}

static Val power(Sema *s, Loc loc, Val x, Val n) {
  double f;
  ValueId v[2] = {NO_ID, NO_ID};
  s->b.loc = loc;
  if (val_is_tensor(x) && val_number(n, &f)) {
    if ((v[0] = tensor_of(s, x, loc)) == NO_ID) return val_bad();
    v[0] = tensor_widen(s, v[0]);
    if (dtype_kind[value_type(s->g, v[0]).dtype] == 'b') return refuse_power(s, loc, x, n);
    ValueId r = exact_power(s, v[0], f);
    if (r != NO_ID) return val_tensor(r);
    if (dtype_kind[value_type(s->g, v[0]).dtype] == 'i') return refuse_power(s, loc, x, n);
  }
  if (!tensor_unify(s, 2, (Val[]){x, n}, v, loc, "`^`")) return val_bad();
  if (!value_is_float(s->g, v[0])) return refuse_power(s, loc, x, n);
  return val_tensor(build2(&s->b, OP_pow, v[0], v[1]));
}

/* kinds: of elements that the op takes, of dtype_kind. */
static const struct {
  AstKind kind;
  Op op;
  const char *kinds;
} binary_ops[] = {
    {AST_ADD, OP_add, "fi"}, {AST_SUB, OP_sub, "fi"}, {AST_MUL, OP_mul, "fi"},
    {AST_DIV, OP_div, "f"},  {AST_EQ, OP_eq, "fi"},   {AST_NE, OP_ne, "fi"},
    {AST_LT, OP_lt, "fi"},   {AST_LE, OP_le, "fi"},   {AST_GT, OP_gt, "fi"},
    {AST_GE, OP_ge, "fi"},   {AST_AND, OP_and, "b"},  {AST_OR, OP_or, "b"},
};

static Val elementwise(Sema *s, const Ast *a, Op op, const char *kinds, Val l, Val r) {
  ValueId x[2];
  const char *what = arena_printf(s->arena, "`%s`", sign_of(a->kind));
  s->b.loc = a->loc;
  if (!tensor_unify(s, 2, (Val[]){l, r}, x, a->loc, what)) return val_bad();
  if (strchr(kinds, dtype_kind[value_type(s->g, x[0]).dtype]))
    return val_tensor(build2(&s->b, op, x[0], x[1]));
  const char *left = val_describe(s, l), *right = val_describe(s, r);
  diag_error(s->diag, a->loc, "%s of %s and %s%s", what, left, right,
             a->kind == AST_DIV ? ": floats are wanted, write f32(x)" : "");
  return val_bad();
}

Val tensor_binary(Sema *s, const Ast *a, Val l, Val r) {
  if (a->kind == AST_POW) return power(s, a->loc, l, r);
  if (a->kind == AST_MATMUL) return tensor_matmul(s, a->loc, l, r);
  for (size_t i = 0; i < sizeof binary_ops / sizeof *binary_ops; i++)
    if (binary_ops[i].kind == a->kind)
      return elementwise(s, a, binary_ops[i].op, binary_ops[i].kinds, l, r);
  diag_error(s->diag, a->loc, "`%s` of tensors", sign_of(a->kind));
  return val_bad();
}
