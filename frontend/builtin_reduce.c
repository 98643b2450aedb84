/* builtin_reduce.c: functions along axes. */
#include "frontend/builtin.h"

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
  bool keep;
  if (!take_keep(s, b, c, &keep)) return NO_ID;
  ValueId sum = build_reduce(&s->b, OP_sum, x, n, list);
  return keep ? keep_axes(s, sum, t, axes) : sum;
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

static const Builtin table[] = {
    BUILTIN("sum", 1, 1, .call = call_sum, .op = OP_sum, .named = "axis keep"),
    BUILTIN("mean", 1, 1, .call = call_mean, .op = OP_sum, .named = "axis keep"),
    BUILTIN("softmax", 1, 1, .call = call_along_last, .op = OP_softmax, .later = "axis"),
    BUILTIN("argmax", 1, 1, .call = call_along_last, .op = OP_argmax, .later = "axis"),
};

const BuiltinTable builtin_reduce = BUILTIN_TABLE(table);
