/* train.c: the train block.  Its settings are a table; its computation (data expressions, bindings,
 * losses, metrics) is elaborated for each phase, into the entries train_step and eval.  `eval {…}`
 * says what evaluation has of its own.
 */
#include "frontend/sema.h"

#include <string.h>

/* ---- the table ------------------------------------------------------------------------------- */

/* ONCE: in the first entry; EACH: in every entry; FIRST: before any entry. */
typedef enum When { LATER, FIRST, ONCE, EACH } When;

/* How often: any number of times; once; once, and more in a later version. */
typedef enum Often { ANY, ONE, ONE_YET } Often;

enum { BINDS = 1, BLOCK = 2, NEEDED = 4, MODS = 8, IN_EVAL = 16 };

static SetFn setting_eval;

static const struct {
  const char *word;
  SetFn *fn;
  When when;
  Often often;
  int flags; /* binds a name; takes a block; must be there; takes modifiers; may stand in `eval` */
} settings[] = {
    {"batch", setting_batch, FIRST, ONE, BINDS | NEEDED | IN_EVAL},
    {"tail", setting_tail, FIRST, ONE, IN_EVAL},
    {"eval", setting_eval, FIRST, ONE, BLOCK},
    {"accumulate", setting_accumulate, FIRST, ONE, 0},
    {"data", setting_data, EACH, ONE_YET, BLOCK | MODS},
    {"input", setting_input, EACH, ONE, BLOCK | MODS},
    {"loss", setting_loss, EACH, ANY, BINDS | NEEDED | MODS},
    {"metric", setting_metric, EACH, ANY, BINDS | MODS | IN_EVAL},
    {"steps", setting_steps, FIRST, ONE, 0},
    {"epochs", setting_epochs, FIRST, ONE, 0},
    {"init", setting_init, FIRST, ANY, BLOCK},
    {"load", setting_load, FIRST, ANY, BLOCK},
    {"frozen", setting_frozen, FIRST, ANY, MODS},
    {"hyper", setting_hyper, EACH, ANY, BINDS},
    {"optimizer", setting_optimizer, ONCE, ANY, NEEDED | MODS},
    {"group", setting_group, ONCE, ANY, BLOCK},
    {"clip", setting_clip, ONCE, ONE, 0},
    {"precision", setting_precision, ONCE, ONE, MODS},
    {.word = "order"},
    {.word = "step"},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static int find_setting(const char *word) {
  for (int i = 0; i < SETTINGS; i++)
    if (!strcmp(settings[i].word, word)) return i;
  return -1;
}

static void unknown_setting(Sema *s, const Ast *a) {
  const char *names[SETTINGS];
  for (int i = 0; i < SETTINGS; i++) names[i] = settings[i].word;
  diag_error(s->diag, a->loc, "no setting `%s`%s", a->name, sema_near(s, a->name, names, SETTINGS));
}

/* ---- the block ------------------------------------------------------------------------------- */

struct TrainBlock {
  const Ast *ast;
  Scope *scope;    /* around those of the phases */
  const Ast *eval; /* the block of `eval`, or NULL */
  bool *sound;     /* an element an item: it may be elaborated */
  const Ast *seen[SETTINGS];
  bool misspelt; /* what is missing may be there under another name */
};

static void refuse_mods(Sema *s, const Ast *mods) {
  modifiers_apply(s, NULL, mods, (ModifierRules){NULL, 0}, NULL);
}

/* Modifiers that it does not take are refused, but the setting is looked at. */
static bool check_setting(Sema *s, TrainBlock *t, const Ast *a) {
  int k = find_setting(a->name);
  if (k < 0) return unknown_setting(s, a), t->misspelt = true, false;
  const Ast *bound = a->kid[SETTING_BOUND], *block = a->kid[SETTING_BLOCK];
  const Ast *first = t->seen[k];
  if (!first) t->seen[k] = a;
  if (settings[k].when == LATER) {
    sema_later(s, a->loc, arena_printf(s->arena, "`%s`", a->name));
    s->incomplete = s->incomplete || (settings[k].flags & BINDS) != 0;
  } else if (first && settings[k].often == ONE_YET)
    sema_later(s, a->loc, arena_printf(s->arena, "a second `%s`", a->name));
  else if (first && settings[k].often == ONE) {
    diag_error(s->diag, a->loc, "`%s` is given twice", a->name);
    diag_note(s->diag, first->loc, "first here");
  } else if (bound && !(settings[k].flags & BINDS))
    diag_error(s->diag, bound->loc, "`%s` binds no name", a->name);
  else if (block && !(settings[k].flags & BLOCK))
    diag_error(s->diag, block->loc, "`%s` takes no block", a->name);
  else {
    if (!(settings[k].flags & MODS)) refuse_mods(s, a->kid[SETTING_MODS]);
    return true;
  }
  return false;
}

static bool check_bind(Sema *s, const Ast *a) {
  const Ast *names = a->kid[BIND_NAMES];
  for (uint32_t i = 0; i < names->len; i++) {
    const Ast *name = names->kid[i];
    if (find_setting(name->name) < 0) continue;
    diag_error(s->diag, name->loc, "a binding named like a setting: write `%s …` without `=`",
               name->name);
    return false;
  }
  return true;
}

/* What can be said of each item alone. */
static void check_block(Sema *s, TrainBlock *t) {
  for (uint32_t i = 0; i < t->ast->len; i++) {
    const Ast *a = t->ast->kid[i];
    if (a->kind == AST_BIND) t->sound[i] = check_bind(s, a);
    else if (a->kind == AST_SETTING) t->sound[i] = check_setting(s, t, a);
    else if (a->kind == AST_IF || a->kind == AST_FOR || a->kind == AST_ASSERT ||
             a->kind == AST_ASSIGN)
      sema_later_names(s, a->loc, "this statement in `train`");
    else diag_error(s->diag, a->loc, "a setting or a binding is wanted here");
  }
  for (int k = 0; k < SETTINGS; k++)
    if ((settings[k].flags & NEEDED) && !t->seen[k] && !t->misspelt)
      diag_error(s->diag, s->train_ast->loc, "`train` has no %s", settings[k].word);
}

static void elaborate(Sema *s, Scope *sc, const TrainBlock *t, When when) {
  for (uint32_t i = 0; i < t->ast->len; i++) {
    const Ast *a = t->ast->kid[i];
    int k = a->kind == AST_SETTING ? find_setting(a->name) : -1;
    if (!t->sound[i]) continue;
    if (k >= 0 && (settings[k].when == when || (settings[k].when == EACH && when == ONCE)))
      settings[k].fn(s, sc, a);
    else if (k < 0 && when != FIRST) bind_in(s, sc, a);
  }
}

/* ---- eval { … } ------------------------------------------------------------------------------ */

static bool in_eval(Sema *s, const Ast *a) {
  int k = a->kind == AST_SETTING ? find_setting(a->name) : -1;
  if (a->kind == AST_BIND) return check_bind(s, a);
  if (k >= 0 && (settings[k].flags & IN_EVAL)) return true;
  if (a->kind == AST_SETTING && k < 0) unknown_setting(s, a);
  else diag_error(s->diag, a->loc, "`eval` takes batch, tail, bindings and metrics");
  return false;
}

/* What is said before any entry. */
static void setting_eval(Sema *s, Scope *sc, const Ast *a) {
  const Ast *block = a->kid[SETTING_BLOCK];
  Phase *train = s->phase;
  if (!block || a->kid[SETTING_VALUE]) {
    diag_error(s->diag, a->loc, "`eval` wants a block: eval { batch B = 250 }");
    return;
  }
  s->train->eval = block;
  s->phase = &s->phases[ENTRY_eval];
  for (uint32_t i = 0; i < block->len; i++) {
    const Ast *item = block->kid[i];
    if (!in_eval(s, item)) s->train->eval = NULL;
    else if (item->kind == AST_SETTING && settings[find_setting(item->name)].when == FIRST)
      settings[find_setting(item->name)].fn(s, sc, item);
  }
  s->phase = train;
}

static void elaborate_eval(Sema *s, Scope *sc) {
  const Ast *block = s->train->eval;
  for (uint32_t i = 0; block && i < block->len; i++) {
    const Ast *a = block->kid[i];
    if (a->kind == AST_BIND) bind_in(s, sc, a);
    else if (settings[find_setting(a->name)].when == EACH)
      settings[find_setting(a->name)].fn(s, sc, a);
  }
}

/* ---- entries --------------------------------------------------------------------------------- */

/* The batch that `model M[B]` lists is the one that the block names. */
static void check_dim(Sema *s, const Phase *p, Loc loc) {
  const Ast *d = s->model_dim;
  if (!d || p->kind == ENTRY_update || p->batch_name == d->name) return;
  diag_error(s->diag, loc, "the model lists `%s`: write `batch %s = …`", d->name, d->name);
  diag_note(s->diag, d->loc, "here");
}

void phase_begin(Sema *s, Scope *sc, const char *name, Loc loc) {
  const Phase *p = s->phase;
  check_dim(s, p, loc);
  s->entry = graph_add_entry(s->g, name, p->kind, p->batch, loc);
  s->g->entries.at[s->entry].full = p->full;
  s->b = (Builder){.g = s->g, .block = s->g->entries.at[s->entry].body};
  s->batch = p->batch;
  s->batch_name = p->batch_name;
  s->full = p->full;
  s->training = p->kind == ENTRY_step;
  s->named_loss = false;
  s->faults = 0;
  s->site = (Site){0};
  s->work = 0; /* bounded for each entry */
  s->building = true;
  states_begin(s);
  if (p->batch_name) scope_bind(s, sc, p->batch_name, val_int(p->batch), loc);
}

void phase_finish(Sema *s) {
  states_finish(s);
  s->building = false;
}

static void build_entry(Sema *s, EntryKind kind) {
  bool step = kind == ENTRY_step;
  Scope *sc = scope_new(s, s->train->scope);
  s->phase = &s->phases[kind];
  phase_begin(s, sc, step ? "train_step" : "eval", s->train_ast->loc);
  elaborate(s, sc, s->train, step ? ONCE : EACH);
  if (!step) elaborate_eval(s, sc);
  phase_finish(s);
}

/* Parameters that lead to the loss without a gradient are found by the pass `grad`. */
static void check_trained(Sema *s) {
  for (uint32_t i = 0; i < s->params.len; i++) {
    const Param *p = s->params.at[i];
    if (p->arg == NO_ID && !p->is_state && !p->frozen)
      diag_error(s->diag, p->loc, "nothing trains %s: `train` does not use it", p->path);
  }
}

static bool names_the_model(Sema *s) {
  const Ast *a = s->train_ast, *v = a->kid[SETTING_VALUE], *mods = a->kid[SETTING_MODS];
  const char *model = s->model_ast->name;
  Loc loc = v ? ast_start(v) : a->loc;
  if (!v || v->kind != AST_NAME || v->name != model)
    diag_error(s->diag, loc, "`train` wants the name of the model, `%s`", model);
  else if (!a->kid[SETTING_BLOCK]) diag_error(s->diag, a->loc, "`train %s` wants a block", model);
  else {
    refuse_mods(s, mods);
    return true;
  }
  return false;
}

/* What evaluation does not say for itself it has from training. */
static void inherit(Sema *s, bool tail) {
  Phase *step = &s->phases[ENTRY_step], *eval = &s->phases[ENTRY_eval];
  if (!step->batch) { /* the axes of all sources are unknown */
    step->batch = 1;
    s->incomplete = true;
  }
  if (!eval->batch) eval->batch = step->batch;
  eval->batch_name = step->batch_name;
  if (!tail) eval->full = step->full;
}

static bool says_tail(const Ast *block) {
  for (uint32_t i = 0; block && i < block->len; i++)
    if (block->kid[i]->kind == AST_SETTING && !strcmp(block->kid[i]->name, "tail")) return true;
  return false;
}

static bool calls(const Ast *a, const char *name) {
  if (a->kind == AST_CALL && a->kid[CALL_CALLEE]->kind == AST_NAME &&
      !strcmp(a->kid[CALL_CALLEE]->name, name))
    return true;
  if (a->kind == AST_INT || a->kind == AST_FLOAT || a->kind == AST_STRING || a->kind == AST_BOOL ||
      a->kind == AST_NAME)
    return false;
  for (uint32_t i = 0; i < a->len; i++)
    if (a->kid[i] && calls(a->kid[i], name)) return true;
  return false;
}

/* Batches are full where the data say so: `data {…} tail(drop)`, and lanes, which all go on. */
static bool data_is_full(const Ast *block) {
  for (uint32_t i = 0; i < block->len; i++) {
    const Ast *a = block->kid[i], *mods = a->kind == AST_SETTING ? a->kid[SETTING_MODS] : NULL;
    if (a->kind != AST_SETTING || strcmp(a->name, "data")) continue;
    if (a->kid[SETTING_BLOCK] && calls(a->kid[SETTING_BLOCK], "lanes")) return true;
    for (uint32_t k = 0; mods && k < mods->len; k++) {
      const Ast *args = mods->kid[k]->kid[MODIFIER_ARGS];
      if (!strcmp(mods->kid[k]->name, "tail") && args && args->len == 1 &&
          args->kid[0]->kind == AST_NAME && !strcmp(args->kid[0]->name, "drop"))
        return true;
    }
  }
  return false;
}

void train_begin(Sema *s) {
  s->phases[ENTRY_step].kind = ENTRY_step;
  s->phases[ENTRY_eval].kind = ENTRY_eval;
  s->phase = &s->phases[ENTRY_step];
  if (!s->train_ast || !names_the_model(s)) return;
  TrainBlock *t = s->train = NEW(s->arena, TrainBlock);
  t->ast = s->train_ast->kid[SETTING_BLOCK];
  t->sound = NEW_ARRAY(s->arena, bool, t->ast->len);
  t->scope = scope_new(s, s->model->scope);
  check_block(s, t);
  elaborate(s, t->scope, t, FIRST);
  if (data_is_full(t->ast)) s->phases[ENTRY_step].full = true;
  inherit(s, says_tail(t->eval));
}

void train_entries(Sema *s) {
  if (!s->train) return;
  build_entry(s, ENTRY_step);
  if (!s->diag->errors) check_trained(s);
  if (!s->diag->errors) optimizer_entries(s);
  if (!s->diag->errors) build_entry(s, ENTRY_eval);
}
