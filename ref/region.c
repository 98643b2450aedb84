/* region.c: nodes that own blocks: a kernel runs its body on its operands, a loop in turn.
 *
 * A kernel means what its body means, which is why grouping cannot change a bit.  A loop's
 * arguments are the index, carries, slices, invariants; it ends with carries and what was
 * stacked.  Where it takes the real rows apart, the number of rows inside is the iteration's own.
 */
#include "ref/cells.h"

#include <string.h>

/* A slice, or the whole: `index` counts in pieces of `to`. */
static void copy_piece(Tensor *to, const Tensor *from, int64_t index) {
  size_t size = tensor_bytes(to);
  if (size) memcpy(to->data, (const char *)from->data + (size_t)index * size, size);
}

/* Block arguments: index, carries, slices, invariants.  Results: carries, then what is stacked. */
static void bind_iteration(Eval *e, const Node *n, const Block *b, int64_t i) {
  uint32_t carries = (uint32_t)node_int(n, AT_carries, 0);
  uint32_t slices = carries + (uint32_t)node_int(n, AT_slices, 0);
  tensor_set(e->scalars, eval_ensure(e, b->args.at[0]), 0, (double)i);
  for (uint32_t k = 0; k < n->nops; k++) {
    const Tensor *from = k < carries ? eval_output(e, n, k) : eval_operand(e, n, k);
    copy_piece(eval_ensure(e, b->args.at[k + 1]), from, k >= carries && k < slices ? i : 0);
  }
}

static void take_iteration(Eval *e, const Node *n, const Block *b, int64_t i) {
  uint32_t carries = (uint32_t)node_int(n, AT_carries, 0);
  for (uint32_t k = 0; k < n->nres; k++) {
    const Tensor *from = &e->value[b->results.at[k]];
    size_t size = tensor_bytes(from), at = k < carries ? 0 : (size_t)i * size;
    if (size) memcpy((char *)eval_output(e, n, k)->data + at, from->data, size);
  }
}

/* What of the real rows is iteration i's, where they are taken apart. */
int64_t eval_turn_rows(const Node *n, int64_t rows, int64_t i) {
  int64_t batch = node_int(n, AT_rows, 0), left = rows - i * batch;
  return !batch ? rows : left < 0 ? 0 : left > batch ? batch : left;
}

int64_t eval_turn_index(const Node *n, int64_t turn) {
  return node_bool(n, AT_reverse) ? node_int(n, AT_trip, 0) - 1 - turn : turn;
}

/* Carries go from iteration to iteration in the node's results, where the last ones stay. */
void eval_loop(Eval *e, const Node *n) {
  const Block *b = &e->g->blocks.at[n->blocks[0]];
  int64_t trip = node_int(n, AT_trip, 0), carries = node_int(n, AT_carries, 0);
  for (uint32_t k = 0; k < carries; k++) copy_piece(eval_output(e, n, k), eval_operand(e, n, k), 0);
  int64_t rows = e->rows, batch = e->batch;
  e->batch = node_int(n, AT_rows, batch);
  for (int64_t turn = 0; turn < trip; turn++) {
    int64_t i = eval_turn_index(n, turn);
    e->rows = eval_turn_rows(n, rows, i);
    bind_iteration(e, n, b, i);
    eval_block(e, n->blocks[0]);
    take_iteration(e, n, b, i);
  }
  e->rows = rows;
  e->batch = batch;
}

void eval_kernel(Eval *e, const Node *n) {
  const Block *b = &e->g->blocks.at[n->blocks[0]];
  for (uint32_t k = 0; k < n->nops; k++)
    copy_piece(eval_ensure(e, b->args.at[k]), eval_operand(e, n, k), 0);
  eval_block(e, n->blocks[0]);
  for (uint32_t k = 0; k < n->nres; k++)
    copy_piece(eval_output(e, n, k), &e->value[b->results.at[k]], 0);
}

void eval_composite(Eval *e, const Node *n) {
  eval_refuse(e, n, "a composite op was left in the graph");
}
