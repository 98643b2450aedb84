/* builtin_shape.c: functions that move elements: reshape, transpose, concat, stack, split, iota,
 * one_hot; patterns (rearrange, einsum) are read by pattern.c.
 *
 * Rows of the batch stay whole and in order: the axis that holds them is followed through each
 * function, and what would mix rows of different examples is an error at its line.  Without that a
 * partial batch could not be masked. */
#include "frontend/builtin.h"

/* The first axis that may hold the batch: what stands in front of it has size 1. */
static int leading_axis(const Sema *s, Type t) {
  int axis = 0;
  while (s->batch > 1 && axis + 1 < t.rank && t.dim[axis] == 1) axis++;
  return axis;
}

/* Rows stay whole and in order where the batch is the leading axis before and after and is only
 * multiplied: row r's elements are one run in both. */
static bool keeps_rows(Sema *s, Type from, Type *to, Loc loc) {
  if (from.rows < 0) return true;
  int axis = leading_axis(s, *to);
  to->rows = (int8_t)axis;
  bool led = from.rows == 0 || from.rows == leading_axis(s, from);
  if (led && to->rank && to->dim[axis] % s->batch == 0) return true;
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

/* Axis numbers of a list or tuple of ints, negative ones from the end; each axis once. */
static bool read_perm(Sema *s, const Arg *a, int rank, int64_t *perm) {
  uint32_t seen = 0;
  bool ok =
      (a->val.kind == VAL_LIST || a->val.kind == VAL_TUPLE) && a->val.list.n == (uint32_t)rank;
  for (int i = 0; ok && i < rank; i++) {
    Val v = a->val.list.at[i];
    ok = v.kind == VAL_INT && v.i >= -rank && v.i < rank;
    if (ok) perm[i] = v.i < 0 ? v.i + rank : v.i;
    ok = ok && !(seen >> perm[i] & 1);
    if (ok) seen |= 1u << perm[i];
  }
  if (!ok && a->val.kind != VAL_BAD)
    diag_error(s->diag, a->loc, "a list of the %d axes in their new order is wanted, not %s", rank,
               val_describe(s, a->val));
  return ok;
}

/* transpose(x): of the last two axes; transpose(x, perm): result axis i is axis perm[i] */
static Val call_transpose(Sema *s, const Builtin *b, const Call *c) {
  ValueId x = tensor_of(s, c->arg[0].val, c->arg[0].loc);
  if (x == NO_ID) return val_bad();
  int rank = value_type(s->g, x).rank;
  int64_t perm[MAX_RANK];
  if (call_positional(c) == 2) {
    if (!read_perm(s, &c->arg[1], rank, perm)) return val_bad();
    return val_tensor(build_transpose(&s->b, x, perm));
  }
  if (rank < 2) {
    diag_error(s->diag, c->whole, "%s of %s: two axes are wanted", b->name,
               val_describe(s, c->arg[0].val));
    return val_bad();
  }
  for (int i = 0; i < rank; i++) perm[i] = i < rank - 2 ? i : 2 * rank - 3 - i;
  return val_tensor(build_transpose(&s->b, x, perm));
}

/* ---- parts and wholes ------------------------------------------------------------------------ */

/* `axis:` among `rank` axes; the first without it. */
static bool read_axis(Sema *s, const Call *c, int rank, int *axis) {
  const Arg *a = call_named(c, "axis");
  *axis = 0;
  if (!a) return true;
  if (a->val.kind == VAL_INT && a->val.i >= -rank && a->val.i < rank) {
    *axis = (int)(a->val.i < 0 ? a->val.i + rank : a->val.i);
    return true;
  }
  diag_error(s->diag, a->loc, "axis is %s, one of %d is wanted", val_describe(s, a->val), rank);
  return false;
}

/* The tensors of a list or tuple, of one element type. */
static ValueId *read_tensors(Sema *s, const Builtin *b, const Arg *a, uint32_t *n) {
  bool list = a->val.kind == VAL_LIST || a->val.kind == VAL_TUPLE;
  if (!list || !a->val.list.n) {
    if (a->val.kind != VAL_BAD)
      diag_error(s->diag, a->loc, "%s wants a list of tensors, not %s", b->name,
                 val_describe(s, a->val));
    return NULL;
  }
  *n = a->val.list.n;
  if (!sema_work(s, a->loc, *n)) return NULL;
  ValueId *v = NEW_ARRAY(s->arena, ValueId, *n);
  for (uint32_t i = 0; i < *n; i++)
    if ((v[i] = tensor_of(s, a->val.list.at[i], a->loc)) == NO_ID) return NULL;
  return v;
}

static Val join(Sema *s, const Builtin *b, const Call *c, uint32_t n, const ValueId *v, int axis) {
  Type t;
  Text why = {.arena = s->arena};
  Attr a = attr_int(AT_axis, axis);
  for (uint32_t i = 0; i < n; i++)
    if (mixes_rows(s, v[i], axis, c->loc, b->name)) return val_bad();
  if (!shape_infer(s->g, OP_concat, n, v, 1, &a, &t, &why)) {
    diag_error(s->diag, c->whole, "%s along axis %d: the tensors must agree in all but that axis",
               b->name, axis);
    for (uint32_t i = 0; i < n && i < 4; i++)
      diag_note(s->diag, c->arg[0].loc, "number %u is %s", (unsigned)i,
                val_describe(s, val_tensor(v[i])));
    return val_bad();
  }
  return val_tensor(build_concat(&s->b, n, v, axis));
}

static Val call_concat(Sema *s, const Builtin *b, const Call *c) {
  uint32_t n;
  int axis;
  ValueId *v = read_tensors(s, b, &c->arg[0], &n);
  if (!v) return val_bad();
  int rank = value_type(s->g, v[0]).rank;
  if (!rank) {
    diag_error(s->diag, c->whole, "%s of tensors without axes: stack them", b->name);
    return val_bad();
  }
  return read_axis(s, c, rank, &axis) ? join(s, b, c, n, v, axis) : val_bad();
}

/* A new axis, along which they lie. */
static Val call_stack(Sema *s, const Builtin *b, const Call *c) {
  uint32_t n;
  int axis;
  ValueId *v = read_tensors(s, b, &c->arg[0], &n);
  if (!v || !read_axis(s, c, value_type(s->g, v[0]).rank + 1, &axis)) return val_bad();
  for (uint32_t i = 0; i < n; i++) {
    Type t = value_type(s->g, v[i]);
    if (t.rank == MAX_RANK || axis > t.rank) {
      diag_error(s->diag, c->whole, "%s: too many axes, or tensors of different ranks", b->name);
      return val_bad();
    }
    for (int k = t.rank++; k > axis; k--) t.dim[k] = t.dim[k - 1];
    t.dim[axis] = 1;
    t.rows = (int8_t)(t.rows + (t.rows >= axis));
    v[i] = build_reshape(&s->b, v[i], t);
  }
  return join(s, b, c, n, v, axis);
}

/* split(x, n, axis:): n equal parts, as a tuple */
static Val call_split(Sema *s, const Builtin *b, const Call *c) {
  ValueId x = tensor_of(s, c->arg[0].val, c->arg[0].loc);
  int axis;
  if (x == NO_ID) return val_bad();
  Type t = value_type(s->g, x);
  if (!read_axis(s, c, t.rank, &axis) || mixes_rows(s, x, axis, c->loc, b->name)) return val_bad();
  Val n = c->arg[1].val;
  if (n.kind != VAL_INT || n.i < 1 || !t.rank || t.dim[axis] % n.i) {
    diag_error(s->diag, c->arg[1].loc,
               "%s of %s: a number of parts that divides the axis is wanted", b->name,
               val_describe(s, c->arg[0].val));
    return val_bad();
  }
  if (!sema_work(s, c->loc, (uint32_t)n.i)) return val_bad();
  Val list = {.kind = VAL_TUPLE};
  list.list.n = (uint32_t)n.i;
  list.list.at = NEW_ARRAY(s->arena, Val, list.list.n);
  for (int64_t i = 0; i < n.i; i++)
    list.list.at[i] =
        val_tensor(build_part(&s->b, x, axis, i * (t.dim[axis] / n.i), t.dim[axis] / n.i));
  return list;
}

/* ---- tensors from nothing -------------------------------------------------------------------- */

static bool count_arg(Sema *s, const Builtin *b, const Arg *a, int64_t *n) {
  *n = a->val.kind == VAL_INT ? a->val.i : 0;
  if (*n >= 1 && *n <= INT32_MAX) return true;
  if (a->val.kind != VAL_BAD)
    diag_error(s->diag, a->loc, "%s wants a positive int, not %s", b->name,
               val_describe(s, a->val));
  return false;
}

/* iota(n): 0, 1, …, n-1 as i32 */
static Val call_iota(Sema *s, const Builtin *b, const Call *c) {
  int64_t n;
  if (!tensors_allowed(s, c->loc) || !count_arg(s, b, &c->arg[0], &n)) return val_bad();
  return val_tensor(build_iota(&s->b, type_make(DT_i32, 1, &n), 0));
}

/* one_hot(index, n): f32, 1 at the index of a new last axis */
static Val call_one_hot(Sema *s, const Builtin *b, const Call *c) {
  int64_t n;
  ValueId i = tensor_of(s, c->arg[0].val, c->arg[0].loc);
  if (i == NO_ID || !count_arg(s, b, &c->arg[1], &n)) return val_bad();
  Type t = value_type(s->g, i);
  if (dtype_kind[t.dtype] != 'i' || t.rank == MAX_RANK) {
    diag_error(s->diag, c->arg[0].loc, "%s of %s: ints are wanted", b->name,
               val_describe(s, c->arg[0].val));
    return val_bad();
  }
  t.dim[t.rank++] = n;
  return val_tensor(build_typed(&s->b, OP_one_hot, type_with(t, DT_f32), 1, &i, 0, NULL));
}

/* linspace(from, to, n): n numbers, the last is `to` */
static Val call_linspace(Sema *s, const Builtin *b, const Call *c) {
  double from, to;
  int64_t n;
  if (!tensors_allowed(s, c->loc) || !count_arg(s, b, &c->arg[2], &n)) return val_bad();
  if (!val_number(c->arg[0].val, &from) || !val_number(c->arg[1].val, &to)) {
    diag_error(s->diag, c->whole, "%s wants two numbers and a count", b->name);
    return val_bad();
  }
  ValueId i = build_cast(&s->b, build_iota(&s->b, type_make(DT_i32, 1, &n), 0), DT_f32);
  ValueId step = build_like(&s->b, i, n > 1 ? (to - from) / (double)(n - 1) : 0);
  i = build2(&s->b, OP_mul, i, step);
  return val_tensor(build2(&s->b, OP_add, i, build_like(&s->b, i, from)));
}

static const Builtin table[] = {
    BUILTIN("reshape", 2, 2, .call = call_reshape, .op = OP_reshape),
    BUILTIN("transpose", 1, 2, .call = call_transpose, .op = OP_transpose),
    BUILTIN("rearrange", 2, 2, .call = call_rearrange, .names_own = true),
    BUILTIN("einsum", 2, 9, .call = call_einsum),
    BUILTIN("concat", 1, 1, .call = call_concat, .op = OP_concat, .named = "axis"),
    BUILTIN("stack", 1, 1, .call = call_stack, .op = OP_concat, .named = "axis"),
    BUILTIN("split", 2, 2, .call = call_split, .op = OP_slice, .named = "axis"),
    BUILTIN("iota", 1, 1, .call = call_iota, .op = OP_iota),
    BUILTIN("one_hot", 2, 2, .call = call_one_hot, .op = OP_one_hot),
    BUILTIN("linspace", 3, 3, .call = call_linspace),
};

const BuiltinTable builtin_shape = BUILTIN_TABLE(table);
