/* builtin_math.c: elementwise functions.  Of numbers they are computed, of tensors they become
 * nodes. */
#include "frontend/builtin.h"

#include <math.h>

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

static const Builtin table[] = {
    BUILTIN("relu", 1, 1, .call = call_unary, .op = OP_relu, .fold = fold_relu),
    BUILTIN("exp", 1, 1, .call = call_unary, .op = OP_exp, .fold = exp),
    BUILTIN("expm1", 1, 1, .call = call_unary, .op = OP_expm1, .fold = expm1),
    BUILTIN("log", 1, 1, .call = call_unary, .op = OP_log, .fold = log),
    BUILTIN("sqrt", 1, 1, .call = call_unary, .op = OP_sqrt, .fold = sqrt),
    BUILTIN("tanh", 1, 1, .call = call_unary, .op = OP_tanh, .fold = tanh),
    BUILTIN("sigmoid", 1, 1, .call = call_unary, .op = OP_sigmoid, .fold = fold_sigmoid),
    BUILTIN("max", 2, 2, .call = call_extreme, .op = OP_max, .later = "axis"),
    BUILTIN("min", 2, 2, .call = call_extreme, .op = OP_min, .later = "axis"),
    BUILTIN("stop", 1, 1, .call = call_stop, .op = OP_stop),
    BUILTIN("where", 3, 3, .call = call_where, .op = OP_select),
};

const BuiltinTable builtin_math = BUILTIN_TABLE(table);
