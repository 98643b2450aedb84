/* builtin_loss.c: losses, each a value for every example.
 *
 * The mean is not taken here: an entry gives sum and weight (loss.c).  Where classes are indexes,
 * one out of range is clamped for the arithmetic and reported by a result `fault`, for which the
 * step commits nothing and the run says the line.  The loss of a class that is ignore_index is 0.
 */
#include "frontend/builtin.h"

#include <string.h>

void add_index_fault(Sema *s, ValueId index, int64_t n, Loc loc, const char *name) {
  Builder *b = &s->b;
  if (s->faults++) name = arena_printf(s->arena, "%s.%u", name, (unsigned)s->faults);
  ValueId low = build2(b, OP_lt, index, build_like(b, index, 0));
  ValueId high = build2(b, OP_ge, index, build_like(b, index, (double)n));
  ValueId any = build_reduce_all(b, OP_reduce_or, build2(b, OP_or, low, high));
  graph_add_entry_result(s->g, s->entry, RES_fault, intern(s->strings, name, strlen(name)), any,
                         loc);
}

/* A number from 0 to 1, or a single float computed at run time; NO_ID in *v: none. */
static bool take_smoothing(Sema *s, const Call *c, ValueId *v) {
  const Arg *a = call_named(c, "smoothing");
  double f;
  *v = NO_ID;
  if (!a) return true;
  if (val_number(a->val, &f)) {
    if (f != 0) *v = build_constant(&s->b, type_scalar(DT_f32), f);
    if (f >= 0 && f <= 1) return true;
  } else if (val_is_tensor(a->val)) {
    *v = tensor_of(s, a->val, a->loc);
    if (*v == NO_ID) return false;
    if (value_type(s->g, *v).rank == 0 && value_type(s->g, *v).dtype == DT_f32) return true;
  }
  diag_error(s->diag, a->loc, "smoothing is a number from 0 to 1 or an f32, not %s",
             val_describe(s, a->val));
  return false;
}

/* Classes equal to `ignore_index` read class 0 instead; *ignored says where, NO_ID: nowhere. */
static bool take_ignored(Sema *s, const Call *c, ValueId *y, ValueId *ignored) {
  const Arg *a = call_named(c, "ignore_index");
  *ignored = NO_ID;
  if (!a) return true;
  if (a->val.kind != VAL_INT || a->val.i < INT32_MIN || a->val.i > INT32_MAX) {
    diag_error(s->diag, a->loc, "ignore_index is an int, not %s", val_describe(s, a->val));
    return false;
  }
  ValueId index = build_like(&s->b, *y, (double)a->val.i), first = build_like(&s->b, *y, 0);
  *ignored = build2(&s->b, OP_eq, *y, index);
  *y = build_select(&s->b, *ignored, first, *y);
  return true;
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
    batches_differ(s, b->name, each, ty, c->whole);
    return val_bad();
  }
  ValueId smoothing, ignored;
  if (!take_smoothing(s, c, &smoothing) || !take_ignored(s, c, &y, &ignored)) return val_bad();
  add_index_fault(s, y, tz.dim[tz.rank - 1], c->whole, b->name);
  uint32_t n = smoothing == NO_ID ? 2 : 3;
  ValueId loss = build(&s->b, OP_cross_entropy, n, (ValueId[]){z, y, smoothing}, 0, NULL);
  if (ignored == NO_ID) return val_tensor(loss);
  return val_tensor(build_select(&s->b, ignored, build_like(&s->b, loss, 0), loss));
}

static Val call_bce_logits(Sema *s, const Builtin *b, const Call *c) {
  ValueId v[2];
  if (!floats_unify(s, b, c, 2, v)) return val_bad();
  return val_tensor(build2(&s->b, b->op, v[0], v[1]));
}

static Val call_mse(Sema *s, const Builtin *b, const Call *c) { /* (p - q)^2 */
  ValueId v[2];
  if (!floats_unify(s, b, c, 2, v)) return val_bad();
  ValueId e = build2(&s->b, OP_sub, v[0], v[1]);
  return val_tensor(build_wide(&s->b, build2(&s->b, OP_mul, e, e)));
}

static const Builtin table[] = {
    BUILTIN("cross_entropy", 2, 2, .call = call_cross_entropy, .op = OP_cross_entropy,
            .named = "smoothing ignore_index"),
    BUILTIN("bce_logits", 2, 2, .call = call_bce_logits, .op = OP_bce_logits),
    BUILTIN("mse", 2, 2, .call = call_mse, .op = OP_mul),
};

const BuiltinTable builtin_loss = BUILTIN_TABLE(table);
