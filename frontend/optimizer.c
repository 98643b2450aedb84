/* optimizer.c: `optimizer E [on(globs)]` and `group GLOB {…}`: from modules to entries `update`.
 *
 * For each trained parameter the optimizer is the last whose globs match it.  Its module is
 * instantiated once a parameter, its arguments those of the setting, then `decay(false)` of the
 * parameter, then the groups that match it, in order.  Its states are moments PATH:NAME; calling it
 * with the parameter and its gradient gives the new value.  A `hyper` argument becomes a
 * hyperparameter of the graph, computed in train_step (schedule.c), an argument of the updates that
 * use it.
 */
#include "frontend/sema.h"

#include <float.h>
#include <math.h>
#include <string.h>

struct OptimizerUse {
  const Ast *call; /* module(arguments) */
  const Module *module;
  Scope *scope; /* where the arguments are evaluated */
  Loc loc;
  uint32_t nglobs; /* 0: all parameters */
  Glob *globs;
};

struct GroupUse {
  Glob glob;
  const Ast *block;
  Scope *scope;
};

/* A hyperparameter of an optimizer that was made already: its value stands at `from`. */
struct HyperUse {
  const Ast *from;
  uint32_t optimizer;
  const char *param, *name;
};

/* ---- the settings ---------------------------------------------------------------------------- */

static void take_on(Sema *s, Scope *sc, const Ast *m, void *into) {
  struct OptimizerUse *use = into;
  const Ast *args = m->kid[MODIFIER_ARGS];
  (void)sc;
  if (!args || !args->len) {
    diag_error(s->diag, m->loc, "`on` wants patterns of paths: on(\"net.**\")");
    return;
  }
  use->globs = NEW_ARRAY(s->arena, Glob, args->len);
  for (uint32_t i = 0; i < args->len; i++)
    if (glob_of_params(s, args->kid[i], &use->globs[i])) use->nglobs = i + 1;
}

void setting_group(Sema *s, Scope *sc, const Ast *a) {
  const Ast *block = a->kid[SETTING_BLOCK];
  struct GroupUse use = {.block = block, .scope = sc};
  if (!block || !a->kid[SETTING_VALUE]) {
    diag_error(s->diag, a->loc,
               "`group` wants a pattern and a block: group \"**.bias\" { lr: 1e-4 }");
    return;
  }
  bool ok = glob_of_params(s, a->kid[SETTING_VALUE], &use.glob);
  for (uint32_t i = 0; i < block->len; i++) {
    const Ast *f = block->kid[i];
    if (f->kind == AST_FIELD && f->kid[FIELD_KEY]->kind == AST_NAME && !f->kid[FIELD_INIT])
      continue;
    diag_error(s->diag, f->loc, "a group holds settings of its optimizer: lr: 1e-4");
    ok = false;
  }
  if (ok) vec_push(s->arena, &s->groups, use);
}

/* ---- arguments of one parameter's optimizer -------------------------------------------------- */

typedef struct Setting { /* value of a parameter of the module */
  const Ast *value;      /* NULL: `number` */
  double number;
  Scope *scope;
  const char *group; /* the pattern that said so, or NULL */
} Setting;

static int find_param(const Module *m, const char *name) {
  const Ast *params = m->ast->kid[MODULE_PARAMS];
  for (uint32_t i = 0; i < params->len; i++)
    if (params->kid[i]->name == name) return (int)i;
  return -1;
}

static bool is_hyper(const Ast *param) {
  const Ast *type = param->kid[PARAM_TYPE];
  return type && type->kind == AST_NAME && !strcmp(type->name, "hyper");
}

static void unknown_setting(Sema *s, const Module *m, const char *name, Loc loc) {
  const Ast *params = m->ast->kid[MODULE_PARAMS];
  VEC(const char *) names = {0};
  for (uint32_t i = 0; i < params->len; i++) vec_push(s->arena, &names, params->kid[i]->name);
  diag_error(s->diag, loc, "%s has no setting `%s`%s", m->ast->name, name,
             sema_near(s, name, names.at, names.len));
}

/* Those of the setting: named, or in order. */
static bool take_own(Sema *s, const struct OptimizerUse *use, Setting *settings) {
  const Ast *args = use->call->kid[CALL_ARGS];
  const Ast *params = use->module->ast->kid[MODULE_PARAMS];
  bool ok = true;
  for (uint32_t i = 0; i < args->len; i++) {
    const Ast *arg = args->kid[i];
    bool named = arg->kind == AST_ARG;
    int k = named ? find_param(use->module, arg->name) : i < params->len ? (int)i : -1;
    if (k < 0 && named) unknown_setting(s, use->module, arg->name, arg->loc);
    else if (k < 0)
      diag_error(s->diag, ast_start(arg), "%s has %u settings", use->module->ast->name,
                 (unsigned)params->len);
    else if (settings[k].value) diag_error(s->diag, arg->loc, "`%s` is given twice", arg->name);
    else {
      settings[k] = (Setting){named ? arg->kid[ARG_VALUE] : arg, 0, use->scope, NULL};
      continue;
    }
    ok = false;
  }
  return ok;
}

/* What can be said of the setting before it meets a parameter. */
static bool is_sound(Sema *s, const struct OptimizerUse *use) {
  const Ast *params = use->module->ast->kid[MODULE_PARAMS];
  Setting *settings = NEW_ARRAY(s->arena, Setting, params->len);
  if (!take_own(s, use, settings)) return false;
  for (uint32_t i = 0; i < params->len; i++) {
    if (settings[i].value || params->kid[i]->kid[PARAM_DEFAULT]) continue;
    diag_error(s->diag, use->loc, "%s needs `%s`", use->module->ast->name, params->kid[i]->name);
    return false;
  }
  return true;
}

void setting_optimizer(Sema *s, Scope *sc, const Ast *a) {
  static const ModifierRule rules[] = {{"on", take_on}};
  const Ast *v = a->kid[SETTING_VALUE];
  struct OptimizerUse use = {.scope = sc};
  if (!v || v->kind != AST_CALL) {
    diag_error(s->diag, v ? ast_start(v) : a->loc,
               "`optimizer` wants a module with its settings: adamw(lr: 1e-3)");
    return;
  }
  Val callee = eval_expr(s, sc, v->kid[CALL_CALLEE], false);
  use.call = v;
  use.loc = ast_start(v);
  if (callee.kind == VAL_MODULE) use.module = callee.module;
  else if (callee.kind != VAL_BAD)
    diag_error(s->diag, use.loc,
               "an optimizer is a module, not %s: sgd, adam, adamw, rmsprop or "
               "your own",
               val_describe(s, callee));
  modifiers_apply(s, sc, a->kid[SETTING_MODS], MODIFIER_RULES(rules), &use);
  if (!use.module || !is_sound(s, &use)) return;
  if (!s->optimizers.len) s->g->train.loc = use.loc;
  vec_push(s->arena, &s->optimizers, use);
}

static bool is_known_somewhere(Sema *s, const char *name) {
  for (uint32_t i = 0; i < s->optimizers.len; i++)
    if (find_param(s->optimizers.at[i].module, name) >= 0) return true;
  return false;
}

static void take_groups(Sema *s, const struct OptimizerUse *use, const char *path,
                        Setting *settings) {
  for (uint32_t i = 0; i < s->groups.len; i++) {
    const struct GroupUse *g = &s->groups.at[i];
    if (!glob_matches(&g->glob, path)) continue;
    for (uint32_t f = 0; f < g->block->len; f++) {
      const Ast *key = g->block->kid[f]->kid[FIELD_KEY];
      int k = find_param(use->module, key->name);
      if (k >= 0)
        settings[k] = (Setting){g->block->kid[f]->kid[FIELD_TYPE], 0, g->scope, g->glob.text};
    }
  }
}

/* ---- hyperparameters ------------------------------------------------------------------------- */

static bool is_taken(Sema *s, const char *name) {
  for (uint32_t i = 0; i < s->g->hypers.len; i++)
    if (!strcmp(s->g->hypers.at[i].name, name)) return true;
  return false;
}

/* lr; where that is taken, GLOB.lr of a group, Module.lr of another optimizer, then numbered. */
static const char *hyper_name(Sema *s, const struct OptimizerUse *use, const Setting *set,
                              const char *param) {
  const char *name = param;
  if (set->group) name = arena_printf(s->arena, "%s.%s", set->group, param);
  else if (is_taken(s, name)) name = arena_printf(s->arena, "%s.%s", use->module->ast->name, param);
  const char *base = name;
  for (unsigned i = 2; is_taken(s, name); i++) name = arena_printf(s->arena, "%s.%u", base, i);
  return intern(s->strings, name, strlen(name));
}

static bool fits(Sema *s, Val v, const Setting *set, const char *param) {
  double f;
  if (!val_number(v, &f) || (fabs(f) <= FLT_MAX && (f >= 0 || strcmp(param, "lr")))) return true;
  diag_error(s->diag, ast_start(set->value), "`%s` must %sfit in f32", param,
             strcmp(param, "lr") ? "" : "be 0 or more and ");
  return false;
}

/* The hyperparameter of a setting, made with its value in train_step the first time. */
static const char *make_hyper(Sema *s, uint32_t optimizer, const Setting *set, const char *param) {
  const struct OptimizerUse *use = &s->optimizers.at[optimizer];
  for (uint32_t i = 0; i < s->hypers.len; i++) {
    const struct HyperUse *h = &s->hypers.at[i];
    if (h->from == set->value && h->optimizer == optimizer && h->param == param) return h->name;
  }
  uint32_t entry = s->entry;
  Builder b = s->b;
  Phase *phase = s->phase;
  struct HyperUse made = {set->value, optimizer, param, hyper_name(s, use, set, param)};
  s->entry = (uint32_t)graph_entry_find(s->g, ENTRY_step);
  s->b = (Builder){.g = s->g, .block = s->g->entries.at[s->entry].body};
  s->phase = &s->phases[ENTRY_step];
  Val v = eval_expr(s, set->scope, set->value, false);
  if (!fits(s, v, set, param)) v = val_bad();
  if (v.kind != VAL_BAD && hyper_value(s, made.name, v, ast_start(set->value)) == NO_ID)
    v = val_bad();
  s->entry = entry;
  s->b = b;
  s->phase = phase;
  made.name = v.kind == VAL_BAD ? NULL : made.name;
  vec_push(s->arena, &s->hypers, made);
  return made.name;
}

static Val hyper_argument(Sema *s, uint32_t optimizer, const Setting *set, const Ast *param) {
  const char *name = make_hyper(s, optimizer, set, param->name);
  if (!name) return val_bad();
  ValueId v = graph_entry_arg(s->g, s->entry, ARG_hyper, name);
  if (v == NO_ID)
    v = graph_add_entry_arg(s->g, s->entry, ARG_hyper, name, type_scalar(DT_f32), param->loc);
  return val_tensor(v);
}

/* What the module is called with for this parameter; false: reported. */
static bool arguments(Sema *s, uint32_t optimizer, const Setting *settings, Arg *args,
                      uint32_t *nargs) {
  const struct OptimizerUse *use = &s->optimizers.at[optimizer];
  const Ast *params = use->module->ast->kid[MODULE_PARAMS];
  for (uint32_t i = 0; i < params->len; i++) {
    const Ast *p = params->kid[i];
    Setting set = settings[i];
    if (!set.value && !set.scope && is_hyper(p) && p->kid[PARAM_DEFAULT])
      set = (Setting){p->kid[PARAM_DEFAULT], 0, use->module->scope, NULL};
    if (!set.scope) continue; /* a default, or missing, which the call says */
    Loc loc = set.value ? ast_start(set.value) : use->loc;
    Val v = !set.value    ? val_float(set.number)
            : is_hyper(p) ? hyper_argument(s, optimizer, &set, p)
                          : eval_expr(s, set.scope, set.value, false);
    if (v.kind == VAL_BAD) return false;
    if (!is_hyper(p) && val_is_tensor(v)) {
      diag_error(s->diag, loc, "a setting of an optimizer is known when compiling, not %s",
                 val_describe(s, v));
      return false;
    }
    args[(*nargs)++] = (Arg){p->name, v, loc};
  }
  return true;
}

/* ---- one parameter --------------------------------------------------------------------------- */

/* States of the instance become moments of the parameter. */
static bool add_moments(Sema *s, const Instance *inst, const Param *p) {
  for (uint32_t i = 0; i < inst->scope->names.len; i++) {
    const Binding *b = &inst->scope->names.at[i];
    if (b->val.kind != VAL_PARAM) continue;
    Param *m = b->val.param;
    char *path = arena_printf(s->arena, "%s:%s", p->path, b->name);
    if (!m->is_state) {
      diag_error(s->diag, b->loc, "an optimizer has states, no parameters");
      return false;
    }
    m->path = intern(s->strings, path, strlen(path));
    State st = {
        .path = m->path, .kind = STATE_moment, .type = m->type, .loc = m->loc, .master = p->path};
    vec_push(s->arena, &s->moments, ((Moment){st, m, false}));
  }
  return true;
}

static void add_results(Sema *s, const Instance *inst, const Param *p, Val v, Loc loc) {
  ValueId x = tensor_of(s, v, loc);
  if (x == NO_ID) return;
  if (!type_equal(value_type(s->g, x), p->type)) {
    diag_error(s->diag, loc, "the optimizer makes %s of %s, which is not its type",
               val_describe(s, v), p->path);
    return;
  }
  graph_add_entry_result(s->g, s->entry, RES_state, p->path, x, p->loc);
  for (uint32_t i = 0; i < inst->scope->names.len; i++) {
    Val m = inst->scope->names.at[i].val;
    if (m.kind == VAL_PARAM && m.param->written)
      graph_add_entry_result(s->g, s->entry, RES_state, m.param->path, m.param->arg, m.param->loc);
  }
}

static Val dims_of(Sema *s, Type t) {
  Val dims[MAX_RANK];
  for (int i = 0; i < t.rank; i++) dims[i] = val_int(t.dim[i]);
  return val_list(s->arena, VAL_LIST, t.rank, dims);
}

static void update(Sema *s, Param *p, uint32_t optimizer) {
  const struct OptimizerUse *use = &s->optimizers.at[optimizer];
  uint32_t n = use->module->ast->kid[MODULE_PARAMS]->len, nargs = 0;
  Setting *settings = NEW_ARRAY(s->arena, Setting, n);
  Arg *args = NEW_ARRAY(s->arena, Arg, n);
  int decay = find_param(use->module, intern(s->strings, "weight_decay", 12));
  if (!take_own(s, use, settings)) return;
  if (p->no_decay && decay >= 0) settings[decay] = (Setting){NULL, 0, use->scope, NULL};
  take_groups(s, use, p->path, settings);
  char *name = arena_printf(s->arena, "update:%s", p->path);
  Scope *sc = scope_new(s, s->file);
  s->phase = &s->phases[ENTRY_update];
  phase_begin(s, sc, intern(s->strings, name, strlen(name)), p->loc);
  Val pg[2] = {val_tensor(param_value(s, p, p->loc))};
  pg[1] = val_tensor(graph_add_entry_arg(s->g, s->entry, ARG_grad, p->path, p->type, p->loc));
  Val run = dims_of(s, p->type);
  Call make = {.loc = use->loc, .whole = use->loc, .arg = args, .declaring = true, .run = &run};
  if (!use->module->ast->kid[MODULE_DIMS]) make.run = NULL;
  Val inst = val_bad();
  if (arguments(s, optimizer, settings, args, &nargs)) {
    make.n = nargs;
    inst = call_value(s, (Val){.kind = VAL_MODULE, .module = use->module}, &make);
  }
  Arg both[2] = {{NULL, pg[0], p->loc}, {NULL, pg[1], p->loc}};
  Call step = {.loc = use->loc, .whole = use->loc, .n = 2, .arg = both};
  if (inst.kind == VAL_INSTANCE && add_moments(s, inst.instance, p))
    add_results(s, inst.instance, p, call_value(s, inst, &step), use->loc);
  s->building = false;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static int optimizer_of(Sema *s, const char *path) {
  for (uint32_t i = s->optimizers.len; i-- > 0;) {
    const struct OptimizerUse *use = &s->optimizers.at[i];
    if (!use->nglobs) return (int)i;
    for (uint32_t k = 0; k < use->nglobs; k++)
      if (glob_matches(&use->globs[k], path)) return (int)i;
  }
  return -1;
}

/* All moments of one name in a row: each kind is one region of memory. */
static void order_moments(Sema *s) {
  for (uint32_t i = 0; i < s->moments.len; i++) {
    const char *name = s->moments.at[i].param->name;
    for (uint32_t k = i; k < s->moments.len; k++) {
      const Moment *m = &s->moments.at[k];
      if (m->added || m->param->name != name) continue;
      vec_push(s->arena, &s->g->states, m->state);
      init_state(s, m->param, m->param->path);
      s->moments.at[k].added = true;
    }
  }
}

/* Where the model holds what the path begins with. */
static Loc member_loc(Sema *s, const Param *p) {
  const char *dot = strchr(p->path, '.');
  size_t n = dot ? (size_t)(dot - p->path) : strlen(p->path);
  const Binding *b = scope_find_here(s->model->scope, intern(s->strings, p->path, n));
  return b ? b->loc : p->loc;
}

/* One error for each member of the model, with the paths of all it holds. */
static void report_untrained(Sema *s, uint32_t n, Param *const *left) {
  for (uint32_t i = 0; i < n;) {
    Loc loc = member_loc(s, left[i]);
    Text paths = {.arena = s->arena};
    uint32_t first = i;
    for (; i < n; i++) {
      Loc here = member_loc(s, left[i]);
      if (here.line != loc.line || here.col != loc.col) break;
      text_printf(&paths, "%s%s", i > first ? " and " : "", left[i]->path);
    }
    diag_error(s->diag, loc, "%s %s trained by nothing: an optimizer or `frozen`",
               paths.len ? paths.at : "", i - first > 1 ? "are" : "is");
  }
}

static void check_groups(Sema *s) {
  for (uint32_t i = 0; i < s->groups.len; i++)
    for (uint32_t f = 0; f < s->groups.at[i].block->len; f++) {
      const Ast *key = s->groups.at[i].block->kid[f]->kid[FIELD_KEY];
      if (s->optimizers.len && !is_known_somewhere(s, key->name))
        unknown_setting(s, s->optimizers.at[0].module, key->name, key->loc);
    }
}

void optimizer_entries(Sema *s) {
  VEC(Param *) left = {0};
  check_groups(s);
  s->phases[ENTRY_update].kind = ENTRY_update;
  hyper_add_steps(s);
  for (uint32_t i = 0; i < s->params.len; i++) {
    Param *p = s->params.at[i];
    int o = optimizer_of(s, p->path);
    if (p->is_state || p->frozen) continue;
    if (o < 0) vec_push(s->arena, &left, p);
    uint32_t errors = s->diag->errors;
    if (o >= 0) update(s, p, (uint32_t)o);
    if (s->diag->errors != errors) return; /* the next one would say the same */
  }
  report_untrained(s, left.len, left.at);
  if (!s->diag->errors) order_moments(s);
}
