/* vjp_map.c: gradient rules of elementwise ops (vjp.h). */
#include "passes/vjp.h"

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
