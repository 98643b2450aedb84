/* vjp_rows.c: gradient rules of composite ops along a row (vjp.h).
 *
 * A composite op has a rule of its own where the gradient of the whole is shorter, or numerically
 * safer, than that of its parts put together: softmax, norms, cross-entropy.  Statistics of a row
 * are computed again rather than kept, as norms mostly wait for memory. */
#include "passes/vjp.h"

#include "ref/expand.h"

/* dx = z (d - Σ d z) */
void vjp_softmax(Grad *r) {
  ValueId z = result(r), s = build_reduce_last(bd(r), OP_sum, mul(r, r->dy, z));
  ValueId mean = build_broadcast_leading(bd(r), s, cotangent_type(r, 0));
  grad_give(r, 0, mul(r, z, build2(bd(r), OP_sub, r->dy, mean)));
}

/* dx = d - e^z Σ d */
void vjp_log_softmax(Grad *r) {
  ValueId s = build_reduce_last(bd(r), OP_sum, r->dy);
  s = build_broadcast_leading(bd(r), s, cotangent_type(r, 0));
  ValueId share = mul(r, build1(bd(r), OP_exp, result(r)), s);
  grad_give(r, 0, build2(bd(r), OP_sub, r->dy, share));
}

/* dx = d e^(x - z); where z is infinite e^x stands for it, 0 where all are -inf. */
void vjp_logsumexp(Grad *r) {
  ValueId x = operand(r, 0), z = result(r), none = build_like(bd(r), z, 0);
  z = build_select(bd(r), build1(bd(r), OP_isfinite, z), z, none);
  Type t = vjp_rows_type(r), plain = t;
  plain.unit = 0;
  z = build_broadcast_leading(bd(r), z, plain);
  ValueId p = build1(bd(r), OP_exp, build2(bd(r), OP_sub, x, z));
  grad_give(r, 0, mul(r, build_broadcast_leading(bd(r), r->dy, t), p));
}

/* ---- losses -------------------------------------------------------------------------------- */

/* What the softmax is to be: (1 - s) one_hot(target) + s / n. */
static ValueId wanted(Grad *r) {
  ValueId y = vjp_one_hot(r);
  if (r->b.g->nodes.at[r->node].nops < 3) return y;
  Type t = value_type(r->b.g, y);
  ValueId s = build_splat(bd(r), operand(r, 2), t);
  ValueId even = divide(r, s, build_like(bd(r), s, (double)t.dim[t.rank - 1]));
  return add(r, mul(r, minus_from(r, 1, s), y), even);
}

/* dz = (softmax(z) - wanted) d; the smoothing is a setting and gets nothing. */
void vjp_cross_entropy(Grad *r) {
  if (!grad_wants(r, 0)) return;
  ValueId p = build1(bd(r), OP_softmax, operand(r, 0));
  ValueId e = build2(bd(r), OP_sub, p, wanted(r));
  ValueId d = build_broadcast_leading(bd(r), r->dy, vjp_rows_type(r));
  grad_give(r, 0, mul(r, e, d));
}

/* dz = (sigmoid(z) - y) d, dy = -z d */
void vjp_bce_logits(Grad *r) {
  ValueId z = operand(r, 0);
  if (grad_wants(r, 0)) {
    ValueId s = build1(bd(r), OP_sigmoid, z);
    grad_give(r, 0, mul(r, r->dy, build2(bd(r), OP_sub, s, operand(r, 1))));
  }
  if (grad_wants(r, 1)) grad_give(r, 1, negate(r, mul(r, r->dy, z)));
}

/* ---- norms --------------------------------------------------------------------------------- */

/* The mean along the last axis, kept there. */
static ValueId row_mean(Grad *r, ValueId x) {
  Type t = value_type(r->b.g, x), plain = t;
  plain.unit = 0;
  ValueId s = build_broadcast_leading(bd(r), build_reduce_last(bd(r), OP_sum, x), t);
  return divide(r, s, build_constant(bd(r), plain, (double)t.dim[t.rank - 1]));
}

/* To the vector that was repeated over all axes but the last. */
static void give_column_sums(Grad *r, uint32_t i, ValueId d) {
  static const int64_t leading[MAX_RANK] = {0, 1, 2, 3, 4, 5, 6, 7};
  uint32_t n = (uint32_t)value_type(r->b.g, d).rank - 1;
  d = build_reduce(bd(r), OP_sum, d, n, leading);
  grad_give(r, i, build_cast(bd(r), d, (DType)operand_type(r, i).dtype));
}

/* With u the standardized x and g = d · scale: dx = (g - mean g - u · mean(g u)) / root, without
 * mean g where nothing was centered; dscale = Σ d u, dbias = Σ d.  u is computed again from x. */
static void vjp_norm(Grad *r, bool center) {
  const Attr *eps = attr(r, AT_eps);
  ValueId inverse, d = build_cast(bd(r), r->dy, DT_f32);
  ValueId u = build_standard(bd(r), operand(r, 0), center, eps ? eps->f : 0, &inverse);
  uint32_t nops = r->b.g->nodes.at[r->node].nops;
  if (nops > 1 && grad_wants(r, 1)) give_column_sums(r, 1, mul(r, d, u));
  if (nops > 2 && grad_wants(r, 2)) give_column_sums(r, 2, d);
  if (!grad_wants(r, 0)) return;
  Type t = value_type(r->b.g, u);
  ValueId g = d;
  if (nops > 1) {
    ValueId scale = build_cast(bd(r), operand(r, 1), DT_f32);
    g = mul(r, d, build_broadcast(bd(r), scale, t, (int64_t[]){t.rank - 1}));
  }
  ValueId along = mul(r, u, row_mean(r, mul(r, g, u)));
  if (center) g = build2(bd(r), OP_sub, g, row_mean(r, g));
  ValueId dx = mul(r, inverse, build2(bd(r), OP_sub, g, along));
  grad_give(r, 0, build_cast(bd(r), dx, (DType)operand_type(r, 0).dtype));
}

void vjp_layer_norm(Grad *r) { vjp_norm(r, true); }
void vjp_rms_norm(Grad *r) { vjp_norm(r, false); }

/* ---- draws --------------------------------------------------------------------------------- */

/* Linear in x: the same draw drops the same elements of d, and nothing is kept for it. */
void vjp_dropout(Grad *r) {
  Node n = r->b.g->nodes.at[r->node];
  ValueId ops[4] = {r->dy};
  for (uint32_t i = 1; i < n.nops; i++) ops[i] = n.ops[i];
  grad_give(r, 0, build(bd(r), OP_dropout, n.nops, ops, n.nattrs, n.attrs));
}
