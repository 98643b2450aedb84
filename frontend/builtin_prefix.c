/* builtin_prefix.c: cumsum and cumprod: each element joined with all in front of it along an axis.
 *
 * By doubling (Hillis and Steele 1986): behind step h = 1, 2, 4, … element i is the join of the 2h
 * elements up to i, as it and element i - h were before.  That is the order of the operations; its
 * error grows with the logarithm of the length, as a tree's does, and the gradient is that of its
 * slices, pads and joins.  Floats are joined in f32, as all sums are.
 */
#include "frontend/builtin.h"

/* x, h places later along the axis; 0 in front. */
static ValueId later_by(Builder *b, ValueId x, int axis, int64_t h) {
  int64_t starts[MAX_RANK] = {0}, steps[MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
  Type t = value_type(b->g, x);
  starts[axis] = h;
  return build_pad(b, build_part(b, x, axis, 0, t.dim[axis] - h), t, starts, steps);
}

static ValueId join_prefixes(Builder *b, Op op, ValueId x, int axis) {
  Type t = value_type(b->g, x);
  ValueId place = build_iota(b, t, axis);
  for (int64_t h = 1; h < t.dim[axis]; h *= 2) {
    ValueId reached = build2(b, OP_ge, place, build_like(b, place, (double)h));
    x = build_select(b, reached, build2(b, op, later_by(b, x, axis, h), x), x);
  }
  return x;
}

static Val call_prefix(Sema *s, const Builtin *b, const Call *c) {
  ValueId x = tensor_of(s, c->arg[0].val, c->arg[0].loc);
  int axis;
  if (x == NO_ID) return val_bad();
  x = tensor_widen(s, x);
  if (dtype_kind[value_type(s->g, x).dtype] == 'b') {
    diag_error(s->diag, c->arg[0].loc, "%s of bools: numbers are wanted, write i32(x)", b->name);
    return val_bad();
  }
  if (!one_axis(s, b, c, x, &axis)) return val_bad();
  const Region f32 = {.precision = "f32"};
  bool floats = value_is_float(s->g, x);
  Inside before = region_enter(s, floats ? &f32 : &(Region){0});
  x = join_prefixes(&s->b, b->op, x, axis);
  region_leave(s, before);
  return val_tensor(x);
}

static const Builtin table[] = {
    BUILTIN("cumsum", 1, 1, .call = call_prefix, .op = OP_add, .named = "axis"),
    BUILTIN("cumprod", 1, 1, .call = call_prefix, .op = OP_mul, .named = "axis"),
};

const BuiltinTable builtin_prefix = BUILTIN_TABLE(table);
