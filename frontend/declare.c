/* declare.c: file, module and model blocks; parameters and the paths they are known by.
 *
 * Functions and modules of a block are known in all of it; constants and instances in order.  An
 * instance gets its path from the first member that holds it: `net = [Linear(784, 128), relu]` makes
 * net.0.weight.
 */
#include "frontend/sema.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- paths ---------------------------------------------------------------------------------------- */

static void name_value(Sema *s, Val v, const char *path);

static const char *join_path(Sema *s, const char *path, const char *name) {
  char *text = *path ? arena_printf(s->arena, "%s.%s", path, name) : arena_printf(s->arena, "%s", name);
  return intern(s->strings, text, strlen(text));
}

static void name_instance(Sema *s, Instance *i, const char *path) {
  if (i->path) return;
  i->path = path;
  for (uint32_t k = 0; k < i->scope->names.len; k++)
    name_value(s, i->scope->names.at[k].val, join_path(s, path, i->scope->names.at[k].name));
}

static void name_param(Sema *s, Param *p, const char *path) {
  if (p->path) return;
  p->path = path;
  vec_push(s->arena, &s->params, p);
}

static void name_value(Sema *s, Val v, const char *path) {
  if (v.kind == VAL_INSTANCE) name_instance(s, v.instance, path);
  if (v.kind == VAL_PARAM) name_param(s, v.param, path);
  for (uint32_t i = 0; v.kind == VAL_LIST && i < v.list.n; i++)
    name_value(s, v.list.at[i], join_path(s, path, arena_printf(s->arena, "%u", (unsigned)i)));
}

/* ---- parameters ------------------------------------------------------------------------------------- */

static bool no_decay(Sema *s, Scope *sc, const Ast *mods) {
  bool off = false;
  for (uint32_t i = 0; mods && i < mods->len; i++) {
    const Ast *m = mods->kid[i], *args = m->kid[MODIFIER_ARGS];
    if (strcmp(m->name, "decay") || !args || args->len != 1) {
      sema_later(s, m->loc, arena_printf(s->arena, "the modifier `%s`", m->name));
      continue;
    }
    Val v = eval_expr(s, sc, args->kid[0], false);
    off = v.kind == VAL_BOOL && !v.i;
    if (v.kind != VAL_BOOL && v.kind != VAL_BAD)
      diag_error(s->diag, ast_start(args->kid[0]), "decay wants true or false, not %s", val_describe(s, v));
  }
  return off;
}

static Val declare_param(Sema *s, Scope *sc, const Ast *field) {
  const Ast *type = field->kid[FIELD_TYPE], *key = field->kid[FIELD_KEY];
  Param *p = NEW(s->arena, Param);
  *p = (Param){.init = field->kid[FIELD_INIT], .scope = sc, .loc = key->loc, .arg = NO_ID};
  p->no_decay = no_decay(s, sc, field->kid[FIELD_MODS]);
  if (!shape_eval(s, sc, type->kid[INDEX_AT], DT_f32, &p->type)) return val_bad();
  if (!p->init)
    return sema_later(s, key->loc, "a parameter without initializer, which must be loaded");
  return (Val){.kind = VAL_PARAM, .param = p};
}

/* key: TYPE = INIT: `param[…]` is a parameter, everything else comes later. */
static void declare_field(Sema *s, Scope *sc, Scope *members, const Ast *field) {
  const Ast *type = field->kid[FIELD_TYPE], *key = field->kid[FIELD_KEY];
  const Ast *head = type->kind == AST_INDEX ? type->kid[INDEX_OF] : type;
  Val v = val_bad();
  if (key->kind != AST_NAME) diag_error(s->diag, key->loc, "a member's name is a word, not a string");
  else if (type->kind == AST_INDEX && head->kind == AST_NAME && !strcmp(head->name, "param"))
    v = declare_param(s, sc, field);
  else if (head->kind == AST_NAME && !strcmp(head->name, "state")) sema_later(s, key->loc, "`state`");
  else diag_error(s->diag, ast_start(type), "a member is `name: param[dims] = initializer`, or `name = value`");
  if (key->kind == AST_NAME) scope_bind(s, members, key->name, v, key->loc);
}

/* ---- blocks ------------------------------------------------------------------------------------------- */

static void hoist_fns(Sema *s, Scope *members, const Ast *block, const Fn **call) {
  for (uint32_t i = 0; i < block->len; i++) {
    const Ast *a = block->kid[i];
    if (a->kind != AST_FN) continue;
    if (a->kid[FN_GRAD]) {
      sema_later(s, a->kid[FN_GRAD]->loc, "a function's own `grad`");
      continue;
    }
    Fn *fn = NEW(s->arena, Fn);
    *fn = (Fn){a, members};
    if (a->name) scope_bind(s, members, a->name, (Val){.kind = VAL_FN, .fn = fn}, a->loc);
    else if (call && !*call) *call = fn;
    else diag_error(s->diag, a->loc, call ? "a second unnamed fn in this block" : "a function here needs a name");
  }
}

static void declare_bind(Sema *s, Scope *sc, Scope *members, const Ast *a) {
  if (a->kid[BIND_MODS])
    sema_later(s, a->kid[BIND_MODS]->kid[0]->loc,
               arena_printf(s->arena, "the modifier `%s`", a->kid[BIND_MODS]->kid[0]->name));
  bind_names(s, members, a, eval_expr(s, sc, a->kid[BIND_VALUE], true), true);
}

static const struct { AstKind kind; const char *what; } later_items[] = {
    {AST_IMPORT, "`import`"}, {AST_EXTERN, "`extern`"}, {AST_IF, "`if`"},
    {AST_FOR, "`for`"},       {AST_ASSERT, "`assert`"}, {AST_ASSIGN, "`:=`"},
};

static void refuse_item(Sema *s, const Ast *a, const char *where) {
  for (size_t i = 0; i < sizeof later_items / sizeof *later_items; i++)
    if (later_items[i].kind == a->kind) {
      sema_later(s, a->loc, later_items[i].what);
      return;
    }
  if (a->kind == AST_SETTING) diag_error(s->diag, a->loc, "`%s` does not belong in %s", a->name, where);
  else diag_error(s->diag, a->loc, "this does not belong in %s", where);
}

/* The block's names go into `scope`, where parameters of the module already are; members see both. */
Instance *declare_instance(Sema *s, const Module *m, const Call *c, const Ast *block, Scope *scope) {
  (void)c;
  Instance *inst = NEW(s->arena, Instance);
  const Fn *call = NULL;
  inst->module = m;
  inst->scope = scope_new(s, scope);
  hoist_fns(s, inst->scope, block, &call);
  inst->call = call;
  for (uint32_t i = 0; i < block->len; i++) {
    const Ast *a = block->kid[i];
    if (a->kind == AST_FIELD) declare_field(s, inst->scope, inst->scope, a);
    else if (a->kind == AST_BIND) declare_bind(s, inst->scope, inst->scope, a);
    else if (a->kind != AST_FN) refuse_item(s, a, m ? "a module" : "a model");
  }
  return inst;
}

void declare_model(Sema *s) {
  s->model = declare_instance(s, NULL, NULL, s->model_ast->kid[MODEL_BLOCK], s->file);
  name_instance(s, s->model, "");
}

/* ---- configs: -D beats the file --------------------------------------------------------------------------- */

static bool parse_like(Sema *s, const char *text, Val like, Val *v) {
  char *end = NULL;
  errno = 0;
  switch (like.kind) {
  case VAL_INT: *v = val_int(strtoll(text, &end, 10)); break;
  case VAL_FLOAT: *v = val_float(strtod(text, &end)); break;
  case VAL_STRING: *v = (Val){.kind = VAL_STRING, .s = intern(s->strings, text, strlen(text))}; return true;
  case VAL_BOOL:
    *v = val_bool(!strcmp(text, "true"));
    return v->i || !strcmp(text, "false");
  default: return false;
  }
  return end != text && !*end && errno != ERANGE;
}

static Val config_value(Sema *s, const Ast *a, Val v) {
  for (uint32_t i = 0; i < s->options->ndefines; i++) {
    const Define *d = &s->options->defines[i];
    Val given;
    if (strcmp(d->name, a->name)) continue;
    if (parse_like(s, d->value, v, &given)) v = given;
    else diag_error(s->diag, a->loc, "-D %s=%s: the config is %s", d->name, d->value, val_describe(s, v));
  }
  return v;
}

static void declare_config(Sema *s, const Ast *config) {
  for (uint32_t i = 0; i < config->len; i++) {
    const Ast *a = config->kid[i], *type = a->kid[CONST_TYPE];
    Val v = eval_expr(s, s->file, a->kid[CONST_VALUE], false);
    double f;
    if (type && type->kind == AST_NAME && !strcmp(type->name, "float") && val_number(v, &f)) v = val_float(f);
    scope_bind(s, s->file, a->name, config_value(s, a, v), a->loc);
  }
}

static void check_defines(Sema *s, const Ast *file) {
  for (uint32_t i = 0; i < s->options->ndefines; i++) {
    VEC(const char *) names = {0};
    bool found = false;
    for (uint32_t k = 0; k < file->len; k++)
      for (uint32_t j = 0; file->kid[k]->kind == AST_CONFIG && j < file->kid[k]->len; j++) {
        vec_push(s->arena, &names, file->kid[k]->kid[j]->name);
        found |= !strcmp(file->kid[k]->kid[j]->name, s->options->defines[i].name);
      }
    const char *near = nearest_name(s->options->defines[i].name, names.at, names.len);
    if (!found)
      diag_error(s->diag, (Loc){0}, "-D %s: the file has no such config%s%s%s", s->options->defines[i].name,
                 near ? "; `" : "", near ? near : "", near ? "`?" : "");
  }
}

/* ---- the file ------------------------------------------------------------------------------------------------- */

static void keep_one(Sema *s, const Ast **slot, const Ast *a, const char *what) {
  if (!*slot) *slot = a;
  else sema_later(s, a->loc, arena_printf(s->arena, "a second %s", what));
}

static void hoist_modules(Sema *s, const Ast *file) {
  for (uint32_t i = 0; i < file->len; i++) {
    const Ast *a = file->kid[i];
    if (a->kind == AST_MODEL) keep_one(s, &s->model_ast, a, "model");
    if (a->kind != AST_MODULE) continue;
    Module *m = NEW(s->arena, Module);
    *m = (Module){a, s->file};
    scope_bind(s, s->file, a->name, (Val){.kind = VAL_MODULE, .module = m}, a->loc);
  }
}

static void declare_setting(Sema *s, const Ast *a) {
  if (!strcmp(a->name, "train")) keep_one(s, &s->train_ast, a, "train block");
  else if (!strcmp(a->name, "infer")) sema_later(s, a->loc, "`infer`");
  else refuse_item(s, a, "a file");
}

static void declare_version(Sema *s, const Ast *a, bool first) {
  int64_t n = 0;
  if (!first) diag_error(s->diag, a->loc, "`version` is the first line of a file");
  else if (eval_int(s, s->builtins, a->kid[VERSION_NUMBER], "the version", &n) && n != 1)
    diag_error(s->diag, a->loc, "version %lld of the language; this mpcc knows version 1", (long long)n);
}

void declare_file(Sema *s, const Ast *file) {
  hoist_modules(s, file);
  hoist_fns(s, s->file, file, NULL);
  check_defines(s, file);
  if (!file->len || file->kid[0]->kind != AST_VERSION)
    diag_error(s->diag, file->len ? file->kid[0]->loc : file->loc, "a file begins with `version 1`");
  for (uint32_t i = 0; i < file->len; i++) {
    const Ast *a = file->kid[i];
    switch (a->kind) {
    case AST_VERSION: declare_version(s, a, i == 0); break;
    case AST_CONFIG: declare_config(s, a); break;
    case AST_BIND: declare_bind(s, s->file, s->file, a); break;
    case AST_SETTING: declare_setting(s, a); break;
    case AST_FN: case AST_MODULE: case AST_MODEL: break;
    default: refuse_item(s, a, "a file");
    }
  }
}
