/* index.c: x[…] of a tensor.
 *
 *   i            an int drops the axis; negative ones count from the end
 *   from:to:step a part of the axis; what is left out begins, ends, steps by 1
 *   ...          the axes that no other index is for
 *   ids          an i32 of rank 0 drops the axis, one of other dims replaces it; where it is out of
 *                range nothing commits, and the run says where
 *
 * Parts become one slice node; the batch's axis may only be taken whole, because the last batch may
 * be partial.
 */
#include "frontend/builtin.h"

typedef struct Indexing {
  Sema *s;
  Scope *sc;
  Type whole;
  int axis; /* the next */
  int64_t starts[MAX_RANK], steps[MAX_RANK];
  Type part;
  bool dropped[MAX_RANK];
  ValueId index; /* the tensor among the indices, and its axis; NO_ID: none */
  int index_axis;
  Loc index_loc;
} Indexing;

/* A bound as written against an axis of n places; counted from the end where negative. */
static bool bound(Indexing *x, const Ast *a, int64_t n, int64_t otherwise, int64_t *v) {
  *v = otherwise;
  if (!a) return true;
  if (!eval_int(x->s, x->sc, a, "a bound", v)) return false;
  int64_t at = *v < 0 ? *v + n : *v;
  if (at < 0 || at > n) {
    diag_error(x->s->diag, ast_start(a), "%lld is beyond an axis of %lld places", (long long)*v,
               (long long)n);
    return false;
  }
  *v = at;
  return true;
}

static bool take_slice(Indexing *x, const Ast *a) {
  int64_t n = x->whole.dim[x->axis], from, to, step = 1;
  const Ast *by = a->kid[SLICE_STEP];
  if (by && !eval_int(x->s, x->sc, by, "a step", &step)) return false;
  if (step == 0 || step > n || step < -n) {
    diag_error(x->s->diag, ast_start(by), "a step of %lld along an axis of %lld places",
               (long long)step, (long long)n);
    return false;
  }
  bool back = step < 0;
  if (!bound(x, a->kid[SLICE_FROM], n, back ? n - 1 : 0, &from)) return false;
  if (!bound(x, a->kid[SLICE_TO], n, back ? -1 : n, &to)) return false;
  if (back && from == n) from = n - 1;
  int64_t count = back ? (from - to - step - 1) / -step : (to - from + step - 1) / step;
  if (count < 1) {
    diag_error(x->s->diag, a->loc, "the slice has no place of the axis of %lld", (long long)n);
    return false;
  }
  x->starts[x->axis] = from;
  x->steps[x->axis] = step;
  x->part.dim[x->axis] = count;
  return true;
}

static bool take_int(Indexing *x, int64_t i, Loc loc) {
  int64_t n = x->whole.dim[x->axis], at = i < 0 ? i + n : i;
  if (at < 0 || at >= n) {
    diag_error(x->s->diag, loc, "index %lld of an axis of %lld places", (long long)i, (long long)n);
    return false;
  }
  x->starts[x->axis] = at;
  x->part.dim[x->axis] = 1;
  x->dropped[x->axis] = true;
  return true;
}

static bool take_tensor(Indexing *x, Val v, Loc loc) {
  Sema *s = x->s;
  ValueId i = tensor_of(s, v, loc);
  if (i == NO_ID) return false;
  i = tensor_widen(s, i);
  if (value_type(s->g, i).dtype != DT_i32) {
    diag_error(s->diag, loc, "an index is %s: an int or i32 is wanted", val_describe(s, v));
    return false;
  }
  if (x->index != NO_ID) {
    diag_error(s->diag, loc, "two tensors as indices: index twice, x[i][j]");
    return false;
  }
  x->index = i;
  x->index_axis = x->axis;
  x->index_loc = loc;
  return true;
}

static bool take(Indexing *x, const Ast *a) {
  if (x->axis >= x->whole.rank) {
    diag_error(x->s->diag, ast_start(a), "more indices than the %d axes", x->whole.rank);
    return false;
  }
  if (a->kind == AST_SLICE) return take_slice(x, a);
  Val v = eval_expr(x->s, x->sc, a, false);
  if (v.kind == VAL_BAD) return false;
  if (v.kind == VAL_INT) return take_int(x, v.i, ast_start(a));
  if (val_is_tensor(v)) return take_tensor(x, v, ast_start(a));
  diag_error(x->s->diag, ast_start(a), "an index is %s: an int or i32 is wanted",
             val_describe(x->s, v));
  return false;
}

static bool take_all(Indexing *x, const Ast *list) {
  bool rest = false;
  for (uint32_t i = 0; i < list->len; i++, x->axis++) {
    const Ast *a = list->kid[i];
    if (a->kind == AST_REST) {
      int left = x->whole.rank - x->axis - (int)(list->len - i - 1);
      if (rest || a->name || left < 0) {
        diag_error(x->s->diag, a->loc, "%s",
                   a->name ? "a named run of dims is no index"
                   : rest  ? "`...` stands here twice"
                           : "more indices than axes");
        return false;
      }
      rest = true;
      x->axis += left - 1;
    } else if (!take(x, a)) return false;
  }
  return true;
}

/* The batch's axis is neither cut nor dropped nor replaced. */
static bool keeps_batch(Indexing *x, Loc loc) {
  int r = x->whole.rows;
  if (r < 0) return true;
  bool whole = x->starts[r] == 0 && x->steps[r] == 1 && x->part.dim[r] == x->whole.dim[r];
  if (whole && !x->dropped[r] && x->index_axis != r) return true;
  diag_error(x->s->diag, loc, "an index cuts the axis of the batch: only `:` keeps all rows");
  return false;
}

static ValueId without_dropped(Indexing *x, ValueId v) {
  Type t = type_scalar((DType)x->part.dtype);
  int at = -1;
  for (int i = 0; i < x->part.rank; i++) {
    if (x->dropped[i]) continue;
    if (i == x->part.rows) t.rows = (int8_t)t.rank;
    if (i == x->index_axis) at = t.rank;
    t.dim[t.rank++] = x->part.dim[i];
  }
  x->index_axis = at;
  return build_reshape(&x->s->b, v, t);
}

/* The axis goes to the front, becomes the index' axes, and these go where it was. */
static ValueId gather_axis(Indexing *x, ValueId v) {
  Sema *s = x->s;
  Type t = value_type(s->g, v), i = value_type(s->g, x->index);
  int64_t perm[MAX_RANK] = {x->index_axis}, back[MAX_RANK];
  int at = x->index_axis, n = 1;
  if (t.rank - 1 + i.rank > MAX_RANK) {
    diag_error(s->diag, x->index_loc, "the result has more than %d axes", MAX_RANK);
    return NO_ID;
  }
  if (t.rows >= 0 && i.rows >= 0) {
    diag_error(s->diag, x->index_loc, "the batch is an axis of the tensor and of its index");
    return NO_ID;
  }
  for (int a = 0; a < t.rank; a++)
    if (a != at) perm[n++] = a;
  add_index_fault(s, x->index, t.dim[at], x->index_loc, "index");
  s->b.loc = x->index_loc;
  if (at) v = build_transpose(&s->b, v, perm);
  v = build2(&s->b, OP_embedding, v, x->index);
  for (int a = 0; a < t.rank - 1 + i.rank; a++)
    back[a] = a < at ? i.rank + a : a < at + i.rank ? a - at : a;
  return at && i.rank ? build_transpose(&s->b, v, back) : v;
}

Val tensor_index(Sema *s, Scope *sc, const Ast *a, Val of) {
  Loc loc = a->kid[INDEX_AT]->loc;
  ValueId v = tensor_of(s, of, loc);
  if (v == NO_ID) return val_bad();
  Indexing x = {.s = s, .sc = sc, .whole = value_type(s->g, v), .index = NO_ID, .index_axis = -1};
  x.part = x.whole;
  for (int i = 0; i < MAX_RANK; i++) x.steps[i] = 1;
  if (!take_all(&x, a->kid[INDEX_AT]) || !keeps_batch(&x, loc)) return val_bad();
  s->b.loc = loc;
  bool whole = type_same_dims(x.part, x.whole);
  for (int i = 0; i < x.whole.rank; i++) whole = whole && x.steps[i] == 1;
  if (!whole) v = build_slice(&s->b, v, x.part, x.starts, x.steps);
  v = without_dropped(&x, v);
  if (x.index != NO_ID) v = gather_axis(&x, v);
  return v == NO_ID ? val_bad() : val_tensor(v);
}
