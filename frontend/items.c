/* items.c: the items of a block of settings, with `if`, `for` and `assert` between them.
 *
 * Such a block is walked several times, each for some of its items: conditions and lists are
 * evaluated in a walk that wants something inside.  `if` opens no scope; what the body of a `for`
 * binds is of that round.
 */
#include "frontend/sema.h"

static bool holds_wanted(Sema *s, const Ast *block, const Items *w);

/* Counted as work: blocks in blocks are looked into at each level. */
static bool is_wanted(Sema *s, const Ast *a, const Items *w) {
  if (!sema_work(s, a->loc, 1)) return false;
  if (a->kind == AST_FOR) return holds_wanted(s, a->kid[FOR_BODY], w);
  if (a->kind != AST_IF) return w->wanted(a, w->data);
  for (uint32_t i = 1; i < a->len; i += 2)
    if (holds_wanted(s, a->kid[i], w)) return true;
  return a->len % 2 && holds_wanted(s, a->kid[a->len - 1], w);
}

static bool holds_wanted(Sema *s, const Ast *block, const Items *w) {
  for (uint32_t i = 0; i < block->len; i++)
    if (is_wanted(s, block->kid[i], w)) return true;
  return false;
}

static void each_round(Sema *s, Scope *around, const Ast *a, const Items *w) {
  Val list;
  if (!eval_sequence(s, around, a->kid[FOR_IN], &list)) return;
  for (uint32_t i = 0; i < list.list.n; i++) {
    Scope *sc = scope_new(s, around);
    if (!sema_work(s, a->loc, CALL_WORK)) return;
    bind_parts(s, sc, a->kid[FOR_NAMES], list.list.at[i], a->loc, false);
    each_item(s, sc, a->kid[FOR_BODY], w);
  }
}

void each_item(Sema *s, Scope *sc, const Ast *block, const Items *w) {
  for (uint32_t i = 0; i < block->len; i++) {
    const Ast *a = block->kid[i], *taken = NULL;
    if (!is_wanted(s, a, w)) continue;
    if (a->kind == AST_IF) taken = if_taken(s, sc, a);
    if (taken) each_item(s, sc, taken, w);
    else if (a->kind == AST_FOR) each_round(s, sc, a, w);
    else if (a->kind == AST_ASSERT) eval_assert(s, sc, a);
    else if (a->kind != AST_IF) w->take(s, sc, a, w->data);
  }
}
