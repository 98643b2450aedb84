/* vjp.c: for each op, how the cotangent of its result becomes cotangents of its operands (column
 * VJP of ops.def).  x, y stand for operands, z for the result, d for its cotangent.
 *
 * A rule builds only what grad_wants asks for, uses the result z where it saves recomputing (z is
 * often stored for the backward pass anyway), and never transposes data: a matmul has flags for
 * that.  Where PyTorch has a convention at a kink, it is PyTorch's: relu' (0) = 0, a tie of max or
 * min halves.  Zeros are constants of d's type: a literal zero has every unit of the loss scale.
 *
 * C does not say which argument of a call is computed first, so no call here has two that build
 * nodes.
 */
#include "passes/pass.h"

static Builder *bd(Grad *r) { return &r->b; }
static ValueId operand(const Grad *r, uint32_t i) { return r->b.g->nodes.at[r->node].ops[i]; }
static ValueId result(const Grad *r) { return r->b.g->nodes.at[r->node].res; }
static Type operand_type(const Grad *r, uint32_t i) { return value_type(r->b.g, operand(r, i)); }
static const Attr *attr(const Grad *r, AttrKey key) {
  return node_attr(&r->b.g->nodes.at[r->node], key);
}

static ValueId add(Grad *r, ValueId x, ValueId y) { return build2(bd(r), OP_add, x, y); }
static ValueId mul(Grad *r, ValueId x, ValueId y) { return build2(bd(r), OP_mul, x, y); }
static ValueId divide(Grad *r, ValueId x, ValueId y) { return build2(bd(r), OP_div, x, y); }
static ValueId negate(Grad *r, ValueId x) { return build1(bd(r), OP_neg, x); }
static ValueId zero(Grad *r) { return build_like(bd(r), r->dy, 0); }

/* v - x for a number v, in x's type. */
static ValueId minus_from(Grad *r, double v, ValueId x) {
  return build2(bd(r), OP_sub, build_like(bd(r), x, v), x);
}

/* The operand's type with d's unit: what its cotangent looks like. */
static Type cotangent_type(Grad *r, uint32_t i) {
  Type t = operand_type(r, i), d = value_type(r->b.g, r->dy);
  t.dtype = d.dtype;
  t.unit = d.unit;
  return t;
}

/* ---- places and types ---------------------------------------------------------------------- */

static void vjp_reshape(Grad *r) {
  grad_give(r, 0, build_reshape(bd(r), r->dy, cotangent_type(r, 0)));
}

static void vjp_transpose(Grad *r) {
  const Attr *perm = attr(r, AT_perm);
  int64_t inverse[MAX_RANK] = {0};
  for (uint32_t i = 0; i < perm->n; i++) inverse[perm->ints[i]] = i;
  grad_give(r, 0, build_transpose(bd(r), r->dy, inverse));
}

/* perm[i]: where the operand's axis i stands among its axes in the result.  True: some move. */
static bool order_axes(const Attr *axes, int64_t *perm) {
  bool moved = false;
  for (uint32_t i = 0; i < axes->n; i++) {
    int64_t before = 0; /* operand axes that the result has before axis i */
    for (uint32_t k = 0; k < axes->n; k++) before += axes->ints[k] < axes->ints[i];
    perm[i] = before;
    moved = moved || before != i;
  }
  return moved;
}

/* Sum over the axes that are new or stretched; then stretched ones come back with size 1. */
static void vjp_broadcast(Grad *r) {
  const Attr *axes = attr(r, AT_axes);
  Type x = operand_type(r, 0), z = value_type(r->b.g, result(r));
  bool kept[MAX_RANK] = {false};
  for (uint32_t i = 0; i < axes->n; i++) kept[axes->ints[i]] = x.dim[i] == z.dim[axes->ints[i]];
  int64_t gone[MAX_RANK];
  uint32_t n = 0;
  for (int i = 0; i < z.rank; i++)
    if (!kept[i]) gone[n++] = i;
  ValueId d = build_reduce(bd(r), OP_sum, r->dy, n, gone);
  int64_t perm[MAX_RANK];
  if (order_axes(axes, perm)) {
    Type sorted = cotangent_type(r, 0);
    for (uint32_t i = 0; i < axes->n; i++) sorted.dim[perm[i]] = x.dim[i];
    if (x.rows >= 0) sorted.rows = (int8_t)perm[x.rows];
    d = build_transpose(bd(r), build_reshape(bd(r), d, sorted), perm);
  }
  bool refused = x.rows < 0 && value_type(r->b.g, d).rows >= 0; /* by grad_give */
  grad_give(r, 0, refused ? d : build_reshape(bd(r), d, cotangent_type(r, 0)));
}

static void vjp_cast(Grad *r) {
  grad_give(r, 0, build_cast(bd(r), r->dy, (DType)operand_type(r, 0).dtype));
}

static void vjp_mask_rows(Grad *r) { grad_give(r, 0, build1(bd(r), OP_mask_rows, r->dy)); }

/* ---- arithmetic ---------------------------------------------------------------------------- */

static void vjp_add(Grad *r) {
  if (grad_wants(r, 0)) grad_give(r, 0, r->dy);
  if (grad_wants(r, 1)) grad_give(r, 1, r->dy);
}

static void vjp_sub(Grad *r) {
  if (grad_wants(r, 0)) grad_give(r, 0, r->dy);
  if (grad_wants(r, 1)) grad_give(r, 1, negate(r, r->dy));
}

static void vjp_mul(Grad *r) {
  if (grad_wants(r, 0)) grad_give(r, 0, mul(r, r->dy, operand(r, 1)));
  if (grad_wants(r, 1)) grad_give(r, 1, mul(r, r->dy, operand(r, 0)));
}

/* z = x / y: dx = d / y, dy = -(d / y) z. */
static void vjp_div(Grad *r) {
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

static void vjp_max(Grad *r) { extremum(r, OP_lt); }
static void vjp_min(Grad *r) { extremum(r, OP_gt); }
static void vjp_neg(Grad *r) { grad_give(r, 0, negate(r, r->dy)); }

/* d / 2z; 2z is exact. */
static void vjp_sqrt(Grad *r) { grad_give(r, 0, divide(r, r->dy, add(r, result(r), result(r)))); }

static void vjp_exp(Grad *r) { grad_give(r, 0, mul(r, r->dy, result(r))); }

static void vjp_expm1(Grad *r) {
  grad_give(r, 0, mul(r, r->dy, add(r, result(r), build_like(bd(r), result(r), 1))));
}

static void vjp_log(Grad *r) { grad_give(r, 0, divide(r, r->dy, operand(r, 0))); }

static void vjp_tanh(Grad *r) {
  ValueId z = result(r);
  grad_give(r, 0, mul(r, r->dy, minus_from(r, 1, mul(r, z, z))));
}

static void vjp_sigmoid(Grad *r) {
  ValueId z = result(r);
  grad_give(r, 0, mul(r, r->dy, mul(r, minus_from(r, 1, z), z)));
}

/* By the result, which the next matmul keeps anyway: z <= 0 iff x <= 0.  NaN lets d through. */
static void vjp_relu(Grad *r) {
  ValueId z = result(r), dead = build2(bd(r), OP_le, z, build_like(bd(r), z, 0));
  grad_give(r, 0, build_select(bd(r), dead, zero(r), r->dy));
}

static void vjp_select(Grad *r) {
  ValueId c = operand(r, 0);
  if (grad_wants(r, 1)) grad_give(r, 1, build_select(bd(r), c, r->dy, zero(r)));
  if (grad_wants(r, 2)) grad_give(r, 2, build_select(bd(r), c, zero(r), r->dy));
}

/* ---- reductions, contractions, indexing ---------------------------------------------------- */

/* A sum over the batch leaves padding rows out, so they get nothing back. */
static void vjp_sum(Grad *r) {
  const Attr *axes = attr(r, AT_axes);
  Type x = cotangent_type(r, 0);
  int64_t kept[MAX_RANK];
  uint32_t n = 0, next = 0;
  bool rows = false;
  for (int i = 0; i < x.rank; i++) {
    bool summed = next < axes->n && axes->ints[next] == i;
    if (summed) next++;
    else kept[n++] = i;
    rows = rows || (summed && i == x.rows);
  }
  ValueId d = build_broadcast(bd(r), r->dy, x, kept);
  grad_give(r, 0, rows ? build1(bd(r), OP_mask_rows, d) : d);
}

/* Gradients of a parameter add up in the accumulator of the next matmul, in f32. */
static void give_matmul(Grad *r, uint32_t i, ValueId a, ValueId b, bool ta, bool tb) {
  ValueId x = operand(r, i), sum = r->cot[x];
  if (sum == NO_ID || r->b.g->values.at[x].node != NO_ID) {
    ValueId d = build_matmul(bd(r), a, b, ta, tb);
    grad_give(r, i, build_cast(bd(r), d, (DType)operand_type(r, i).dtype));
    return;
  }
  Attr attrs[] = {attr_int(AT_k_chunk, K_CHUNK), attr_bool(AT_ta, ta), attr_bool(AT_tb, tb)};
  uint32_t n = 1;
  if (ta) n++;
  if (tb) attrs[n++] = attr_bool(AT_tb, true);
  r->cot[x] = build(bd(r), OP_matmul, 3, (ValueId[]){a, b, sum}, n, attrs);
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
  ValueId d = build_matmul(bd(r), x[0], x[1], tx, ty);
  d = build_cast(bd(r), d, (DType)operand_type(r, i).dtype);
  grad_give(r, i, transposed(r, d, attr(r, key), true));
}

/* C = A B with a stored as A or Aᵀ (ta), b as B or Bᵀ (tb).  dA = D Bᵀ, dB = Aᵀ D, each in the
 * layout that its operand is stored in: of a transposed one dAᵀ = B Dᵀ, dBᵀ = Dᵀ A. */
static void vjp_matmul(Grad *r) {
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

/* The cotangent type of x[…, n], of which z[…] has no last axis. */
static Type rows_type(Grad *r) {
  Type t = cotangent_type(r, 0);
  t.rows = value_type(r->b.g, result(r)).rows;
  return t;
}

static ValueId one_hot(Grad *r) {
  ValueId i = operand(r, 1);
  Type t = rows_type(r);
  t.unit = 0;
  t.rows = operand_type(r, 1).rows;
  return build_typed(bd(r), OP_one_hot, t, 1, &i, 0, NULL);
}

/* An index out of range was clamped forward and gives nothing back; its fault stops the step. */
static void vjp_gather(Grad *r) {
  ValueId d = build_broadcast_leading(bd(r), r->dy, rows_type(r));
  grad_give(r, 0, mul(r, one_hot(r), d));
}

/* ---- composites: the gradient is that of the whole ----------------------------------------- */

/* dx = z (d - Σ d z) */
static void vjp_softmax(Grad *r) {
  ValueId z = result(r), s = build_reduce_last(bd(r), OP_sum, mul(r, r->dy, z));
  ValueId mean = build_broadcast_leading(bd(r), s, cotangent_type(r, 0));
  grad_give(r, 0, mul(r, z, build2(bd(r), OP_sub, r->dy, mean)));
}

/* dz = (softmax(z) - one_hot(target)) d */
static void vjp_cross_entropy(Grad *r) {
  ValueId p = build1(bd(r), OP_softmax, operand(r, 0));
  ValueId e = build2(bd(r), OP_sub, p, one_hot(r));
  ValueId d = build_broadcast_leading(bd(r), r->dy, rows_type(r));
  grad_give(r, 0, mul(r, e, d));
}

/* The loop of a `scan`; those of micro-batches come later than gradients. */
static void vjp_loop(Grad *r) {
  const Node *n = &r->b.g->nodes.at[r->node];
  diag_error(r->c->diag, n->loc,
             "`scan` has no gradient in this version of mpcc, and it lies between a parameter and "
             "the loss");
}

Vjp *const vjp_rule[OP_COUNT] = {
#define OP(name, doc) [OP_##name] =
#define VJP(rule) vjp_##rule,
#include "ir/ops.def"
};
