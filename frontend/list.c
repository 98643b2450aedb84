/* list.c: lists, tuples and strings when compiling: joining, repeating, indices and slices.
 *
 * Indices count from behind when negative, slices are clamped, as in Python; a single index out of
 * range is an error.  `...S` in a list of dims puts the dims of a run there. */
#include "frontend/sema.h"

#include <string.h>

Val list_join(Sema *s, Val l, Val r, Loc loc) {
  if (!sema_work(s, loc, l.list.n) || !sema_work(s, loc, r.list.n)) return val_bad();
  Val all = {.kind = VAL_LIST};
  all.list.n = l.list.n + r.list.n;
  all.list.at = NEW_ARRAY(s->arena, Val, all.list.n);
  for (uint32_t i = 0; i < l.list.n; i++) all.list.at[i] = l.list.at[i];
  for (uint32_t i = 0; i < r.list.n; i++) all.list.at[l.list.n + i] = r.list.at[i];
  return all;
}

Val list_repeat(Sema *s, Val list, Val times, Loc loc) {
  if (times.i < 0) {
    diag_error(s->diag, loc, "a list %lld times", (long long)times.i);
    return val_bad();
  }
  if (!list.list.n) return list;
  if (times.i > EVAL_WORK / list.list.n || !sema_work(s, loc, (uint32_t)times.i * list.list.n))
    return sema_give_up(s, loc, "the program unrolls to more than mpcc compiles");
  Val all = {.kind = VAL_LIST};
  all.list.n = (uint32_t)times.i * list.list.n;
  all.list.at = NEW_ARRAY(s->arena, Val, all.list.n);
  for (uint32_t i = 0; i < all.list.n; i++) all.list.at[i] = list.list.at[i % list.list.n];
  return all;
}

/* ---- indices --------------------------------------------------------------------------------- */

static Val list_element(Sema *s, Scope *sc, Val list, const Ast *at) {
  int64_t i, n = list.list.n;
  if (!eval_int(s, sc, at, "an index", &i)) return val_bad();
  if (i >= -n && i < n) return list.list.at[i < 0 ? i + n : i];
  diag_error(s->diag, ast_start(at), "index %lld of %s", (long long)i, val_describe(s, list));
  return val_bad();
}

/* A bound of a slice, cut off at both ends as Python does. */
static bool slice_bound(Sema *s, Scope *sc, const Ast *a, int64_t n, int64_t *i) {
  if (!a) return true;
  if (!eval_int(s, sc, a, "the bound of a slice", i)) return false;
  if (*i < 0) *i = *i < -n ? 0 : *i + n;
  if (*i > n) *i = n;
  return true;
}

static Val list_slice(Sema *s, Scope *sc, Val list, const Ast *slice) {
  const Ast *by = slice->kid[SLICE_STEP];
  int64_t n = list.list.n, from = 0, to = n, step = 1;
  if (!slice_bound(s, sc, slice->kid[SLICE_FROM], n, &from) ||
      !slice_bound(s, sc, slice->kid[SLICE_TO], n, &to) ||
      (by && !eval_int(s, sc, by, "the step of a slice", &step)))
    return val_bad();
  if (step < 1) {
    diag_error(s->diag, ast_start(by), "the step of a slice must be at least 1, not %lld",
               (long long)step);
    return val_bad();
  }
  Val part = {.kind = list.kind};
  if (!sema_work(s, slice->loc, (uint32_t)n)) return val_bad();
  part.list.at = NEW_ARRAY(s->arena, Val, list.list.n);
  for (int64_t i = from; i<to; i += step> to - i ? to - i : step)
    part.list.at[part.list.n++] = list.list.at[i];
  return part;
}

static Val list_index(Sema *s, Scope *sc, Val list, const Ast *indices) {
  if (indices->len == 1) {
    const Ast *at = indices->kid[0];
    return at->kind == AST_SLICE ? list_slice(s, sc, list, at) : list_element(s, sc, list, at);
  }
  diag_error(s->diag, indices->loc, "%s takes one index, not %u", val_describe(s, list),
             (unsigned)indices->len);
  return val_bad();
}

Val eval_index(Sema *s, Scope *sc, const Ast *a, Val of) {
  if (of.kind == VAL_LIST || of.kind == VAL_TUPLE) return list_index(s, sc, of, a->kid[INDEX_AT]);
  if (val_is_tensor(of)) return tensor_index(s, sc, a, of);
  if (of.kind != VAL_BAD)
    diag_error(s->diag, a->kid[INDEX_AT]->loc, "%s has no elements", val_describe(s, of));
  return val_bad();
}

/* ---- elements: `...S` puts a run of dims there ----------------------------------------------- */

bool rest_dims(Sema *s, Scope *sc, const Ast *rest, Type *run) {
  if (rest->name) {
    Val v = eval_name(s, sc, rest);
    if (v.kind == VAL_RUN) return *run = *v.run, true;
    if (v.kind != VAL_BAD)
      diag_error(s->diag, rest->loc, "`...%s` is %s, a run of dims is wanted", rest->name,
                 val_describe(s, v));
    return false;
  }
  while (sc && !sc->rest) sc = sc->parent;
  if (sc) return *run = *sc->rest, true;
  diag_error(s->diag, rest->loc, "`...` stands for no dims here");
  return false;
}

Val eval_elements(Sema *s, Scope *sc, const Ast *a, ValKind kind, bool declaring) {
  VEC(Val) all = {0};
  bool bad = false;
  for (uint32_t i = 0; i < a->len; i++) {
    Type run;
    if (a->kid[i]->kind != AST_REST) {
      Val v = eval_expr(s, sc, a->kid[i], declaring);
      bad = bad || v.kind == VAL_BAD;
      vec_push(s->arena, &all, v);
    } else if (rest_dims(s, sc, a->kid[i], &run)) {
      for (int k = 0; k < run.rank; k++) vec_push(s->arena, &all, val_int(run.dim[k]));
    } else bad = true;
  }
  return bad ? val_bad() : val_list(s->arena, kind, all.len, all.at);
}
