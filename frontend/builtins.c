/* builtins.c: the functions of the language that are not written in it, as a table.  Of numbers
 * they are computed, of tensors they become nodes. */
#include "frontend/sema.h"

#include <math.h>
#include <string.h>

/* ---- arguments ------------------------------------------------------------------------------- */

static uint32_t positional(const Call *c) {
  uint32_t n = 0;
  while (n < c->n && !c->arg[n].name) n++;
  return n;
}

static bool check_named(Sema *s, const Builtin *b, const Call *c, const Arg *a) {
  bool known = b->named && !strcmp(b->named, a->name);
  if (b->later && !strcmp(b->later, a->name))
    sema_later(s, a->loc, arena_printf(s->arena, "`%s:` of %s", a->name, b->name));
  else if (!known)
    diag_error(s->diag, a->loc, "%s has no argument `%s`%s", b->name, a->name,
               sema_near(s, a->name, &b->named, b->named != NULL));
  else if (call_named(c, a->name) != a)
    diag_error(s->diag, a->loc, "%s: `%s` is given twice", b->name, a->name);
  else return true;
  return false;
}

static bool check_args(Sema *s, const Builtin *b, const Call *c) {
  uint32_t n = positional(c);
  if (n < b->least || n > b->most) {
    diag_error(s->diag, c->whole, "%s takes %u argument%s, not %u", b->name, (unsigned)b->most,
               b->most == 1 ? "" : "s", (unsigned)n);
    return false;
  }
  for (uint32_t i = n; i < c->n; i++)
    if (!check_named(s, b, c, &c->arg[i])) return false;
  return true;
}

/* A float tensor argument; u8 and i32 are refused by name. */
static ValueId float_arg(Sema *s, const Builtin *b, const Arg *a) {
  ValueId v = tensor_of(s, a->val, a->loc);
  if (v == NO_ID || dtype_kind[value_type(s->g, v).dtype] == 'f') return v;
  diag_error(s->diag, a->loc, "%s of %s: floats are wanted, write f32(x)", b->name,
             val_describe(s, a->val));
  return NO_ID;
}

/* ---- elementwise ----------------------------------------------------------------------------- */

static Val call_unary(Sema *s, const Builtin *b, const Call *c) {
  double f;
  if (val_number(c->arg[0].val, &f)) return number_make(s, c->loc, b->fold(f));
  return tensor_unary(s, b->op, c->arg[0].val, c->arg[0].loc);
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
  if (!tensor_unify(s, 2, (Val[]){l, r}, v, c->loc, b->name)) return val_bad();
  if (value_type(s->g, v[0]).dtype != DT_i1) return val_tensor(build2(&s->b, b->op, v[0], v[1]));
  diag_error(s->diag, c->loc, "%s of bools", b->name);
  return val_bad();
}

static Val call_floor_div(Sema *s, const Builtin *b, const Call *c) {
  Val l = c->arg[0].val, r = c->arg[1].val;
  if (l.kind == VAL_INT && r.kind == VAL_INT && r.i != 0 && r.i != -1)
    return val_int(l.i / r.i - (l.i % r.i && (l.i % r.i < 0) != (r.i < 0)));
  diag_error(s->diag, c->whole, "%s wants two ints, the second neither 0 nor -1", b->name);
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

/* ---- shape ----------------------------------------------------------------------------------- */

/* Rows stay whole and in order where the batch is the first axis before and after and is only
 * multiplied: row r's elements are one run in both. */
static bool keeps_rows(Sema *s, Type from, Type *to, Loc loc) {
  if (from.rows < 0) return true;
  to->rows = 0;
  if (from.rows == 0 && to->rank && to->dim[0] % s->batch == 0) return true;
  diag_error(s->diag, loc, "reshape mixes the rows of the batch: its axis must stay the first");
  return false;
}

static bool read_dims(Val dims, Type *t) {
  uint64_t bytes;
  if (dims.kind != VAL_LIST || dims.list.n > MAX_RANK) return false;
  for (uint32_t i = 0; i < dims.list.n; i++) {
    Val d = dims.list.at[i];
    if (d.kind != VAL_INT || d.i < 1) return false;
    t->dim[t->rank++] = d.i;
  }
  return type_bytes(*t, &bytes);
}

static Val call_reshape(Sema *s, const Builtin *b, const Call *c) {
  ValueId x = tensor_of(s, c->arg[0].val, c->arg[0].loc);
  if (x == NO_ID) return val_bad();
  Type from = value_type(s->g, x), to = type_scalar((DType)from.dtype);
  if (!read_dims(c->arg[1].val, &to)) {
    diag_error(s->diag, c->arg[1].loc, "%s wants a list of up to %d positive ints", b->name,
               MAX_RANK);
    return val_bad();
  }
  if (type_count(from) != type_count(to)) {
    diag_error(s->diag, c->whole, "%s of %s (%lld elements) to %lld elements", b->name,
               val_describe(s, c->arg[0].val), (long long)type_count(from),
               (long long)type_count(to));
    return val_bad();
  }
  if (!keeps_rows(s, from, &to, c->whole)) return val_bad();
  return val_tensor(build_reshape(&s->b, x, to));
}

static Val call_transpose(Sema *s, const Builtin *b, const Call *c) { /* of the last two axes */
  ValueId x = tensor_of(s, c->arg[0].val, c->arg[0].loc);
  if (x == NO_ID) return val_bad();
  int rank = value_type(s->g, x).rank;
  if (rank < 2) {
    diag_error(s->diag, c->whole, "%s of %s: two axes are wanted", b->name,
               val_describe(s, c->arg[0].val));
    return val_bad();
  }
  int64_t perm[MAX_RANK];
  for (int i = 0; i < rank; i++) perm[i] = i < rank - 2 ? i : 2 * rank - 3 - i;
  return val_tensor(build_transpose(&s->b, x, perm));
}

/* ---- reductions ------------------------------------------------------------------------------ */

static bool take_axis(Sema *s, Val v, int rank, Loc loc, bool *axes) {
  if (v.kind == VAL_INT && v.i >= -rank && v.i < rank) {
    axes[v.i < 0 ? v.i + rank : v.i] = true;
    return true;
  }
  diag_error(s->diag, loc, "axis is %s; of %d axes, one or several in parentheses are wanted",
             val_describe(s, v), rank);
  return false;
}

static bool take_axes(Sema *s, const Arg *a, int rank, bool *axes) {
  bool ok = true;
  if (!a)
    for (int i = 0; i < rank; i++) axes[i] = true;
  else if (a->val.kind != VAL_TUPLE) return take_axis(s, a->val, rank, a->loc, axes);
  else
    for (uint32_t i = 0; ok && i < a->val.list.n; i++)
      ok = take_axis(s, a->val.list.at[i], rank, a->loc, axes);
  return ok;
}

/* The sum over the axes of argument `axis`, over all without it; count: of what was added. */
static ValueId build_sum(Sema *s, const Builtin *b, const Call *c, double *count) {
  ValueId x = float_arg(s, b, &c->arg[0]);
  if (x == NO_ID) return NO_ID;
  Type t = value_type(s->g, x);
  bool axes[MAX_RANK] = {false};
  int64_t list[MAX_RANK];
  uint32_t n = 0;
  if (!take_axes(s, call_named(c, "axis"), t.rank, axes)) return NO_ID;
  *count = 1;
  for (int i = 0; i < t.rank; i++) {
    if (!axes[i]) continue;
    if (mixes_rows(s, x, i, c->loc, b->name)) return NO_ID;
    list[n++] = i;
    *count *= (double)t.dim[i];
  }
  return build_reduce(&s->b, OP_sum, x, n, list);
}

static Val call_sum(Sema *s, const Builtin *b, const Call *c) {
  double count;
  ValueId v = build_sum(s, b, c, &count);
  return v == NO_ID ? val_bad() : val_tensor(v);
}

static Val call_mean(Sema *s, const Builtin *b, const Call *c) {
  double count;
  ValueId v = build_sum(s, b, c, &count);
  if (v == NO_ID) return val_bad();
  return val_tensor(build2(&s->b, OP_div, v, build_like(&s->b, v, count)));
}

static Val call_along_last(Sema *s, const Builtin *b, const Call *c) { /* softmax, argmax */
  ValueId x = float_arg(s, b, &c->arg[0]);
  if (x == NO_ID) return val_bad();
  int rank = value_type(s->g, x).rank;
  if (!rank) {
    diag_error(s->diag, c->whole, "%s of a single number: an axis is wanted", b->name);
    return val_bad();
  }
  if (mixes_rows(s, x, rank - 1, c->loc, b->name)) return val_bad();
  return val_tensor(build1(&s->b, b->op, x));
}

/* ---- losses ---------------------------------------------------------------------------------- */

/* An index outside 0 … n-1 on a real row: nothing commits and the run says where. */
static void add_index_fault(Sema *s, ValueId index, int64_t n, Loc loc, const char *name) {
  Builder *b = &s->b;
  if (s->faults++) name = arena_printf(s->arena, "%s.%u", name, (unsigned)s->faults);
  ValueId low = build2(b, OP_lt, index, build_like(b, index, 0));
  ValueId high = build2(b, OP_ge, index, build_like(b, index, (double)n));
  ValueId any = build_reduce_all(b, OP_reduce_or, build2(b, OP_or, low, high));
  graph_add_entry_result(s->g, s->entry, RES_fault, intern(s->strings, name, strlen(name)), any,
                         loc);
}

static Val call_cross_entropy(Sema *s, const Builtin *b, const Call *c) {
  ValueId z = float_arg(s, b, &c->arg[0]), y = NO_ID;
  if (z != NO_ID) y = tensor_of(s, c->arg[1].val, c->arg[1].loc);
  if (y == NO_ID) return val_bad();
  y = tensor_widen(s, y);
  Type tz = value_type(s->g, z), ty = value_type(s->g, y), each = tz;
  each.rank = tz.rank ? tz.rank - 1 : 0;
  if (!tz.rank || ty.dtype != DT_i32 || !type_same_dims(each, ty)) {
    const char *logits = val_describe(s, c->arg[0].val), *classes = val_describe(s, c->arg[1].val);
    diag_error(s->diag, c->whole,
               "%s of %s and %s: logits [..., C] and int classes [...] are wanted", b->name, logits,
               classes);
    return val_bad();
  }
  if (mixes_rows(s, z, tz.rank - 1, c->loc, b->name)) return val_bad();
  if (tz.rows >= 0 && ty.rows >= 0 && tz.rows != ty.rows) {
    diag_error(s->diag, c->whole, "%s of tensors whose batch lies on different axes", b->name);
    return val_bad();
  }
  add_index_fault(s, y, tz.dim[tz.rank - 1], c->whole, b->name);
  return val_tensor(build2(&s->b, OP_cross_entropy, z, y));
}

/* ---- the table ------------------------------------------------------------------------------- */

static const Builtin table[] = {
    {"relu", 1, 1, NULL, NULL, call_unary, OP_relu, fold_relu},
    {"exp", 1, 1, NULL, NULL, call_unary, OP_exp, exp},
    {"log", 1, 1, NULL, NULL, call_unary, OP_log, log},
    {"sqrt", 1, 1, NULL, NULL, call_unary, OP_sqrt, sqrt},
    {"tanh", 1, 1, NULL, NULL, call_unary, OP_tanh, tanh},
    {"sigmoid", 1, 1, NULL, NULL, call_unary, OP_sigmoid, fold_sigmoid},
    {"max", 2, 2, NULL, "axis", call_extreme, OP_max, NULL},
    {"min", 2, 2, NULL, "axis", call_extreme, OP_min, NULL},
    {"floor_div", 2, 2, NULL, NULL, call_floor_div, OP_div, NULL},
    {"where", 3, 3, NULL, NULL, call_where, OP_select, NULL},
    {"reshape", 2, 2, NULL, NULL, call_reshape, OP_reshape, NULL},
    {"transpose", 1, 1, NULL, NULL, call_transpose, OP_transpose, NULL},
    {"sum", 1, 1, "axis", "keep", call_sum, OP_sum, NULL},
    {"mean", 1, 1, "axis", "keep", call_mean, OP_sum, NULL},
    {"softmax", 1, 1, NULL, "axis", call_along_last, OP_softmax, NULL},
    {"argmax", 1, 1, NULL, "axis", call_along_last, OP_argmax, NULL},
    {"cross_entropy", 2, 2, NULL, "smoothing", call_cross_entropy, OP_cross_entropy, NULL},
};
enum { BUILTINS = sizeof table / sizeof *table };

Val builtin_call(Sema *s, const Builtin *b, const Call *c) {
  if (!check_args(s, b, c)) return val_bad();
  s->b.loc = c->loc;
  return b->call(s, b, c);
}

/* Names of the language that a later version gives a meaning. */
static const char *const later[] = {
    "abs",       "attention", "avg_pool", "bce_logits",  "categorical", "category",
    "clamp",     "concat",    "copy",     "core",        "cos",         "cosine",
    "cumprod",   "cumsum",    "dropout",  "einsum",      "enumerate",   "fitting",
    "gelu",      "gelu_tanh", "gradient", "hold",        "hyper",       "inf",
    "iota",      "lanes",     "len",      "lerp",        "linspace",    "log_softmax",
    "one_hot",   "pad",       "randint",  "random_crop", "random_flip", "range",
    "rearrange", "round",     "rsqrt",    "scan",        "sign",        "silu",
    "sin",       "split",     "stack",    "stop",        "tensor",      "top_k",
    "training",  "upsample",  "warmup",   "windows",     "write",       "zip",
};

/* Names that mean something only where they are asked for by name. */
static const struct {
  const char *name, *where;
} elsewhere[] = {
    {"zeros", "an initializer"},      {"ones", "an initializer"},
    {"full", "an initializer"},       {"normal", "an initializer"},
    {"uniform", "an initializer"},    {"he_normal", "an initializer"},
    {"he_uniform", "an initializer"}, {"xavier_uniform", "an initializer"},
    {"orthogonal", "an initializer"}, {"linear", "a schedule"},
    {"sgd", "an optimizer"},          {"adam", "an optimizer"},
    {"adamw", "an optimizer"},
};

static const char *name_of(Sema *s, const char *text) {
  return intern(s->strings, text, strlen(text));
}

static void bind_later(Sema *s, Scope *sc, const char *name, const char *what) {
  scope_set(s, sc, name_of(s, name), (Val){.kind = VAL_LATER, .s = what}, (Loc){0});
}

void builtins_bind(Sema *s, Scope *sc) {
  for (int i = 0; i < BUILTINS; i++) {
    Val v = {.kind = VAL_BUILTIN, .builtin = &table[i]};
    scope_set(s, sc, name_of(s, table[i].name), v, (Loc){0});
  }
  for (int i = 0; i < DT_COUNT; i++) {
    Val v = {.kind = VAL_DTYPE, .dtype = (DType)i};
    scope_set(s, sc, name_of(s, dtype_name[i]), v, (Loc){0});
  }
  for (size_t i = 0; i < sizeof later / sizeof *later; i++)
    bind_later(s, sc, later[i], arena_printf(s->arena, "`%s`", later[i]));
  for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++)
    bind_later(
        s, sc, elsewhere[i].name,
        arena_printf(s->arena, "%s as a value, `%s`", elsewhere[i].where, elsewhere[i].name));
}
