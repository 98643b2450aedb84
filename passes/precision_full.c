/* precision_full.c: what differs from example to example where no type shows it.
 *
 * Where every batch is full no axis is tagged as that of the examples.  Then an activation is what
 * is computed from an input, and a cotangent from activations in turn; what has been added up, over
 * the batch for all one can tell, is one no more: gradients of parameters, and all that follows
 * from them.
 */
#include "passes/precision.h"

static void mark_block(Precision *s, BlockId block);

static bool adds_up(const Graph *g, const Node *n) {
  bool product = op_form[n->op] == FORM_gemm;
  return n->op == OP_sum || n->op == OP_scatter_add || (product && matmul_is_weight_gradient(g, n));
}

static bool any_varies(const Precision *s, const Node *n) {
  for (uint32_t i = 0; i < n->nops; i++)
    if (s->varies[n->ops[i]]) return true;
  return false;
}

/* The block's arguments from `first` on are the node's operands. */
static void mark_region(Precision *s, const Node *n, uint32_t first) {
  const Block *b = &s->g->blocks.at[n->blocks[0]];
  for (uint32_t i = 0; i < n->nops; i++) s->varies[b->args.at[first + i]] |= s->varies[n->ops[i]];
  mark_block(s, n->blocks[0]);
  for (uint32_t i = 0; i < n->nres; i++) s->varies[n->res + i] = s->varies[b->results.at[i]];
}

/* Until no carry varies that did not before. */
static void mark_loop(Precision *s, const Node *n) {
  const Block *b = &s->g->blocks.at[n->blocks[0]];
  int64_t carries = node_int(n, AT_carries, 0);
  for (bool more = true; more;) {
    more = false;
    mark_region(s, n, 1);
    for (uint32_t i = 0; i < carries; i++) {
      bool fresh = s->varies[b->results.at[i]] && !s->varies[b->args.at[i + 1]];
      s->varies[b->args.at[i + 1]] |= fresh;
      more |= fresh;
    }
  }
}

static void mark_block(Precision *s, BlockId block) {
  const Graph *g = s->g;
  const Block *b = &g->blocks.at[block];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    if (n->op == OP_kernel) mark_region(s, n, 0);
    else if (n->op == OP_loop) mark_loop(s, n);
    else
      for (uint32_t k = 0; k < n->nres; k++)
        s->varies[n->res + k] = any_varies(s, n) && !adds_up(g, n);
  }
}

void find_varying(Precision *s) {
  const Entry *e = &s->g->entries.at[s->entry];
  const Block *body = &s->g->blocks.at[e->body];
  s->varies = NEW_ARRAY(s->arena, bool, s->values);
  for (uint32_t i = 0; e->full && i < e->args.len; i++) {
    Type t = value_type(s->g, body->args.at[i]);
    s->varies[body->args.at[i]] = e->args.at[i].role == ARG_input && t.rank && t.dim[0] == e->batch;
  }
  if (e->full) mark_block(s, e->body);
}
