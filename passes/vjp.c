/* vjp.c: the table of gradient rules, and those of ops that move elements or change their type.
 * vjp.h says what a rule is; vjp_map.c holds the elementwise ones, vjp_reduce.c sums and products,
 * vjp_index.c those that read at an index, vjp_rows.c composites along a row. */
#include "passes/vjp.h"

void vjp_reshape(Grad *r) { grad_give(r, 0, build_reshape(bd(r), r->dy, cotangent_type(r, 0))); }

void vjp_transpose(Grad *r) {
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
void vjp_broadcast(Grad *r) {
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

void vjp_cast(Grad *r) {
  grad_give(r, 0, build_cast(bd(r), r->dy, (DType)operand_type(r, 0).dtype));
}

void vjp_slice(Grad *r) {
  const int64_t *starts = attr(r, AT_starts)->ints, *steps = attr(r, AT_steps)->ints;
  grad_give(r, 0, build_pad(bd(r), r->dy, cotangent_type(r, 0), starts, steps));
}

void vjp_pad(Grad *r) {
  const int64_t *starts = attr(r, AT_starts)->ints, *steps = attr(r, AT_steps)->ints;
  grad_give(r, 0, build_slice(bd(r), r->dy, cotangent_type(r, 0), starts, steps));
}

void vjp_concat(Grad *r) {
  int axis = (int)attr(r, AT_axis)->i;
  int64_t at = 0;
  for (uint32_t i = 0; i < r->b.g->nodes.at[r->node].nops; i++) {
    int64_t size = operand_type(r, i).dim[axis];
    if (grad_wants(r, i)) grad_give(r, i, build_part(bd(r), r->dy, axis, at, size));
    at += size;
  }
}

void vjp_mask_rows(Grad *r) { grad_give(r, 0, build1(bd(r), OP_mask_rows, r->dy)); }

/* The loop of a `scan`; those of micro-batches come later than gradients. */
void vjp_loop(Grad *r) {
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
