/* builtin_fill.c: zeros[B, d](), ones[n](), full[n](v): tensors of one number.
 *
 * full takes the element type of v: an int gives i32.  Without dims the same names are
 * initializers. An axis written as the name of the batch holds its rows, unless batches are always
 * full: then there is nothing to mask. */
#include "frontend/builtin.h"

#include <float.h>
#include <math.h>

/* Rows lie on the axis that is written as the batch. */
static int8_t batch_axis(const Sema *s, const Ast *dims, Type t) {
  for (uint32_t i = 0; !s->full && dims->len == t.rank && i < dims->len; i++)
    if (dims->kid[i]->kind == AST_NAME && dims->kid[i]->name == s->batch_name) return (int8_t)i;
  return -1;
}

static bool fill_type(Sema *s, const Builtin *b, const Call *c, DType d, Type *t) {
  if (!c->dims) {
    diag_error(s->diag, c->whole, "as a value %s wants dims: %s[B, d](%s)", b->name, b->name,
               b->most ? "v" : "");
    return false;
  }
  if (!s->building) {
    diag_error(s->diag, c->whole,
               "tensors are computed in functions and in `train`, not in declarations");
    return false;
  }
  if (!shape_eval(s, c->scope, c->dims, d, t)) return false;
  t->rows = batch_axis(s, c->dims, *t);
  return true;
}

static Val filled(Sema *s, const Call *c, ValueId scalar, Type t) {
  ValueId v = build_splat(&s->b, scalar, t);
  dims_declare(s, v, c->dims);
  return val_tensor(v);
}

static Val fill(Sema *s, const Builtin *b, const Call *c, DType d, double value) {
  Type t;
  if (!fill_type(s, b, c, d, &t)) return val_bad();
  return filled(s, c, build_constant(&s->b, type_scalar(d), value), t);
}

static Val call_zeros(Sema *s, const Builtin *b, const Call *c) { return fill(s, b, c, DT_f32, 0); }
static Val call_ones(Sema *s, const Builtin *b, const Call *c) { return fill(s, b, c, DT_f32, 1); }

static Val call_full(Sema *s, const Builtin *b, const Call *c) {
  Val v = c->arg[0].val;
  double f = 0;
  bool number = val_number(v, &f),
       whole = v.kind == VAL_INT && v.i >= INT32_MIN && v.i <= INT32_MAX;
  if (whole) return fill(s, b, c, DT_i32, f);
  if (number && v.kind == VAL_FLOAT && (fabs(f) <= FLT_MAX || isinf(f)))
    return fill(s, b, c, DT_f32, f);
  if (val_is_tensor(v) && !val_type(s, v).rank) {
    Type t;
    if (!fill_type(s, b, c, (DType)val_type(s, v).dtype, &t)) return val_bad();
    ValueId x = tensor_of(s, v, c->arg[0].loc);
    return x == NO_ID ? val_bad() : filled(s, c, x, t);
  }
  diag_error(s->diag, c->arg[0].loc, "%s of %s: a number that fits in i32 or f32 is wanted",
             b->name, val_describe(s, v));
  return val_bad();
}

static const Builtin table[] = {
    BUILTIN("zeros", 0, 0, .call = call_zeros, .takes_dims = true),
    BUILTIN("ones", 0, 0, .call = call_ones, .takes_dims = true),
    BUILTIN("full", 1, 1, .call = call_full, .takes_dims = true),
};

const BuiltinTable builtin_fill = BUILTIN_TABLE(table);
