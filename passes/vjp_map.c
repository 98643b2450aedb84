/* vjp_map.c: gradient rules of elementwise ops (vjp.h).
 *
 * Each is written with as few exps and divisions as its formula allows, from the result where that
 * is at hand (tanh, exp, sigmoid), and without a form that overflows where the derivative does
 * not.  At a kink the convention is PyTorch's: relu'(0) = 0, a tie of max gives half to each. */
#include "passes/vjp.h"

/* x times a number. */
static ValueId scaled(Grad *r, ValueId x, double v) { return mul(r, x, build_like(bd(r), x, v)); }

void vjp_add(Grad *r) {
  if (grad_wants(r, 0)) grad_give(r, 0, r->dy);
  if (grad_wants(r, 1)) grad_give(r, 1, r->dy);
}

void vjp_sub(Grad *r) {
  if (grad_wants(r, 0)) grad_give(r, 0, r->dy);
  if (grad_wants(r, 1)) grad_give(r, 1, negate(r, r->dy));
}

void vjp_mul(Grad *r) {
  if (grad_wants(r, 0)) grad_give(r, 0, mul(r, r->dy, operand(r, 1)));
  if (grad_wants(r, 1)) grad_give(r, 1, mul(r, r->dy, operand(r, 0)));
}

/* z = x / y: dx = d / y, dy = -(d / y) z. */
void vjp_div(Grad *r) {
  ValueId dx = divide(r, r->dy, operand(r, 1));
  if (grad_wants(r, 0)) grad_give(r, 0, dx);
  if (grad_wants(r, 1)) grad_give(r, 1, negate(r, mul(r, dx, result(r))));
}

/* The operand that `loses` (lt: max, gt: min) gets nothing, a tie halves, NaN lets d through. */
static void extremum(Grad *r, Op loses) {
  ValueId x = operand(r, 0), y = operand(r, 1);
  ValueId half = mul(r, r->dy, build_constant(bd(r), type_with(operand_type(r, 0), DT_f32), 0.5));
  ValueId d = build_select(bd(r), build2(bd(r), OP_eq, x, y), half, r->dy), none = zero(r);
  if (grad_wants(r, 0)) grad_give(r, 0, build_select(bd(r), build2(bd(r), loses, x, y), none, d));
  if (grad_wants(r, 1)) grad_give(r, 1, build_select(bd(r), build2(bd(r), loses, y, x), none, d));
}

void vjp_max(Grad *r) { extremum(r, OP_lt); }
void vjp_min(Grad *r) { extremum(r, OP_gt); }
void vjp_neg(Grad *r) { grad_give(r, 0, negate(r, r->dy)); }

/* d / 2z; 2z is exact. */
void vjp_sqrt(Grad *r) { grad_give(r, 0, divide(r, r->dy, add(r, result(r), result(r)))); }

void vjp_exp(Grad *r) { grad_give(r, 0, mul(r, r->dy, result(r))); }

void vjp_expm1(Grad *r) {
  grad_give(r, 0, mul(r, r->dy, add(r, result(r), build_like(bd(r), result(r), 1))));
}

void vjp_log(Grad *r) { grad_give(r, 0, divide(r, r->dy, operand(r, 0))); }

/* d / (1 + x) */
void vjp_log1p(Grad *r) {
  ValueId x = operand(r, 0), one = build_like(bd(r), x, 1);
  grad_give(r, 0, divide(r, r->dy, add(r, one, x)));
}

/* -d/2 z^3 */
void vjp_rsqrt(Grad *r) {
  ValueId z = result(r), cube = mul(r, mul(r, z, z), z);
  grad_give(r, 0, mul(r, r->dy, scaled(r, cube, -0.5)));
}

/* dx = d y x^(y-1), and 0 where y is 0; dy = d z log x, and 0 where x is 0 and y is not below. */
void vjp_pow(Grad *r) {
  ValueId x = operand(r, 0), y = operand(r, 1), none = zero(r), o = build_like(bd(r), y, 0);
  if (grad_wants(r, 0)) {
    ValueId less = build2(bd(r), OP_sub, y, build_like(bd(r), y, 1));
    ValueId d = mul(r, r->dy, mul(r, y, build2(bd(r), OP_pow, x, less)));
    grad_give(r, 0, build_select(bd(r), build2(bd(r), OP_eq, y, o), none, d));
  }
  if (grad_wants(r, 1)) {
    ValueId d = mul(r, r->dy, mul(r, result(r), build1(bd(r), OP_log, x)));
    ValueId at_zero = build2(bd(r), OP_eq, x, o), above = build2(bd(r), OP_ge, y, o);
    grad_give(r, 1, build_select(bd(r), build2(bd(r), OP_and, at_zero, above), none, d));
  }
}

/* d 2/sqrt(pi) e^(-x^2) */
void vjp_erf(Grad *r) {
  ValueId x = operand(r, 0), bell = build1(bd(r), OP_exp, negate(r, mul(r, x, x)));
  grad_give(r, 0, mul(r, r->dy, scaled(r, bell, 1.1283791670955125739)));
}

static void by_derivative(Grad *r, Op derivative) {
  grad_give(r, 0, mul(r, r->dy, build1(bd(r), derivative, operand(r, 0))));
}

void vjp_gelu(Grad *r) { by_derivative(r, OP_gelu_grad); }
void vjp_gelu_tanh(Grad *r) { by_derivative(r, OP_gelu_tanh_grad); }
void vjp_softplus(Grad *r) { by_derivative(r, OP_sigmoid); }
void vjp_sin(Grad *r) { by_derivative(r, OP_cos); }

void vjp_cos(Grad *r) {
  grad_give(r, 0, negate(r, mul(r, r->dy, build1(bd(r), OP_sin, operand(r, 0)))));
}

/* d s (1 + x (1 - s)), s = sigmoid(x) */
void vjp_silu(Grad *r) {
  ValueId x = operand(r, 0), s = build1(bd(r), OP_sigmoid, x);
  ValueId slope = mul(r, x, minus_from(r, 1, s));
  ValueId one = build_like(bd(r), x, 1);
  grad_give(r, 0, mul(r, r->dy, mul(r, s, add(r, one, slope))));
}

/* 0 at 0, as PyTorch has it. */
void vjp_abs(Grad *r) { by_derivative(r, OP_sign); }

void vjp_tanh(Grad *r) {
  ValueId z = result(r);
  grad_give(r, 0, mul(r, r->dy, minus_from(r, 1, mul(r, z, z))));
}

void vjp_sigmoid(Grad *r) {
  ValueId z = result(r);
  grad_give(r, 0, mul(r, r->dy, mul(r, minus_from(r, 1, z), z)));
}

/* By the result, which the next matmul keeps anyway: z <= 0 iff x <= 0.  NaN lets d through. */
void vjp_relu(Grad *r) {
  ValueId z = result(r), dead = build2(bd(r), OP_le, z, build_like(bd(r), z, 0));
  grad_give(r, 0, build_select(bd(r), dead, zero(r), r->dy));
}

void vjp_select(Grad *r) {
  ValueId c = operand(r, 0);
  if (grad_wants(r, 1)) grad_give(r, 1, build_select(bd(r), c, r->dy, zero(r)));
  if (grad_wants(r, 2)) grad_give(r, 2, build_select(bd(r), c, zero(r), r->dy));
}
