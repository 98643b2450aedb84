/* tensor.c: arithmetic on tensors: what the user wrote becomes nodes of equal dims and types.
 *
 * Numbers lift to constants, u8 and u16 widen to i32, dims align at the right and leading axes may
 * be absent.  Where the batch lies is followed through every op: an op that mixes rows is refused,
 * because the last batch may be partial and its padding must reach nothing.
 */
#include "frontend/sema.h"

#include <string.h>

static ValueId param_value(Sema *s, Param *p) {
  if (p->arg == NO_ID) p->arg = graph_add_entry_arg(s->g, s->entry, ARG_state, p->path, p->type, p->loc);
  return p->arg;
}

ValueId tensor_of(Sema *s, Val v, Loc loc) {
  if (v.kind == VAL_BAD) return NO_ID;
  if (!val_is_tensor(v)) {
    diag_error(s->diag, loc, "a tensor is wanted, not %s", val_describe(s, v));
    return NO_ID;
  }
  if (!s->building) {
    diag_error(s->diag, loc, "tensors are computed in functions and in `train`, not in declarations");
    return NO_ID;
  }
  s->b.loc = loc;
  return v.kind == VAL_PARAM ? param_value(s, v.param) : v.tensor;
}

bool mixes_rows(Sema *s, ValueId x, int axis, Loc loc, const char *what) {
  if (value_type(s->g, x).rows != axis) return false;
  diag_error(s->diag, loc, "%s over %s mixes rows and the last batch may be partial: tail(drop), which "
             "this version of mpcc does not support", what, s->batch_name ? s->batch_name : "the batch");
  return true;
}

ValueId tensor_widen(Sema *s, ValueId v) {
  DType d = (DType)value_type(s->g, v).dtype;
  return d == DT_u8 || d == DT_u16 ? build_cast(&s->b, v, DT_i32) : v;
}

/* ---- lifting and broadcasting ------------------------------------------------------------------------ */

static bool dims_mismatch(Sema *s, Loc loc, const char *what, Type a, Type b, int from_right) {
  Text t = {.arena = s->arena};
  type_print(&t, a);
  text_add(&t, " and ");
  type_print(&t, b);
  diag_error(s->diag, loc, "%s of %s: sizes %lld and %lld of the %s axis differ", what, t.at,
             (long long)a.dim[a.rank - from_right], (long long)b.dim[b.rank - from_right],
             from_right == 1 ? "last" : from_right == 2 ? "second to last" : "same");
  return false;
}

/* *t gains the leading axes of u where it is shorter. */
static bool join_types(Sema *s, Type *t, Type u, Loc loc, const char *what) {
  int n = t->rank < u.rank ? t->rank : u.rank;
  for (int k = 1; k <= n; k++)
    if (t->dim[t->rank - k] != u.dim[u.rank - k]) return dims_mismatch(s, loc, what, *t, u, k);
  int t_rows = t->rows < 0 ? -1 : t->rank - t->rows, u_rows = u.rows < 0 ? -1 : u.rank - u.rows;
  if (t_rows >= 0 && u_rows >= 0 && t_rows != u_rows) {
    diag_error(s->diag, loc, "%s of tensors whose batch lies on different axes", what);
    return false;
  }
  int rows = t_rows >= 0 ? t_rows : u_rows;
  if (u.rank > t->rank) *t = u;
  t->rows = rows < 0 ? -1 : (int8_t)(t->rank - rows);
  return true;
}

static ValueId broadcast_to(Sema *s, ValueId v, Type t) {
  Type from = value_type(s->g, v);
  int64_t axes[MAX_RANK];
  for (int i = 0; i < from.rank; i++) axes[i] = t.rank - from.rank + i;
  return build_broadcast(&s->b, v, t, axes);
}

static bool lift_number(Sema *s, Val v, Type t, ValueId *out, Loc loc) {
  double f = 0;
  bool number = val_number(v, &f) || (v.kind == VAL_BOOL && t.dtype == DT_i1);
  if (!number) {
    if (v.kind != VAL_BAD) diag_error(s->diag, loc, "a tensor or a number is wanted, not %s", val_describe(s, v));
    return false;
  }
  if (v.kind == VAL_BOOL) f = (double)v.i;
  if (dtype_kind[t.dtype] != 'f' && v.kind == VAL_FLOAT) {
    diag_error(s->diag, loc, "%s with a float: write f32(x)", dtype_name[t.dtype]);
    return false;
  }
  if (t.dtype == DT_i1 && v.kind != VAL_BOOL) {
    diag_error(s->diag, loc, "i1 with a number: write i32(x) or f32(x)");
    return false;
  }
  if (t.dtype == DT_i32 && (f < INT32_MIN || f > INT32_MAX)) {
    diag_error(s->diag, loc, "%s does not fit in i32", val_describe(s, v));
    return false;
  }
  *out = build_constant(&s->b, t, f);
  return true;
}

static bool join_dtypes(Sema *s, Type *t, Type u, Loc loc) {
  if (t->dtype == u.dtype) return true;
  bool t_float = dtype_kind[t->dtype] == 'f', u_float = dtype_kind[u.dtype] == 'f';
  const char *integer = dtype_name[t_float ? u.dtype : t->dtype];
  if (t_float != u_float) diag_error(s->diag, loc, "%s with a float: write f32(x)", integer);
  else diag_error(s->diag, loc, "%s with %s: write a cast", dtype_name[t->dtype], dtype_name[u.dtype]);
  return false;
}

bool tensor_unify(Sema *s, uint32_t n, Val *v, ValueId *out, Loc loc, const char *what) {
  Type t = {0};
  bool any = false;
  for (uint32_t i = 0; i < n; i++) {
    out[i] = NO_ID;
    if (v[i].kind == VAL_BAD) return false;
    if (!val_is_tensor(v[i])) continue;
    out[i] = tensor_of(s, v[i], loc);
    if (out[i] == NO_ID) return false;
    out[i] = tensor_widen(s, out[i]);
    Type u = value_type(s->g, out[i]);
    if (any && (!join_dtypes(s, &t, u, loc) || !join_types(s, &t, u, loc, what))) return false;
    if (!any) t = u;
    any = true;
  }
  for (uint32_t i = 0; i < n; i++) {
    if (out[i] != NO_ID) out[i] = broadcast_to(s, out[i], t);
    else if (!lift_number(s, v[i], t, &out[i], loc)) return false;
  }
  return true;
}

/* ---- ops ------------------------------------------------------------------------------------------------ */

Val tensor_unary(Sema *s, Op op, Val x, Loc loc) {
  ValueId v = tensor_of(s, x, loc);
  if (v == NO_ID) return val_bad();
  v = tensor_widen(s, v);
  char kind = dtype_kind[value_type(s->g, v).dtype];
  if (op != OP_not && op != OP_neg && kind != 'f') {
    diag_error(s->diag, loc, "%s of %s: floats are wanted, write f32(x)", op_name[op], val_describe(s, x));
    return val_bad();
  }
  if (op == OP_neg && kind == 'b') {
    diag_error(s->diag, loc, "`-` of %s: write `not`", val_describe(s, x));
    return val_bad();
  }
  return val_tensor(build1(&s->b, op, v));
}

static Val matmul(Sema *s, Loc loc, ValueId a, ValueId w) {
  Type ta = value_type(s->g, a), tw = value_type(s->g, w);
  if (ta.rank < 2 || tw.rank != 2 || dtype_kind[ta.dtype] != 'f' || dtype_kind[tw.dtype] != 'f') {
    diag_error(s->diag, loc, "`@` of %s and %s: this version of mpcc multiplies floats [..., i] @ [i, o]",
               val_describe(s, val_tensor(a)), val_describe(s, val_tensor(w)));
    return val_bad();
  }
  int64_t inner = ta.dim[ta.rank - 1];
  if (inner != tw.dim[0]) {
    diag_error(s->diag, loc, "`@` of %s and %s: inner sizes %lld and %lld differ",
               val_describe(s, val_tensor(a)), val_describe(s, val_tensor(w)), (long long)inner,
               (long long)tw.dim[0]);
    return val_bad();
  }
  if (mixes_rows(s, a, ta.rank - 1, loc, "`@`") || mixes_rows(s, w, 0, loc, "`@`")) return val_bad();
  if (tw.rows >= 0 || ta.rows > 0) {
    diag_error(s->diag, loc, "`@` of %s and %s: the batch must be the first axis of the left operand",
               val_describe(s, val_tensor(a)), val_describe(s, val_tensor(w)));
    return val_bad();
  }
  Type flat = type_make((DType)ta.dtype, 2, (int64_t[]){1, inner}), out = ta;
  for (int i = 0; i < ta.rank - 1; i++) flat.dim[0] *= ta.dim[i];
  flat.rows = ta.rows;
  out.dim[ta.rank - 1] = tw.dim[1];
  ValueId c = build_matmul(&s->b, build_reshape(&s->b, a, flat), w, false, false);
  return val_tensor(build_reshape(&s->b, c, out));
}

/* x ^ n for a small whole n, by multiplication. */
static Val power(Sema *s, Loc loc, Val x, Val n) {
  if (n.kind != VAL_INT || n.i < 1 || n.i > 8) return sema_later(s, loc, "`^` other than to a whole power from 1 to 8");
  ValueId v = tensor_of(s, x, loc);
  if (v == NO_ID) return val_bad();
  v = tensor_widen(s, v);
  if (dtype_kind[value_type(s->g, v).dtype] == 'b') {
    diag_error(s->diag, loc, "`^` of %s", val_describe(s, x));
    return val_bad();
  }
  ValueId r = v;
  for (int64_t i = 1; i < n.i; i++) r = build2(&s->b, OP_mul, r, v);
  return val_tensor(r);
}

static const struct { AstKind kind; Op op; const char *kinds; const char *sign; } binary_ops[] = {
    {AST_ADD, OP_add, "fi", "+"}, {AST_SUB, OP_sub, "fi", "-"}, {AST_MUL, OP_mul, "fi", "*"},
    {AST_DIV, OP_div, "f", "/"},  {AST_EQ, OP_eq, "fi", "=="},  {AST_NE, OP_ne, "fi", "!="},
    {AST_LT, OP_lt, "fi", "<"},   {AST_LE, OP_le, "fi", "<="},  {AST_GT, OP_gt, "fi", ">"},
    {AST_GE, OP_ge, "fi", ">="},  {AST_AND, OP_and, "b", "and"}, {AST_OR, OP_or, "b", "or"},
};

Val tensor_binary(Sema *s, const Ast *a, Val l, Val r) {
  if (a->kind == AST_POW) return power(s, a->loc, l, r);
  if (a->kind == AST_MATMUL) {
    ValueId x = tensor_of(s, l, a->loc), w = x == NO_ID ? NO_ID : tensor_of(s, r, a->loc);
    return w == NO_ID ? val_bad() : matmul(s, a->loc, x, w);
  }
  for (size_t i = 0; i < sizeof binary_ops / sizeof *binary_ops; i++) {
    if (binary_ops[i].kind != a->kind) continue;
    ValueId x[2];
    const char *what = arena_printf(s->arena, "`%s`", binary_ops[i].sign);
    if (!tensor_unify(s, 2, (Val[]){l, r}, x, a->loc, what)) return val_bad();
    Type t = value_type(s->g, x[0]);
    if (strchr(binary_ops[i].kinds, dtype_kind[t.dtype])) return val_tensor(build2(&s->b, binary_ops[i].op, x[0], x[1]));
    diag_error(s->diag, a->loc, "%s of %s%s", what, dtype_name[t.dtype],
               a->kind == AST_DIV ? ": floats are wanted, write f32(x)" : "");
    return val_bad();
  }
  diag_error(s->diag, a->loc, "`%s` of tensors", ast_kind_name(a->kind));
  return val_bad();
}
