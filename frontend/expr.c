/* expr.c: expressions and code, by the kind of the tree.
 *
 * Operands are evaluated left to right; numbers go to number.c, lists to list.c, what touches a
 * tensor to tensor.c.  `declaring` is true where members are bound: there modules become instances,
 * and no tensor is computed. */
#include "frontend/sema.h"

#include <string.h>

static Val refuse_kind(Sema *s, const Ast *a) {
  if (a->kind == AST_REST) diag_error(s->diag, a->loc, "`...` stands in front of all other dims");
  else diag_error(s->diag, a->loc, "this does not belong here");
  return val_bad();
}

/* ---- operators ------------------------------------------------------------------------------- */

static Val wrong_operands(Sema *s, const Ast *a, Val l, Val r, const char *hint) {
  const char *left = val_describe(s, l), *right = val_describe(s, r);
  diag_error(s->diag, a->loc, "`%s` of %s and %s%s", sign_of(a->kind), left, right, hint);
  return val_bad();
}

static Val eval_binary(Sema *s, Scope *sc, const Ast *a, bool declaring) {
  Val l = eval_expr(s, sc, a->kid[0], declaring), r = eval_expr(s, sc, a->kid[1], declaring);
  double x, y;
  if (l.kind == VAL_BAD || r.kind == VAL_BAD) return val_bad();
  if (val_is_tensor(l) || val_is_tensor(r)) return tensor_binary(s, a, l, r);
  if (val_number(l, &x) && val_number(r, &y)) return number_binary(s, a, l, r);
  if (a->kind == AST_ADD && l.kind == VAL_LIST && r.kind == VAL_LIST)
    return list_join(s, l, r, a->loc);
  if (a->kind == AST_MUL && l.kind == VAL_LIST && r.kind == VAL_INT)
    return list_repeat(s, l, r, a->loc);
  bool equality = a->kind == AST_EQ || a->kind == AST_NE;
  if (equality && l.kind == VAL_BOOL && r.kind == VAL_BOOL)
    return val_bool((l.i == r.i) == (a->kind == AST_EQ));
  if (equality && l.kind == VAL_STRING && r.kind == VAL_STRING)
    return val_bool((l.s == r.s) == (a->kind == AST_EQ));
  return wrong_operands(s, a, l, r, "");
}

static Val eval_logic(Sema *s, Scope *sc, const Ast *a) {
  Val l = eval_expr(s, sc, a->kid[0], false);
  if (l.kind == VAL_BOOL && l.i == (a->kind == AST_OR)) return l; /* that decides it */
  Val r = eval_expr(s, sc, a->kid[1], false);
  if (l.kind == VAL_BAD || r.kind == VAL_BAD) return val_bad();
  if (l.kind == VAL_BOOL && r.kind == VAL_BOOL) return r;
  if (val_is_tensor(l) || val_is_tensor(r)) return tensor_binary(s, a, l, r);
  return wrong_operands(s, a, l, r, ": bools are wanted");
}

static Val eval_neg(Sema *s, Val x, Loc loc) {
  if (x.kind == VAL_INT || x.kind == VAL_FLOAT) return number_neg(s, x, loc);
  if (val_is_tensor(x)) return tensor_unary(s, OP_neg, x, loc);
  if (x.kind != VAL_BAD) diag_error(s->diag, loc, "`-` of %s", val_describe(s, x));
  return val_bad();
}

static Val eval_not(Sema *s, Val x, Loc loc) {
  if (x.kind == VAL_BOOL) return val_bool(!x.i);
  if (val_is_tensor(x) && val_type(s, x).dtype == DT_i1) return tensor_unary(s, OP_not, x, loc);
  if (x.kind != VAL_BAD)
    diag_error(s->diag, loc, "`not` of %s: a bool is wanted", val_describe(s, x));
  return val_bad();
}

/* ---- names, members, lists ------------------------------------------------------------------- */

/* `training`, `fitting`: of the entry being built. */
static Val phase_value(Sema *s, const Ast *a, Val v) {
  if (s->building && v.i == PHASE_batch) return val_int(s->batch);
  if (s->building && v.i == PHASE_fitting && !s->warned_of_fit) {
    diag_warning(s->diag, WARN_fitting, a->loc,
                 "`fitting` is false: this version of mpcc has no pass `fit`");
    s->warned_of_fit = true;
  }
  if (s->building) return val_bool(v.i == PHASE_training ? s->training : s->fitting);
  diag_error(s->diag, a->loc, "members may not depend on the phase: use `%s` in a function",
             a->name);
  return val_bad();
}

static Val bound_value(Sema *s, const Ast *a, const Binding *b) {
  if (b->val.kind == VAL_PHASE) return phase_value(s, a, b->val);
  if (b->val.kind == VAL_LATER) return sema_later(s, a->loc, b->val.s);
  if (b->val.kind == VAL_PARAM && b->val.param->is_state && s->building) {
    ValueId v = param_value(s, b->val.param, a->loc); /* as it is now */
    return v == NO_ID ? val_bad() : val_tensor(v);
  }
  if (b->val.kind != VAL_TOTAL) return b->val;
  diag_error(s->diag, a->loc,
             "`%s` is a total, known behind the step: a metric of totals alone may use it",
             a->name);
  return val_bad();
}

Val eval_name(Sema *s, Scope *sc, const Ast *a) {
  const Binding *b = scope_find(sc, a->name);
  if (b) return bound_value(s, a, b);
  if (!strcmp(a->name, "_")) diag_error(s->diag, a->loc, "`_` is never read");
  else if (s->in_data)
    diag_error(s->diag, a->loc, "`%s` is no source: declare it, `%s: f32[%s, …]`%s", a->name,
               a->name, s->batch_name ? s->batch_name : "B", scope_near(s, sc, a->name, true));
  else if (!s->incomplete)
    diag_error(s->diag, a->loc, "unknown name `%s`%s", a->name, scope_near(s, sc, a->name, true));
  return val_bad();
}

static Val eval_member(Sema *s, Scope *sc, const Ast *a) {
  Val of = eval_expr(s, sc, a->kid[MEMBER_OF], false);
  if (of.kind == VAL_BAD) return of;
  if (of.kind != VAL_INSTANCE && of.kind != VAL_FILE) {
    diag_error(s->diag, a->loc, "%s has no members", val_describe(s, of));
    return val_bad();
  }
  const Scope *members = of.kind == VAL_FILE ? of.scope : of.instance->scope;
  const Binding *b = scope_find_here(members, a->name);
  if (b) return bound_value(s, a, b);
  if (!s->incomplete)
    diag_error(s->diag, a->loc, "%s has no member `%s`%s", val_describe(s, of), a->name,
               scope_near(s, members, a->name, false));
  return val_bad();
}

static Val eval_fn(Sema *s, Scope *sc, const Ast *a) {
  Fn *fn = NEW(s->arena, Fn);
  *fn = (Fn){.ast = a, .scope = sc};
  if (!fn_is_sound(s, fn)) return val_bad();
  return (Val){.kind = VAL_FN, .fn = fn};
}

static Val eval_kind(Sema *s, Scope *sc, const Ast *a, bool declaring) {
  switch (a->kind) {
  case AST_NAME: return eval_name(s, sc, a);
  case AST_INT: return (Val){.kind = VAL_INT, .literal = true, .i = a->i};
  case AST_FLOAT: return val_float(a->f);
  case AST_BOOL: return val_bool(a->i);
  case AST_STRING: return (Val){.kind = VAL_STRING, .s = a->name};
  case AST_NEG: return eval_neg(s, eval_expr(s, sc, a->kid[0], false), a->loc);
  case AST_NOT: return eval_not(s, eval_expr(s, sc, a->kid[0], false), a->loc);
  case AST_MEMBER: return eval_member(s, sc, a);
  case AST_CALL: return eval_call(s, sc, a, declaring);
  case AST_ELEMENTS: return eval_elements(s, sc, a, VAL_LIST, declaring);
  case AST_TUPLE: return eval_elements(s, sc, a, VAL_TUPLE, declaring);
  case AST_FN: return eval_fn(s, sc, a);
  case AST_INDEX: return eval_index(s, sc, a, eval_expr(s, sc, a->kid[INDEX_OF], false));
  case AST_THEN: return eval_elements(s, sc, a, VAL_THEN, false);
  case AST_REPEAT: return eval_repeat(s, sc, a, declaring);
  case AST_CHOOSE: return eval_choose(s, sc, a, declaring);
  case AST_COMPREHENSION: return eval_comprehension(s, sc, a, declaring);
  case AST_OR:
  case AST_AND: return eval_logic(s, sc, a);
  default: break;
  }
  bool binary = a->kind >= AST_EQ && a->kind <= AST_POW;
  return binary ? eval_binary(s, sc, a, declaring) : refuse_kind(s, a);
}

Val eval_expr(Sema *s, Scope *sc, const Ast *a, bool declaring) {
  if (s->depth >= EVAL_DEPTH)
    return sema_give_up(s, a->loc, "calls nest too deeply: does a function call itself?");
  if (!sema_work(s, a->loc, 1)) return val_bad();
  s->depth++;
  Val v = eval_kind(s, sc, a, declaring);
  s->depth--;
  return v;
}

bool eval_int(Sema *s, Scope *sc, const Ast *a, const char *what, int64_t *i) {
  Val v = eval_expr(s, sc, a, false);
  if (v.kind == VAL_INT) *i = v.i;
  else if (v.kind != VAL_BAD)
    diag_error(s->diag, ast_start(a), "%s must be an int, not %s", what, val_describe(s, v));
  return v.kind == VAL_INT;
}

bool eval_float(Sema *s, Scope *sc, const Ast *a, const char *what, double *f) {
  Val v = eval_expr(s, sc, a, false);
  if (val_number(v, f)) return true;
  if (v.kind != VAL_BAD)
    diag_error(s->diag, ast_start(a), "%s must be a number, not %s", what, val_describe(s, v));
  return false;
}

/* ---- code ------------------------------------------------------------------------------------ */

typedef struct Flow { /* through the code of one function */
  bool ended;         /* by `return` */
  Loc returned;       /* where the value was written */
  Val value;
} Flow;

bool bind_parts(Sema *s, Scope *sc, const Ast *names, Val v, Loc loc, bool once) {
  bool several = names->len > 1;
  if (several && v.kind != VAL_BAD && (v.kind != VAL_TUPLE || v.list.n != names->len)) {
    diag_error(s->diag, loc, "%u names for %s", (unsigned)names->len, val_describe(s, v));
    v = val_bad();
  }
  bool ok = v.kind != VAL_BAD;
  for (uint32_t i = 0; i < names->len; i++) {
    const Ast *name = names->kid[i];
    Val part = several && v.kind != VAL_BAD ? v.list.at[i] : v;
    if (!strcmp(name->name, "_")) continue;
    if (once) ok &= scope_bind(s, sc, name->name, part, name->loc);
    else scope_set(s, sc, name->name, part, name->loc);
  }
  return ok;
}

bool bind_names(Sema *s, Scope *sc, const Ast *bind, Val v, bool once) {
  return bind_parts(s, sc, bind->kid[BIND_NAMES], v, bind->loc, once);
}

/* `s = e` in code, where `s := e` is meant. */
static bool rebinds_state(Sema *s, Scope *sc, const Ast *names) {
  for (uint32_t i = 0; i < names->len; i++) {
    const Ast *name = names->kid[i];
    const Binding *b = scope_find(sc, name->name);
    if (!b || b->val.kind != VAL_PARAM || !b->val.param->is_state) continue;
    diag_error(s->diag, name->loc, "`%s` is a state: write `%s := …`", name->name, name->name);
    return true;
  }
  return false;
}

static void eval_bind(Sema *s, Scope *sc, const Ast *a) {
  if (rebinds_state(s, sc, a->kid[BIND_NAMES])) return;
  bind_names(s, sc, a, eval_modified(s, sc, a->kid[BIND_VALUE], a->kid[BIND_MODS], false), false);
}

/* name: TYPE = value, the type checked. */
static void eval_typed_bind(Sema *s, Scope *sc, const Ast *a) {
  const Ast *name = a->kid[FIELD_KEY], *type = a->kid[FIELD_TYPE], *value = a->kid[FIELD_INIT];
  Val v = eval_expr(s, sc, value, false);
  Match m = type_match(s, sc, NULL, type, &v, ast_start(value));
  const char *what = arena_printf(s->arena, "`%s`", name->name);
  if (m == DIFFERS) type_refuse(s, sc, type, v, ast_start(value), what);
  scope_set(s, sc, name->name, m == MATCHES ? v : val_bad(), name->loc);
}

static void eval_lines(Sema *s, Scope *sc, const Ast *code, Flow *flow);

static void eval_for(Sema *s, Scope *sc, const Ast *a, Flow *flow) {
  Val list;
  if (!eval_sequence(s, sc, a->kid[FOR_IN], &list)) return;
  for (uint32_t i = 0; i < list.list.n && !flow->ended; i++) {
    if (!sema_work(s, a->loc, CALL_WORK)) return;
    bind_parts(s, sc, a->kid[FOR_NAMES], list.list.at[i], a->loc, false);
    eval_lines(s, sc, a->kid[FOR_BODY], flow);
  }
}

static void eval_if(Sema *s, Scope *sc, const Ast *a, Flow *flow) {
  const Ast *taken = if_taken(s, sc, a);
  if (taken) eval_lines(s, sc, taken, flow);
}

static void eval_region(Sema *s, Scope *sc, const Ast *a, Flow *flow) {
  Region r;
  region_head(s, sc, a->kid[REGION_HEAD], &r);
  Inside before = region_enter(s, &r);
  eval_lines(s, sc, a->kid[REGION_BODY], flow);
  region_leave(s, before);
}

static void eval_line(Sema *s, Scope *sc, const Ast *a, Flow *flow) {
  switch (a->kind) {
  case AST_BIND: eval_bind(s, sc, a); break;
  case AST_FIELD: eval_typed_bind(s, sc, a); break;
  case AST_IF: eval_if(s, sc, a, flow); break;
  case AST_FOR: eval_for(s, sc, a, flow); break;
  case AST_ASSERT: eval_assert(s, sc, a); break;
  case AST_REGION: eval_region(s, sc, a, flow); break;
  case AST_ASSIGN: state_assign(s, sc, a); break;
  default: diag_error(s->diag, ast_start(a), "the result is unused");
  }
}

static void eval_lines(Sema *s, Scope *sc, const Ast *code, Flow *flow) {
  for (uint32_t i = 0; i < code->len && !flow->ended; i++) {
    const Ast *a = code->kid[i];
    if (a->kind != AST_RETURN) {
      eval_line(s, sc, a, flow);
      continue;
    }
    if (i + 1 < code->len)
      diag_error(s->diag, ast_start(code->kid[i + 1]), "nothing behind `return` is reached");
    flow->ended = true;
    flow->returned = ast_start(a->kid[RETURN_VALUE]);
    flow->value = eval_expr(s, sc, a->kid[RETURN_VALUE], false);
  }
}

Val eval_code(Sema *s, Scope *sc, const Ast *code, Loc *returned) {
  Flow flow = {.value = val_bad(), .returned = *returned};
  eval_lines(s, sc, code, &flow);
  *returned = flow.returned;
  if (!flow.ended && !s->incomplete)
    diag_error(s->diag, code->loc, "the function ends without `return`");
  return flow.value;
}
