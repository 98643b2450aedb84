/* cse.c: of equal nodes of a block the earlier one stays and serves both.
 *
 * Two nodes are equal when op, operands (in any order where the op commutes), attributes and result
 * types are: hash consing over a walk from front to back.  Attributes include the site of a random
 * draw, so two draws are one only where the program made one.  Commits are never merged: each
 * belongs to its state.  Nor are nodes with blocks, though the blocks are walked, each with a table
 * of its own: what is equal inside and outside is computed in both places.
 */
#include "passes/pass.h"

#include <string.h>

typedef struct Cse {
  Graph *g;
  Arena *scratch;
  ValueId *map; /* by ValueId */
  NodeId *slot; /* hash table of the block in hand */
  uint32_t cap;
  bool changed;
} Cse;

/* Constants second, so that equal layers stay equal whoever made a constant first; else by id. */
static void put_operands_in_order(const Graph *g, Node *n) {
  if (!(op_flags[n->op] & F_COMM)) return;
  bool first = value_constant(g, n->ops[0]), second = value_constant(g, n->ops[1]);
  if (first == second ? n->ops[0] <= n->ops[1] : second) return;
  ValueId x = n->ops[0];
  n->ops[0] = n->ops[1];
  n->ops[1] = x;
}

static uint64_t hash_attr(const Attr *a, uint64_t h) {
  h = hash_bytes(&a->key, sizeof a->key, h);
  switch ((AttrKind)attr_kind[a->key]) {
  case ATTR_INT:
  case ATTR_BOOL: return hash_bytes(&a->i, sizeof a->i, h);
  case ATTR_FLOAT: return hash_bytes(&a->f, sizeof a->f, h);
  case ATTR_TEXT: return hash_bytes(a->s, strlen(a->s), h);
  case ATTR_INTS: return hash_bytes(a->ints, a->n * sizeof *a->ints, h);
  }
  return h;
}

static uint64_t hash_node(const Graph *g, const Node *n) {
  uint64_t h = hash_bytes(&n->op, sizeof n->op, 0);
  h = hash_bytes(n->ops, n->nops * sizeof *n->ops, h);
  for (uint32_t i = 0; i < n->nattrs; i++) h = hash_attr(&n->attrs[i], h);
  Type t = value_type(g, n->res);
  return hash_bytes(t.dim, t.rank * sizeof *t.dim, hash_bytes(&t.dtype, 1, h));
}

static bool node_equal(const Graph *g, const Node *a, const Node *b) {
  if (a->op != b->op || a->nops != b->nops || a->nattrs != b->nattrs || a->nres != b->nres)
    return false;
  if (a->nops && memcmp(a->ops, b->ops, a->nops * sizeof *a->ops)) return false;
  for (uint32_t i = 0; i < a->nattrs; i++)
    if (!attr_equal(&a->attrs[i], &b->attrs[i])) return false;
  for (uint32_t i = 0; i < a->nres; i++)
    if (!type_equal(value_type(g, a->res + i), value_type(g, b->res + i))) return false;
  return true;
}

/* The slot of the equal node, or the free one where `id` belongs. */
static NodeId *find_slot(Cse *c, NodeId id) {
  const Node *n = &c->g->nodes.at[id];
  for (uint64_t i = hash_node(c->g, n);; i++) {
    NodeId *slot = &c->slot[i & (c->cap - 1)];
    if (*slot == NO_ID || node_equal(c->g, &c->g->nodes.at[*slot], n)) return slot;
  }
}

static void merge_block(Cse *c, BlockId id);

/* Bits are cheaper drawn where they are used than kept from the forward pass to the backward. */
static bool is_drawn_anew(const Node *n) {
  return (op_flags[n->op] & F_RANDOM) && (op_flags[n->op] & F_EW);
}

/* True: an earlier node does the work of this one. */
static bool merge_node(Cse *c, NodeId id) {
  Node *n = &c->g->nodes.at[id];
  for (uint32_t i = 0; i < n->nops; i++)
    if (c->map[n->ops[i]] != NO_ID) n->ops[i] = c->map[n->ops[i]];
  put_operands_in_order(c->g, n);
  if (n->nblocks || !n->nres || (op_flags[n->op] & F_STATE) || is_drawn_anew(n)) return false;
  NodeId *slot = find_slot(c, id);
  if (*slot == NO_ID) {
    *slot = id;
    return false;
  }
  for (uint32_t i = 0; i < n->nres; i++) c->map[n->res + i] = c->g->nodes.at[*slot].res + i;
  c->changed = true;
  return true;
}

/* After what the block sees of the outer one has been merged. */
static void merge_inner(Cse *c, NodeId id) {
  const Node *n = &c->g->nodes.at[id];
  NodeId *slot = c->slot;
  uint32_t cap = c->cap;
  for (uint32_t i = 0; i < n->nblocks; i++) merge_block(c, n->blocks[i]);
  c->slot = slot;
  c->cap = cap;
}

static void merge_block(Cse *c, BlockId id) {
  Block *b = &c->g->blocks.at[id];
  for (c->cap = 16; c->cap < 2 * b->nodes.len;) c->cap *= 2;
  c->slot = NEW_ARRAY(c->scratch, NodeId, c->cap);
  for (uint32_t i = 0; i < c->cap; i++) c->slot[i] = NO_ID;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    merge_inner(c, b->nodes.at[i]);
    if (!merge_node(c, b->nodes.at[i])) b->nodes.at[kept++] = b->nodes.at[i];
  }
  b->nodes.len = kept;
  for (uint32_t i = 0; i < b->results.len; i++)
    if (c->map[b->results.at[i]] != NO_ID) b->results.at[i] = c->map[b->results.at[i]];
}

bool pass_cse(Graph *g, PassCtx *c) {
  Cse s = {.g = g, .scratch = c->arena, .map = NEW_ARRAY(c->arena, ValueId, g->values.len)};
  for (uint32_t i = 0; i < g->values.len; i++) s.map[i] = NO_ID;
  for (uint32_t i = 0; i < g->entries.len; i++) merge_block(&s, g->entries.at[i].body);
  return s.changed;
}
