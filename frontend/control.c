/* control.c: what decides and repeats when compiling: `if`, `for`, comprehensions, `repeat`,
 * `assert`.
 *
 * Nothing of it is left in the graph: conditions and counts are compile-time values, and one over
 * a tensor is refused with a word on `where`.  Where a condition is wrong neither branch is looked
 * at, and names that it may have bound are no news. */
#include "frontend/sema.h"

#include <string.h>

static bool eval_condition(Sema *s, Scope *sc, const Ast *a, bool *holds) {
  bool deciding = s->deciding;
  s->deciding = true;
  Val v = eval_expr(s, sc, a, false);
  s->deciding = deciding;
  *holds = v.kind == VAL_BOOL && v.i;
  if (v.kind == VAL_BOOL) return true;
  if (val_is_tensor(v))
    diag_error(s->diag, ast_start(a),
               "a condition must be known when compiling, not %s: use `where`", val_describe(s, v));
  else if (v.kind != VAL_BAD)
    diag_error(s->diag, ast_start(a), "a condition is true or false, not %s", val_describe(s, v));
  s->incomplete = true;
  return false;
}

const Ast *if_taken(Sema *s, Scope *sc, const Ast *a) {
  for (uint32_t i = 0; i + 1 < a->len; i += 2) {
    bool holds;
    if (!eval_condition(s, sc, a->kid[i], &holds)) return NULL;
    if (holds) return a->kid[i + 1];
  }
  return a->len % 2 ? a->kid[a->len - 1] : NULL;
}

void eval_assert(Sema *s, Scope *sc, const Ast *a) {
  bool holds;
  Val why = a->len > 1 ? eval_expr(s, sc, a->kid[1], false) : (Val){.kind = VAL_STRING, .s = ""};
  if (a->len > 2 || (why.kind != VAL_STRING && why.kind != VAL_BAD))
    diag_error(s->diag, a->loc, "`assert` wants a condition and perhaps a string that says why");
  else if (eval_condition(s, sc, a->kid[0], &holds) && !holds)
    diag_error(s->diag, ast_start(a->kid[0]), "this assertion does not hold%s%s",
               why.kind == VAL_STRING && *why.s ? ": " : "", why.kind == VAL_STRING ? why.s : "");
}

/* ---- repetition ------------------------------------------------------------------------------ */

bool eval_sequence(Sema *s, Scope *sc, const Ast *a, Val *list) {
  *list = eval_expr(s, sc, a, false);
  if (list->kind == VAL_LIST || list->kind == VAL_TUPLE) return true;
  s->incomplete = true;
  if (val_is_tensor(*list))
    diag_error(s->diag, ast_start(a), "`for` goes over a list that is known when compiling, not %s",
               val_describe(s, *list));
  else if (list->kind != VAL_BAD)
    diag_error(s->diag, ast_start(a), "`for` goes over a list, not %s%s", val_describe(s, *list),
               list->kind == VAL_INT ? ": write range(n)" : "");
  return false;
}

Val eval_choose(Sema *s, Scope *sc, const Ast *a, bool declaring) {
  const Ast *value = if_taken(s, sc, a);
  return value ? eval_expr(s, sc, value, declaring) : val_bad();
}

typedef VEC(Val) Vals;

typedef struct Comprehension {
  Sema *s;
  const Ast *ast;
  bool declaring, bad;
  Vals values;
} Comprehension;

/* Every round has a scope of its own, which functions made in it keep. */
static void run_clauses(Comprehension *c, Scope *outer, uint32_t k) {
  Sema *s = c->s;
  const Ast *clauses = c->ast->kid[COMPREHENSION_CLAUSES];
  if (k == clauses->len) {
    Val v = eval_expr(s, outer, c->ast->kid[COMPREHENSION_VALUE], c->declaring);
    c->bad = c->bad || v.kind == VAL_BAD;
    vec_push(s->arena, &c->values, v);
    return;
  }
  const Ast *clause = clauses->kid[k], *condition = clause->kid[CLAUSE_IF];
  Val list;
  if (!eval_sequence(s, outer, clause->kid[CLAUSE_IN], &list)) c->bad = true;
  for (uint32_t i = 0; !c->bad && i < list.list.n; i++) {
    Scope *sc = scope_new(s, outer);
    bool wanted = true;
    if (!sema_work(s, clause->loc, CALL_WORK) ||
        !bind_parts(s, sc, clause->kid[CLAUSE_NAMES], list.list.at[i], clause->loc, false) ||
        (condition && !eval_condition(s, sc, condition, &wanted)))
      c->bad = true;
    else if (wanted) run_clauses(c, sc, k + 1);
  }
}

Val eval_comprehension(Sema *s, Scope *sc, const Ast *a, bool declaring) {
  Comprehension c = {.s = s, .ast = a, .declaring = declaring};
  run_clauses(&c, sc, 0);
  return c.bad ? val_bad() : val_list(s->arena, VAL_LIST, c.values.len, c.values.at);
}

Val eval_repeat(Sema *s, Scope *sc, const Ast *a, bool declaring) {
  int64_t n;
  Vals values = {0};
  if (!eval_int(s, sc, a->kid[REPEAT_COUNT], "the count", &n)) return val_bad();
  if (n < 0) {
    diag_error(s->diag, ast_start(a->kid[REPEAT_COUNT]), "`repeat` of %lld", (long long)n);
    return val_bad();
  }
  for (int64_t i = 0; i < n; i++) {
    if (!sema_work(s, a->loc, CALL_WORK)) return val_bad();
    Val v = eval_call(s, sc, a->kid[REPEAT_CALL], declaring);
    if (v.kind == VAL_BAD) return v;
    vec_push(s->arena, &values, v);
  }
  return val_list(s->arena, VAL_LIST, values.len, values.at);
}
