/* schedule.c: how threads share each kernel.
 *
 * Attribute `part`: 0, the threads share out the leading part of the index space; -1, one thread
 * does it all, because sharing costs more than it saves.  The cost table is one for all CPUs, so
 * that a build is the same everywhere.  No choice made here changes a bit.
 */
#include "passes/pass.h"

/* A barrier costs about a microsecond: a map has to be worth it. */
enum { SHARED_FROM = 4096, BLOCK = 4096 /* of a row's sum: docs/ir.md */ };

static int64_t inner_size(const Graph *g, const Node *matmul) {
  Type a = matmul_operand(g, matmul, 0);
  return a.dim[a.rank - 1];
}

/* Elements that the kernel goes over, times the inner length for a matmul. */
static int64_t work(const Graph *g, const Node *k) {
  const Block *b = &g->blocks.at[k->blocks[0]];
  int64_t most = 0;
  for (uint32_t i = 0; i < k->nres; i++) { /* a copy has no nodes */
    int64_t size = type_count(value_type(g, k->res + i));
    if (size > most) most = size;
  }
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    int64_t size = type_count(value_type(g, n->res));
    if (op_flags[n->op] & F_REDUCE) size = type_count(value_type(g, n->ops[0]));
    if (op_form[n->op] == FORM_gemm) size *= inner_size(g, n);
    if (size > most) most = size;
  }
  return most;
}

/* Does a reduction leave one element?  Then it is shared out by blocks, of which there must be two.
 */
static bool one_row(const Graph *g, const Node *k) {
  const Block *b = &g->blocks.at[k->blocks[0]];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    if (op_flags[n->op] & F_REDUCE) return type_count(value_type(g, n->res)) <= 1;
  }
  return false;
}

static void schedule_block(Graph *g, BlockId block) {
  const Block *b = &g->blocks.at[block];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    NodeId id = b->nodes.at[i];
    const Node *k = &g->nodes.at[id];
    if (k->op == OP_loop) schedule_block(g, k->blocks[0]);
    if (k->op != OP_kernel) continue;
    bool alone = work(g, k) < (one_row(g, k) ? BLOCK + 1 : SHARED_FROM);
    node_set_attr(g, id, attr_int(AT_part, alone ? -1 : 0));
  }
}

bool pass_schedule(Graph *g, PassCtx *ctx) {
  (void)ctx;
  for (uint32_t e = 0; e < g->entries.len; e++) schedule_block(g, g->entries.at[e].body);
  return true;
}
