/* builtins.c: the functions of the language that are not written in it. */
#include "frontend/sema.h"

#include <math.h>
#include <string.h>

static uint32_t positional(const Call *c) {
  uint32_t n = 0;
  while (n < c->n && !c->arg[n].name) n++;
  return n;
}

static bool check_args(Sema *s, const Builtin *b, const Call *c) {
  uint32_t n = positional(c);
  if (n < b->least || n > b->most) {
    diag_error(s->diag, c->whole, "%s takes %s%u argument%s, not %u", b->name, b->least == b->most ? "" : "up to ",
               (unsigned)b->most, b->most == 1 ? "" : "s", (unsigned)n);
    return false;
  }
  for (uint32_t i = n; i < c->n; i++) {
    bool known = false;
    for (int k = 0; k < 3; k++) known |= b->named[k] && !strcmp(b->named[k], c->arg[i].name);
    if (known) continue;
    const char *near = nearest_name(c->arg[i].name, b->named, !b->named[0] ? 0 : !b->named[1] ? 1 : !b->named[2] ? 2 : 3);
    diag_error(s->diag, c->arg[i].loc, "%s has no argument `%s`%s%s%s", b->name, c->arg[i].name,
               near ? "; `" : "", near ? near : "", near ? "`?" : "");
    return false;
  }
  return true;
}

/* A float tensor argument; u8 and i32 are refused by name. */
static ValueId float_arg(Sema *s, const Arg *a, const char *name) {
  ValueId v = tensor_of(s, a->val, a->loc);
  if (v == NO_ID || dtype_kind[value_type(s->g, v).dtype] == 'f') return v;
  diag_error(s->diag, a->loc, "%s of %s: floats are wanted, write f32(x)", name, val_describe(s, a->val));
  return NO_ID;
}

/* ---- elementwise --------------------------------------------------------------------------------------- */

static Val call_unary(Sema *s, const Builtin *b, const Call *c) {
  double f;
  if (val_number(c->arg[0].val, &f)) return val_float(b->fold(f));
  return tensor_unary(s, (Op)b->op, c->arg[0].val, c->arg[0].loc);
}

static double fold_relu(double x) { return x > 0 ? x : 0; }
static double fold_sigmoid(double x) { return 1 / (1 + exp(-x)); }

static Val call_extreme(Sema *s, const Builtin *b, const Call *c) { /* max, min */
  double x, y;
  Val l = c->arg[0].val, r = c->arg[1].val;
  bool largest = b->op == OP_max;
  if (l.kind == VAL_INT && r.kind == VAL_INT) return val_int((l.i > r.i) == largest ? l.i : r.i);
  if (val_number(l, &x) && val_number(r, &y)) return val_float((x > y) == largest ? x : y);
  ValueId v[2];
  s->b.loc = c->loc;
  if (!tensor_unify(s, 2, (Val[]){l, r}, v, c->loc, b->name)) return val_bad();
  return val_tensor(build2(&s->b, (Op)b->op, v[0], v[1]));
}

static Val call_floor_div(Sema *s, const Builtin *b, const Call *c) {
  (void)b;
  Val l = c->arg[0].val, r = c->arg[1].val;
  if (l.kind == VAL_INT && r.kind == VAL_INT && r.i != 0 && r.i != -1)
    return val_int(l.i / r.i - (l.i % r.i && (l.i % r.i < 0) != (r.i < 0)));
  diag_error(s->diag, c->whole, "floor_div wants two ints, the second neither 0 nor -1");
  return val_bad();
}

static Val call_where(Sema *s, const Builtin *b, const Call *c) {
  (void)b;
  ValueId cond = tensor_of(s, c->arg[0].val, c->arg[0].loc), v[2];
  if (cond == NO_ID) return val_bad();
  if (value_type(s->g, cond).dtype != DT_i1) {
    diag_error(s->diag, c->arg[0].loc, "where: the condition is %s, i1 is wanted", val_describe(s, c->arg[0].val));
    return val_bad();
  }
  Val sides[2] = {c->arg[1].val, c->arg[2].val};
  if (!val_is_tensor(sides[0]) && !val_is_tensor(sides[1])) /* both are numbers: f32 of the condition's dims */
    sides[0] = val_tensor(build_constant(&s->b, type_with(value_type(s->g, cond), DT_f32),
                                         sides[0].kind == VAL_INT ? (double)sides[0].i : sides[0].f));
  if (!tensor_unify(s, 2, sides, v, c->loc, "where")) return val_bad();
  if (!type_same_dims(value_type(s->g, cond), value_type(s->g, v[0]))) {
    diag_error(s->diag, c->whole, "where: condition and values have different dims");
    return val_bad();
  }
  return val_tensor(build_select(&s->b, cond, v[0], v[1]));
}

/* ---- shape ------------------------------------------------------------------------------------------------ */

/* Where the batch lies after a reshape: its axis keeps its place, or grows or shrinks by a factor. */
static bool reshape_rows(Sema *s, Type from, Type *to, Loc loc) {
  if (from.rows < 0) return true;
  bool fits = from.rows == 0 && to->rank && s->batch && to->dim[0] % s->batch == 0;
  if (!fits) diag_error(s->diag, loc, "reshape mixes the rows of the batch: its axis must stay the first");
  to->rows = 0;
  return fits;
}

static Val call_reshape(Sema *s, const Builtin *b, const Call *c) {
  (void)b;
  ValueId x = tensor_of(s, c->arg[0].val, c->arg[0].loc);
  Val dims = c->arg[1].val;
  if (x == NO_ID) return val_bad();
  Type from = value_type(s->g, x), to = type_scalar((DType)from.dtype);
  bool ok = dims.kind == VAL_LIST && dims.list.n <= MAX_RANK;
  for (uint32_t i = 0; ok && i < dims.list.n; i++) {
    ok = dims.list.at[i].kind == VAL_INT && dims.list.at[i].i > 0;
    to.dim[to.rank++] = dims.list.at[i].i;
  }
  uint64_t bytes;
  if (!ok || !type_bytes(to, &bytes)) {
    diag_error(s->diag, c->arg[1].loc, "reshape wants a list of up to %d positive ints", MAX_RANK);
    return val_bad();
  }
  if (type_count(from) != type_count(to)) {
    diag_error(s->diag, c->whole, "reshape of %s (%lld elements) to %lld elements", val_describe(s, c->arg[0].val),
               (long long)type_count(from), (long long)type_count(to));
    return val_bad();
  }
  return reshape_rows(s, from, &to, c->whole) ? val_tensor(build_reshape(&s->b, x, to)) : val_bad();
}

static Val call_transpose(Sema *s, const Builtin *b, const Call *c) {
  (void)b;
  ValueId x = tensor_of(s, c->arg[0].val, c->arg[0].loc);
  if (x == NO_ID) return val_bad();
  int rank = value_type(s->g, x).rank;
  if (rank < 2) {
    diag_error(s->diag, c->whole, "transpose of %s: two axes are wanted", val_describe(s, c->arg[0].val));
    return val_bad();
  }
  int64_t perm[MAX_RANK];
  for (int i = 0; i < rank; i++) perm[i] = i < rank - 2 ? i : 2 * rank - 3 - i;
  return val_tensor(build_transpose(&s->b, x, perm));
}

/* ---- reductions --------------------------------------------------------------------------------------------- */

static bool take_axis(Sema *s, Val v, int rank, Loc loc, bool *axes) {
  if (v.kind == VAL_TUPLE) {
    bool ok = true;
    for (uint32_t i = 0; i < v.list.n; i++) ok = ok && take_axis(s, v.list.at[i], rank, loc, axes);
    return ok;
  }
  if (v.kind == VAL_INT && v.i >= -rank && v.i < rank) {
    axes[v.i < 0 ? v.i + rank : v.i] = true;
    return true;
  }
  diag_error(s->diag, loc, "axis is %s; an int from %d to %d, or several in parentheses, is wanted",
             val_describe(s, v), -rank, rank - 1);
  return false;
}

static Val call_reduce(Sema *s, const Builtin *b, const Call *c) { /* sum, mean */
  const char *name = b->name;
  ValueId x = float_arg(s, &c->arg[0], name);
  if (x == NO_ID) return val_bad();
  Type t = value_type(s->g, x);
  bool axes[MAX_RANK] = {false};
  const Arg *axis = call_named(c, "axis");
  if (axis && !take_axis(s, axis->val, t.rank, axis->loc, axes)) return val_bad();
  int64_t list[MAX_RANK];
  uint32_t n = 0;
  double count = 1;
  for (int i = 0; i < t.rank; i++) {
    if (axis && !axes[i]) continue;
    if (mixes_rows(s, x, i, c->loc, name)) return val_bad();
    list[n++] = i;
    count *= (double)t.dim[i];
  }
  ValueId sum = build_reduce(&s->b, OP_sum, x, n, list);
  if (!strcmp(name, "mean")) sum = build2(&s->b, OP_div, sum, build_like(&s->b, sum, count));
  return val_tensor(sum);
}

static Val call_along_last(Sema *s, const Builtin *b, const Call *c) { /* softmax, argmax */
  const char *name = b->name;
  ValueId x = float_arg(s, &c->arg[0], name);
  if (x == NO_ID) return val_bad();
  int rank = value_type(s->g, x).rank;
  if (!rank) {
    diag_error(s->diag, c->whole, "%s of a single number: an axis is wanted", name);
    return val_bad();
  }
  return mixes_rows(s, x, rank - 1, c->loc, name) ? val_bad() : val_tensor(build1(&s->b, (Op)b->op, x));
}

/* ---- losses ---------------------------------------------------------------------------------------------------- */

/* An index outside 0 … n-1 on a real row: nothing commits and the run says where. */
static void add_index_fault(Sema *s, ValueId index, int64_t n, Loc loc, const char *name) {
  Builder *b = &s->b;
  ValueId low = build2(b, OP_lt, index, build_like(b, index, 0));
  ValueId high = build2(b, OP_ge, index, build_like(b, index, (double)n));
  ValueId any = build_reduce_all(b, OP_reduce_or, build2(b, OP_or, low, high));
  graph_add_entry_result(s->g, s->entry, RES_fault, name, any, loc);
}

static Val call_cross_entropy(Sema *s, const Builtin *b, const Call *c) {
  const char *name = b->name;
  ValueId z = float_arg(s, &c->arg[0], name), y = z == NO_ID ? NO_ID : tensor_of(s, c->arg[1].val, c->arg[1].loc);
  if (y == NO_ID) return val_bad();
  y = tensor_widen(s, y);
  Type tz = value_type(s->g, z), ty = value_type(s->g, y), rows = tz;
  rows.rank = tz.rank ? tz.rank - 1 : 0;
  if (!tz.rank || ty.dtype != DT_i32 || !type_same_dims(rows, ty)) {
    diag_error(s->diag, c->whole, "cross_entropy of %s and %s: logits [..., C] and int classes [...] are wanted",
               val_describe(s, c->arg[0].val), val_describe(s, c->arg[1].val));
    return val_bad();
  }
  if (mixes_rows(s, z, tz.rank - 1, c->loc, name)) return val_bad();
  s->b.loc = c->whole;
  add_index_fault(s, y, tz.dim[tz.rank - 1], c->whole, name);
  return val_tensor(build2(&s->b, OP_cross_entropy, z, y));
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static const Builtin table[] = {
    {"relu", 1, 1, {0}, call_unary, OP_relu, fold_relu},
    {"exp", 1, 1, {0}, call_unary, OP_exp, exp},
    {"log", 1, 1, {0}, call_unary, OP_log, log},
    {"sqrt", 1, 1, {0}, call_unary, OP_sqrt, sqrt},
    {"tanh", 1, 1, {0}, call_unary, OP_tanh, tanh},
    {"sigmoid", 1, 1, {0}, call_unary, OP_sigmoid, fold_sigmoid},
    {"max", 2, 2, {0}, call_extreme, OP_max, NULL},
    {"min", 2, 2, {0}, call_extreme, OP_min, NULL},
    {"floor_div", 2, 2, {0}, call_floor_div, 0, NULL},
    {"where", 3, 3, {0}, call_where, 0, NULL},
    {"reshape", 2, 2, {0}, call_reshape, 0, NULL},
    {"transpose", 1, 1, {0}, call_transpose, 0, NULL},
    {"sum", 1, 1, {"axis"}, call_reduce, 0, NULL},
    {"mean", 1, 1, {"axis"}, call_reduce, 0, NULL},
    {"softmax", 1, 1, {0}, call_along_last, OP_softmax, NULL},
    {"argmax", 1, 1, {0}, call_along_last, OP_argmax, NULL},
    {"cross_entropy", 2, 2, {0}, call_cross_entropy, 0, NULL},
};
enum { BUILTINS = sizeof table / sizeof *table };

Val builtin_call(Sema *s, const Builtin *b, const Call *c) {
  return check_args(s, b, c) ? b->call(s, b, c) : val_bad();
}

/* Names of the language that a later version gives a meaning. */
static const char *const later[] = {
    "gelu", "gelu_tanh", "silu", "log_softmax", "rsqrt", "sin", "cos", "sign", "round", "abs", "clamp", "lerp",
    "dropout", "cumsum", "cumprod", "top_k", "bce_logits", "rearrange", "einsum", "concat", "stack",
    "split", "pad", "write", "one_hot", "iota", "linspace", "tensor", "attention", "avg_pool", "upsample",
    "random_crop", "random_flip", "gradient", "stop", "copy", "scan", "randint", "categorical", "windows",
    "lanes", "category", "range", "len", "enumerate", "zip", "training", "fitting", "inf", "warmup", "cosine",
    "hold",
};

static const char *name_of(Sema *s, const char *text) { return intern(s->strings, text, strlen(text)); }

void builtins_bind(Sema *s, Scope *sc) {
  for (int i = 0; i < BUILTINS; i++)
    scope_set(s, sc, name_of(s, table[i].name), (Val){.kind = VAL_BUILTIN, .builtin = &table[i]}, (Loc){0});
  for (int i = 0; i < DT_COUNT; i++)
    scope_set(s, sc, name_of(s, dtype_name[i]), (Val){.kind = VAL_DTYPE, .dtype = (DType)i}, (Loc){0});
  for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
    const char *what = arena_printf(s->arena, "`%s`", later[i]);
    scope_set(s, sc, name_of(s, later[i]), (Val){.kind = VAL_LATER, .s = what}, (Loc){0});
  }
}
