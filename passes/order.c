/* order.c: a sequence of kernels.
 *
 * The sequence is the one the graph came in, but for this: a kernel that writes a state comes after
 * every kernel that reads the state's old value, so that the new value can be stored over the old
 * one.  Where a kernel reads what it writes and not element by element (or two such kernels wait
 * for each other), the new value goes to a shadow first: a copy at the end of the entry stores it.
 */
#include "passes/pass.h"

#include <string.h>

typedef struct Ordering {
  Graph *g;
  Arena *arena;
  uint32_t entry;
  BlockId block;
  NodeId *node;
  uint32_t n;
  NodeIds done;
  uint8_t *mark; /* by NodeId: 1 being placed, 2 placed */
} Ordering;

/* The argument that holds the state which result i of the entry replaces, or NO_ID. */
static ValueId replaced_state(const Ordering *s, uint32_t i) {
  const Entry *e = &s->g->entries.at[s->entry];
  Port p = e->results.at[i];
  return p.role == RES_state ? graph_entry_arg(s->g, s->entry, ARG_state, p.name) : NO_ID;
}

static bool reads(const Graph *g, const Node *n, ValueId v) {
  for (uint32_t i = 0; i < n->nops; i++)
    if (view_source(g, n->ops[i]) == v) return true;
  return false;
}

/* ---- may the result lie where the operand lies? ---------------------------------------------- */

static bool any_use(const Node *n, uint32_t operand, const void *ctx) {
  (void)operand, (void)ctx;
  return n->op != OP_kernel;
}

static bool scattered_use(const Node *n, uint32_t operand, const void *ctx) {
  (void)ctx;
  return n->op == OP_transpose || n->op == OP_broadcast || n->op == OP_matmul ||
         (n->op == OP_gather && operand == 0);
}

/* Each element of `old` is read by who writes it: same dims, a form that goes element by element or
 * row by row, no access at another index. */
static bool goes_in_place(const Graph *g, NodeId k, ValueId old, ValueId result) {
  const Node *n = &g->nodes.at[k];
  const Block *b = &g->blocks.at[n->blocks[0]];
  const char *form = node_text(n, AT_form, "");
  if (!type_same_dims(value_type(g, old), value_type(g, result))) return false;
  for (uint32_t i = 0; i < n->nops; i++) {
    if (view_source(g, n->ops[i]) != old) continue;
    if (n->ops[i] != old || !strcmp(form, form_name[FORM_gemm])) return false;
    if (kernel_uses(g, k, b->args.at[i], any_use, NULL) &&
        kernel_uses(g, k, b->args.at[i], scattered_use, NULL))
      return false;
  }
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *r = &g->nodes.at[b->nodes.at[i]];
    if (!(op_flags[r->op] & F_REDUCE)) continue;
    Type x = value_type(g, r->ops[0]);
    const Attr *axes = node_attr(r, AT_axes);
    if (axes->ints[0] != x.rank - (int64_t)axes->n) return false; /* down the columns */
  }
  return true;
}

/* Some earlier result of the entry already gives v its place. */
static bool placed_before(const Ordering *s, uint32_t i, ValueId v) {
  const Entry *e = &s->g->entries.at[s->entry];
  const Block *b = &s->g->blocks.at[s->block];
  for (uint32_t k = 0; k < i; k++)
    if (e->results.at[k].role == RES_state && view_source(s->g, b->results.at[k]) == v) return true;
  return false;
}

static bool needs_copy(const Ordering *s, uint32_t i, ValueId v) {
  const Graph *g = s->g;
  ValueId old = replaced_state(s, i);
  if (v == old) return false; /* unchanged */
  Node *k = value_node(g, v);
  if (!k || placed_before(s, i, v)) return true;
  return old != NO_ID && !goes_in_place(g, (NodeId)(k - g->nodes.at), old, v);
}

/* Results that cannot be computed where their state lies are copied there at the end. */
static void add_shadows(Ordering *s) {
  Graph *g = s->g;
  uint32_t n = g->entries.at[s->entry].results.len;
  for (uint32_t i = 0; i < n; i++) {
    Port port = g->entries.at[s->entry].results.at[i];
    ValueId v = view_source(g, g->blocks.at[s->block].results.at[i]);
    if (port.role != RES_state || !needs_copy(s, i, v)) continue;
    ValueId copy = kernel_copy(g, s->block, port.loc, g->blocks.at[s->block].results.at[i]);
    g->blocks.at[s->block].results.at[i] = copy;
  }
}

/* ---- the sequence ---------------------------------------------------------------------------- */

static void place(Ordering *s, NodeId id);

static void place_operands(Ordering *s, const Node *n) {
  for (uint32_t i = 0; i < n->nops; i++) {
    Node *d = value_node(s->g, n->ops[i]);
    if (d) place(s, (NodeId)(d - s->g->nodes.at));
  }
}

/* Everybody who reads the old value of a state that `id` writes goes first. */
static void place_readers(Ordering *s, NodeId id) {
  const Graph *g = s->g;
  const Block *b = &g->blocks.at[s->block];
  for (uint32_t i = 0; i < b->results.len; i++) {
    ValueId old = replaced_state(s, i);
    Node *writer = value_node(g, view_source(g, b->results.at[i]));
    if (old == NO_ID || writer != &g->nodes.at[id]) continue;
    for (uint32_t k = 0; k < s->n; k++)
      if (s->node[k] != id && reads(g, &g->nodes.at[s->node[k]], old)) place(s, s->node[k]);
  }
}

static void place(Ordering *s, NodeId id) {
  if (s->mark[id] == 2) return;
  if (s->mark[id]) ice(s->g, id, "order: kernels wait for each other");
  s->mark[id] = 1;
  place_operands(s, &s->g->nodes.at[id]);
  place_readers(s, id);
  s->mark[id] = 2;
  vec_push(s->arena, &s->done, id);
}

static bool order_block(Graph *g, uint32_t entry, Arena *arena) {
  Ordering s = {.g = g, .arena = arena, .entry = entry, .block = g->entries.at[entry].body};
  add_shadows(&s);
  Block *b = &g->blocks.at[s.block];
  s.n = b->nodes.len;
  s.node = b->nodes.at;
  s.mark = NEW_ARRAY(arena, uint8_t, g->nodes.len);
  for (uint32_t i = 0; i < s.n; i++) place(&s, s.node[i]);
  bool changed = s.n && memcmp(s.node, s.done.at, s.n * sizeof *s.node);
  if (s.n) memcpy(b->nodes.at, s.done.at, s.n * sizeof *s.node);
  return changed;
}

bool pass_order(Graph *g, PassCtx *ctx) {
  bool changed = false;
  for (uint32_t i = 0; i < g->entries.len; i++) changed |= order_block(g, i, ctx->arena);
  return changed;
}
