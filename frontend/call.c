/* call.c: calls of functions, instances, lists of them, modules and types.
 *
 * A user's function is elaborated anew for each call, in a scope of its own that holds the dims
 * bound by the arguments, the parameters and what its code binds.  Depth and work are bounded, as
 * recursion ends when compiling or never.  An error inside is followed by notes that lead from the
 * call to it. */
#include "frontend/sema.h"

#include <string.h>

enum { MAX_PARAMS = 64, TRACES = 4 };

const Arg *call_named(const Call *c, const char *name) {
  for (uint32_t i = c->n; i-- > 0 && c->arg[i].name;)
    if (!strcmp(c->arg[i].name, name)) return &c->arg[i];
  return NULL;
}

/* ---- what can be said of a function before any call ------------------------------------------ */

bool params_are_sound(Sema *s, const Ast *params) {
  if (params->len > MAX_PARAMS) {
    diag_error(s->diag, params->loc, "%u parameters; %d are supported", (unsigned)params->len,
               MAX_PARAMS);
    return false;
  }
  for (uint32_t i = 0; i < params->len; i++)
    for (uint32_t k = 0; k < i; k++)
      if (params->kid[i]->name == params->kid[k]->name) {
        diag_error(s->diag, params->kid[i]->loc, "a second parameter `%s`", params->kid[i]->name);
        return false;
      }
  return true;
}

static bool stands_alone(const Ast *params, const Ast *dim) {
  for (uint32_t i = 0; i < params->len; i++) {
    const Ast *t = params->kid[i]->kid[PARAM_TYPE];
    if (t && t->kind == AST_INDEX) t = t->kid[INDEX_AT];
    bool dims = t && (t->kind == AST_ELEMENTS || t->kind == AST_INDICES);
    for (uint32_t k = 0; dims && k < t->len; k++)
      if (t->kid[k]->kind == dim->kind && t->kid[k]->name == dim->name) return true;
  }
  return false;
}

static bool check_fn(Sema *s, const Ast *fn) {
  const Ast *dims = fn->kid[FN_DIMS], *params = fn->kid[FN_PARAMS];
  if (!params_are_sound(s, params)) return false;
  for (uint32_t i = 0; dims && i < dims->len; i++) {
    const Ast *d = dims->kid[i];
    if (stands_alone(params, d)) continue;
    diag_error(s->diag, d->loc, "`%s%s` stands alone in no axis, so nothing binds it",
               d->kind == AST_REST ? "..." : "", d->name);
    return false;
  }
  return true;
}

bool fn_is_sound(Sema *s, Fn *fn) {
  if (fn->state == FN_UNCHECKED) fn->state = check_fn(s, fn->ast) ? FN_SOUND : FN_BAD;
  return fn->state == FN_SOUND;
}

/* ---- arguments to parameters ----------------------------------------------------------------- */

/* What is called: a function, perhaps an instance's, or a module. */
typedef struct Callee {
  const Ast *ast; /* FN or MODULE */
  const Instance *self;
} Callee;

static const char *callee_name(Sema *s, const Callee *f) {
  const char *path = f->self ? f->self->path : NULL;
  const char *module = f->self && f->self->module ? f->self->module->ast->name : NULL;
  if (module && path) return arena_printf(s->arena, "%s (%s)", path, module);
  if (f->self) return module ? module : "the model";
  return f->ast->name ? f->ast->name : "this function";
}

static bool bind_param(Sema *s, Scope *sc, const Callee *f, const Ast *p, Val v, Loc loc) {
  const Ast *type = p->kid[PARAM_TYPE];
  const Ast *listed = f->ast->kind == AST_FN ? f->ast->kid[FN_DIMS] : NULL;
  Match m = v.kind == VAL_BAD ? REPORTED : MATCHES;
  if (type && m == MATCHES) m = type_match(s, sc, listed, type, &v, loc);
  if (m == DIFFERS) {
    const char *what = arena_printf(s->arena, "%s: `%s`", callee_name(s, f), p->name);
    type_refuse(s, sc, type, v, loc, what);
  }
  scope_set(s, sc, p->name, m == MATCHES ? v : val_bad(), p->loc);
  return m == MATCHES;
}

static int find_param(const Ast *params, const char *name) {
  for (uint32_t i = 0; i < params->len; i++)
    if (params->kid[i]->name == name) return (int)i;
  return -1;
}

static void unknown_param(Sema *s, const Callee *f, const Ast *params, const Arg *a) {
  const char *names[MAX_PARAMS];
  for (uint32_t i = 0; i < params->len; i++) names[i] = params->kid[i]->name;
  diag_error(s->diag, a->loc, "%s has no parameter `%s`%s", callee_name(s, f), a->name,
             sema_near(s, a->name, names, params->len));
}

/* given[i]: the argument for parameter i, or NULL. */
static bool place_args(Sema *s, const Callee *f, const Ast *params, const Call *c,
                       const Arg **given) {
  for (uint32_t i = 0; i < c->n; i++) {
    const Arg *a = &c->arg[i];
    int k = a->name ? find_param(params, a->name) : (int)i;
    if (k < 0) return unknown_param(s, f, params, a), false;
    if (k >= (int)params->len) {
      diag_error(s->diag, a->loc, "%s takes %u argument%s", callee_name(s, f),
                 (unsigned)params->len, params->len == 1 ? "" : "s");
      diag_note(s->diag, f->ast->loc, "declared here");
      return false;
    }
    if (given[k]) {
      diag_error(s->diag, a->loc, "%s: `%s` is given twice", callee_name(s, f), a->name);
      return false;
    }
    given[k] = a;
  }
  return true;
}

static bool bind_one(Sema *s, Scope *sc, const Callee *f, const Ast *p, const Arg *given,
                     const Call *c) {
  const Ast *otherwise = p->kid[PARAM_DEFAULT];
  if (given) return bind_param(s, sc, f, p, given->val, given->loc);
  if (otherwise)
    return bind_param(s, sc, f, p, eval_expr(s, sc, otherwise, false), ast_start(otherwise));
  diag_error(s->diag, c->whole, "%s needs `%s`", callee_name(s, f), p->name);
  diag_note(s->diag, p->loc, "declared here");
  return false;
}

static bool is_int(const Ast *param) {
  const Ast *type = param->kid[PARAM_TYPE];
  return type && type->kind == AST_NAME && !strcmp(type->name, "int");
}

/* Ints first: they count as dims in the types of all. */
static bool bind_params(Sema *s, Scope *sc, const Callee *f, const Ast *params, const Call *c) {
  const Arg *given[MAX_PARAMS] = {0};
  if (!place_args(s, f, params, c, given)) return false;
  const Ast *listed = f->ast->kind == AST_FN ? f->ast->kid[FN_DIMS] : NULL;
  for (int ints = 1; ints >= 0; ints--) {
    for (uint32_t i = 0; !ints && i < params->len; i++)
      if (given[i]) type_bind_dims(s, sc, listed, params->kid[i]->kid[PARAM_TYPE], given[i]->val);
    for (uint32_t i = 0; i < params->len; i++) {
      const Ast *p = params->kid[i];
      if (is_int(p) == ints && !bind_one(s, sc, f, p, given[i], c)) return false;
    }
  }
  return true;
}

/* ---- functions, lists, modules --------------------------------------------------------------- */

/* `[i=8, bias=true]`: what a module was made of. */
static const char *show_args(Sema *s, const Callee *f, const Scope *sc) {
  const Ast *params = f->ast->kid[MODULE_PARAMS];
  Text t = {.arena = s->arena};
  for (uint32_t i = 0; i < params->len; i++) {
    const Binding *b = scope_find_here(sc, params->kid[i]->name);
    if (!b || (b->val.kind != VAL_INT && b->val.kind != VAL_FLOAT && b->val.kind != VAL_BOOL))
      continue;
    text_printf(&t, "%s%s=", t.len ? ", " : "[", b->name);
    if (b->val.kind == VAL_INT) text_printf(&t, "%lld", (long long)b->val.i);
    else if (b->val.kind == VAL_FLOAT) text_double(&t, b->val.f);
    else text_add(&t, b->val.i ? "true" : "false");
  }
  if (t.len) text_add(&t, "]");
  return t.len ? t.at : "";
}

/* After errors inside of what was called: who called it.  The innermost calls are shown. */
static void trace(Sema *s, uint32_t errors_before, const Callee *f, const Scope *sc,
                  const Call *c) {
  if (s->diag->errors == errors_before || !c->whole.line) return;
  bool known = s->traced_error == s->diag->errors;
  if (!known) s->traces = 0;
  bool again = known && c->whole.line == s->traced.line && c->whole.col == s->traced.col;
  s->traced_error = s->diag->errors;
  s->traced = c->whole;
  if (again || s->traces++ >= TRACES) return;
  if (f->ast->kind == AST_MODULE)
    diag_note(s->diag, c->whole, "in %s%s, instantiated here", f->ast->name, show_args(s, f, sc));
  else diag_note(s->diag, c->whole, "in %s, called here", callee_name(s, f));
}

static bool match_result(Sema *s, Scope *sc, const Callee *f, Val *v, Loc loc) {
  const Ast *result = f->ast->kid[FN_RESULT];
  if (!result || v->kind == VAL_BAD) return v->kind != VAL_BAD;
  bool several = result->kind == AST_TUPLE, ok = true;
  const char *what = arena_printf(s->arena, "the result of %s", callee_name(s, f));
  if (several && (v->kind != VAL_TUPLE || v->list.n != result->len)) {
    diag_error(s->diag, loc, "%s is %s, declared %u values", what, val_describe(s, *v),
               (unsigned)result->len);
    return false;
  }
  if (several) *v = val_list(s->arena, VAL_TUPLE, v->list.n, v->list.at); /* types may cast */
  for (uint32_t i = 0; i < (several ? result->len : 1); i++) {
    const Ast *type = several ? result->kid[i] : result;
    Val *part = several ? &v->list.at[i] : v;
    Match m = type_match(s, sc, NULL, type, part, loc);
    if (m == DIFFERS) type_refuse(s, sc, type, *part, loc, what);
    ok = ok && m == MATCHES;
  }
  return ok;
}

static Val call_fn(Sema *s, Fn *fn, const Call *c, const Instance *self) {
  if (!fn_is_sound(s, fn)) return val_bad();
  const Ast *body = fn->ast->kid[FN_BODY];
  Callee f = {fn->ast, self};
  mark_used(s, fn->ast);
  Scope *sc = scope_new(s, fn->scope);
  if (!bind_params(s, sc, &f, fn->ast->kid[FN_PARAMS], c)) return val_bad();
  uint32_t errors = s->diag->errors;
  const Region *region = scope_region(fn->scope);
  Loc returned = ast_start(body);
  CustomGrad *grad = custom_grad_begin(s, fn->ast, sc);
  const char *total = s->total; /* inside, a reduction is not the total's */
  s->total = NULL;
  Inside before = region_enter(s, region ? region : &(Region){0});
  const char *module = scope_module(fn->scope);
  if (module) s->b.module = module;
  Site outer = site_enter(s);
  Val v =
      body->kind == AST_CODE ? eval_code(s, sc, body, &returned) : eval_expr(s, sc, body, false);
  site_leave(s, outer);
  region_leave(s, before);
  s->total = total;
  bool ok = match_result(s, sc, &f, &v, returned);
  if (ok && grad) v = custom_grad_end(grad, v);
  trace(s, errors, &f, sc, c);
  return ok ? v : val_bad();
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

static bool wrong_dims(Sema *s, const Ast *m, const Call *c) {
  const Ast *listed = m->kid[MODULE_DIMS];
  if (!listed) diag_error(s->diag, c->loc, "%s takes no dims", m->name);
  else if (!c->run) diag_error(s->diag, c->loc, "%s needs its dims: %s[…](…)", m->name, m->name);
  else
    diag_error(s->diag, c->loc, "%s lists %u dims, %u are given", m->name, (unsigned)listed->len,
               (unsigned)c->run->list.n);
  diag_note(s->diag, m->loc, "declared here");
  return false;
}

/* The dims that the user of a module gives; `...S` takes what the others leave. */
static bool bind_run(Sema *s, Scope *sc, const Ast *m, const Call *c) {
  const Ast *listed = m->kid[MODULE_DIMS];
  if (!listed && !c->run) return true;
  uint32_t rests = 0, n = c->run ? c->run->list.n : 0, at = 0;
  for (uint32_t i = 0; listed && i < listed->len; i++) rests += listed->kid[i]->kind == AST_REST;
  uint32_t names = listed ? listed->len - rests : 0;
  if (!listed || !c->run || rests > 1 || n < names || (!rests && n > names) || n - names > MAX_RANK)
    return wrong_dims(s, m, c);
  for (uint32_t i = 0; i < listed->len; i++) {
    const Ast *d = listed->kid[i];
    Type *run = NEW(s->arena, Type);
    *run = type_make(DT_f32, 0, NULL);
    Val v = {.kind = VAL_RUN, .run = run};
    for (; d->kind == AST_REST && run->rank < n - names; at++)
      run->dim[run->rank++] = c->run->list.at[at].i;
    if (d->kind != AST_REST) v = val_int(c->run->list.at[at++].i);
    scope_set(s, sc, d->name, v, d->loc);
  }
  return true;
}

static Val call_module(Sema *s, const Module *m, const Call *c) {
  const Ast *a = m->ast;
  if (!c->declaring) {
    diag_error(s->diag, c->whole, "%s is made in a declaration block, not in code", a->name);
    return val_bad();
  }
  Callee f = {a, NULL};
  mark_used(s, a);
  Scope *sc = scope_new(s, m->scope);
  if (!bind_run(s, sc, a, c)) return val_bad();
  if (!bind_params(s, sc, &f, a->kid[MODULE_PARAMS], c)) return val_bad();
  uint32_t errors = s->diag->errors;
  Instance *i = declare_instance(s, m, a->kid[MODULE_BLOCK], sc);
  trace(s, errors, &f, sc, c);
  return (Val){.kind = VAL_INSTANCE, .instance = i};
}

static Val call_instance(Sema *s, Instance *i, const Call *c) {
  if (i->call) return call_fn(s, i->call, c, i);
  Val v = {.kind = VAL_INSTANCE, .instance = i};
  if (!s->incomplete)
    diag_error(s->diag, c->loc, "%s has no unnamed fn to call", val_describe(s, v));
  return val_bad();
}

/* f32(x), i32(x), bf16(x), f16(x): casts; of numbers to the first two when compiling. */
static Val call_dtype(Sema *s, DType d, const Call *c) {
  double f;
  if (c->n != 1 || c->arg[0].name) {
    diag_error(s->diag, c->whole, "%s(x) casts one value", dtype_name[d]);
    return val_bad();
  }
  if (d != DT_f32 && d != DT_i32 && d != DT_bf16 && d != DT_f16)
    return sema_later(s, c->loc, arena_printf(s->arena, "a cast to %s", dtype_name[d]));
  Val x = c->arg[0].val;
  if (d == DT_i32 && x.kind == VAL_INT) return x;
  if (d == DT_f32 && val_number(x, &f)) return val_float(f);
  if (val_number(x, &f) && !dtype_holds(d, f)) {
    diag_error(s->diag, c->arg[0].loc, "%s does not fit in %s", val_describe(s, x), dtype_name[d]);
    return val_bad();
  }
  s->b.loc = c->loc;
  if (dtype_kind[d] == 'f' && val_number(x, &f))
    return val_tensor(build_constant(&s->b, type_scalar(d), f));
  ValueId v = tensor_of(s, x, c->arg[0].loc);
  if (v == NO_ID) return val_bad();
  s->b.loc = c->loc;
  return val_tensor(build_cast(&s->b, v, d));
}

static Val call_kind(Sema *s, Val f, const Call *c) {
  switch (f.kind) {
  case VAL_FN: return call_fn(s, f.fn, c, NULL);
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

Val call_value(Sema *s, Val f, const Call *c) {
  for (uint32_t i = 0; i < c->n; i++)
    if (c->arg[i].val.kind == VAL_BAD) return val_bad();
  if (s->depth >= EVAL_DEPTH) return sema_give_up(s, c->loc, "calls nest too deeply");
  if (!sema_work(s, c->loc, CALL_WORK + c->n)) return val_bad();
  s->depth++;
  Val v = call_kind(s, f, c);
  s->depth--;
  return v;
}

/* M[B](…): positive ints. */
static Val eval_run(Sema *s, Scope *sc, const Ast *dims) {
  Val run = eval_elements(s, sc, dims, VAL_LIST, false);
  for (uint32_t i = 0; run.kind == VAL_LIST && i < run.list.n; i++) {
    Val d = run.list.at[i];
    if (d.kind == VAL_INT && d.i >= 1) continue;
    diag_error(s->diag, dims->loc, "dims are positive ints, not %s", val_describe(s, d));
    return val_bad();
  }
  return run;
}

/* normal[B, Z](), M[B](…): the dims go with the call where what they stand behind is a builtin or
 * a module. */
static Val eval_callee(Sema *s, Scope *sc, const Ast *callee, Call *c) {
  const Ast *of = callee->kind == AST_INDEX ? callee->kid[INDEX_OF] : NULL;
  const Binding *b = of && of->kind == AST_NAME ? scope_find(sc, of->name) : NULL;
  if (b && b->val.kind == VAL_BUILTIN) {
    c->dims = callee->kid[INDEX_AT];
    return b->val;
  }
  if (!of) return eval_expr(s, sc, callee, false);
  Val f = eval_expr(s, sc, of, false);
  if (f.kind != VAL_MODULE) return eval_index(s, sc, callee, f);
  Val *run = NEW(s->arena, Val);
  *run = eval_run(s, sc, callee->kid[INDEX_AT]);
  c->run = run;
  return run->kind == VAL_BAD ? *run : f;
}

Val eval_call(Sema *s, Scope *sc, const Ast *a, bool declaring) {
  const Ast *callee = a->kid[CALL_CALLEE], *args = a->kid[CALL_ARGS];
  Call c = {.loc = callee->loc,
            .whole = ast_start(a),
            .n = args->len,
            .declaring = declaring,
            .scope = sc};
  Val f = eval_callee(s, sc, callee, &c);
  Arg *at = NEW_ARRAY(s->arena, Arg, args->len);
  for (uint32_t i = 0; i < args->len; i++) {
    const Ast *x = args->kid[i];
    bool named = x->kind == AST_ARG;
    Val v = eval_expr(s, sc, named ? x->kid[ARG_VALUE] : x, declaring);
    at[i] = (Arg){named ? x->name : NULL, v, named ? x->loc : ast_start(x)};
    if (named || !i || !at[i - 1].name) continue;
    diag_error(s->diag, at[i].loc, "a positional argument behind a named one");
    return val_bad();
  }
  c.arg = at;
  return call_value(s, f, &c);
}
