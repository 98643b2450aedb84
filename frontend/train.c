/* train.c: the train block.  Its settings are a table; its computation (data expressions, bindings,
 * loss, metrics) is elaborated twice, into the entries train_step and eval.
 *
 * A loss or metric is a value for each example; an entry's results are its sum over the real rows and
 * their number, so that totals over batches are exact.
 */
#include "frontend/sema.h"

#include <math.h>
#include <string.h>

/* ---- settings ------------------------------------------------------------------------------------------- */

typedef void SettingFn(Sema *s, Scope *sc, const Ast *a);

static bool no_mods(Sema *s, const Ast *a) {
  const Ast *mods = a->kid[SETTING_MODS];
  if (!mods || !mods->len) return true;
  sema_later(s, mods->kid[0]->loc, arena_printf(s->arena, "the modifier `%s` of `%s`", mods->kid[0]->name, a->name));
  return false;
}

static bool positive(Sema *s, Scope *sc, const Ast *a, int64_t *n) {
  const Ast *v = a->kid[SETTING_VALUE];
  if (!v) diag_error(s->diag, a->loc, "`%s` wants a number", a->name);
  if (!v || !no_mods(s, a) || !eval_int(s, sc, v, arena_printf(s->arena, "`%s`", a->name), n)) return false;
  if (*n >= 1) return true;
  diag_error(s->diag, ast_start(v), "`%s` must be at least 1, not %lld", a->name, (long long)*n);
  return false;
}

static void set_batch(Sema *s, Scope *sc, const Ast *a) {
  const Ast *bound = a->kid[SETTING_BOUND];
  int64_t n = 0;
  if (!positive(s, sc, a, &n)) return;
  s->batch = n;
  if (!bound) return;
  s->batch_name = bound->kind == AST_NAMES ? bound->kid[0]->name : bound->name;
  scope_bind(s, sc, s->batch_name, val_int(n), bound->loc);
}

static void set_steps(Sema *s, Scope *sc, const Ast *a) { positive(s, sc, a, &s->g->train.steps); }
static void set_epochs(Sema *s, Scope *sc, const Ast *a) { positive(s, sc, a, &s->g->train.epochs); }

static void set_precision(Sema *s, Scope *sc, const Ast *a) {
  static const char *const known[][2] = {{"f32", "f32"}, {"fp32", "f32"}, {"bf16", "bf16"}, {"auto", "auto"}};
  const Ast *v = a->kid[SETTING_VALUE];
  (void)sc;
  s->g->train.precision_loc = v ? ast_start(v) : a->loc;
  if (!no_mods(s, a)) return;
  for (int i = 0; v && v->kind == AST_NAME && i < 4; i++)
    if (!strcmp(v->name, known[i][0])) {
      s->g->train.precision = known[i][1];
      return;
    }
  const char *word = v && v->kind == AST_NAME ? v->name : v && v->kind == AST_CALL ? v->kid[0]->name : NULL;
  if (word && (!strcmp(word, "f16") || !strcmp(word, "fp16") || !strcmp(word, "fp8") || !strcmp(word, "mx8")))
    sema_later(s, ast_start(v), arena_printf(s->arena, "`precision %s`", word));
  else diag_error(s->diag, v ? ast_start(v) : a->loc, "`precision` is f32, bf16 or auto");
}

/* ---- the optimizer ------------------------------------------------------------------------------------------ */

typedef struct Setting {
  const char *name;
  AttrKey key;
} Setting;

static const struct { const char *name; Setting setting[6]; } optimizers[] = {
    {"sgd", {{"momentum", AT_momentum}, {"weight_decay", AT_weight_decay}}},
    {"adam", {{"eps", AT_eps}, {"weight_decay", AT_weight_decay}}},
    {"adamw", {{"eps", AT_eps}, {"weight_decay", AT_weight_decay}}},
};

static void add_setting(Sema *s, AttrKey key, double v) {
  vec_push(s->arena, &s->g->train.settings, attr_float(key, v));
}

/* A number, or linear(a, to: b) over the whole run. */
static void set_lr(Sema *s, Scope *sc, const Ast *v) {
  const Ast *callee = v->kind == AST_CALL ? v->kid[CALL_CALLEE] : NULL;
  double from, to;
  if (!callee || callee->kind != AST_NAME || strcmp(callee->name, "linear")) {
    if (eval_float(s, sc, v, "`lr`", &from)) add_setting(s, AT_lr, from);
    return;
  }
  const Ast *args = v->kid[CALL_ARGS];
  bool fits = args->len == 2 && args->kid[0]->kind != AST_ARG && args->kid[1]->kind == AST_ARG &&
              !strcmp(args->kid[1]->name, "to");
  if (!fits) {
    diag_error(s->diag, callee->loc, "a schedule of this version of mpcc is linear(a, to: b), over the whole run");
    return;
  }
  if (!eval_float(s, sc, args->kid[0], "the start", &from) ||
      !eval_float(s, sc, args->kid[1]->kid[ARG_VALUE], "the end", &to)) return;
  add_setting(s, AT_lr, from);
  add_setting(s, AT_lr_to, to);
}

static void set_betas(Sema *s, Scope *sc, const Ast *v) {
  double b1, b2;
  if (v->kind != AST_TUPLE || v->len != 2) {
    diag_error(s->diag, ast_start(v), "betas wants two numbers: betas: (0.9, 0.999)");
    return;
  }
  if (!eval_float(s, sc, v->kid[0], "beta", &b1) || !eval_float(s, sc, v->kid[1], "beta", &b2)) return;
  if (!(b1 >= 0 && b1 < 1 && b2 >= 0 && b2 < 1))
    diag_error(s->diag, ast_start(v), "betas lie from 0 to below 1");
  add_setting(s, AT_beta1, b1);
  add_setting(s, AT_beta2, b2);
}

static void set_optimizer_arg(Sema *s, Scope *sc, int which, const Ast *arg) {
  const Ast *v = arg->kind == AST_ARG ? arg->kid[ARG_VALUE] : NULL;
  const Setting *known = optimizers[which].setting;
  const char *names[8] = {"lr", "betas"};
  size_t n = which ? 2 : 1;
  if (!v) {
    diag_error(s->diag, ast_start(arg), "the settings of an optimizer are named: %s(lr: 1e-3)", optimizers[which].name);
    return;
  }
  if (!strcmp(arg->name, "lr")) set_lr(s, sc, v);
  else if (which && !strcmp(arg->name, "betas")) set_betas(s, sc, v);
  else {
    for (int i = 0; i < 6 && known[i].name; i++) {
      double f;
      names[n++] = known[i].name;
      if (strcmp(known[i].name, arg->name)) continue;
      if (eval_float(s, sc, v, arena_printf(s->arena, "`%s`", arg->name), &f)) add_setting(s, known[i].key, f);
      return;
    }
    const char *near = nearest_name(arg->name, names, n);
    diag_error(s->diag, arg->loc, "%s has no setting `%s`%s%s%s", optimizers[which].name, arg->name,
               near ? "; `" : "", near ? near : "", near ? "`?" : "");
  }
}

static void set_optimizer(Sema *s, Scope *sc, const Ast *a) {
  const Ast *v = a->kid[SETTING_VALUE];
  if (s->g->train.optimizer) {
    sema_later(s, a->loc, "a second optimizer");
    return;
  }
  if (!no_mods(s, a)) return;
  if (!v || v->kind != AST_CALL || v->kid[CALL_CALLEE]->kind != AST_NAME) {
    diag_error(s->diag, a->loc, "`optimizer` wants sgd(…), adam(…) or adamw(…)");
    return;
  }
  const Ast *callee = v->kid[CALL_CALLEE];
  for (int which = 0; which < 3; which++) {
    if (strcmp(callee->name, optimizers[which].name)) continue;
    s->g->train.optimizer = optimizers[which].name;
    s->g->train.optimizer_loc = callee->loc;
    for (uint32_t i = 0; i < v->kid[CALL_ARGS]->len; i++) set_optimizer_arg(s, sc, which, v->kid[CALL_ARGS]->kid[i]);
    return;
  }
  const char *names[] = {"sgd", "adam", "adamw"}, *near = nearest_name(callee->name, names, 3);
  diag_error(s->diag, callee->loc, "no optimizer `%s`%s%s%s", callee->name, near ? "; `" : ": sgd, adam, adamw",
             near ? near : "", near ? "`?" : "");
}

/* ---- data, losses, metrics: elaborated for each entry ----------------------------------------------------------- */

static void data_source(Sema *s, Scope *sc, const Ast *field) {
  const Ast *type = field->kid[FIELD_TYPE], *key = field->kid[FIELD_KEY];
  const Ast *dims = type->kind == AST_INDEX ? type->kid[INDEX_AT] : NULL;
  Val head = eval_expr(s, sc, type->kind == AST_INDEX ? type->kid[INDEX_OF] : type, false);
  Type t;
  bool batched = dims && dims->len && dims->kid[0]->kind == AST_NAME && dims->kid[0]->name == s->batch_name;
  if (head.kind == VAL_BAD) return;
  if (key->kind != AST_NAME || head.kind != VAL_DTYPE || !batched) {
    diag_error(s->diag, ast_start(type), "a source is `name: u8[B, …]`, its first axis the batch");
    return;
  }
  if (head.dtype != DT_f32 && head.dtype != DT_i32 && head.dtype != DT_u8) {
    sema_later(s, ast_start(type), arena_printf(s->arena, "a source of %s", dtype_name[head.dtype]));
    return;
  }
  if (field->kid[FIELD_MODS]) sema_later(s, field->kid[FIELD_MODS]->kid[0]->loc, "a modifier here");
  if (!shape_eval(s, sc, dims, head.dtype, &t)) return;
  t.rows = 0;
  ValueId v = graph_add_entry_arg(s->g, s->entry, ARG_input, key->name, t, key->loc);
  scope_bind(s, sc, key->name, val_tensor(v), key->loc);
}

static void bind_in(Sema *s, Scope *sc, const Ast *a) {
  if (a->kid[BIND_MODS]) sema_later(s, a->kid[BIND_MODS]->kid[0]->loc, "a modifier here");
  bind_names(s, sc, a, eval_expr(s, sc, a->kid[BIND_VALUE], false), true);
}

static void data_block(Sema *s, Scope *sc, const Ast *a) {
  const Ast *block = a->kid[SETTING_BLOCK];
  if (!block) {
    diag_error(s->diag, a->loc, "`data` wants a block of sources: data { images: u8[B, 28, 28] }");
    return;
  }
  no_mods(s, a);
  for (uint32_t i = 0; i < block->len; i++) {
    const Ast *item = block->kid[i];
    if (item->kind == AST_FIELD && !item->kid[FIELD_INIT]) data_source(s, sc, item);
    else if (item->kind == AST_BIND) bind_in(s, sc, item);
    else diag_error(s->diag, item->loc, "a source, `name: type`, or `name = expression` is wanted here");
  }
}

/* Sum over real rows and their number, as results of the entry. */
static void add_total(Sema *s, ResRole role, const char *name, ValueId v, Loc loc) {
  Type t = value_type(s->g, v);
  s->b.loc = loc;
  if (dtype_kind[t.dtype] != 'f') v = build_cast(&s->b, v, DT_f32);
  ValueId ones = build_constant(&s->b, type_with(t, DT_f32), 1);
  ValueId sum = build_reduce_all(&s->b, OP_sum, v), weight = build_reduce_all(&s->b, OP_sum, ones);
  graph_add_entry_result(s->g, s->entry, role, name, sum, loc);
  graph_add_entry_result(s->g, s->entry, RES_weight, name, weight, loc);
}

static const char *total_name(const Ast *a) {
  const Ast *bound = a->kid[SETTING_BOUND];
  return !bound ? a->name : bound->kind == AST_NAMES ? bound->kid[0]->name : bound->name;
}

static void total(Sema *s, Scope *sc, const Ast *a, ResRole role) {
  const Ast *e = a->kid[SETTING_VALUE];
  if (!e || !no_mods(s, a)) return;
  const char *name = intern(s->strings, total_name(a), strlen(total_name(a)));
  Val v = eval_expr(s, sc, e, false);
  ValueId x = tensor_of(s, v, ast_start(e));
  if (x == NO_ID) return;
  if (value_type(s->g, x).rows < 0) {
    diag_error(s->diag, ast_start(e), "`%s %s` is %s: leave it unreduced, one value for each example", a->name, name,
               val_describe(s, v));
    return;
  }
  if (role == RES_loss && dtype_kind[value_type(s->g, x).dtype] != 'f') {
    diag_error(s->diag, ast_start(e), "a loss must be a float, not %s", val_describe(s, v));
    return;
  }
  const char *what = arena_printf(s->arena, "a metric made of the total `%s`", name);
  scope_bind(s, sc, name, (Val){.kind = VAL_LATER, .s = what}, a->loc);
  add_total(s, role, name, x, ast_start(e));
}

static void loss(Sema *s, Scope *sc, const Ast *a) {
  const Entry *e = &s->g->entries.at[s->entry];
  for (uint32_t i = 0; i < e->results.len; i++)
    if (e->results.at[i].role == RES_loss) {
      sema_later(s, a->loc, "a second loss");
      return;
    }
  total(s, sc, a, RES_loss);
}

static void metric(Sema *s, Scope *sc, const Ast *a) { total(s, sc, a, RES_metric); }

/* ---- the table ------------------------------------------------------------------------------------------------------ */

typedef enum When { ONCE, EACH, LATER } When; /* EACH: part of every entry's computation */

static const struct { const char *word; When when; SettingFn *fn; } settings[] = {
    {"batch", ONCE, set_batch},         {"steps", ONCE, set_steps},  {"epochs", ONCE, set_epochs},
    {"precision", ONCE, set_precision}, {"optimizer", ONCE, set_optimizer},
    {"data", EACH, data_block},         {"loss", EACH, loss},        {"metric", EACH, metric},
    {"input", LATER, NULL},  {"accumulate", LATER, NULL}, {"group", LATER, NULL},  {"hyper", LATER, NULL},
    {"clip", LATER, NULL},   {"init", LATER, NULL},       {"load", LATER, NULL},   {"frozen", LATER, NULL},
    {"tail", LATER, NULL},   {"eval", LATER, NULL},       {"step", LATER, NULL},   {"order", LATER, NULL},
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
  const char *near = nearest_name(a->name, names, SETTINGS);
  diag_error(s->diag, a->loc, "no setting `%s`%s%s%s", a->name, near ? "; `" : "", near ? near : "", near ? "`?" : "");
}

static bool named_like_setting(Sema *s, const Ast *bind) {
  const Ast *name = bind->kid[BIND_NAMES]->kid[0];
  if (find_setting(name->name) < 0) return false;
  diag_error(s->diag, name->loc, "a binding named like a setting: write `%s …` without `=`", name->name);
  return true;
}

static void settle_once(Sema *s, Scope *sc, const Ast *block) {
  for (uint32_t i = 0; i < block->len; i++) {
    const Ast *a = block->kid[i];
    if (a->kind == AST_BIND) named_like_setting(s, a);
    else if (a->kind != AST_SETTING) diag_error(s->diag, a->loc, "a setting or a binding is wanted here");
    else {
      int k = find_setting(a->name);
      if (k < 0) unknown_setting(s, a);
      else if (settings[k].when == LATER) sema_later(s, a->loc, arena_printf(s->arena, "`%s`", a->name));
      else if (settings[k].when == ONCE) settings[k].fn(s, sc, a);
    }
  }
}

static void elaborate(Sema *s, Scope *once, const Ast *block, const char *name, EntryKind kind) {
  s->entry = graph_add_entry(s->g, name, kind, s->batch, s->train_ast->loc);
  s->b = (Builder){.g = s->g, .block = s->g->entries.at[s->entry].body};
  s->building = true;
  for (uint32_t i = 0; i < s->params.len; i++) s->params.at[i]->arg = NO_ID;
  Scope *sc = scope_new(s, once);
  for (uint32_t i = 0; i < block->len; i++) {
    const Ast *a = block->kid[i];
    int k = a->kind == AST_SETTING ? find_setting(a->name) : -1;
    if (a->kind == AST_BIND) bind_in(s, sc, a);
    else if (k >= 0 && settings[k].when == EACH) settings[k].fn(s, sc, a);
  }
  s->building = false;
}

static bool names_the_model(Sema *s) {
  const Ast *v = s->train_ast->kid[SETTING_VALUE];
  if (v && v->kind == AST_NAME && v->name == s->model_ast->name) return true;
  diag_error(s->diag, v ? ast_start(v) : s->train_ast->loc, "`train` wants the name of the model, `%s`", s->model_ast->name);
  return false;
}

static void check_complete(Sema *s) {
  const Train *t = &s->g->train;
  Loc loc = s->train_ast->loc;
  if (graph_entry_result(s->g, s->entry, RES_loss, NULL) == NO_ID) diag_error(s->diag, loc, "`train` has no loss");
  if (!t->optimizer) diag_error(s->diag, loc, "`train` has no optimizer");
  for (uint32_t i = 0; i < t->settings.len; i++)
    if (t->settings.at[i].key == AT_lr) return;
  if (t->optimizer) diag_error(s->diag, t->optimizer_loc, "%s needs `lr`", t->optimizer);
}

void train_entries(Sema *s) {
  const Ast *block = s->train_ast->kid[SETTING_BLOCK];
  if (!names_the_model(s)) return;
  if (!block) {
    diag_error(s->diag, s->train_ast->loc, "`train %s` wants a block", s->model_ast->name);
    return;
  }
  Scope *once = scope_new(s, s->model->scope);
  settle_once(s, once, block);
  if (!s->batch) {
    if (!s->diag->errors) diag_error(s->diag, s->train_ast->loc, "`train` has no batch: batch B = 64");
    return;
  }
  elaborate(s, once, block, "train_step", ENTRY_step);
  if (!s->diag->errors) check_complete(s);
  if (!s->diag->errors) elaborate(s, once, block, "eval", ENTRY_eval);
}
