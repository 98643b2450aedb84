/* optimizer.c: `optimizer adamw(lr: …, …)` as attributes of the graph's train part.  What the
 * settings mean is said where the updates are built. */
#include "frontend/sema.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef enum Range { NOT_NEGATIVE, POSITIVE, BELOW_ONE } Range; /* BELOW_ONE: from 0 */

static const char *const range_words[] = {"0 or more", "above 0", "from 0 to below 1"};

typedef struct Choice { /* the optimizer being set */
  Sema *s;
  Scope *scope;
  int which;
} Choice;

typedef struct Setting {
  const char *name;
  void (*set)(const Choice *c, const struct Setting *known, const Ast *value);
  AttrKey key;
  Range range;
} Setting;

static void add_number(const Choice *c, AttrKey key, Range range, const char *name, const Ast *v) {
  double f;
  if (!eval_float(c->s, c->scope, v, arena_printf(c->s->arena, "`%s`", name), &f)) return;
  bool fits = f >= 0 && (range != POSITIVE || (float)f > 0) && (range != BELOW_ONE || f < 1);
  if (!fits || fabs(f) > FLT_MAX)
    diag_error(c->s->diag, ast_start(v), "`%s` must be %s%s", name, range_words[range],
               fits ? " and fit in f32" : "");
  else vec_push(c->s->arena, &c->s->g->train.settings, attr_float(key, f));
}

static void set_number(const Choice *c, const Setting *known, const Ast *v) {
  add_number(c, known->key, known->range, known->name, v);
}

/* A number, or linear(a, to: b) over the whole run. */
static void set_lr(const Choice *c, const Setting *known, const Ast *v) {
  const Ast *callee = v->kind == AST_CALL ? v->kid[CALL_CALLEE] : NULL;
  const char *word = callee && callee->kind == AST_NAME ? callee->name : "";
  if (v->kind == AST_THEN) sema_later(c->s, ast_start(v), "a sequence of schedules");
  else if (!strcmp(word, "warmup") || !strcmp(word, "cosine") || !strcmp(word, "hold"))
    sema_later(c->s, callee->loc, arena_printf(c->s->arena, "the schedule `%s`", word));
  else if (strcmp(word, "linear")) set_number(c, known, v);
  else {
    const Ast *args = v->kid[CALL_ARGS];
    const Ast *to = args->len == 2 && args->kid[1]->kind == AST_ARG ? args->kid[1] : NULL;
    if (!to || args->kid[0]->kind == AST_ARG || strcmp(to->name, "to")) {
      diag_error(c->s->diag, callee->loc,
                 "a schedule of this version of mpcc is linear(a, to: b), over the whole run");
      return;
    }
    add_number(c, AT_lr, known->range, "lr", args->kid[0]);
    add_number(c, AT_lr_to, known->range, "to", to->kid[ARG_VALUE]);
  }
}

static void set_betas(const Choice *c, const Setting *known, const Ast *v) {
  if (v->kind != AST_TUPLE || v->len != 2) {
    diag_error(c->s->diag, ast_start(v), "`betas` wants two numbers: betas: (0.9, 0.999)");
    return;
  }
  add_number(c, AT_beta1, known->range, known->name, v->kid[0]);
  add_number(c, AT_beta2, known->range, known->name, v->kid[1]);
}

enum { SETTINGS = 4 };

#define LR                                                                                         \
  { "lr", set_lr, AT_lr, NOT_NEGATIVE }
#define BETAS                                                                                      \
  { "betas", set_betas, AT_beta1, BELOW_ONE }
#define EPS                                                                                        \
  { "eps", set_number, AT_eps, POSITIVE }
#define MOMENTUM                                                                                   \
  { "momentum", set_number, AT_momentum, BELOW_ONE }
#define WEIGHT_DECAY                                                                               \
  { "weight_decay", set_number, AT_weight_decay, NOT_NEGATIVE }

static const struct {
  const char *name;
  uint32_t n;
  Setting setting[SETTINGS];
} optimizers[] = {
    {"sgd", 3, {LR, MOMENTUM, WEIGHT_DECAY}},
    {"adam", 4, {LR, BETAS, EPS, WEIGHT_DECAY}},
    {"adamw", 4, {LR, BETAS, EPS, WEIGHT_DECAY}},
};
enum { OPTIMIZERS = sizeof optimizers / sizeof *optimizers };

static int find_setting(const Choice *c, const char *name) {
  for (uint32_t i = 0; i < optimizers[c->which].n; i++)
    if (!strcmp(optimizers[c->which].setting[i].name, name)) return (int)i;
  return -1;
}

static void unknown_setting(const Choice *c, const Ast *arg) {
  const char *names[SETTINGS];
  uint32_t n = optimizers[c->which].n;
  for (uint32_t i = 0; i < n; i++) names[i] = optimizers[c->which].setting[i].name;
  diag_error(c->s->diag, arg->loc, "%s has no setting `%s`%s", optimizers[c->which].name, arg->name,
             sema_near(c->s, arg->name, names, n));
}

static void set_args(const Choice *c, const Ast *call) {
  const char *name = optimizers[c->which].name;
  bool given[SETTINGS] = {false}, misspelt = false;
  for (uint32_t i = 0; i < call->kid[CALL_ARGS]->len; i++) {
    const Ast *arg = call->kid[CALL_ARGS]->kid[i];
    int k = arg->kind == AST_ARG ? find_setting(c, arg->name) : -1;
    if (arg->kind != AST_ARG)
      diag_error(c->s->diag, ast_start(arg), "the settings of an optimizer are named: %s(lr: 1e-3)",
                 name);
    else if (k < 0) unknown_setting(c, arg), misspelt = true;
    else if (given[k]) diag_error(c->s->diag, arg->loc, "`%s` is given twice", arg->name);
    else {
      const Setting *known = &optimizers[c->which].setting[k];
      given[k] = true;
      known->set(c, known, arg->kid[ARG_VALUE]);
    }
  }
  if (!given[0] && !misspelt) diag_error(c->s->diag, call->loc, "%s needs `lr`", name);
}

void set_optimizer(Sema *s, Scope *sc, const Ast *a) {
  const Ast *v = a->kid[SETTING_VALUE];
  if (!v || v->kind != AST_CALL || v->kid[CALL_CALLEE]->kind != AST_NAME) {
    diag_error(s->diag, a->loc, "`optimizer` wants sgd(…), adam(…) or adamw(…)");
    return;
  }
  const Ast *callee = v->kid[CALL_CALLEE];
  for (int i = 0; i < OPTIMIZERS; i++) {
    if (strcmp(callee->name, optimizers[i].name)) continue;
    s->g->train.optimizer = optimizers[i].name;
    s->g->train.optimizer_loc = callee->loc;
    set_args(&(Choice){s, sc, i}, v);
    return;
  }
  const Binding *own = scope_find(sc, callee->name);
  if (own && own->val.kind == VAL_MODULE) sema_later(s, callee->loc, "an optimizer of your own");
  else
    diag_error(s->diag, callee->loc, "no optimizer `%s`; there are sgd, adam and adamw",
               callee->name);
}
