/* builtin_reduce.c: functions along axes: sums, extremes, argmax, softmax, norms, top_k.
 *
 * `axis:` is an int or several in parentheses, counted from behind when negative; `keep: true`
 * leaves reduced axes with size 1, as written ones that broadcast.  What the order of a sum is,
 * docs/ir.md says: nothing here chooses it. */
#include "frontend/builtin.h"

#include <math.h>

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

static bool take_keep(Sema *s, const Builtin *b, const Call *c, bool *keep) {
  const Arg *a = call_named(c, "keep");
  *keep = a && a->val.i;
  if (!a || a->val.kind == VAL_BOOL) return true;
  diag_error(s->diag, a->loc, "%s: keep is true or false, not %s", b->name,
             val_describe(s, a->val));
  return false;
}

/* With the axes that were reduced as written ones. */
static ValueId keep_axes(Sema *s, ValueId v, Type t, const bool *axes) {
  for (int i = 0; i < t.rank; i++)
    if (axes[i]) t.dim[i] = 1;
  v = build_reshape(&s->b, v, t);
  for (int i = 0; i < t.rank; i++)
    if (axes[i]) dims_write_one(s, v, i);
  return v;
}

/* x reduced over the axes of argument `axis`, over all without it; count: of what was joined. */
static ValueId build_along(Sema *s, const Builtin *b, const Call *c, ValueId x, Op op,
                           double *count) {
  Type t = value_type(s->g, x);
  bool axes[MAX_RANK] = {false}, keep;
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
  if (!take_keep(s, b, c, &keep)) return NO_ID;
  ValueId y = build_reduce(&s->b, op, x, n, list);
  return keep ? keep_axes(s, y, t, axes) : y;
}

/* Of ints too: a sum is what they are counted by. */
static Val call_sum(Sema *s, const Builtin *b, const Call *c) {
  const Arg *a = &c->arg[0];
  bool ints = val_is_tensor(a->val) && dtype_kind[val_type(s, a->val).dtype] == 'i';
  ValueId x = ints ? tensor_of(s, a->val, a->loc) : float_arg(s, b, a);
  if (ints && x != NO_ID) x = tensor_widen(s, x);
  double count;
  if (x != NO_ID) x = build_along(s, b, c, x, OP_sum, &count);
  return x == NO_ID ? val_bad() : val_tensor(x);
}

Val call_extreme_along(Sema *s, const Builtin *b, const Call *c) {
  ValueId x = tensor_of(s, c->arg[0].val, c->arg[0].loc);
  if (x == NO_ID) return val_bad();
  x = tensor_widen(s, x);
  if (dtype_kind[value_type(s->g, x).dtype] == 'b') {
    diag_error(s->diag, c->loc, "%s of bools", b->name);
    return val_bad();
  }
  double count;
  x = build_along(s, b, c, x, b->op == OP_max ? OP_reduce_max : OP_reduce_min, &count);
  return x == NO_ID ? val_bad() : val_tensor(x);
}

static Val call_mean(Sema *s, const Builtin *b, const Call *c) {
  double count;
  ValueId x = float_arg(s, b, &c->arg[0]);
  ValueId v = x == NO_ID ? NO_ID : build_along(s, b, c, x, OP_sum, &count);
  if (v == NO_ID) return val_bad();
  return val_tensor(build2(&s->b, OP_div, v, build_like(&s->b, v, count)));
}

bool one_axis(Sema *s, const Builtin *b, const Call *c, ValueId x, int *axis) {
  const Arg *a = call_named(c, "axis");
  int rank = value_type(s->g, x).rank;
  if (!rank) {
    diag_error(s->diag, c->whole, "%s of a single number: an axis is wanted", b->name);
    return false;
  }
  *axis = rank - 1;
  if (a && (a->val.kind != VAL_INT || a->val.i < -rank || a->val.i >= rank)) {
    diag_error(s->diag, a->loc, "axis is %s; one of %d axes is wanted", val_describe(s, a->val),
               rank);
    return false;
  }
  if (a) *axis = (int)(a->val.i < 0 ? a->val.i + rank : a->val.i);
  return !mixes_rows(s, x, *axis, c->loc, b->name);
}

/* perm moves the axis to the end, back returns it. */
static void to_end(int rank, int axis, int64_t *perm, int64_t *back) {
  for (int i = 0; i < rank; i++) perm[i] = i == rank - 1 ? axis : i < axis ? i : i + 1;
  for (int i = 0; i < rank; i++) back[perm[i]] = i;
}

/* softmax, log_softmax, argmax, logsumexp: ops along the last axis. */
static Val call_along_axis(Sema *s, const Builtin *b, const Call *c) {
  bool ints = b->op == OP_argmax && val_is_tensor(c->arg[0].val) &&
              dtype_kind[val_type(s, c->arg[0].val).dtype] == 'i';
  ValueId x = ints ? tensor_of(s, c->arg[0].val, c->arg[0].loc) : float_arg(s, b, &c->arg[0]);
  if (ints && x != NO_ID) x = tensor_widen(s, x);
  int axis;
  if (x == NO_ID || !one_axis(s, b, c, x, &axis)) return val_bad();
  int rank = value_type(s->g, x).rank;
  if (axis == rank - 1) return val_tensor(build1(&s->b, b->op, x));
  int64_t perm[MAX_RANK], back[MAX_RANK];
  to_end(rank, axis, perm, back);
  ValueId y = build1(&s->b, b->op, build_transpose(&s->b, x, perm));
  bool whole = value_type(s->g, y).rank == rank;
  return val_tensor(whole ? build_transpose(&s->b, y, back) : y);
}

/* ---- the largest k --------------------------------------------------------------------------- */

enum { MOST_TOP = 64 };

static ValueId with_last_axis(Sema *s, ValueId v) {
  Type t = value_type(s->g, v);
  t.dim[t.rank++] = 1;
  return build_reshape(&s->b, v, t);
}

/* Values and indices [..., k], largest first: k rounds of argmax, each without what earlier ones
 * took. Of equal ones the first comes first. */
static Val call_top_k(Sema *s, const Builtin *b, const Call *c) {
  ValueId x = float_arg(s, b, &c->arg[0]), values[MOST_TOP], indices[MOST_TOP];
  Val k = c->arg[1].val;
  int axis;
  if (x == NO_ID || !one_axis(s, b, c, x, &axis)) return val_bad();
  Type t = value_type(s->g, x);
  if (k.kind != VAL_INT || k.i < 1 || k.i > t.dim[axis] || k.i > MOST_TOP || t.rank == MAX_RANK) {
    diag_error(s->diag, c->arg[1].loc,
               "%s: k is an int from 1 to %d and to the size of the last axis", b->name, MOST_TOP);
    return val_bad();
  }
  ValueId place = build_iota(&s->b, t, axis), none = build_like(&s->b, x, -INFINITY);
  for (int64_t i = 0; i < k.i; i++) {
    ValueId at = build1(&s->b, OP_argmax, x);
    values[i] = with_last_axis(s, build2(&s->b, OP_gather, x, at));
    indices[i] = with_last_axis(s, at);
    at = build_broadcast_leading(&s->b, at, type_with(t, DT_i32));
    x = build_select(&s->b, build2(&s->b, OP_eq, place, at), none, x);
  }
  Val both[2] = {val_tensor(build_concat(&s->b, (uint32_t)k.i, values, axis)),
                 val_tensor(build_concat(&s->b, (uint32_t)k.i, indices, axis))};
  return val_list(s->arena, VAL_TUPLE, 2, both);
}

/* ---- norms ----------------------------------------------------------------------------------- */

static bool take_eps(Sema *s, const Builtin *b, const Call *c, Attr *eps) {
  const Arg *a = call_named(c, "eps");
  double v = 1e-5;
  if (a && (!val_number(a->val, &v) || !(v >= 0) || v > 1)) {
    diag_error(s->diag, a->loc, "%s: eps is a number from 0 to 1, not %s", b->name,
               val_describe(s, a->val));
    return false;
  }
  *eps = attr_float(AT_eps, v);
  return true;
}

/* layer_norm(x, scale, bias, eps: 1e-5), rms_norm(x, scale, eps: 1e-5); scale and bias may lack. */
static Val call_norm(Sema *s, const Builtin *b, const Call *c) {
  uint32_t n = call_positional(c);
  ValueId v[3];
  Attr eps;
  int axis;
  for (uint32_t i = 0; i < n; i++)
    if ((v[i] = float_arg(s, b, &c->arg[i])) == NO_ID) return val_bad();
  if (!one_axis(s, b, c, v[0], &axis) || !take_eps(s, b, c, &eps)) return val_bad();
  Type x = value_type(s->g, v[0]);
  for (uint32_t i = 1; i < n; i++) {
    Type p = value_type(s->g, v[i]);
    if (p.rank == 1 && p.dim[0] == x.dim[axis]) continue;
    diag_error(s->diag, c->arg[i].loc,
               "%s of %s: %s is %s, one number for each of the %lld of "
               "the last axis is wanted",
               b->name, val_describe(s, val_tensor(v[0])), i == 1 ? "the scale" : "the bias",
               val_describe(s, val_tensor(v[i])), (long long)x.dim[axis]);
    return val_bad();
  }
  return val_tensor(build(&s->b, b->op, n, v, 1, &eps));
}

static const Builtin table[] = {
    BUILTIN("sum", 1, 1, .call = call_sum, .op = OP_sum, .named = "axis keep"),
    BUILTIN("mean", 1, 1, .call = call_mean, .op = OP_sum, .named = "axis keep"),
    BUILTIN("softmax", 1, 1, .call = call_along_axis, .op = OP_softmax, .named = "axis"),
    BUILTIN("log_softmax", 1, 1, .call = call_along_axis, .op = OP_log_softmax, .named = "axis"),
    BUILTIN("logsumexp", 1, 1, .call = call_along_axis, .op = OP_logsumexp, .named = "axis"),
    BUILTIN("argmax", 1, 1, .call = call_along_axis, .op = OP_argmax, .named = "axis"),
    BUILTIN("top_k", 2, 2, .call = call_top_k),
    BUILTIN("layer_norm", 1, 3, .call = call_norm, .op = OP_layer_norm, .named = "eps"),
    BUILTIN("rms_norm", 1, 2, .call = call_norm, .op = OP_rms_norm, .named = "eps"),
};

const BuiltinTable builtin_reduce = BUILTIN_TABLE(table);
