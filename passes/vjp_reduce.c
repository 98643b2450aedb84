/* vjp_reduce.c: gradient rules of reductions and of the matmul (vjp.h).
 *
 * The cotangent of a reduction goes back over the axes that were removed; where those held the
 * batch the padding rows are masked.  A matmul's two gradients are matmuls with an operand
 * transposed, and that of a weight adds to what other uses of the weight have given, in its
 * accumulator operand. */
#include "passes/vjp.h"

/* v, with the dims of the node's result, over the operand's: what a reduction takes away. */
static ValueId spread(Grad *r, ValueId v, bool *rows) {
  const Attr *axes = attr(r, AT_axes);
  Type x = operand_type(r, 0);
  int64_t kept[MAX_RANK];
  uint32_t n = 0, next = 0;
  *rows = false;
  for (int i = 0; i < x.rank; i++) {
    bool reduced = next < axes->n && axes->ints[next] == i;
    if (reduced) next++;
    else kept[n++] = i;
    *rows = *rows || (reduced && i == x.rows);
  }
  return build_broadcast(bd(r), v, x, kept);
}

/* A reduction over the batch leaves padding rows out, so they get nothing back. */
void vjp_sum(Grad *r) {
  bool rows;
  ValueId d = spread(r, r->dy, &rows);
  grad_give(r, 0, rows ? build1(bd(r), OP_mask_rows, d) : d);
}

/* Several largest ones share d evenly, as PyTorch's amax has it. */
static void vjp_extreme(Grad *r) {
  const Attr *axes = attr(r, AT_axes);
  bool rows;
  ValueId hit = build2(bd(r), OP_eq, operand(r, 0), spread(r, result(r), &rows));
  ValueId ones = build_cast(bd(r), hit, DT_f32);
  ValueId count = build_reduce(bd(r), OP_sum, ones, axes->n, axes->ints);
  count = build_cast(bd(r), count, (DType)value_type(r->b.g, r->dy).dtype);
  ValueId d = spread(r, divide(r, r->dy, count), &rows);
  d = build_select(bd(r), hit, d, build_like(bd(r), d, 0));
  grad_give(r, 0, rows ? build1(bd(r), OP_mask_rows, d) : d);
}

void vjp_reduce_max(Grad *r) { vjp_extreme(r); }
void vjp_reduce_min(Grad *r) { vjp_extreme(r); }

/* The gradient of operand i, on `sum` unless NO_ID.  Of what is the same for all examples it is
 * summed over them, which the types show only where the batch may be partial. */
static ValueId gradient_matmul(Grad *r, uint32_t i, ValueId a, ValueId b, bool ta, bool tb,
                               ValueId sum) {
  Attr attrs[4] = {attr_int(AT_k_chunk, K_CHUNK)};
  uint32_t n = 1;
  bool tagged = value_type(r->b.g, a).rows >= 0 || value_type(r->b.g, b).rows >= 0;
  if (ta) attrs[n++] = attr_bool(AT_ta, true);
  if (tb) attrs[n++] = attr_bool(AT_tb, true);
  if (!tagged && !r->fed[operand(r, i)]) attrs[n++] = attr_bool(AT_weight, true);
  return build(bd(r), OP_matmul, sum == NO_ID ? 2 : 3, (ValueId[]){a, b, sum}, n, attrs);
}

/* Gradients of a parameter add up in the accumulator of the next matmul, in f32. */
static void give_matmul(Grad *r, uint32_t i, ValueId a, ValueId b, bool ta, bool tb) {
  ValueId x = operand(r, i), sum = r->cot[x];
  if (sum == NO_ID || r->b.g->values.at[x].node != NO_ID) {
    ValueId d = gradient_matmul(r, i, a, b, ta, tb, NO_ID);
    grad_give(r, i, build_cast(bd(r), d, (DType)operand_type(r, i).dtype));
    return;
  }
  grad_meet(r, &sum, value_type(r->b.g, a).unit ? &a : &b);
  r->cot[x] = gradient_matmul(r, i, a, b, ta, tb, sum);
}

static ValueId transposed(Grad *r, ValueId x, const Attr *perm, bool back) {
  int64_t order[MAX_RANK] = {0};
  if (!perm) return x;
  for (uint32_t i = 0; i < perm->n; i++)
    if (back) order[perm->ints[i]] = i;
    else order[i] = perm->ints[i];
  return build_transpose(bd(r), x, order);
}

/* An operand stored in another order gets its cotangent by way of a transpose. */
static void give_stored(Grad *r, uint32_t i, const ValueId *x, bool tx, bool ty, AttrKey key) {
  if (!attr(r, key)) {
    give_matmul(r, i, x[0], x[1], tx, ty);
    return;
  }
  ValueId d = gradient_matmul(r, i, x[0], x[1], tx, ty, NO_ID);
  d = build_cast(bd(r), d, (DType)operand_type(r, i).dtype);
  grad_give(r, i, transposed(r, d, attr(r, key), true));
}

/* C = A B with a stored as A or Aᵀ (ta), b as B or Bᵀ (tb).  dA = D Bᵀ, dB = Aᵀ D, each in the
 * layout that its operand is stored in: of a transposed one dAᵀ = B Dᵀ, dBᵀ = Dᵀ A. */
void vjp_matmul(Grad *r) {
  const Node *n = &r->b.g->nodes.at[r->node];
  bool ta = node_bool(n, AT_ta), tb = node_bool(n, AT_tb), acc = n->nops == 3;
  ValueId d = transposed(r, r->dy, attr(r, AT_perm_c), true);
  if (grad_wants(r, 0)) {
    ValueId b = transposed(r, operand(r, 1), attr(r, AT_perm_b), false);
    if (ta) give_stored(r, 0, (ValueId[]){b, d}, tb, true, AT_perm_a);
    else give_stored(r, 0, (ValueId[]){d, b}, false, !tb, AT_perm_a);
  }
  if (grad_wants(r, 1)) {
    ValueId a = transposed(r, operand(r, 0), attr(r, AT_perm_a), false);
    if (tb) give_stored(r, 1, (ValueId[]){d, a}, true, ta, AT_perm_b);
    else give_stored(r, 1, (ValueId[]){a, d}, !ta, false, AT_perm_b);
  }
  if (acc && grad_wants(r, 2)) grad_give(r, 2, r->dy);
}
