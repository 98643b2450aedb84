/* region.c: what holds for a stretch of computation: `precision(f32) { … }`, `recompute { … }`,
 * `eval { … }`, and the same words behind a value or an instance.
 *
 * What is built inside carries the attribute (`prec`, `recompute`); inside `eval` the name
 * `training` is false.  The innermost one counts, also through calls: a function elaborated inside
 * is inside. */
#include "frontend/sema.h"

#include <string.h>

static void set_precision(Sema *s, Scope *sc, const Ast *m, void *into) {
  const Ast *args = m->kid[MODIFIER_ARGS];
  const Ast *word = args && args->len == 1 ? args->kid[0] : NULL;
  const char *known = word && word->kind == AST_NAME ? precision_word(word->name) : NULL;
  (void)sc;
  if (known) ((Region *)into)->precision = known;
  else
    diag_error(s->diag, word ? ast_start(word) : m->loc,
               "here `precision` is f32, bf16 or f16: precision(f32)");
}

static bool no_arguments(Sema *s, const Ast *m) {
  if (m->kid[MODIFIER_ARGS]) diag_error(s->diag, m->loc, "`%s` takes no arguments", m->name);
  return !m->kid[MODIFIER_ARGS];
}

static void set_recompute(Sema *s, Scope *sc, const Ast *m, void *into) {
  (void)sc;
  ((Region *)into)->recompute = no_arguments(s, m);
}

static void set_eval(Sema *s, Scope *sc, const Ast *m, void *into) {
  (void)sc;
  ((Region *)into)->eval = no_arguments(s, m);
}

static const ModifierRule rules[] = {
    {"precision", set_precision}, {"recompute", set_recompute}, {"eval", set_eval}};

static void region_modifiers(Sema *s, Scope *sc, const Ast *mods, Region *r) {
  *r = (Region){0};
  modifiers_apply(s, sc, mods, MODIFIER_RULES(rules), r);
}

/* The head of `precision(f32) { … }` reads like a modifier. */
bool region_head(Sema *s, Scope *sc, const Ast *head, Region *r) {
  const Ast *callee = head->kind == AST_CALL ? head->kid[CALL_CALLEE] : head;
  *r = (Region){0};
  if (callee->kind != AST_NAME) {
    diag_error(s->diag, ast_start(head), "a region is precision(W), recompute or eval");
    return false;
  }
  Ast *m = arena_alloc(s->arena, sizeof *m + sizeof(Ast *));
  *m = (Ast){.kind = AST_MODIFIER, .level = head->level, .len = 1, .loc = callee->loc};
  m->name = callee->name;
  m->kid[MODIFIER_ARGS] = head->kind == AST_CALL ? head->kid[CALL_ARGS] : NULL;
  Ast *mods = arena_alloc(s->arena, sizeof *mods + sizeof(Ast *));
  *mods = (Ast){.kind = AST_MODIFIERS, .level = head->level, .len = 1, .loc = callee->loc};
  mods->kid[0] = m;
  uint32_t errors = s->diag->errors;
  region_modifiers(s, sc, mods, r);
  return s->diag->errors == errors;
}

Inside region_enter(Sema *s, const Region *r) {
  Inside before = {s->b.prec, s->b.module, s->b.recompute, s->training, s->fitting};
  if (r->precision) s->b.prec = r->precision;
  if (r->recompute && !before.recompute) s->b.recompute = ++s->recomputed;
  if (r->eval) s->training = s->fitting = false;
  return before;
}

void region_leave(Sema *s, Inside before) {
  s->b.prec = before.precision;
  s->b.module = before.module;
  s->b.recompute = before.recompute;
  s->training = before.training;
  s->fitting = before.fitting;
}

static bool is_plain(const Region *r) { return !r->precision && !r->recompute && !r->eval; }

/* Functions of an instance run in its region, whoever calls them. */
static void mark(Sema *s, Val v, const Region *r) {
  if (!sema_work(s, (Loc){0}, 1) || s->depth >= EVAL_DEPTH) return;
  s->depth++;
  for (uint32_t i = 0; v.kind == VAL_LIST && i < v.list.n; i++) mark(s, v.list.at[i], r);
  Scope *members = v.kind == VAL_INSTANCE ? v.instance->scope : NULL;
  if (members && members->region != r) {
    members->region = r;
    for (uint32_t i = 0; i < members->names.len; i++) mark(s, members->names.at[i].val, r);
  }
  s->depth--;
}

Val eval_modified(Sema *s, Scope *sc, const Ast *value, const Ast *mods, bool declaring) {
  if (!mods) return eval_expr(s, sc, value, declaring);
  Region r;
  region_modifiers(s, sc, mods, &r);
  Inside before = region_enter(s, &r);
  Val v = eval_expr(s, sc, value, declaring);
  region_leave(s, before);
  if (declaring && !is_plain(&r)) mark(s, v, arena_copy(s->arena, &r, sizeof r));
  return v;
}

const Region *scope_region(const Scope *sc) {
  for (; sc; sc = sc->parent)
    if (sc->region) return sc->region;
  return NULL;
}

const char *scope_module(const Scope *sc) {
  for (; sc; sc = sc->parent)
    if (sc->module) return sc->module;
  return NULL;
}
