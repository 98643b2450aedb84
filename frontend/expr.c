/* expr.c: expressions and code.
 *
 * Numbers are computed here: int is i64 with every overflow an error, `/` of ints is exact or an
 * error, float is f64.  Anything that touches a tensor goes to tensor.c.  Evaluation is bounded in
 * depth and in work, so that compilation of every program ends.
 */
#include "frontend/sema.h"

#include <math.h>
#include <string.h>

/* ---- constructs of the language that belong to later work ---------------------------------------- */

static const struct { AstKind kind; const char *what; } later_kinds[] = {
    {AST_COMPREHENSION, "a comprehension"}, {AST_THEN, "`then`"},       {AST_REPEAT, "`repeat`"},
    {AST_CHOOSE, "an if expression"},       {AST_IF, "`if`"},           {AST_FOR, "`for`"},
    {AST_REGION, "a region"},               {AST_ASSIGN, "`:=`"},       {AST_ASSERT, "`assert`"},
    {AST_INDEX, "indexing"},                {AST_REST, "`...` here"},
};

static Val refuse_kind(Sema *s, const Ast *a) {
  for (size_t i = 0; i < sizeof later_kinds / sizeof *later_kinds; i++)
    if (later_kinds[i].kind == a->kind) return sema_later(s, a->loc, later_kinds[i].what);
  diag_error(s->diag, a->loc, "this does not belong here");
  return val_bad();
}

/* ---- arithmetic of numbers -------------------------------------------------------------------------- */

static Val overflow(Sema *s, Loc loc) {
  diag_error(s->diag, loc, "the result does not fit in 64 bits");
  return val_bad();
}

static bool add_fits(int64_t x, int64_t y) {
  return y >= 0 ? x <= INT64_MAX - y : x >= INT64_MIN - y;
}

static bool mul_fits(int64_t x, int64_t y) {
  if (x == 0 || y == 0) return true;
  if (x == -1) return y != INT64_MIN;
  if (y == -1) return x != INT64_MIN;
  if ((x > 0) == (y > 0)) return x > 0 ? x <= INT64_MAX / y : x >= INT64_MAX / y;
  return x > 0 ? y >= INT64_MIN / x : x >= INT64_MIN / y;
}

static Val int_div(Sema *s, Loc loc, int64_t x, int64_t y) {
  if (y == 0) diag_error(s->diag, loc, "division by zero");
  else if (y == -1 && x == INT64_MIN) return overflow(s, loc);
  else if (x % y) diag_error(s->diag, loc, "%lld / %lld is not whole: use floor_div, or a float",
                             (long long)x, (long long)y);
  else return val_int(x / y);
  return val_bad();
}

static Val int_mod(Sema *s, Loc loc, int64_t x, int64_t y) {
  if (y == 0) {
    diag_error(s->diag, loc, "division by zero");
    return val_bad();
  }
  int64_t r = y == -1 ? 0 : x % y;
  return val_int(r && (r < 0) != (y < 0) ? r + y : r); /* the sign of the divisor */
}

static Val int_pow(Sema *s, Loc loc, int64_t x, int64_t n) {
  if (n < 0) return val_float(pow((double)x, (double)n));
  int64_t r = 1;
  for (int64_t i = 0; i < n; i++) {
    if (!mul_fits(r, x)) return overflow(s, loc);
    r *= x;
    if (r == 0 || (r == 1 && x == 1)) break;
    if (x == -1) return val_int(n % 2 ? -1 : 1);
  }
  return val_int(r);
}

static Val int_binary(Sema *s, const Ast *a, int64_t x, int64_t y) {
  switch (a->kind) {
  case AST_ADD: return add_fits(x, y) ? val_int(x + y) : overflow(s, a->loc);
  case AST_SUB:
    if (y == INT64_MIN || !add_fits(x, -y)) return overflow(s, a->loc);
    return val_int(x - y);
  case AST_MUL: return mul_fits(x, y) ? val_int(x * y) : overflow(s, a->loc);
  case AST_DIV: return int_div(s, a->loc, x, y);
  case AST_MOD: return int_mod(s, a->loc, x, y);
  case AST_POW: return int_pow(s, a->loc, x, y);
  case AST_EQ: return val_bool(x == y);
  case AST_NE: return val_bool(x != y);
  case AST_LT: return val_bool(x < y);
  case AST_LE: return val_bool(x <= y);
  case AST_GT: return val_bool(x > y);
  case AST_GE: return val_bool(x >= y);
  default: return refuse_kind(s, a);
  }
}

static Val float_binary(Sema *s, const Ast *a, double x, double y) {
  switch (a->kind) {
  case AST_ADD: return val_float(x + y);
  case AST_SUB: return val_float(x - y);
  case AST_MUL: return val_float(x * y);
  case AST_DIV: return val_float(x / y);
  case AST_POW: return val_float(pow(x, y));
  case AST_EQ: return val_bool(x == y);
  case AST_NE: return val_bool(x != y);
  case AST_LT: return val_bool(x < y);
  case AST_LE: return val_bool(x <= y);
  case AST_GT: return val_bool(x > y);
  case AST_GE: return val_bool(x >= y);
  default: break;
  }
  diag_error(s->diag, a->loc, "`%s` wants ints", a->kind == AST_MOD ? "%" : ast_kind_name(a->kind));
  return val_bad();
}

static Val join_lists(Sema *s, Val l, Val r) {
  VEC(Val) all = {0};
  for (uint32_t i = 0; i < l.list.n; i++) vec_push(s->arena, &all, l.list.at[i]);
  for (uint32_t i = 0; i < r.list.n; i++) vec_push(s->arena, &all, r.list.at[i]);
  return val_list(s->arena, VAL_LIST, all.len, all.at);
}

static Val eval_binary(Sema *s, Scope *sc, const Ast *a, bool declaring) {
  Val l = eval_expr(s, sc, a->kid[0], declaring), r = eval_expr(s, sc, a->kid[1], declaring);
  double x, y;
  if (l.kind == VAL_BAD || r.kind == VAL_BAD) return val_bad();
  if (val_is_tensor(l) || val_is_tensor(r)) return tensor_binary(s, a, l, r);
  if (l.kind == VAL_INT && r.kind == VAL_INT) return int_binary(s, a, l.i, r.i);
  if (val_number(l, &x) && val_number(r, &y)) return float_binary(s, a, x, y);
  if (a->kind == AST_ADD && l.kind == VAL_LIST && r.kind == VAL_LIST) return join_lists(s, l, r);
  bool equality = a->kind == AST_EQ || a->kind == AST_NE;
  if (equality && l.kind == VAL_BOOL && r.kind == VAL_BOOL)
    return val_bool((l.i == r.i) == (a->kind == AST_EQ));
  if (equality && l.kind == VAL_STRING && r.kind == VAL_STRING)
    return val_bool((l.s == r.s) == (a->kind == AST_EQ));
  diag_error(s->diag, a->loc, "`%s` of %s and %s", ast_kind_name(a->kind), val_describe(s, l),
             val_describe(s, r));
  return val_bad();
}

static Val eval_logic(Sema *s, Scope *sc, const Ast *a) {
  Val l = eval_expr(s, sc, a->kid[0], false);
  if (l.kind == VAL_BOOL && l.i == (a->kind == AST_OR)) return l; /* the other side is not computed */
  Val r = eval_expr(s, sc, a->kid[1], false);
  if (l.kind == VAL_BAD || r.kind == VAL_BAD) return val_bad();
  if (l.kind == VAL_BOOL && r.kind == VAL_BOOL) return r;
  if (val_is_tensor(l) || val_is_tensor(r)) return tensor_binary(s, a, l, r);
  diag_error(s->diag, a->loc, "`%s` of %s and %s: bools are wanted", ast_kind_name(a->kind),
             val_describe(s, l), val_describe(s, r));
  return val_bad();
}

static Val eval_neg(Sema *s, Val x, Loc loc) {
  if (x.kind == VAL_INT) return x.i == INT64_MIN ? overflow(s, loc) : val_int(-x.i);
  if (x.kind == VAL_FLOAT) return val_float(-x.f);
  if (val_is_tensor(x)) return tensor_unary(s, OP_neg, x, loc);
  if (x.kind != VAL_BAD) diag_error(s->diag, loc, "`-` of %s", val_describe(s, x));
  return val_bad();
}

static Val eval_not(Sema *s, Val x, Loc loc) {
  if (x.kind == VAL_BOOL) return val_bool(!x.i);
  if (val_is_tensor(x) && val_type(s, x).dtype == DT_i1) return tensor_unary(s, OP_not, x, loc);
  if (x.kind != VAL_BAD) diag_error(s->diag, loc, "`not` of %s: a bool is wanted", val_describe(s, x));
  return val_bad();
}

/* ---- names, members, lists ---------------------------------------------------------------------------- */

static Val eval_name(Sema *s, Scope *sc, const Ast *a) {
  Binding *b = scope_find(sc, a->name);
  if (b && b->val.kind == VAL_LATER) return sema_later(s, a->loc, b->val.s);
  if (b) return b->val;
  const char *near = scope_nearest(s, sc, a->name);
  diag_error(s->diag, a->loc, "unknown name `%s`%s%s%s", a->name, near ? "; `" : "", near ? near : "",
             near ? "`?" : "");
  return val_bad();
}

static Val eval_member(Sema *s, Scope *sc, const Ast *a) {
  Val of = eval_expr(s, sc, a->kid[MEMBER_OF], false);
  if (of.kind == VAL_BAD) return of;
  if (of.kind != VAL_INSTANCE) {
    diag_error(s->diag, a->loc, "%s has no members", val_describe(s, of));
    return val_bad();
  }
  Binding *b = scope_find_here(of.instance->scope, a->name);
  if (b) return b->val;
  Scope members = *of.instance->scope;
  members.parent = NULL;
  const char *near = scope_nearest(s, &members, a->name);
  diag_error(s->diag, a->loc, "%s has no member `%s`%s%s%s", val_describe(s, of), a->name,
             near ? "; `" : "", near ? near : "", near ? "`?" : "");
  return val_bad();
}

static Val eval_elements(Sema *s, Scope *sc, const Ast *a, ValKind kind, bool declaring) {
  VEC(Val) all = {0};
  bool bad = false;
  for (uint32_t i = 0; i < a->len; i++) {
    Val v = eval_expr(s, sc, a->kid[i], declaring);
    bad = bad || v.kind == VAL_BAD;
    vec_push(s->arena, &all, v);
  }
  return bad ? val_bad() : val_list(s->arena, kind, all.len, all.at);
}

static Val eval_fn(Sema *s, Scope *sc, const Ast *a) {
  if (a->kid[FN_GRAD]) return sema_later(s, a->kid[FN_GRAD]->loc, "a function's own `grad`");
  Fn *fn = NEW(s->arena, Fn);
  *fn = (Fn){a, sc};
  return (Val){.kind = VAL_FN, .fn = fn};
}

static Val eval_kind(Sema *s, Scope *sc, const Ast *a, bool declaring) {
  switch (a->kind) {
  case AST_NAME: return eval_name(s, sc, a);
  case AST_INT: return val_int(a->i);
  case AST_FLOAT: return val_float(a->f);
  case AST_BOOL: return val_bool(a->i);
  case AST_STRING: return (Val){.kind = VAL_STRING, .s = a->name};
  case AST_NEG: return eval_neg(s, eval_expr(s, sc, a->kid[0], false), a->loc);
  case AST_NOT: return eval_not(s, eval_expr(s, sc, a->kid[0], false), a->loc);
  case AST_OR: case AST_AND: return eval_logic(s, sc, a);
  case AST_EQ: case AST_NE: case AST_LT: case AST_LE: case AST_GT: case AST_GE: case AST_ADD:
  case AST_SUB: case AST_MUL: case AST_DIV: case AST_MOD: case AST_MATMUL: case AST_POW:
    return eval_binary(s, sc, a, declaring);
  case AST_MEMBER: return eval_member(s, sc, a);
  case AST_CALL: return eval_call(s, sc, a, declaring);
  case AST_ELEMENTS: return eval_elements(s, sc, a, VAL_LIST, declaring);
  case AST_TUPLE: return eval_elements(s, sc, a, VAL_TUPLE, declaring);
  case AST_FN: return eval_fn(s, sc, a);
  default: return refuse_kind(s, a);
  }
}

static Val give_up(Sema *s, Loc loc, const char *what) {
  if (!s->gave_up) diag_error(s->diag, loc, "%s", what);
  s->gave_up = true;
  return val_bad();
}

Val eval_expr(Sema *s, Scope *sc, const Ast *a, bool declaring) {
  if (s->depth >= EVAL_DEPTH) return give_up(s, a->loc, "calls nest too deeply: does a function call itself?");
  if (s->gave_up || ++s->work > EVAL_WORK) return give_up(s, a->loc, "the program unrolls to more than mpcc compiles");
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

/* ---- code ------------------------------------------------------------------------------------------------ */

bool bind_names(Sema *s, Scope *sc, const Ast *bind, Val v, bool once) {
  const Ast *names = bind->kid[BIND_NAMES];
  bool several = names->len > 1;
  if (several && v.kind != VAL_BAD && (v.kind != VAL_TUPLE || v.list.n != names->len)) {
    diag_error(s->diag, bind->loc, "%u names for %s", (unsigned)names->len, val_describe(s, v));
    v = val_bad();
  }
  bool ok = v.kind != VAL_BAD;
  for (uint32_t i = 0; i < names->len; i++) {
    const Ast *name = names->kid[i];
    Val part = several && ok ? v.list.at[i] : v;
    if (once) ok &= scope_bind(s, sc, name->name, part, name->loc);
    else scope_set(s, sc, name->name, part, name->loc);
  }
  return ok;
}

static void eval_bind(Sema *s, Scope *sc, const Ast *a) {
  const Ast *mods = a->kid[BIND_MODS];
  Val v = eval_expr(s, sc, a->kid[BIND_VALUE], false);
  if (mods) v = sema_later(s, mods->kid[0]->loc, "a modifier here");
  bind_names(s, sc, a, v, false);
}

Val eval_code(Sema *s, Scope *sc, const Ast *code, Loc *returned) {
  for (uint32_t i = 0; i < code->len; i++) {
    const Ast *a = code->kid[i];
    if (a->kind == AST_BIND) eval_bind(s, sc, a);
    else if (a->kind == AST_RETURN) {
      *returned = ast_start(a->kid[RETURN_VALUE]);
      return eval_expr(s, sc, a->kid[RETURN_VALUE], false);
    } else if (a->kind == AST_NAME || a->kind == AST_CALL || a->kind == AST_MEMBER) {
      diag_error(s->diag, ast_start(a), "the result is unused");
    } else refuse_kind(s, a);
  }
  diag_error(s->diag, code->loc, "the function ends without `return`");
  return val_bad();
}
