/* modifiers.c: words behind a value: `decay(false)`, `split(last, 0.1)`, `eval`.
 *
 * Which ones a place takes, with or without arguments, is a table of that place; a word of another
 * place, a second one and a misspelt one are told apart here, for all of them. */
#include "frontend/sema.h"

#include <string.h>

enum { MOST_RULES = 16 };

static const ModifierRule *find_rule(ModifierRules rules, const char *word) {
  for (uint32_t i = 0; i < rules.n; i++)
    if (!strcmp(rules.at[i].word, word)) return &rules.at[i];
  return NULL;
}

static void unknown_modifier(Sema *s, const Ast *m, ModifierRules rules) {
  const char *names[MOST_RULES];
  uint32_t n = rules.n < MOST_RULES ? rules.n : MOST_RULES;
  for (uint32_t i = 0; i < n; i++) names[i] = rules.at[i].word;
  diag_error(s->diag, m->loc, "no modifier `%s` here%s", m->name, sema_near(s, m->name, names, n));
}

static bool is_repeated(const Ast *mods, uint32_t i) {
  for (uint32_t k = 0; k < i; k++)
    if (mods->kid[k]->name == mods->kid[i]->name) return true;
  return false;
}

void modifiers_apply(Sema *s, Scope *sc, const Ast *mods, ModifierRules rules, void *into) {
  for (uint32_t i = 0; mods && i < mods->len; i++) {
    const Ast *m = mods->kid[i];
    const ModifierRule *rule = find_rule(rules, m->name);
    if (!rule) unknown_modifier(s, m, rules);
    else if (is_repeated(mods, i)) diag_error(s->diag, m->loc, "`%s` is given twice", m->name);
    else if (!rule->set)
      sema_later(s, m->loc, arena_printf(s->arena, "the modifier `%s`", m->name));
    else rule->set(s, sc, m, into);
  }
}

static bool modifier_value(Sema *s, Scope *sc, const Ast *m, Val *value) {
  const Ast *args = m->kid[MODIFIER_ARGS];
  if (!args || args->len != 1 || args->kid[0]->kind == AST_ARG) {
    diag_error(s->diag, m->loc, "`%s` wants one argument in parentheses", m->name);
    return false;
  }
  *value = eval_expr(s, sc, args->kid[0], false);
  return value->kind != VAL_BAD;
}

bool modifier_bool(Sema *s, Scope *sc, const Ast *m, bool *value) {
  Val v;
  if (!modifier_value(s, sc, m, &v)) return false;
  *value = v.kind == VAL_BOOL && v.i;
  if (v.kind == VAL_BOOL) return true;
  diag_error(s->diag, ast_start(m->kid[MODIFIER_ARGS]->kid[0]), "%s wants true or false, not %s",
             m->name, val_describe(s, v));
  return false;
}
