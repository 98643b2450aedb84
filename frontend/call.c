/* call.c: calls.  A user's function is elaborated anew for each call, in a scope of its own that holds
 * the dims bound by the arguments, the parameters and what its code binds. */
#include "frontend/sema.h"

#include <string.h>

const Arg *call_named(const Call *c, const char *name) {
  for (uint32_t i = 0; i < c->n; i++)
    if (c->arg[i].name && !strcmp(c->arg[i].name, name)) return &c->arg[i];
  return NULL;
}

/* ---- parameters ------------------------------------------------------------------------------------- */

typedef enum ParamKind { PARAM_any, PARAM_int, PARAM_float, PARAM_bool, PARAM_list, PARAM_fn, PARAM_module, PARAM_tensor } ParamKind;

static ParamKind param_kind(const Ast *type) {
  static const char *const words[] = {"int", "float", "bool", "list", "fn", "module"};
  if (!type) return PARAM_any;
  for (int i = 0; type->kind == AST_NAME && i < 6; i++)
    if (!strcmp(type->name, words[i])) return (ParamKind)(PARAM_int + i);
  return PARAM_tensor;
}

static bool is_callable(Val v) {
  return v.kind == VAL_FN || v.kind == VAL_BUILTIN || v.kind == VAL_LIST || v.kind == VAL_INSTANCE;
}

static bool fits(ParamKind kind, Val *v) {
  switch (kind) {
  case PARAM_any: case PARAM_tensor: return true;
  case PARAM_int: return v->kind == VAL_INT;
  case PARAM_float:
    if (v->kind == VAL_INT) *v = val_float((double)v->i);
    return v->kind == VAL_FLOAT;
  case PARAM_bool: return v->kind == VAL_BOOL;
  case PARAM_list: return v->kind == VAL_LIST;
  case PARAM_fn: return is_callable(*v);
  case PARAM_module: return v->kind == VAL_MODULE || v->kind == VAL_INSTANCE;
  }
  return false;
}

typedef struct Binder {
  Sema *s;
  Scope *scope;       /* of the call */
  const Ast *listed;  /* dims */
  Rest *rest;
  const char *callee;
  Loc declared;
} Binder;

static bool bind_param(Binder *b, const Ast *p, Val v, Loc loc) {
  Sema *s = b->s;
  const Ast *type = p->kid[PARAM_TYPE];
  ParamKind kind = param_kind(type);
  const char *what = arena_printf(s->arena, "%s: `%s`", b->callee, p->name);
  bool ok = v.kind != VAL_BAD;
  if (ok && kind == PARAM_tensor) ok = shape_match(s, b->scope, b->listed, type, &v, loc, b->rest, what);
  else if (ok && !fits(kind, &v)) {
    diag_error(s->diag, loc, "%s is %s, declared %s", what, val_describe(s, v), type->name);
    diag_note(s->diag, p->loc, "declared here");
    ok = false;
  }
  scope_set(s, b->scope, p->name, ok ? v : val_bad(), p->loc);
  return ok;
}

static bool known_names(Binder *b, const Ast *params, const Call *c) {
  bool ok = true;
  for (uint32_t i = 0; i < c->n; i++) {
    const Arg *a = &c->arg[i];
    VEC(const char *) names = {0};
    bool found = !a->name;
    for (uint32_t k = 0; a->name && k < params->len; k++) {
      vec_push(b->s->arena, &names, params->kid[k]->name);
      found |= params->kid[k]->name == a->name;
    }
    if (found) continue;
    const char *near = nearest_name(a->name, names.at, names.len);
    diag_error(b->s->diag, a->loc, "%s has no parameter `%s`%s%s%s", b->callee, a->name, near ? "; `" : "",
               near ? near : "", near ? "`?" : "");
    ok = false;
  }
  return ok;
}

static bool bind_params(Binder *b, const Ast *params, const Call *c) {
  uint32_t positional = 0;
  while (positional < c->n && !c->arg[positional].name) positional++;
  if (positional > params->len) {
    diag_error(b->s->diag, c->arg[params->len].loc, "%s takes %u arguments", b->callee, (unsigned)params->len);
    diag_note(b->s->diag, b->declared, "declared here");
    return false;
  }
  bool ok = known_names(b, params, c);
  for (uint32_t i = 0; ok && i < params->len; i++) {
    const Ast *p = params->kid[i];
    const Arg *named = call_named(c, p->name);
    if (i < positional && named) {
      diag_error(b->s->diag, named->loc, "%s: `%s` is given twice", b->callee, p->name);
      ok = false;
    } else if (i < positional || named) {
      const Arg *a = named ? named : &c->arg[i];
      ok = bind_param(b, p, a->val, a->loc);
    } else if (p->kid[PARAM_DEFAULT]) {
      Val v = eval_expr(b->s, b->scope, p->kid[PARAM_DEFAULT], false);
      ok = bind_param(b, p, v, ast_start(p->kid[PARAM_DEFAULT]));
    } else {
      diag_error(b->s->diag, c->whole, "%s needs `%s`", b->callee, p->name);
      diag_note(b->s->diag, p->loc, "declared here");
      ok = false;
    }
  }
  return ok;
}

/* ---- functions, lists, modules --------------------------------------------------------------------------- */

/* A listed dim that no parameter has alone in an axis binds to nothing. */
static bool dims_bindable(Sema *s, const Ast *fn) {
  const Ast *dims = fn->kid[FN_DIMS], *params = fn->kid[FN_PARAMS];
  for (uint32_t i = 0; dims && i < dims->len; i++) {
    const Ast *d = dims->kid[i];
    bool alone = false;
    if (d->kind == AST_REST) return sema_later(s, d->loc, "a named run of dims, `...S`"), false;
    for (uint32_t k = 0; k < params->len; k++) {
      const Ast *t = params->kid[k]->kid[PARAM_TYPE];
      const Ast *in = !t ? NULL : t->kind == AST_INDEX ? t->kid[INDEX_AT] : t;
      for (uint32_t j = 0; in && in->kind != AST_NAME && j < in->len; j++)
        alone |= in->kid[j] && in->kid[j]->kind == AST_NAME && in->kid[j]->name == d->name;
    }
    if (alone) continue;
    diag_error(s->diag, d->loc, "`%s` stands alone in no axis, so nothing binds it", d->name);
    return false;
  }
  return true;
}

static bool match_result(Sema *s, Scope *sc, const Ast *fn, Val *v, Loc loc, Rest *rest, const char *name) {
  const Ast *result = fn->kid[FN_RESULT];
  const char *what = arena_printf(s->arena, "the result of %s", name);
  if (!result || v->kind == VAL_BAD) return v->kind != VAL_BAD;
  if (result->kind != AST_TUPLE) return shape_match(s, sc, NULL, result, v, loc, rest, what);
  if (v->kind != VAL_TUPLE || v->list.n != result->len) {
    diag_error(s->diag, loc, "%s is %s, declared %u values", what, val_describe(s, *v), (unsigned)result->len);
    return false;
  }
  bool ok = true;
  for (uint32_t i = 0; i < result->len; i++)
    ok &= shape_match(s, sc, NULL, result->kid[i], &v->list.at[i], loc, rest, what);
  return ok;
}

static Val call_fn(Sema *s, const Fn *fn, const Call *c, const char *name) {
  const Ast *a = fn->ast, *body = a->kid[FN_BODY];
  Rest rest = {0};
  Scope *scope = scope_new(s, fn->scope);
  Binder b = {s, scope, a->kid[FN_DIMS], &rest, name, a->loc};
  if (!dims_bindable(s, a) || !bind_params(&b, a->kid[FN_PARAMS], c)) return val_bad();
  Loc returned = ast_start(body);
  Val v = body->kind == AST_CODE ? eval_code(s, scope, body, &returned) : eval_expr(s, scope, body, false);
  return match_result(s, scope, a, &v, returned, &rest, name) ? v : val_bad();
}

static Val call_list(Sema *s, Val list, const Call *c) {
  if (!c->n || c->arg[0].name) {
    diag_error(s->diag, c->whole, "a list of functions needs an argument to thread through");
    return val_bad();
  }
  Arg *args = arena_copy(s->arena, c->arg, c->n * sizeof *args);
  Call each = *c;
  each.arg = args;
  for (uint32_t i = 0; i < list.list.n && args[0].val.kind != VAL_BAD; i++)
    args[0].val = call_value(s, list.list.at[i], &each);
  return args[0].val;
}

static Val call_module(Sema *s, const Module *m, const Call *c) {
  const Ast *a = m->ast;
  Rest rest = {0};
  if (!c->declaring) {
    diag_error(s->diag, c->whole, "%s is made in a declaration block, not in code", a->name);
    return val_bad();
  }
  if (a->kid[MODULE_DIMS]) return sema_later(s, a->kid[MODULE_DIMS]->loc, "dims of a module");
  Scope *scope = scope_new(s, m->scope);
  Binder b = {s, scope, NULL, &rest, a->name, a->loc};
  if (!bind_params(&b, a->kid[MODULE_PARAMS], c)) return val_bad();
  Instance *i = declare_instance(s, m, c, a->kid[MODULE_BLOCK], scope);
  return i ? (Val){.kind = VAL_INSTANCE, .instance = i} : val_bad();
}

static Val call_instance(Sema *s, Instance *i, const Call *c) {
  if (i->call) return call_fn(s, i->call, c, i->module ? i->module->ast->name : "the model");
  diag_error(s->diag, c->loc, "%s has no unnamed fn to call", val_describe(s, (Val){.kind = VAL_INSTANCE, .instance = i}));
  return val_bad();
}

static Val call_dtype(Sema *s, DType d, const Call *c) {
  double f;
  if (c->n != 1 || c->arg[0].name) {
    diag_error(s->diag, c->whole, "%s(x) casts one value", dtype_name[d]);
    return val_bad();
  }
  if (d != DT_f32 && d != DT_i32) return sema_later(s, c->loc, arena_printf(s->arena, "a cast to %s", dtype_name[d]));
  Val x = c->arg[0].val;
  if (val_number(x, &f) && d == DT_f32) return val_float(f);
  ValueId v = tensor_of(s, x, c->arg[0].loc);
  return v == NO_ID ? val_bad() : val_tensor(build_cast(&s->b, v, d));
}

static const char *fn_name(const Fn *fn) { return fn->ast->name ? fn->ast->name : "fn"; }

Val call_value(Sema *s, Val f, const Call *c) {
  for (uint32_t i = 0; i < c->n; i++)
    if (c->arg[i].val.kind == VAL_BAD) return val_bad();
  switch (f.kind) {
  case VAL_FN: return call_fn(s, f.fn, c, fn_name(f.fn));
  case VAL_BUILTIN: return builtin_call(s, f.builtin, c);
  case VAL_LIST: return call_list(s, f, c);
  case VAL_MODULE: return call_module(s, f.module, c);
  case VAL_INSTANCE: return call_instance(s, f.instance, c);
  case VAL_DTYPE: return call_dtype(s, f.dtype, c);
  case VAL_BAD: return f;
  default: break;
  }
  diag_error(s->diag, c->loc, "%s cannot be called", val_describe(s, f));
  return val_bad();
}

Val eval_call(Sema *s, Scope *sc, const Ast *a, bool declaring) {
  Val callee = eval_expr(s, sc, a->kid[CALL_CALLEE], false);
  const Ast *args = a->kid[CALL_ARGS];
  Arg *at = NEW_ARRAY(s->arena, Arg, args->len);
  for (uint32_t i = 0; i < args->len; i++) {
    const Ast *x = args->kid[i], *value = x->kind == AST_ARG ? x->kid[ARG_VALUE] : x;
    at[i] = (Arg){x->kind == AST_ARG ? x->name : NULL, eval_expr(s, sc, value, declaring), ast_start(x)};
    if (x->kind == AST_ARG) at[i].loc = x->loc;
    if (i && !at[i].name && at[i - 1].name) {
      diag_error(s->diag, at[i].loc, "a positional argument behind a named one");
      return val_bad();
    }
  }
  Call c = {.loc = a->kid[CALL_CALLEE]->loc, .whole = ast_start(a), .n = args->len, .arg = at, .declaring = declaring};
  return call_value(s, callee, &c);
}
