/* builtin_shape.c: functions that move elements.  Rows of the batch stay whole and in order. */
#include "frontend/builtin.h"

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
  x = build_reshape(&s->b, x, to);
  for (int i = 0; i < to.rank; i++) {
    Val d = c->arg[1].val.list.at[i];
    if (d.literal && d.i == 1) dims_write_one(s, x, i);
  }
  return val_tensor(x);
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

static const Builtin table[] = {
    BUILTIN("reshape", 2, 2, .call = call_reshape, .op = OP_reshape),
    BUILTIN("transpose", 1, 1, .call = call_transpose, .op = OP_transpose),
};

const BuiltinTable builtin_shape = BUILTIN_TABLE(table);
