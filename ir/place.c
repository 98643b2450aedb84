/* place.c: what lies where another value lay.
 *
 * A state's new value is stored over the old one, which an entry takes as an argument; the next
 * value of a loop's carry over that which the loop's block takes.  Nothing is mutated in the graph:
 * it is the sequence of kernels that pass `order` makes, and verify_order.c looks at, that lets it
 * be so in memory.  What both go by is here. */
#include "ir/ir.h"

#include <string.h>

ValueId view_source(const Graph *g, ValueId v) {
  for (Node *n; (n = value_node(g, v)) && n->op == OP_reshape;) v = n->ops[0];
  return v;
}

bool node_reads(const Graph *g, const Node *n, ValueId v) {
  for (uint32_t i = 0; i < n->nops; i++)
    if (view_source(g, n->ops[i]) == v) return true;
  return false;
}

bool node_is_grouped(const Graph *g, const Node *n) {
  for (uint32_t i = 0; i < n->nops; i++)
    if (value_block(g, n->ops[i]) != n->block) return false;
  return n->op == OP_kernel || n->op == OP_reshape || n->op == OP_loop;
}

/* Counts, when `at` is NULL; else puts the positions where `first` says, and moves it on. */
static void visit_readers(const Graph *g, BlockId block, uint32_t *last, BlockReaders *r) {
  const NodeIds *nodes = &g->blocks.at[block].nodes;
  for (uint32_t p = 0; p < nodes->len; p++) {
    const Node *n = &g->nodes.at[nodes->at[p]];
    for (uint32_t i = 0; i < n->nops; i++) {
      ValueId v = view_source(g, n->ops[i]);
      if (last[v] == p + 1) continue;
      last[v] = p + 1;
      if (r->at) r->at[r->first[v]] = p;
      r->first[v]++;
    }
  }
}

BlockReaders block_readers(const Graph *g, BlockId block, Arena *arena) {
  uint32_t n = g->values.len, sum = 0;
  BlockReaders r = {.first = NEW_ARRAY(arena, uint32_t, n + 1)};
  uint32_t *last = NEW_ARRAY(arena, uint32_t, n);
  visit_readers(g, block, last, &r);
  for (ValueId v = 0; v <= n; v++) {
    uint32_t count = r.first[v];
    r.first[v] = sum;
    sum += count;
  }
  r.at = NEW_ARRAY(arena, uint32_t, sum);
  memset(last, 0, n * sizeof *last);
  visit_readers(g, block, last, &r);
  for (ValueId v = n; v > 0; v--) r.first[v] = r.first[v - 1]; /* back to where they began */
  r.first[0] = 0;
  return r;
}

static const Entry *entry_of(const Graph *g, BlockId block) {
  const Entry *e = g->entries.at;
  while (e->body != block) e++;
  return e;
}

static void states_replaced(const Graph *g, const Entry *e, Arena *arena, ValueId *old) {
  NameTable states = {.arena = arena};
  const ValueId *args = g->blocks.at[e->body].args.at;
  for (uint32_t i = 0; i < e->args.len; i++)
    if (e->args.at[i].role == ARG_state) names_add(&states, 0, e->args.at[i].name, args[i]);
  for (uint32_t i = 0; i < e->results.len; i++)
    if (e->results.at[i].role == RES_state) old[i] = names_find(&states, 0, e->results.at[i].name);
}

const ValueId *results_replaced(const Graph *g, BlockId block, Arena *arena) {
  const Block *b = &g->blocks.at[block];
  ValueId *old = NEW_ARRAY(arena, ValueId, b->results.len);
  for (uint32_t i = 0; i < b->results.len; i++) old[i] = NO_ID;
  if (b->owner == NO_ID) {
    states_replaced(g, entry_of(g, block), arena, old);
    return old;
  }
  uint32_t carries = (uint32_t)node_int(&g->nodes.at[b->owner], AT_carries, 0);
  for (uint32_t i = 0; i < carries; i++) old[i] = b->args.at[i + 1];
  return old;
}

/* ---- may the result lie where the operand lies? ---------------------------------------------- */

/* Does n read operand i at another element than the one it makes?  Where a map looks something up,
 * the index is read in its own place. */
static bool reads_elsewhere(const Node *n, uint32_t i) {
  return (op_flags[n->op] & F_ELSEWHERE) && (i == 0 || op_form[n->op] != FORM_map);
}

static bool is_trailing(const Graph *g, const Node *reduction) {
  Type x = value_type(g, reduction->ops[0]);
  const Attr *axes = node_attr(reduction, AT_axes);
  return axes->ints[0] == x.rank - (int64_t)axes->n;
}

/* from, by value: each of its elements is made of that element of the old value.  What a row is
 * reduced to is made of all of it, but stands when the row has been read. */
static bool body_in_place(const Graph *g, const Block *b, bool *from) {
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    bool reduces = op_flags[n->op] & F_REDUCE, made = false;
    if (reduces && !is_trailing(g, n)) return false;
    for (uint32_t k = 0; k < n->nops; k++) {
      if (from[n->ops[k]] && reads_elsewhere(n, k)) return false;
      made = made || from[n->ops[k]];
    }
    for (uint32_t k = 0; k < n->nres; k++) from[n->res + k] = made && !reduces;
  }
  return true;
}

bool kernel_in_place(const Graph *g, NodeId kernel, ValueId old, ValueId result) {
  const Node *n = &g->nodes.at[kernel];
  const Block *b = &g->blocks.at[n->blocks[0]];
  Arena scratch = {0};
  if (!node_reads(g, n, old)) return true;
  if (!type_same_dims(value_type(g, old), value_type(g, result))) return false;
  if (node_is_kernel(n, FORM_gemm)) return false;
  bool *from = NEW_ARRAY(&scratch, bool, g->values.len), fits = true;
  for (uint32_t i = 0; i < n->nops; i++) {
    if (view_source(g, n->ops[i]) != old) continue;
    from[b->args.at[i]] = true;
    fits = fits && n->ops[i] == old; /* a view has other indices */
  }
  for (uint32_t i = 0; i < b->results.len; i++) fits = fits && !from[b->results.at[i]];
  fits = fits && body_in_place(g, b, from);
  arena_free(&scratch);
  return fits;
}
