/* scale.c: loss scales: scale(dynamic, init: 2^15, …) or scale(2^12), behind the precision for all
 * losses, or behind one that has a scaler of its own.
 *
 * Its numbers are checked here, where they stand; what a scaler does is step_scaler.c's.
 */
#include "frontend/sema.h"

#include <math.h>
#include <string.h>

static void wrong_scale(Sema *s, Loc loc, const ScaleField *f) {
  if (f->power)
    diag_error(s->diag, loc, "`%s` of a scale must be a power of two from 2^-62 to 2^62", f->name);
  else diag_error(s->diag, loc, "`%s` of a scale must be a count from 1", f->name);
}

/* name: value */
static void scale_number(Sema *s, Scope *sc, const Ast *arg, Scale *scale) {
  const char *names[SCALE_FIELDS];
  for (int i = 0; i < SCALE_FIELDS; i++) {
    const ScaleField *f = &scale_field[i];
    double x;
    names[i] = f->name;
    if (strcmp(f->name, arg->name)) continue;
    if (!eval_float(s, sc, arg->kid[ARG_VALUE], arg->name, &x)) return;
    bool fits = f->power ? scale_power(x) : x >= 1 && x == floor(x) && x <= INT32_MAX;
    if (!fits) wrong_scale(s, ast_start(arg->kid[ARG_VALUE]), f);
    else memcpy((char *)scale + f->offset, &x, sizeof x);
    return;
  }
  diag_error(s->diag, arg->loc, "a scale has no `%s`%s", arg->name,
             sema_near(s, arg->name, names, SCALE_FIELDS));
}

static void static_scale(Sema *s, Scope *sc, const Ast *args, Scale *scale) {
  const Ast *first = args->kid[0];
  scale->kind = SCALE_static;
  if (!eval_float(s, sc, first, "a scale", &scale->init)) return;
  if (!scale_power(scale->init)) wrong_scale(s, ast_start(first), &scale_field[0]);
  if (args->len > 1)
    diag_error(s->diag, ast_start(args->kid[1]), "a scale that stays takes one number");
}

static void dynamic_scale(Sema *s, Scope *sc, const Ast *m, Scale *scale) {
  const Ast *args = m->kid[MODIFIER_ARGS];
  uint32_t errors = s->diag->errors;
  for (uint32_t i = 1; i < args->len; i++)
    if (args->kid[i]->kind == AST_ARG) scale_number(s, sc, args->kid[i], scale);
    else diag_error(s->diag, ast_start(args->kid[i]), "what a scale does is named: init: 2^15");
  if (s->diag->errors == errors && !scale_moves(scale))
    diag_error(s->diag, m->loc, "a scale wants growth > 1, backoff < 1, floor <= init <= cap");
}

void scale_of_modifier(Sema *s, Scope *sc, const Ast *m, Scale *scale) {
  const Ast *args = m->kid[MODIFIER_ARGS], *first = args && args->len ? args->kid[0] : NULL;
  if (!first || first->kind == AST_ARG) {
    diag_error(s->diag, m->loc, "`scale` wants `dynamic` or a power of two: scale(2^12)");
    return;
  }
  *scale = scale_default;
  if (first->kind != AST_NAME || strcmp(first->name, "dynamic")) static_scale(s, sc, args, scale);
  else dynamic_scale(s, sc, m, scale);
}

/* ---- of a loss ------------------------------------------------------------------------------- */

void scale_of_loss(Sema *s, Scope *sc, const char *loss, const Ast *m) {
  LossScale own = {.loss = loss, .loc = m->loc};
  scale_of_modifier(s, sc, m, &own.scale);
  if (graph_scalers(s->g) == MAX_SCALERS)
    diag_error(s->diag, m->loc, "at most %d losses have a scale of their own", MAX_SCALERS - 1);
  else vec_push(s->g->arena, &s->g->scales, own);
}

/* Behind all losses: f16 has nothing to multiply a gradient by that nobody scales. */
void scales_check(Sema *s) {
  const Train *t = &s->g->train;
  const Entry *e = &s->g->entries.at[s->entry];
  bool scaled = true;
  for (uint32_t i = 0; i < e->results.len; i++) {
    const Port *p = &e->results.at[i];
    scaled =
        scaled && (p->role != RES_loss || graph_scale(s->g, graph_scaler_of(s->g, p->name))->kind);
  }
  if (!scaled && t->precision && !strcmp(t->precision, "f16"))
    diag_error(s->diag, t->precision_loc, "f16 without a loss scale: add scale(dynamic)");
}
