/* dce.c: nodes that no result of an entry needs leave their block.
 *
 * From the last node to the first: a node is needed when one of its results is an operand of a
 * needed node or a result of the block.  The IR has no effects, so nothing else keeps a node.
 * Results of inner blocks count as needed where the node that owns them is; arguments stay, they
 * are the interface.
 */
#include "passes/pass.h"

typedef struct Dce {
  Graph *g;
  bool *needed; /* by ValueId */
  bool changed;
} Dce;

static void sweep(Dce *d, BlockId id);

static bool is_needed(const Dce *d, const Node *n) {
  for (uint32_t i = 0; i < n->nres; i++)
    if (d->needed[n->res + i]) return true;
  return false;
}

static void need_operands(Dce *d, const Node *n) {
  for (uint32_t i = 0; i < n->nops; i++) d->needed[n->ops[i]] = true;
  for (uint32_t i = 0; i < n->nblocks; i++) sweep(d, n->blocks[i]);
}

static void sweep(Dce *d, BlockId id) {
  Block *b = &d->g->blocks.at[id];
  uint32_t first = b->nodes.len; /* needed nodes gather at the end */
  for (uint32_t i = 0; i < b->results.len; i++) d->needed[b->results.at[i]] = true;
  for (uint32_t i = b->nodes.len; i-- > 0;) {
    const Node *n = &d->g->nodes.at[b->nodes.at[i]];
    if (!is_needed(d, n)) continue;
    need_operands(d, n);
    b->nodes.at[--first] = b->nodes.at[i];
  }
  if (!first) return;
  d->changed = true;
  b->nodes.len -= first;
  for (uint32_t i = 0; i < b->nodes.len; i++) b->nodes.at[i] = b->nodes.at[first + i];
}

bool dce_entry(Graph *g, uint32_t entry, Arena *scratch) {
  Dce d = {.g = g, .needed = NEW_ARRAY(scratch, bool, g->values.len)};
  sweep(&d, g->entries.at[entry].body);
  return d.changed;
}

bool pass_dce(Graph *g, PassCtx *c) {
  bool changed = false;
  for (uint32_t i = 0; i < g->entries.len; i++) changed |= dce_entry(g, i, c->arena);
  return changed;
}
