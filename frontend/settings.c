/* settings.c: settings of `train` that are a number or a word: batch, tail, steps, epochs,
 * accumulate, clip, precision.
 *
 * Each is checked where it stands, with the range and the words that are allowed, and written into
 * Graph.train; what it means is for passes and the runtime to say. */
#include "frontend/sema.h"

#include <float.h>
#include <string.h>

static bool positive(Sema *s, Scope *sc, const Ast *a, int64_t *n) {
  const Ast *v = a->kid[SETTING_VALUE];
  const char *what = arena_printf(s->arena, "`%s`", a->name);
  if (!v) {
    diag_error(s->diag, a->loc, "%s wants a number", what);
    return false;
  }
  if (!eval_int(s, sc, v, what, n)) return false;
  if (*n >= 1 && *n <= INT32_MAX) return true;
  diag_error(s->diag, ast_start(v), "%s must be from 1 to %d, not %lld", what, INT32_MAX,
             (long long)*n);
  return false;
}

/* One of the words, by its place, or -1: reported. */
static int one_word(Sema *s, const Ast *a, const Ast *v, const char *const *words, int n) {
  for (int i = 0; v && v->kind == AST_NAME && i < n; i++)
    if (!strcmp(v->name, words[i])) return i;
  Text t = {.arena = s->arena};
  for (int i = 0; i < n; i++)
    text_printf(&t, "%s%s", i == 0 ? "" : i + 1 < n ? ", " : " or ", words[i]);
  diag_error(s->diag, v ? ast_start(v) : a->loc, "`%s` is %s", a->name, t.at);
  return -1;
}

/* A wrong size stands for 1 until the end, so that the rest can be looked at. */
void setting_batch(Sema *s, Scope *sc, const Ast *a) {
  const Ast *bound = a->kid[SETTING_BOUND];
  Phase *p = s->phase;
  p->batch = 1;
  int64_t n = 0;
  if (positive(s, sc, a, &n)) p->batch = n;
  if (bound) p->batch_name = bound->name;
}

void setting_tail(Sema *s, Scope *sc, const Ast *a) {
  static const char *const words[] = {"drop", "pad"};
  (void)sc;
  s->phase->says_tail = true;
  s->phase->full = one_word(s, a, a->kid[SETTING_VALUE], words, 2) == 0;
}

void setting_steps(Sema *s, Scope *sc, const Ast *a) { positive(s, sc, a, &s->g->train.steps); }
void setting_epochs(Sema *s, Scope *sc, const Ast *a) { positive(s, sc, a, &s->g->train.epochs); }
void setting_accumulate(Sema *s, Scope *sc, const Ast *a) {
  positive(s, sc, a, &s->g->train.accumulate);
}

void setting_clip(Sema *s, Scope *sc, const Ast *a) {
  const Ast *v = a->kid[SETTING_VALUE];
  double f;
  if (!v) diag_error(s->diag, a->loc, "`clip` wants a number");
  else if (!eval_float(s, sc, v, "`clip`", &f)) return;
  else if (!((float)f > 0) || f > FLT_MAX)
    diag_error(s->diag, ast_start(v), "`clip` must be above 0 and fit in f32");
  else s->g->train.clip = f;
}

/* ---- precision ------------------------------------------------------------------------------- */

static void set_scale(Sema *s, Scope *sc, const Ast *m, void *into) {
  s->g->train.scale_loc = m->loc;
  scale_of_modifier(s, sc, m, into);
}

static void set_residual(Sema *s, Scope *sc, const Ast *m, void *into) {
  const Ast *args = m->kid[MODIFIER_ARGS];
  const Ast *word = args && args->len == 1 ? args->kid[0] : NULL;
  (void)sc, (void)into;
  if (word && word->kind == AST_NAME && (!strcmp(word->name, "f32") || !strcmp(word->name, "fp32")))
    s->g->train.residual = "f32";
  else diag_error(s->diag, m->loc, "`residual` is residual(f32)");
}

/* master(f32), master(sr), master(split): what the next value of a low weight is rounded from. */
static void set_master(Sema *s, Scope *sc, const Ast *m, void *into) {
  static const char *const known[][2] = {
      {"f32", NULL}, {"fp32", NULL}, {"sr", "sr"}, {"split", "split"}};
  const Ast *args = m->kid[MODIFIER_ARGS];
  const Ast *arg = args && args->len == 1 ? args->kid[0] : NULL;
  const char *word = arg && arg->kind == AST_NAME ? arg->name : "";
  (void)sc, (void)into;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (!strcmp(word, known[i][0])) {
      s->g->train.master = known[i][1];
      return;
    }
  diag_error(s->diag, m->loc,
             "`master` is master(f32), master(sr) or master(split): a low weight without one of "
             "them loses every update below half a unit of its last place");
}

/* Which precisions a master is for. */
static void check_master(Sema *s, Loc loc) {
  const Train *t = &s->g->train;
  if (!t->master || !t->precision) return;
  if (!strcmp(t->precision, "f32"))
    diag_error(s->diag, loc, "under f32 a weight is its own master: master(%s) is for bf16 or f16",
               t->master);
  else if (!strcmp(t->precision, "f16") && !strcmp(t->master, "split"))
    diag_error(s->diag, loc, "f16 is no part of an f32 master: master(split) is for bf16");
}

/* history: 16 of fp8(delayed, …) */
static void fp8_number(Sema *s, Scope *sc, const Ast *arg) {
  const char *names[FP8_FIELDS];
  for (int i = 0; i < FP8_FIELDS; i++) {
    const Fp8Field *f = &fp8_field[i];
    int64_t n;
    names[i] = f->name;
    if (strcmp(f->name, arg->name)) continue;
    if (!eval_int(s, sc, arg->kid[ARG_VALUE], arg->name, &n)) return;
    double x = (double)n;
    if (!(x >= f->least && x <= f->most))
      diag_error(s->diag, ast_start(arg->kid[ARG_VALUE]), "`%s` of fp8(delayed) is from %g to %g",
                 f->name, f->least, f->most);
    else memcpy((char *)&s->g->train.delayed + f->offset, &x, sizeof x);
    return;
  }
  diag_error(s->diag, arg->loc, "fp8(delayed) has no `%s`%s", arg->name,
             sema_near(s, arg->name, names, FP8_FIELDS));
}

static void set_recipe(Sema *s, Scope *sc, Fp8Recipe recipe, const Ast *args) {
  s->g->train.precision = fp8_recipe_name[recipe];
  bool delayed = recipe == RECIPE_fp8_delayed;
  if (delayed) s->g->train.delayed = fp8_delayed_default;
  for (uint32_t i = 1; args && i < args->len; i++) {
    const Ast *a = args->kid[i];
    if (!delayed)
      diag_error(s->diag, ast_start(a), "%s takes no numbers", fp8_recipe_written[recipe]);
    else if (a->kind == AST_ARG) fp8_number(s, sc, a);
    else diag_error(s->diag, ast_start(a), "what fp8(delayed) does is named: history: 1024");
  }
}

static void wrong_recipe(Sema *s, Loc loc) {
  Text all = {.arena = s->arena};
  for (int i = 0; i < FP8_RECIPES; i++) {
    if (strncmp(fp8_recipe_written[i], "fp8", 3)) continue;
    text_printf(&all, "%s%s", all.len ? ", " : "", fp8_recipe_written[i]);
  }
  diag_error(s->diag, loc, "`fp8` takes the recipe of its scales: %s", all.at);
}

/* fp8, fp8(current), …: how the scales are found. */
static void set_fp8(Sema *s, Scope *sc, Loc loc, const Ast *call) {
  const Ast *args = call->kind == AST_CALL ? call->kid[CALL_ARGS] : NULL;
  const Ast *arg = args && args->len ? args->kid[0] : NULL;
  const char *recipe = arg && arg->kind == AST_NAME ? arg->name : "";
  Fp8Recipe known = fp8_recipe(arena_printf(s->arena, "fp8_%s", recipe));
  if (call->kind != AST_CALL) known = 0;
  if (known == FP8_RECIPES) wrong_recipe(s, loc);
  else set_recipe(s, sc, known, args);
}

void setting_precision(Sema *s, Scope *sc, const Ast *a) {
  static const ModifierRule rules[] = {
      {"scale", set_scale}, {"residual", set_residual}, {"master", set_master}};
  const Ast *v = a->kid[SETTING_VALUE];
  Loc loc = v ? ast_start(v) : a->loc;
  const Ast *head = v && v->kind == AST_CALL ? v->kid[CALL_CALLEE] : v;
  const char *word = head && head->kind == AST_NAME ? head->name : "";
  Train *t = &s->g->train;
  t->precision_loc = loc;
  modifiers_apply(s, sc, a->kid[SETTING_MODS], MODIFIER_RULES(rules), &t->scale);
  const char *known = head != v ? NULL : !strcmp(word, "auto") ? "auto" : precision_word(word);
  if (known) {
    t->precision = known;
    check_master(s, loc);
  } else if (!strcmp(word, "fp8")) set_fp8(s, sc, loc, v);
  else if (!strcmp(word, "mx8")) s->g->train.precision = fp8_recipe_name[RECIPE_mx8];
  else diag_error(s->diag, loc, "`precision` is f32, bf16, f16, fp8, mx8 or auto");
}
