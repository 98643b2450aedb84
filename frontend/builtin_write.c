/* builtin_write.c: tensors from lists, and parts written into tensors.
 *
 * write(x, part, at: (…)) is x with part in it: where the place is known when compiling, a pad;
 * where it is a number of the run, rows of part by an index that moves along.  Which of the two
 * counts at a place is told by the places' numbers.
 */
#include "frontend/builtin.h"

#include <float.h>
#include <math.h>

/* tensor([1, 2, 3]): i32 of ints, else f32 */
static Val call_tensor(Sema *s, const Builtin *b, const Call *c) {
  Val list = c->arg[0].val;
  bool ok = (list.kind == VAL_LIST || list.kind == VAL_TUPLE) && list.list.n > 0, floats = false;
  double f;
  if (list.kind == VAL_BAD || !tensors_allowed(s, c->loc)) return val_bad();
  for (uint32_t i = 0; ok && i < list.list.n; i++) {
    Val v = list.list.at[i];
    ok = val_number(v, &f) &&
         (v.kind == VAL_INT ? f >= INT32_MIN && f <= INT32_MAX : fabs(f) <= FLT_MAX || isinf(f));
    floats = floats || v.kind == VAL_FLOAT;
  }
  if (!ok) {
    diag_error(s->diag, c->arg[0].loc, "%s wants a list of numbers, not %s", b->name,
               val_describe(s, list));
    return val_bad();
  }
  if (!sema_work(s, c->loc, list.list.n)) return val_bad();
  ValueId *v = NEW_ARRAY(s->arena, ValueId, list.list.n);
  Type one = type_make(floats ? DT_f32 : DT_i32, 1, (int64_t[]){1});
  for (uint32_t i = 0; i < list.list.n; i++)
    v[i] = build_constant(&s->b, one, (val_number(list.list.at[i], &f), f));
  return val_tensor(build_concat(&s->b, list.list.n, v, 0));
}

/* ---- write ----------------------------------------------------------------------------------- */

typedef struct Write {
  Sema *s;
  Type whole;
  ValueId part, inside;     /* inside: NO_ID, everywhere */
  int64_t starts[MAX_RANK]; /* known places */
} Write;

/* The places of axis `axis` from `at` on, as far as the part goes, count as inside. */
static void mark_inside(Write *w, int axis, ValueId at, int64_t size) {
  Builder *b = &w->s->b;
  Type line = type_make(DT_i32, 1, &w->whole.dim[axis]), t = type_with(w->whole, DT_i1);
  ValueId left = build2(b, OP_sub, build_iota(b, line, 0), build_splat(b, at, line));
  ValueId from = build2(b, OP_ge, left, build_like(b, left, 0));
  ValueId to = build2(b, OP_lt, left, build_like(b, left, (double)size));
  ValueId in = build_broadcast(b, build2(b, OP_and, from, to), t, (int64_t[]){axis});
  w->inside = w->inside == NO_ID ? in : build2(b, OP_and, w->inside, in);
}

/* Along the axis, part has its element where the whole has it, the nearest elsewhere. */
static void spread(Write *w, int axis, ValueId at) {
  Builder *b = &w->s->b;
  Type line = type_make(DT_i32, 1, &w->whole.dim[axis]), t = value_type(w->s->g, w->part);
  int64_t front[MAX_RANK] = {axis}, back[MAX_RANK];
  for (int i = 0, n = 1; i < t.rank; i++)
    if (i != axis) front[n++] = i;
  for (int i = 0; i < t.rank; i++) back[front[i]] = i;
  ValueId index = build2(b, OP_sub, build_iota(b, line, 0), build_splat(b, at, line));
  if (axis) w->part = build_transpose(b, w->part, front);
  w->part = build2(b, OP_embedding, w->part, index);
  if (axis) w->part = build_transpose(b, w->part, back);
}

static bool write_axis(Write *w, int axis, Val at, Loc loc) {
  Sema *s = w->s;
  int64_t size = value_type(s->g, w->part).dim[axis], n = w->whole.dim[axis];
  bool known = at.kind == VAL_INT;
  if (size > n || (known && (at.i < 0 || at.i > n - size))) {
    diag_error(s->diag, loc, "write: %lld places from %s are beyond axis %d of %lld",
               (long long)size, val_describe(s, at), axis, (long long)n);
    return false;
  }
  if (size != n && w->whole.rows == axis) {
    diag_error(s->diag, loc, "write cuts the axis of the batch");
    return false;
  }
  if (known) w->starts[axis] = at.i;
  if (known && size == n) return true;
  ValueId v =
      known ? build_constant(&s->b, type_scalar(DT_i32), (double)at.i) : tensor_of(s, at, loc);
  if (v == NO_ID) return false;
  v = tensor_widen(s, v);
  if (value_type(s->g, v).rank || value_type(s->g, v).dtype != DT_i32) {
    diag_error(s->diag, loc, "a place is %s: an int or an i32 of rank 0 is wanted",
               val_describe(s, at));
    return false;
  }
  if (!known) add_index_fault(s, v, n - size + 1, loc, "write");
  s->b.loc = loc;
  mark_inside(w, axis, v, size);
  if (!known) spread(w, axis, v);
  return true;
}

static bool read_places(Sema *s, const Call *c, int rank, Val *at) {
  const Arg *a = call_named(c, "at");
  if (!a) diag_error(s->diag, c->whole, "write wants at: (…), a place for each axis");
  else if (a->val.kind == VAL_TUPLE || a->val.kind == VAL_LIST) {
    for (uint32_t i = 0; i < a->val.list.n && i < MAX_RANK; i++) at[i] = a->val.list.at[i];
    if (a->val.list.n == (uint32_t)rank) return true;
    diag_error(s->diag, a->loc, "%u places for %d axes", (unsigned)a->val.list.n, rank);
  } else if (rank == 1) {
    at[0] = a->val;
    return true;
  } else if (a->val.kind != VAL_BAD)
    diag_error(s->diag, a->loc, "at is %s: a place for each of %d axes is wanted",
               val_describe(s, a->val), rank);
  return false;
}

/* write(x, part, at: (…)): x with part at that place */
static Val call_write(Sema *s, const Builtin *b, const Call *c) {
  ValueId v[2];
  for (int i = 0; i < 2; i++) {
    if ((v[i] = tensor_of(s, c->arg[i].val, c->arg[i].loc)) == NO_ID) return val_bad();
    v[i] = tensor_widen(s, v[i]);
  }
  Type t = value_type(s->g, v[0]), part = value_type(s->g, v[1]);
  if (t.rank != part.rank || t.dtype != part.dtype ||
      (t.rows >= 0 && part.rows >= 0 && t.rows != part.rows)) {
    const char *whole = val_describe(s, c->arg[0].val), *piece = val_describe(s, c->arg[1].val);
    diag_error(s->diag, c->whole, "%s of %s into %s: equal ranks and element types are wanted",
               b->name, piece, whole);
    return val_bad();
  }
  if (t.rows < 0) t.rows = part.rows;
  Write w = {.s = s, .whole = t, .part = v[1], .inside = NO_ID};
  Val at[MAX_RANK];
  if (!read_places(s, c, t.rank, at)) return val_bad();
  for (int i = 0; i < t.rank; i++)
    if (!write_axis(&w, i, at[i], c->whole)) return val_bad();
  static const int64_t steps[MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
  Type padded = t;
  padded.rows = value_type(s->g, w.part).rows;
  if (!type_same_dims(value_type(s->g, w.part), t))
    w.part = build_pad(&s->b, w.part, padded, w.starts, steps);
  if (w.inside == NO_ID) return val_tensor(w.part);
  return val_tensor(build_select(&s->b, w.inside, w.part, v[0]));
}

/* pad(x, axis:, before:, after:): zeros in front of and behind an axis */
static Val call_pad(Sema *s, const Builtin *b, const Call *c) {
  static const char *const words[] = {"axis", "before", "after"};
  int64_t n[3] = {0, 0, 0};
  ValueId x = tensor_of(s, c->arg[0].val, c->arg[0].loc);
  if (x == NO_ID) return val_bad();
  Type t = value_type(s->g, x);
  for (int i = 0; i < 3; i++) {
    const Arg *a = call_named(c, words[i]);
    if (!a) continue;
    int64_t low = i ? 0 : -t.rank, high = i ? INT32_MAX : t.rank - 1;
    if (a->val.kind != VAL_INT || a->val.i < low || a->val.i > high) {
      diag_error(s->diag, a->loc, "%s of %s: %s is %s", b->name, val_describe(s, c->arg[0].val),
                 words[i], val_describe(s, a->val));
      return val_bad();
    }
    n[i] = a->val.i;
  }
  int axis = (int)(n[0] < 0 ? n[0] + t.rank : n[0]);
  if (!t.rank || (n[1] + n[2] && mixes_rows(s, x, axis, c->loc, b->name))) return val_bad();
  int64_t starts[MAX_RANK] = {0}, steps[MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
  starts[axis] = n[1];
  t.dim[axis] += n[1] + n[2];
  return val_tensor(build_pad(&s->b, x, t, starts, steps));
}

static const Builtin table[] = {
    BUILTIN("tensor", 1, 1, .call = call_tensor),
    BUILTIN("write", 2, 2, .call = call_write, .named = "at"),
    BUILTIN("pad", 1, 1, .call = call_pad, .named = "axis before after"),
};

const BuiltinTable builtin_write = BUILTIN_TABLE(table);
