/* vjp_rows.c: gradient rules of composite ops along a row: the gradient is that of the whole
 * (vjp.h). */
#include "passes/vjp.h"

/* dx = z (d - Σ d z) */
void vjp_softmax(Grad *r) {
  ValueId z = result(r), s = build_reduce_last(bd(r), OP_sum, mul(r, r->dy, z));
  ValueId mean = build_broadcast_leading(bd(r), s, cotangent_type(r, 0));
  grad_give(r, 0, mul(r, z, build2(bd(r), OP_sub, r->dy, mean)));
}

/* dz = (softmax(z) - one_hot(target)) d */
void vjp_cross_entropy(Grad *r) {
  ValueId p = build1(bd(r), OP_softmax, operand(r, 0));
  ValueId e = build2(bd(r), OP_sub, p, vjp_one_hot(r));
  ValueId d = build_broadcast_leading(bd(r), r->dy, vjp_rows_type(r));
  grad_give(r, 0, mul(r, e, d));
}
