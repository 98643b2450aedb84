/* declare.c: file, module and model blocks; parameters and the paths they are known by.
 *
 * Functions and modules of a block are known in all of it; constants and instances in order.  An
 * instance gets its path from the first member that holds it: `net = [Linear(784, 128), relu]`
 * makes net.0.weight.
 */
#include "frontend/sema.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- paths ----------------------------------------------------------------------------------- */

static void name_value(Sema *s, Val v, const char *path, Loc loc);

static const char *join_path(Sema *s, const char *path, const char *name) {
  char *text = arena_printf(s->arena, "%s%s%s", path, *path ? "." : "", name);
  return intern(s->strings, text, strlen(text));
}

static bool may_hold(Val v) {
  return v.kind == VAL_INSTANCE || v.kind == VAL_PARAM || v.kind == VAL_LIST;
}

static void name_instance(Sema *s, Instance *inst, const char *path) {
  if (inst->path) return;
  inst->path = path;
  if (*path) inst->scope->module = path;
  keep_instance(s, inst);
  for (uint32_t i = 0; i < inst->scope->names.len; i++) {
    const Binding *b = &inst->scope->names.at[i];
    if (may_hold(b->val)) name_value(s, b->val, join_path(s, path, b->name), b->loc);
  }
}

static void name_param(Sema *s, Param *p, const char *path) {
  if (p->path) return;
  p->path = path;
  vec_push(s->arena, &s->params, p);
}

/* Lists may share lists, so the walk is bounded like an evaluation. */
static void name_value(Sema *s, Val v, const char *path, Loc loc) {
  if (!sema_work(s, loc, CALL_WORK)) return;
  if (s->depth >= EVAL_DEPTH) {
    sema_give_up(s, loc, "members nest too deeply");
    return;
  }
  s->depth++;
  if (v.kind == VAL_INSTANCE) name_instance(s, v.instance, path);
  if (v.kind == VAL_PARAM) name_param(s, v.param, path);
  for (uint32_t i = 0; v.kind == VAL_LIST && i < v.list.n; i++) {
    const char *index = may_hold(v.list.at[i]) ? arena_printf(s->arena, "%u", (unsigned)i) : NULL;
    if (index) name_value(s, v.list.at[i], join_path(s, path, index), loc);
  }
  s->depth--;
}

/* ---- parameters ------------------------------------------------------------------------------ */

static void set_decay(Sema *s, Scope *sc, const Ast *m, void *into) {
  bool decays = true;
  if (modifier_bool(s, sc, m, &decays)) ((Param *)into)->no_decay = !decays;
}

static void set_frozen(Sema *s, Scope *sc, const Ast *m, void *into) {
  (void)sc;
  ((Param *)into)->frozen = true;
  if (m->kid[MODIFIER_ARGS]) diag_error(s->diag, m->loc, "`frozen` takes no arguments");
}

static const ModifierRule param_rules[] = {{"decay", set_decay}, {"frozen", set_frozen}};

static Val declare_param(Sema *s, Scope *sc, const Ast *field) {
  const Ast *type = field->kid[FIELD_TYPE], *key = field->kid[FIELD_KEY];
  Param *p = NEW(s->arena, Param);
  *p = (Param){.name = key->name,
               .init = field->kid[FIELD_INIT],
               .dims = type->kid[INDEX_AT],
               .scope = sc,
               .loc = key->loc,
               .arg = NO_ID};
  modifiers_apply(s, sc, field->kid[FIELD_MODS], MODIFIER_RULES(param_rules), p);
  if (!shape_eval(s, sc, type->kid[INDEX_AT], DT_f32, &p->type)) return val_bad();
  return (Val){.kind = VAL_PARAM, .param = p};
}

/* key: TYPE = INIT: `param[…]` is a parameter, everything else comes later. */
static void declare_field(Sema *s, Scope *members, Scope *sc, const Ast *field) {
  const Ast *type = field->kid[FIELD_TYPE], *key = field->kid[FIELD_KEY];
  const Ast *head = type->kind == AST_INDEX ? type->kid[INDEX_OF] : type;
  const char *word = head->kind == AST_NAME ? head->name : "";
  Val v = val_bad();
  if (key->kind != AST_NAME) {
    diag_error(s->diag, key->loc, "a member's name is a word, not a string");
    return;
  }
  if (!strcmp(word, "param") && type->kind == AST_INDEX) v = declare_param(s, sc, field);
  else if (!strcmp(word, "state")) v = declare_state(s, sc, field);
  else
    diag_error(s->diag, ast_start(type),
               "a member is `name: param[dims] = initializer`, or `name = value`");
  scope_bind(s, members, key->name, v, key->loc);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static void hoist_fn(Sema *s, Scope *members, Scope *sc, const Ast *a, Fn **call) {
  Fn *fn = NEW(s->arena, Fn);
  *fn = (Fn){.ast = a, .scope = sc};
  Val v = {.kind = VAL_FN, .fn = fn};
  if (a->name) scope_bind(s, members, a->name, v, a->loc);
  else if (!call) diag_error(s->diag, a->loc, "a function here needs a name");
  else if (*call) diag_error(s->diag, a->loc, "a second unnamed fn in this block");
  else *call = fn;
}

static void hoist_fns(Sema *s, Scope *members, Scope *sc, const Ast *block, Fn **call) {
  for (uint32_t i = 0; i < block->len; i++)
    if (block->kid[i]->kind == AST_FN) hoist_fn(s, members, sc, block->kid[i], call);
}

/* Where the function stands in the block, so that errors come in the order of the text. */
static void check_fn(Sema *s, const Scope *members, const Ast *a, Fn *call) {
  const Binding *b = a->name ? scope_find_here(members, a->name) : NULL;
  Fn *fn = b && b->val.kind == VAL_FN ? b->val.fn : call;
  if (fn && fn->ast == a) fn_is_sound(s, fn);
}

static void declare_bind(Sema *s, Scope *members, Scope *sc, const Ast *a) {
  bind_names(s, members, a, eval_modified(s, sc, a->kid[BIND_VALUE], a->kid[BIND_MODS], true),
             true);
}

/* names: it may bind some, so that unknown ones are no news afterwards. */
static const struct {
  AstKind kind;
  bool names;
  const char *what;
} later_items[] = {
    {AST_EXTERN, true, "`extern`"},
    {AST_ASSIGN, false, "`:=`"},
};

static void refuse_item(Sema *s, const Ast *a, const char *where) {
  static const char *const words[] = {"train", "infer"};
  for (size_t i = 0; i < sizeof later_items / sizeof *later_items; i++) {
    if (later_items[i].kind != a->kind) continue;
    s->incomplete = s->incomplete || later_items[i].names;
    sema_later(s, a->loc, later_items[i].what);
    return;
  }
  if (a->kind != AST_SETTING) diag_error(s->diag, a->loc, "this does not belong in %s", where);
  else
    diag_error(s->diag, a->loc, "`%s` does not belong in %s%s", a->name, where,
               sema_near(s, a->name, words, strcmp(where, "a file") ? 0 : 2));
}

typedef struct Place { /* of a block of declarations */
  Scope *members;      /* where its names go */
  Fn **call;           /* where its unnamed fn goes; NULL: there may be none */
  const char *where;   /* "a module" */
} Place;

static void declare_items(Sema *s, const Place *p, Scope *sc, const Ast *block);

/* The names of the branch are the block's own. */
static void declare_if(Sema *s, const Place *p, Scope *sc, const Ast *a) {
  const Ast *taken = if_taken(s, sc, a);
  if (!taken) return;
  hoist_fns(s, p->members, sc, taken, p->call);
  declare_items(s, p, sc, taken);
}

static void declare_for(Sema *s, const Place *p, Scope *outer, const Ast *a) {
  Val list;
  if (!eval_sequence(s, outer, a->kid[FOR_IN], &list)) return;
  for (uint32_t i = 0; i < list.list.n; i++) {
    Scope *sc = scope_new(s, outer);
    if (!sema_work(s, a->loc, CALL_WORK)) return;
    bind_parts(s, sc, a->kid[FOR_NAMES], list.list.at[i], a->loc, false);
    declare_items(s, p, sc, a->kid[FOR_BODY]);
  }
}

static void declare_item(Sema *s, const Place *p, Scope *sc, const Ast *a) {
  switch (a->kind) {
  case AST_BIND: declare_bind(s, p->members, sc, a); break;
  case AST_FN: check_fn(s, p->members, a, p->call ? *p->call : NULL); break;
  case AST_IF: declare_if(s, p, sc, a); break;
  case AST_FOR: declare_for(s, p, sc, a); break;
  case AST_ASSERT: eval_assert(s, sc, a); break;
  case AST_FIELD:
    if (p->call) {
      declare_field(s, p->members, sc, a);
      break;
    } /* fall through */
  default: refuse_item(s, a, p->where);
  }
}

static void declare_items(Sema *s, const Place *p, Scope *sc, const Ast *block) {
  for (uint32_t i = 0; i < block->len; i++) declare_item(s, p, sc, block->kid[i]);
}

/* `scope` holds the parameters of the module, if any; the block's names go into one below it. */
Instance *declare_instance(Sema *s, const Module *m, const Ast *block, Scope *scope) {
  Instance *inst = NEW(s->arena, Instance);
  inst->module = m;
  inst->scope = scope_new(s, scope);
  Place p = {inst->scope, &inst->call, m ? "a module" : "a model"};
  hoist_fns(s, inst->scope, inst->scope, block, &inst->call);
  declare_items(s, &p, inst->scope, block);
  return inst;
}

/* `model M[B]`: the batch of each phase, by the name that its block gives it. */
static void declare_dims(Sema *s, Scope *around, const Ast *dims) {
  if (!dims) return;
  const Ast *d = dims->kid[0];
  if (dims->len > 1 || d->kind != AST_NAME) {
    diag_error(s->diag, dims->loc, "a model lists one dim, the batch of its phases: `model M[B]`");
    return;
  }
  s->model_dim = d;
  scope_set(s, around, d->name, (Val){.kind = VAL_PHASE, .i = PHASE_batch}, d->loc);
}

void declare_model(Sema *s) {
  Scope *around = scope_new(s, s->file);
  keep_begin(s);
  declare_dims(s, around, s->model_ast->kid[MODEL_DIMS]);
  s->model = declare_instance(s, NULL, s->model_ast->kid[MODEL_BLOCK], around);
  name_instance(s, s->model, "");
  keep_check(s);
}

/* ---- configs: -D beats the file -------------------------------------------------------------- */

static bool parse_like(Sema *s, const char *text, Val like, Val *v) {
  char *end = NULL;
  errno = 0;
  switch (like.kind) {
  case VAL_INT: *v = val_int(strtoll(text, &end, 10)); break;
  case VAL_FLOAT: *v = val_float(strtod(text, &end)); break;
  case VAL_STRING:
    *v = (Val){.kind = VAL_STRING, .s = intern(s->strings, text, strlen(text))};
    return true;
  case VAL_BOOL: *v = val_bool(!strcmp(text, "true")); return v->i || !strcmp(text, "false");
  default: return false;
  }
  if (like.kind == VAL_FLOAT && !isfinite(v->f)) return false;
  return end != text && !*end && errno != ERANGE;
}

/* The part of -D's name that names a config of the file being declared; NULL: it is another's. */
static const char *define_name(const Sema *s, const Define *d) {
  const char *as = import_given_as(s), *dot = strchr(d->name, '.');
  if (import_is_main(s)) return dot ? NULL : d->name;
  bool mine =
      as && dot && strlen(as) == (size_t)(dot - d->name) && !strncmp(as, d->name, strlen(as));
  return mine ? dot + 1 : NULL;
}

static Val config_value(Sema *s, const Ast *a, Val v) {
  for (uint32_t i = 0; v.kind != VAL_BAD && i < s->options->ndefines; i++) {
    const Define *d = &s->options->defines[i];
    const char *name = define_name(s, d);
    Val given;
    if (!name || strcmp(name, a->name)) continue;
    if (parse_like(s, d->value, v, &given)) v = given;
    else
      diag_error(s->diag, a->loc, "-D %s=%s: the config is %s", d->name, d->value,
                 val_describe(s, v));
  }
  return v;
}

static void declare_config(Sema *s, const Ast *config) {
  for (uint32_t i = 0; i < config->len; i++) {
    const Ast *a = config->kid[i], *type = a->kid[CONST_TYPE], *value = a->kid[CONST_VALUE];
    Val v = eval_expr(s, s->file, value, false);
    Match m = type ? type_match(s, s->file, NULL, type, &v, ast_start(value)) : MATCHES;
    if (m == DIFFERS)
      type_refuse(s, s->file, type, v, ast_start(value),
                  arena_printf(s->arena, "the config `%s`", a->name));
    if (m != MATCHES) v = val_bad();
    scope_bind(s, s->file, a->name, config_value(s, a, v), a->loc);
  }
}

/* -D as.name: is there such an import?  Its file looks for the config. */
static bool names_an_import(const Ast *file, const char *name) {
  const char *dot = strchr(name, '.');
  for (uint32_t i = 0; dot && i < file->len; i++) {
    const char *as = file->kid[i]->kind == AST_IMPORT ? file->kid[i]->name : NULL;
    if (as && strlen(as) == (size_t)(dot - name) && !strncmp(as, name, strlen(as))) return true;
  }
  return false;
}

/* Every -D must have its config. */
static void check_defines(Sema *s, const Ast *file) {
  VEC(const char *) names = {0};
  for (uint32_t i = 0; s->options->ndefines && i < file->len; i++)
    for (uint32_t k = 0; file->kid[i]->kind == AST_CONFIG && k < file->kid[i]->len; k++)
      vec_push(s->arena, &names, file->kid[i]->kid[k]->name);
  for (uint32_t i = 0; i < s->options->ndefines; i++) {
    const Define *d = &s->options->defines[i];
    const char *name = define_name(s, d);
    bool found = !name && (!import_is_main(s) || names_an_import(file, d->name));
    for (uint32_t k = 0; name && k < names.len; k++) found = found || !strcmp(names.at[k], name);
    if (!found)
      diag_error(s->diag, (Loc){0}, "-D %s: the file has no such config%s", d->name,
                 sema_near(s, name ? name : d->name, names.at, names.len));
  }
}

/* ---- the file -------------------------------------------------------------------------------- */

static void hoist_modules(Sema *s, const Ast *file) {
  for (uint32_t i = 0; i < file->len; i++) {
    const Ast *a = file->kid[i];
    if (a->kind == AST_MODEL && import_is_main(s)) vec_push(s->arena, &s->models, a);
    if (a->kind != AST_MODULE) continue;
    Module *m = NEW(s->arena, Module);
    *m = (Module){a, s->file};
    Val v = {.kind = VAL_MODULE, .module = m};
    bool sound = params_are_sound(s, a->kid[MODULE_PARAMS]);
    scope_bind(s, s->file, a->name, sound ? v : val_bad(), a->loc);
  }
}

/* Those of an import are ignored. */
static void declare_setting(Sema *s, const Ast *a) {
  bool train = !strcmp(a->name, "train"), infer = !strcmp(a->name, "infer");
  if (!train && !infer) refuse_item(s, a, "a file");
  else if (!import_is_main(s)) return;
  else if (train) vec_push(s->arena, &s->trains, a);
  else vec_push(s->arena, &s->infers, a);
}

static void declare_version(Sema *s, const Ast *a, bool first) {
  int64_t n = a->kid[VERSION_NUMBER]->i;
  if (!first) diag_error(s->diag, a->loc, "`version` is the first line of a file");
  else if (n != 1)
    diag_error(s->diag, a->kid[VERSION_NUMBER]->loc,
               "version %lld of the language; this mpcc knows version 1", (long long)n);
}

Scope *file_scope(Sema *s) { return scope_new(s, scope_new(s, s->builtins)); }

void declare_file(Sema *s, const Ast *file) {
  hoist_modules(s, file);
  hoist_fns(s, s->file, s->file, file, NULL);
  Place p = {s->file, NULL, "a file"};
  check_defines(s, file);
  if (!file->len || file->kid[0]->kind != AST_VERSION)
    diag_error(s->diag, file->len ? file->kid[0]->loc : file->loc,
               "a file begins with `version 1`");
  for (uint32_t i = 0; i < file->len; i++) {
    const Ast *a = file->kid[i];
    switch (a->kind) {
    case AST_VERSION: declare_version(s, a, i == 0); break;
    case AST_IMPORT: declare_import_item(s, a); break;
    case AST_CONFIG: declare_config(s, a); break;
    case AST_SETTING: declare_setting(s, a); break;
    case AST_MODULE:
    case AST_MODEL: break;
    default: declare_item(s, &p, s->file, a);
    }
  }
}
