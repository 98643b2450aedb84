/* train.c: the train block.  Its settings are a table; its computation (data expressions, bindings,
 * loss, metrics) is elaborated twice, into the entries train_step and eval.
 *
 * A loss or metric is a value for each example; an entry's results are its sum over the real rows
 * and their number, so that totals over batches are exact.
 */
#include "frontend/sema.h"

#include <string.h>

/* ---- settings of one number or word ---------------------------------------------------------- */

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

/* A wrong size stands for 1 until the end, so that the rest can be looked at. */
static void set_batch(Sema *s, Scope *sc, const Ast *a) {
  const Ast *bound = a->kid[SETTING_BOUND];
  s->batch = 1;
  int64_t n = 0;
  if (positive(s, sc, a, &n)) s->batch = n;
  if (!bound) return;
  s->batch_name = bound->name;
  scope_bind(s, sc, bound->name, val_int(s->batch), bound->loc);
}

static void set_steps(Sema *s, Scope *sc, const Ast *a) { positive(s, sc, a, &s->g->train.steps); }

static void set_epochs(Sema *s, Scope *sc, const Ast *a) {
  positive(s, sc, a, &s->g->train.epochs);
}

static void set_precision(Sema *s, Scope *sc, const Ast *a) {
  static const char *const known[][2] = {
      {"f32", "f32"}, {"fp32", "f32"}, {"bf16", "bf16"}, {"auto", "auto"}};
  static const char *const later[] = {"f16", "fp16", "fp8", "mx8"};
  const Ast *v = a->kid[SETTING_VALUE];
  Loc loc = v ? ast_start(v) : a->loc;
  const Ast *head = v && v->kind == AST_CALL ? v->kid[CALL_CALLEE] : v;
  const char *word = head && head->kind == AST_NAME ? head->name : "";
  (void)sc;
  s->g->train.precision_loc = loc;
  for (size_t i = 0; head == v && i < sizeof known / sizeof *known; i++)
    if (!strcmp(word, known[i][0])) {
      s->g->train.precision = known[i][1];
      return;
    }
  for (size_t i = 0; i < sizeof later / sizeof *later; i++)
    if (!strcmp(word, later[i])) {
      sema_later(s, loc, arena_printf(s->arena, "`precision %s`", word));
      return;
    }
  diag_error(s->diag, loc, "`precision` is f32, bf16 or auto");
}

/* ---- data, losses, metrics: elaborated for each entry ---------------------------------------- */

static void refuse_mods(Sema *s, const Ast *mods) {
  if (mods)
    sema_later(s, mods->kid[0]->loc,
               arena_printf(s->arena, "the modifier `%s`", mods->kid[0]->name));
}

/* Its type, from `u8[B, 28, 28]`. */
static bool source_type(Sema *s, Scope *sc, const Ast *type, Type *t) {
  const Ast *dims = type->kind == AST_INDEX ? type->kid[INDEX_AT] : NULL;
  Val head = eval_expr(s, sc, dims ? type->kid[INDEX_OF] : type, false);
  const Ast *first = dims && dims->len ? dims->kid[0] : NULL;
  bool batched = first && first->kind == AST_NAME && first->name == s->batch_name;
  bool unknown = !s->batch_name && s->incomplete; /* `train` has no batch, which was said */
  if (head.kind == VAL_BAD || unknown) return false;
  if (first && first->kind == AST_NAME && !strcmp(first->name, "_"))
    return sema_later(s, first->loc, "a source as long as its file"), false;
  if (head.kind != VAL_DTYPE || !batched) {
    diag_error(s->diag, ast_start(type), "a source is `name: u8[%s, …]`, its first axis the batch",
               s->batch_name ? s->batch_name : "B");
    return false;
  }
  if (head.dtype != DT_f32 && head.dtype != DT_i32 && head.dtype != DT_u8)
    return sema_later(s, ast_start(type),
                      arena_printf(s->arena, "a source of %s", dtype_name[head.dtype])),
           false;
  if (!shape_eval(s, sc, dims, head.dtype, t)) return false;
  t->rows = 0;
  return true;
}

/* Where the loader gets the input, said once for all entries. */
static void add_source(Sema *s, const Ast *key, Type input) {
  for (uint32_t i = 0; i < s->g->sources.len; i++)
    if (s->g->sources.at[i].name == key->name) return;
  DataSource d = {.name = key->name, .kind = READ_rows, .loc = key->loc};
  d.type = type_make((DType)input.dtype, input.rank - 1, input.dim + 1);
  vec_push(s->arena, &s->g->sources, d);
}

static void data_source(Sema *s, Scope *sc, const Ast *field) {
  const Ast *key = field->kid[FIELD_KEY];
  Type t;
  refuse_mods(s, field->kid[FIELD_MODS]);
  if (key->kind != AST_NAME) {
    diag_error(s->diag, key->loc, "a source's name is a word, not a string");
    return;
  }
  Val v = val_bad();
  if (source_type(s, sc, field->kid[FIELD_TYPE], &t)) {
    v = val_tensor(graph_add_entry_arg(s->g, s->entry, ARG_input, key->name, t, key->loc));
    dims_declare(s, v.tensor, field->kid[FIELD_TYPE]->kid[INDEX_AT]);
    add_source(s, key, t);
  }
  scope_bind(s, sc, key->name, v, key->loc);
}

static void bind_in(Sema *s, Scope *sc, const Ast *a) {
  bind_names(s, sc, a, eval_modified(s, sc, a->kid[BIND_VALUE], a->kid[BIND_MODS], false), true);
}

static void data_block(Sema *s, Scope *sc, const Ast *a) {
  const Ast *block = a->kid[SETTING_BLOCK];
  if (!block || a->kid[SETTING_VALUE]) {
    diag_error(s->diag, a->loc, "`data` wants a block of sources: data { images: u8[B, 28, 28] }");
    return;
  }
  for (uint32_t i = 0; i < block->len; i++) {
    const Ast *item = block->kid[i];
    if (item->kind == AST_FIELD && !item->kid[FIELD_INIT]) data_source(s, sc, item);
    else if (item->kind == AST_BIND) bind_in(s, sc, item);
    else
      diag_error(s->diag, item->loc,
                 "a source, `name: type`, or `name = expression` is wanted here");
  }
}

/* Sum over real rows and their number, as results of the entry. */
static void add_total(Sema *s, ResRole role, const char *name, ValueId v, Loc loc) {
  s->b.loc = loc;
  v = tensor_widen(s, v);
  if (dtype_kind[value_type(s->g, v).dtype] != 'f') v = build_cast(&s->b, v, DT_f32);
  ValueId ones = build_like(&s->b, v, 1);
  ValueId sum = build_reduce_all(&s->b, OP_sum, v), weight = build_reduce_all(&s->b, OP_sum, ones);
  graph_add_entry_result(s->g, s->entry, role, name, sum, loc);
  graph_add_entry_result(s->g, s->entry, RES_weight, name, weight, loc);
}

static void total(Sema *s, Scope *sc, const Ast *a, ResRole role) {
  const Ast *e = a->kid[SETTING_VALUE], *bound = a->kid[SETTING_BOUND];
  if (!e) {
    diag_error(s->diag, a->loc, "`%s` wants a value for each example", a->name);
    return;
  }
  const char *name = bound ? bound->name : a->name;
  s->total = a->name;
  Val v = eval_expr(s, sc, e, false);
  s->total = NULL;
  const char *what = arena_printf(s->arena, "a metric made of the total `%s`", name);
  Val later = {.kind = VAL_LATER, .s = what};
  bool fresh = scope_bind(s, sc, name, later, bound ? bound->loc : a->loc);
  ValueId x = tensor_of(s, v, ast_start(e));
  if (x == NO_ID || !fresh) return;
  Type t = value_type(s->g, x);
  if (t.rows < 0)
    diag_error(s->diag, ast_start(e), "the %s is %s: leave it unreduced, a value for each example",
               a->name, val_describe(s, v));
  else if (role == RES_loss && dtype_kind[t.dtype] != 'f')
    diag_error(s->diag, ast_start(e), "the loss is %s: a float is wanted", val_describe(s, v));
  else add_total(s, role, name, x, ast_start(e));
}

static void set_loss(Sema *s, Scope *sc, const Ast *a) { total(s, sc, a, RES_loss); }
static void set_metric(Sema *s, Scope *sc, const Ast *a) { total(s, sc, a, RES_metric); }

/* ---- the table ------------------------------------------------------------------------------- */

/* ONCE: in the first entry; EACH: in every entry; FIRST: before any entry. */
typedef enum When { LATER, FIRST, ONCE, EACH } When;

/* How often: any number of times; once; once, and more in a later version. */
typedef enum Often { ANY, ONE, ONE_YET } Often;

static const struct {
  const char *word;
  void (*fn)(Sema *s, Scope *sc, const Ast *a);
  When when;
  Often often;
  bool binds, block, needed; /* a name; takes a block; must be there */
} settings[] = {
    {"batch", set_batch, FIRST, ONE, true, false, true},
    {"data", data_block, EACH, ONE_YET, false, true, false},
    {"loss", set_loss, EACH, ONE_YET, true, false, true},
    {"metric", set_metric, EACH, ANY, true, false, false},
    {"optimizer", set_optimizer, ONCE, ONE_YET, false, false, true},
    {"steps", set_steps, ONCE, ONE, false, false, false},
    {"epochs", set_epochs, ONCE, ONE, false, false, false},
    {"precision", set_precision, ONCE, ONE, false, false, false},
    {.word = "accumulate"},
    {.word = "clip"},
    {.word = "eval"},
    {.word = "frozen"},
    {.word = "group"},
    {.word = "hyper", .binds = true},
    {.word = "init"},
    {.word = "input", .binds = true},
    {.word = "load"},
    {.word = "order"},
    {.word = "step"},
    {.word = "tail"},
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

typedef struct TrainBlock {
  const Ast *ast;
  bool *sound; /* an element an item: it may be elaborated */
  const Ast *seen[SETTINGS];
  bool misspelt; /* what is missing may be there under another name */
} TrainBlock;

/* Modifiers are refused, but the setting is looked at. */
static bool check_setting(Sema *s, TrainBlock *t, const Ast *a) {
  int k = find_setting(a->name);
  if (k < 0) return unknown_setting(s, a), t->misspelt = true, false;
  const Ast *bound = a->kid[SETTING_BOUND], *block = a->kid[SETTING_BLOCK];
  const Ast *first = t->seen[k];
  if (!first) t->seen[k] = a;
  if (settings[k].when == LATER) {
    sema_later(s, a->loc, arena_printf(s->arena, "`%s`", a->name));
    s->incomplete = s->incomplete || settings[k].binds;
  } else if (first && settings[k].often == ONE_YET)
    sema_later(s, a->loc, arena_printf(s->arena, "a second `%s`", a->name));
  else if (first && settings[k].often == ONE) {
    diag_error(s->diag, a->loc, "`%s` is given twice", a->name);
    diag_note(s->diag, first->loc, "first here");
  } else if (bound && !settings[k].binds)
    diag_error(s->diag, bound->loc, "`%s` binds no name", a->name);
  else if (block && !settings[k].block)
    diag_error(s->diag, block->loc, "`%s` takes no block", a->name);
  else return refuse_mods(s, a->kid[SETTING_MODS]), true;
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
    if (settings[k].needed && !t->seen[k] && !t->misspelt)
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

static void build_entry(Sema *s, Scope *once, const TrainBlock *t, EntryKind kind) {
  bool step = kind == ENTRY_step;
  s->entry = graph_add_entry(s->g, step ? "train_step" : "eval", kind, s->batch, s->train_ast->loc);
  s->b = (Builder){.g = s->g, .block = s->g->entries.at[s->entry].body};
  for (uint32_t i = 0; i < s->params.len; i++) s->params.at[i]->arg = NO_ID;
  s->building = true;
  s->training = step;
  s->faults = 0;
  s->work = 0; /* bounded for each entry */
  elaborate(s, scope_new(s, once), t, step ? ONCE : EACH);
  s->building = false;
}

/* Parameters that lead to the loss without a gradient are found by the pass `grad`. */
static void check_trained(Sema *s) {
  for (uint32_t i = 0; i < s->params.len; i++) {
    const Param *p = s->params.at[i];
    if (p->arg == NO_ID)
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
  else if (mods) refuse_mods(s, mods);
  else return true;
  return false;
}

void train_entries(Sema *s) {
  if (!names_the_model(s)) return;
  TrainBlock t = {.ast = s->train_ast->kid[SETTING_BLOCK]};
  t.sound = NEW_ARRAY(s->arena, bool, t.ast->len);
  Scope *once = scope_new(s, s->model->scope);
  check_block(s, &t);
  elaborate(s, once, &t, FIRST);
  if (!s->batch) { /* the axes of all sources are unknown */
    s->batch = 1;
    s->incomplete = true;
  }
  build_entry(s, once, &t, ENTRY_step);
  if (!s->diag->errors) check_trained(s);
  if (!s->diag->errors) build_entry(s, once, &t, ENTRY_eval);
}
