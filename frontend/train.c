/* train.c: the train block.  Its settings are a table; its computation (data expressions, bindings,
 * losses, metrics) is elaborated for each phase, into the entries train_step and eval.  `eval {…}`
 * says what evaluation has of its own.
 */
#include "frontend/sema.h"

#include <string.h>

/* ---- the table ------------------------------------------------------------------------------- */

/* ONCE: in the first entry; EACH: in every entry; FIRST: before any entry. */
typedef enum When { LATER, FIRST, ONCE, EACH } When;

/* How often: any number of times; once. */
typedef enum Often { ANY, ONE } Often;

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
    {"data", setting_data, EACH, ONE, BLOCK | MODS},
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

enum { MOST_REFUSED = 100 }; /* items of a block; with more nothing of it is elaborated */

struct TrainBlock {
  const Ast *ast;
  Scope *scope;              /* around those of the phases */
  const Ast *eval;           /* the block of `eval`, or NULL */
  VEC(const Ast *) unsound;  /* items that were refused: they are not elaborated */
  const Ast *seen[SETTINGS]; /* the first of each that may be met so far */
  bool misspelt;             /* what is missing may be there under another name */
  bool full;                 /* the data say so */
};

static void refuse_mods(Sema *s, const Ast *mods) {
  modifiers_apply(s, NULL, mods, (ModifierRules){NULL, 0}, NULL);
}

/* Modifiers that it does not take are refused, but the setting is looked at.  repeats: by `for`. */
static bool check_setting(Sema *s, TrainBlock *t, const Ast *a, bool repeats) {
  int k = find_setting(a->name);
  if (k < 0) return unknown_setting(s, a), t->misspelt = true, false;
  const Ast *bound = a->kid[SETTING_BOUND], *block = a->kid[SETTING_BLOCK];
  const Ast *first = t->seen[k];
  if (!first) t->seen[k] = a;
  if (settings[k].when == LATER) {
    sema_later(s, a->loc, arena_printf(s->arena, "`%s`", a->name));
    t->misspelt = true; /* it may hold what is missing */
    s->incomplete = s->incomplete || (settings[k].flags & BINDS) != 0;
  } else if (first && settings[k].often == ONE) {
    diag_error(s->diag, a->loc, "`%s` is given twice", a->name);
    diag_note(s->diag, first->loc, "first here");
  } else if (repeats && (settings[k].often == ONE || (settings[k].flags & BINDS)))
    diag_error(s->diag, a->loc, "`%s` may not be repeated: take it out of the `for`", a->name);
  else if (bound && !(settings[k].flags & BINDS))
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

static void check_items(Sema *s, TrainBlock *t, const Ast *block, bool repeats);

/* Of several branches one is taken: what each says is said once. */
static void check_if(Sema *s, TrainBlock *t, const Ast *a, bool repeats) {
  const Ast *before[SETTINGS], *met[SETTINGS];
  memcpy(before, t->seen, sizeof before);
  memcpy(met, t->seen, sizeof met);
  for (uint32_t i = 0; i < a->len; i++) {
    if (i % 2 == 0 && i + 1 < a->len) continue; /* a condition */
    memcpy(t->seen, before, sizeof before);
    check_items(s, t, a->kid[i], repeats);
    for (int k = 0; k < SETTINGS; k++)
      if (!met[k]) met[k] = t->seen[k];
  }
  memcpy(t->seen, met, sizeof met);
}

static bool check_item(Sema *s, TrainBlock *t, const Ast *a, bool repeats) {
  switch (a->kind) {
  case AST_IF: return check_if(s, t, a, repeats), true;
  case AST_FOR: return check_items(s, t, a->kid[FOR_BODY], true), true;
  case AST_ASSERT: return true;
  case AST_BIND: return check_bind(s, a);
  case AST_SETTING: return check_setting(s, t, a, repeats);
  case AST_ASSIGN: sema_later(s, a->loc, "`:=` in `train`"); break;
  default: diag_error(s->diag, a->loc, "a setting or a binding is wanted here");
  }
  return false;
}

/* What can be said of each item alone. */
static void check_items(Sema *s, TrainBlock *t, const Ast *block, bool repeats) {
  for (uint32_t i = 0; i < block->len; i++)
    if (!check_item(s, t, block->kid[i], repeats) && t->unsound.len < MOST_REFUSED)
      vec_push(s->arena, &t->unsound, block->kid[i]);
}

static void is_missing(Sema *s, const char *word) {
  diag_error(s->diag, s->train_ast->loc, "`train` has no %s", word);
}

static void check_block(Sema *s, TrainBlock *t) {
  check_items(s, t, t->ast, false);
  for (int k = 0; k < SETTINGS; k++)
    if ((settings[k].flags & NEEDED) && !t->seen[k] && !t->misspelt)
      is_missing(s, settings[k].word);
}

/* ---- its elaboration ------------------------------------------------------------------------- */

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
static bool fills_batches(const Ast *a) {
  const Ast *mods = a->kid[SETTING_MODS];
  if (a->kid[SETTING_BLOCK] && calls(a->kid[SETTING_BLOCK], "lanes")) return true;
  for (uint32_t k = 0; mods && k < mods->len; k++) {
    const Ast *args = mods->kid[k]->kid[MODIFIER_ARGS];
    if (!strcmp(mods->kid[k]->name, "tail") && args && args->len == 1 &&
        args->kid[0]->kind == AST_NAME && !strcmp(args->kid[0]->name, "drop"))
      return true;
  }
  return false;
}

typedef struct Walk {
  TrainBlock *t;
  When when;
} Walk;

static bool is_data(const Ast *a) { return a->kind == AST_SETTING && !strcmp(a->name, "data"); }

/* The tail of the data is known before any entry is built. */
static bool wanted(const Ast *a, void *data) {
  const Walk *w = data;
  if (w->t->unsound.len == MOST_REFUSED) return false;
  for (uint32_t i = 0; i < w->t->unsound.len; i++)
    if (w->t->unsound.at[i] == a) return false;
  int k = a->kind == AST_SETTING ? find_setting(a->name) : -1;
  if (k < 0) return w->when != FIRST;
  When when = settings[k].when;
  return when == w->when || (when == EACH && w->when == ONCE) || (w->when == FIRST && is_data(a));
}

static void take(Sema *s, Scope *sc, const Ast *a, void *data) {
  const Walk *w = data;
  if (a->kind != AST_SETTING) bind_in(s, sc, a);
  else if (w->when == FIRST && is_data(a)) w->t->full = w->t->full || fills_batches(a);
  else settings[find_setting(a->name)].fn(s, sc, a);
}

static void elaborate(Sema *s, Scope *sc, TrainBlock *t, const Ast *block, When when) {
  each_item(s, sc, block, &(Items){wanted, take, &(Walk){t, when}});
}

/* ---- eval { … } ------------------------------------------------------------------------------ */

static bool check_eval(Sema *s, const Ast *block);

static bool in_eval(Sema *s, const Ast *a) {
  int k = a->kind == AST_SETTING ? find_setting(a->name) : -1;
  bool ok = true;
  if (a->kind == AST_BIND) return check_bind(s, a);
  if (a->kind == AST_ASSERT || (k >= 0 && (settings[k].flags & IN_EVAL))) return true;
  for (uint32_t i = 0; a->kind == AST_IF && i < a->len; i++)
    if (i % 2 || i + 1 == a->len) ok = check_eval(s, a->kid[i]) && ok;
  if (a->kind == AST_IF) return ok;
  if (a->kind == AST_SETTING && k < 0) unknown_setting(s, a);
  else diag_error(s->diag, a->loc, "`eval` takes batch, tail, bindings and metrics");
  return false;
}

static bool check_eval(Sema *s, const Ast *block) {
  bool ok = true;
  for (uint32_t i = 0; i < block->len; i++) ok = in_eval(s, block->kid[i]) && ok;
  return ok;
}

/* What is said before any entry. */
static void setting_eval(Sema *s, Scope *sc, const Ast *a) {
  const Ast *block = a->kid[SETTING_BLOCK];
  Phase *train = s->phase;
  if (!block || a->kid[SETTING_VALUE]) {
    diag_error(s->diag, a->loc, "`eval` wants a block: eval { batch B = 250 }");
    return;
  }
  if (!check_eval(s, block)) return;
  s->train->eval = block;
  s->phase = &s->phases[ENTRY_eval];
  elaborate(s, sc, s->train, block, FIRST);
  s->phase = train;
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
  keep_entry(s);
  s->building = false;
}

static void build_entry(Sema *s, EntryKind kind) {
  bool step = kind == ENTRY_step;
  Scope *sc = scope_new(s, s->train->scope);
  s->phase = &s->phases[kind];
  phase_begin(s, sc, step ? "train_step" : "eval", s->train_ast->loc);
  elaborate(s, sc, s->train, s->train->ast, step ? ONCE : EACH);
  if (!step && s->train->eval) elaborate(s, sc, s->train, s->train->eval, EACH);
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

/* What must be there may stand in a branch that was not taken. */
static void check_branches(Sema *s) {
  const Entry *e = &s->g->entries.at[s->entry];
  bool loss = false;
  for (uint32_t i = 0; i < e->results.len; i++) loss = loss || e->results.at[i].role == RES_loss;
  if (!loss) is_missing(s, "loss");
  if (!s->optimizers.len) is_missing(s, "optimizer");
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
static void inherit(Sema *s) {
  Phase *step = &s->phases[ENTRY_step], *eval = &s->phases[ENTRY_eval];
  if (!step->batch) { /* the axes of all sources are unknown */
    if (!s->diag->errors) is_missing(s, "batch");
    step->batch = 1;
    s->incomplete = true;
  }
  if (s->train->full) step->full = true;
  if (!eval->batch) eval->batch = step->batch;
  eval->batch_name = step->batch_name;
  if (!eval->says_tail) eval->full = step->full;
}

void train_begin(Sema *s) {
  s->phases[ENTRY_step].kind = ENTRY_step;
  s->phases[ENTRY_eval].kind = ENTRY_eval;
  s->phase = &s->phases[ENTRY_step];
  if (!s->train_ast || !names_the_model(s)) return;
  TrainBlock *t = s->train = NEW(s->arena, TrainBlock);
  t->ast = s->train_ast->kid[SETTING_BLOCK];
  t->scope = scope_new(s, s->model->scope);
  check_block(s, t);
  elaborate(s, t->scope, t, t->ast, FIRST);
  inherit(s);
}

void train_entries(Sema *s) {
  if (!s->train) return;
  build_entry(s, ENTRY_step);
  if (!s->diag->errors) check_branches(s);
  if (!s->diag->errors) scales_check(s);
  if (!s->diag->errors) check_trained(s);
  if (!s->diag->errors) optimizer_entries(s);
  if (!s->diag->errors) build_entry(s, ENTRY_eval);
}
