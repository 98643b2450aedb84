/* vjp_index.c: gradient rules of ops that read at an index known at run time (vjp.h).
 *
 * A read at an index gives back a sum over all who read there: a product with a one-hot row for
 * gather, a scatter-add of rows for a table.  The index itself has no gradient. */
#include "passes/vjp.h"

/* The cotangent type of x[…, n], of which z[…] has no last axis. */
Type vjp_rows_type(Grad *r) {
  Type t = cotangent_type(r, 0);
  t.rows = value_type(r->b.g, result(r)).rows;
  return t;
}

ValueId vjp_one_hot(Grad *r) {
  ValueId i = operand(r, 1);
  Type t = vjp_rows_type(r);
  t.unit = 0;
  t.rows = operand_type(r, 1).rows;
  return build_typed(bd(r), OP_one_hot, t, 1, &i, 0, NULL);
}

/* An index out of range was clamped forward and gives nothing back; its fault stops the step. */
void vjp_gather(Grad *r) {
  ValueId d = build_broadcast_leading(bd(r), r->dy, vjp_rows_type(r));
  grad_give(r, 0, mul(r, vjp_one_hot(r), d));
}

/* What other uses have given a parameter so far is where the sums start, as for a matmul. */
void vjp_embedding(Grad *r) {
  ValueId x = operand(r, 0), sum = r->cot[x];
  Type t = cotangent_type(r, 0), table = operand_type(r, 0);
  bool goes_on = sum != NO_ID && r->b.g->values.at[x].node == NO_ID && table.dtype == DT_f32;
  t.dtype = DT_f32;
  ValueId ops[] = {r->dy, operand(r, 1), sum};
  if (goes_on) grad_meet(r, &ops[0], &ops[2]);
  t.unit = value_type(r->b.g, ops[0]).unit;
  ValueId d = build_typed(bd(r), OP_scatter_add, t, goes_on ? 3 : 2, ops, 0, NULL);
  if (goes_on) r->cot[x] = d;
  else grad_give(r, 0, build_cast(bd(r), d, (DType)table.dtype));
}
