/* number.c: arithmetic at compile time.
 *
 * An int is an i64 with every overflow an error, and `/` of ints is exact or an error; a float is
 * an f64 and always finite, but for the name `inf`.  So a size or a rate is right or refused, and
 * what reaches the graph as a constant was never silently rounded to something else. */
#include "frontend/sema.h"

#include <math.h>

static const char *const signs[AST_COUNT] = {
    [AST_OR] = "or", [AST_AND] = "and", [AST_EQ] = "==", [AST_NE] = "!=", [AST_LT] = "<",
    [AST_LE] = "<=", [AST_GT] = ">",    [AST_GE] = ">=", [AST_ADD] = "+", [AST_SUB] = "-",
    [AST_MUL] = "*", [AST_DIV] = "/",   [AST_MOD] = "%", [AST_POW] = "^", [AST_MATMUL] = "@",
    [AST_NEG] = "-", [AST_NOT] = "not",
};

const char *sign_of(AstKind kind) { return signs[kind] ? signs[kind] : ast_kind_name(kind); }

static Val overflow(Sema *s, Loc loc) {
  diag_error(s->diag, loc, "the result does not fit in 64 bits");
  return val_bad();
}

static Val by_zero(Sema *s, Loc loc) {
  diag_error(s->diag, loc, "division by zero");
  return val_bad();
}

Val number_make(Sema *s, Loc loc, double f) {
  if (isfinite(f)) return val_float(f);
  diag_error(s->diag, loc, "the result is %s", isnan(f) ? "not a number" : "infinite");
  return val_bad();
}

Val number_neg(Sema *s, Val x, Loc loc) {
  if (x.kind == VAL_FLOAT) return val_float(-x.f);
  return x.i == INT64_MIN ? overflow(s, loc) : val_int(-x.i);
}

/* ---- ints ------------------------------------------------------------------------------------ */

static bool add_fits(int64_t x, int64_t y) {
  return y >= 0 ? x <= INT64_MAX - y : x >= INT64_MIN - y;
}

static bool sub_fits(int64_t x, int64_t y) {
  return y >= 0 ? x >= INT64_MIN + y : x <= INT64_MAX + y;
}

static bool mul_fits(int64_t x, int64_t y) {
  if (x == 0 || y == 0) return true;
  if (x == -1) return y != INT64_MIN;
  if (y == -1) return x != INT64_MIN;
  if ((x > 0) == (y > 0)) return x > 0 ? x <= INT64_MAX / y : x >= INT64_MAX / y;
  return x > 0 ? y >= INT64_MIN / x : x >= INT64_MIN / y;
}

static Val int_div(Sema *s, Loc loc, int64_t x, int64_t y) {
  if (y == 0) return by_zero(s, loc);
  if (y == -1 && x == INT64_MIN) return overflow(s, loc);
  if (x % y == 0) return val_int(x / y);
  diag_error(s->diag, loc, "%lld / %lld is not whole: use floor_div, or a float", (long long)x,
             (long long)y);
  return val_bad();
}

static Val int_mod(Sema *s, Loc loc, int64_t x, int64_t y) {
  if (y == 0) return by_zero(s, loc);
  int64_t r = y == -1 ? 0 : x % y;
  return val_int(r && (r < 0) != (y < 0) ? r + y : r); /* the sign of the divisor */
}

static Val int_pow(Sema *s, Loc loc, int64_t x, int64_t n) {
  if (n < 0) return x ? number_make(s, loc, pow((double)x, (double)n)) : by_zero(s, loc);
  if (x == 0 || x == 1) return val_int(n ? x : 1);
  if (x == -1) return val_int(n % 2 ? -1 : 1);
  int64_t r = 1;
  for (int64_t i = 0; i < n; i++) { /* at most 63 times: it doubles at least */
    if (!mul_fits(r, x)) return overflow(s, loc);
    r *= x;
  }
  return val_int(r);
}

static Val int_binary(Sema *s, const Ast *a, int64_t x, int64_t y) {
  switch (a->kind) {
  case AST_ADD: return add_fits(x, y) ? val_int(x + y) : overflow(s, a->loc);
  case AST_SUB: return sub_fits(x, y) ? val_int(x - y) : overflow(s, a->loc);
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
  default: break;
  }
  diag_error(s->diag, a->loc, "`%s` of two ints", sign_of(a->kind));
  return val_bad();
}

/* ---- floats ---------------------------------------------------------------------------------- */

static Val float_binary(Sema *s, const Ast *a, double x, double y) {
  switch (a->kind) {
  case AST_ADD: return number_make(s, a->loc, x + y);
  case AST_SUB: return number_make(s, a->loc, x - y);
  case AST_MUL: return number_make(s, a->loc, x * y);
  case AST_DIV: return y == 0 ? by_zero(s, a->loc) : number_make(s, a->loc, x / y);
  case AST_POW: return number_make(s, a->loc, pow(x, y));
  case AST_EQ: return val_bool(x == y);
  case AST_NE: return val_bool(x != y);
  case AST_LT: return val_bool(x < y);
  case AST_LE: return val_bool(x <= y);
  case AST_GT: return val_bool(x > y);
  case AST_GE: return val_bool(x >= y);
  default: break;
  }
  diag_error(s->diag, a->loc, "`%s` of floats%s", sign_of(a->kind),
             a->kind == AST_MOD ? ": ints are wanted" : "");
  return val_bad();
}

Val number_binary(Sema *s, const Ast *op, Val l, Val r) {
  double x = 0, y = 0;
  if (l.kind == VAL_INT && r.kind == VAL_INT) return int_binary(s, op, l.i, r.i);
  val_number(l, &x);
  val_number(r, &y);
  return float_binary(s, op, x, y);
}
