/* builtin_fill.c: zeros[B, d](), ones[n](), full[n](v): tensors of one number.  Without dims the
 * same names are initializers. */
#include "frontend/builtin.h"

#include <float.h>
#include <math.h>

/* Rows lie on the axis that is written as the batch. */
static int8_t batch_axis(const Sema *s, const Ast *dims, Type t) {
  for (uint32_t i = 0; !s->full && dims->len == t.rank && i < dims->len; i++)
    if (dims->kid[i]->kind == AST_NAME && dims->kid[i]->name == s->batch_name) return (int8_t)i;
  return -1;
}

static Val fill(Sema *s, const Builtin *b, const Call *c, double value) {
  Type t;
  if (!c->dims) {
    diag_error(s->diag, c->whole, "as a value %s wants dims: %s[B, d](%s)", b->name, b->name,
               b->most ? "v" : "");
    return val_bad();
  }
  if (!s->building) {
    diag_error(s->diag, c->whole,
               "tensors are computed in functions and in `train`, not in "
               "declarations");
    return val_bad();
  }
  if (!shape_eval(s, c->scope, c->dims, DT_f32, &t)) return val_bad();
  t.rows = batch_axis(s, c->dims, t);
  ValueId v = build_constant(&s->b, t, value);
  dims_declare(s, v, c->dims);
  return val_tensor(v);
}

static Val call_zeros(Sema *s, const Builtin *b, const Call *c) { return fill(s, b, c, 0); }
static Val call_ones(Sema *s, const Builtin *b, const Call *c) { return fill(s, b, c, 1); }

static Val call_full(Sema *s, const Builtin *b, const Call *c) {
  double f;
  if (val_number(c->arg[0].val, &f) && (fabs(f) <= FLT_MAX || isinf(f))) return fill(s, b, c, f);
  diag_error(s->diag, c->arg[0].loc, "%s of %s: a number that fits in f32 is wanted", b->name,
             val_describe(s, c->arg[0].val));
  return val_bad();
}

static const Builtin table[] = {
    BUILTIN("zeros", 0, 0, .call = call_zeros, .takes_dims = true),
    BUILTIN("ones", 0, 0, .call = call_ones, .takes_dims = true),
    BUILTIN("full", 1, 1, .call = call_full, .takes_dims = true),
};

const BuiltinTable builtin_fill = BUILTIN_TABLE(table);
