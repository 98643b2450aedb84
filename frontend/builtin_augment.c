/* builtin_augment.c: random_flip(x, axis:) and random_crop(x, pad:): each example of a batch moved
 * by a draw of its own.
 *
 * What is drawn is one of a few places, so each is a choice between views of x: exact in every
 * type, with x's own gradient, read by one kernel.  They always move: a program that wants that
 * only while training says `if training`.
 */
#include "frontend/builtin.h"

enum { MOST_PAD = 16 };

static const int64_t no_starts[MAX_RANK] = {0}, ones[MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};

/* A draw from [0, 1) for each example, spread over x. */
static ValueId draw_each(Sema *s, ValueId x) {
  Type t = value_type(s->g, x), one = type_make(DT_f32, 1, t.dim);
  one.rows = t.rows;
  return build_broadcast_leading(&s->b, build_draw(s, OP_uniform, one), type_with(t, DT_f32));
}

/* x [B, …] of so many axes at least; NO_ID: reported. */
static ValueId examples(Sema *s, const Builtin *b, const Call *c, int rank, const char *wanted) {
  ValueId x = tensor_of(s, c->arg[0].val, c->arg[0].loc);
  if (x == NO_ID) return NO_ID;
  Type t = value_type(s->g, x);
  if (t.rank >= rank && t.rows <= 0) return tensor_widen(s, x);
  diag_error(s->diag, c->arg[0].loc, "%s of %s: %s is wanted, the batch in front", b->name,
             val_describe(s, c->arg[0].val), wanted);
  return NO_ID;
}

/* Half of the examples run backward along the axis. */
static Val call_flip(Sema *s, const Builtin *b, const Call *c) {
  const Arg *a = call_named(c, "axis");
  ValueId x = examples(s, b, c, 2, "[B, …]");
  int axis = 0;
  if (x == NO_ID) return val_bad();
  if (a && !one_axis(s, b, c, x, &axis)) return val_bad();
  if (axis == 0) {
    diag_error(s->diag, a ? a->loc : c->whole, "%s wants an axis inside the examples: axis: 2",
               b->name);
    return val_bad();
  }
  Type t = value_type(s->g, x);
  int64_t starts[MAX_RANK] = {0}, steps[MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
  starts[axis] = t.dim[axis] - 1;
  steps[axis] = -1;
  ValueId u = draw_each(s, x), turned = t.dim[axis] ? build_slice(&s->b, x, t, starts, steps) : x;
  return val_tensor(
      build_select(&s->b, build2(&s->b, OP_lt, u, build_like(&s->b, u, 0.5)), turned, x));
}

/* x with zeros around its axis, from one of 2·pad + 1 places on. */
static ValueId crop(Sema *s, ValueId x, int axis, int64_t pad) {
  Builder *b = &s->b;
  Type t = value_type(s->g, x), wide = t;
  int64_t starts[MAX_RANK] = {0}, places = 2 * pad + 1;
  starts[axis] = pad;
  wide.dim[axis] += 2 * pad;
  ValueId whole = build_pad(b, x, wide, starts, ones), u = draw_each(s, x);
  ValueId y = build_slice(b, whole, t, no_starts, ones);
  for (int64_t i = 1; i < places; i++) {
    starts[axis] = i;
    ValueId reached = build2(b, OP_ge, u, build_like(b, u, (double)i / (double)places));
    y = build_select(b, reached, build_slice(b, whole, t, starts, ones), y);
  }
  return y;
}

/* Of images [B, H, W, …]. */
static Val call_crop(Sema *s, const Builtin *b, const Call *c) {
  const Arg *a = call_named(c, "pad");
  ValueId x = examples(s, b, c, 3, "[B, H, W, …]");
  if (x == NO_ID) return val_bad();
  if (!a || a->val.kind != VAL_INT || a->val.i < 0 || a->val.i > MOST_PAD) {
    diag_error(s->diag, a ? a->loc : c->whole, "%s wants pad: an int from 0 to %d", b->name,
               MOST_PAD);
    return val_bad();
  }
  for (int axis = 1; a->val.i && axis <= 2; axis++) x = crop(s, x, axis, a->val.i);
  return val_tensor(x);
}

static const Builtin table[] = {
    BUILTIN("random_flip", 1, 1, .call = call_flip, .named = "axis"),
    BUILTIN("random_crop", 1, 1, .call = call_crop, .named = "pad"),
};

const BuiltinTable builtin_augment = BUILTIN_TABLE(table);
