/* vjp.h: what the files of the gradient rules share (column VJP of ops.def).  Private to vjp*.c.
 *
 * A rule says how the cotangent of a node's result becomes cotangents of its operands.  x, y stand
 * for operands, z for the result, d for its cotangent.  It builds only what grad_wants asks for,
 * uses the result z where it saves recomputing (z is often stored for the backward pass anyway),
 * and never transposes data: a matmul has flags for that.  Where PyTorch has a convention at a
 * kink, it is PyTorch's: relu' (0) = 0, a tie of max or min halves.  Zeros are constants of d's
 * type: a literal zero has every unit of the loss scale.
 *
 * C does not say which argument of a call is computed first, so no call here has two that build
 * nodes.
 */
#ifndef PASSES_VJP_H
#define PASSES_VJP_H

#include "passes/pass.h"

#define OP(name, doc)
#define VJP(rule) Vjp vjp_##rule;
#include "ir/ops.def"

static inline Builder *bd(Grad *r) { return &r->b; }
static inline ValueId operand(const Grad *r, uint32_t i) {
  return r->b.g->nodes.at[r->node].ops[i];
}
static inline ValueId result(const Grad *r) { return r->b.g->nodes.at[r->node].res; }
static inline Type operand_type(const Grad *r, uint32_t i) {
  return value_type(r->b.g, operand(r, i));
}
static inline const Attr *attr(const Grad *r, AttrKey key) {
  return node_attr(&r->b.g->nodes.at[r->node], key);
}

static inline ValueId add(Grad *r, ValueId x, ValueId y) { return build2(bd(r), OP_add, x, y); }
static inline ValueId mul(Grad *r, ValueId x, ValueId y) { return build2(bd(r), OP_mul, x, y); }
static inline ValueId divide(Grad *r, ValueId x, ValueId y) { return build2(bd(r), OP_div, x, y); }
static inline ValueId negate(Grad *r, ValueId x) { return build1(bd(r), OP_neg, x); }
static inline ValueId zero(Grad *r) { return build_like(bd(r), r->dy, 0); }

/* v - x for a number v, in x's type. */
static inline ValueId minus_from(Grad *r, double v, ValueId x) {
  return build2(bd(r), OP_sub, build_like(bd(r), x, v), x);
}

/* The operand's type with d's unit: what its cotangent looks like. */
static inline Type cotangent_type(Grad *r, uint32_t i) {
  Type t = operand_type(r, i), d = value_type(r->b.g, r->dy);
  t.dtype = d.dtype;
  t.unit = d.unit;
  return t;
}

/* ---- vjp_index.c ---- */
Type vjp_rows_type(Grad *r); /* the cotangent type of x[…, n], of which z[…] has no last axis */
ValueId vjp_one_hot(Grad *r); /* of the index that is the second operand */

#endif
