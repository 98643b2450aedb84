/* order.c: a sequence of kernels.
 *
 * The sequence is the one the graph came in, but for this: a kernel that writes a state comes after
 * every kernel that reads the state's old value, so that the new value can be stored over the old
 * one.  Where a kernel reads what it writes and not element by element (or two such kernels wait
 * for each other), the new value goes to a shadow first: a copy at the end of the entry stores it.
 *
 * The carries of a loop are to its block what states are to an entry: the next value is stored over
 * the last one (ir/place.c).  And what a loop begins with gets a place of its own, by a copy where
 * it has none; so does each result of the block that is to be a slice of the loop's.
 *
 * From here on the graph says `ordered`, and the verifier sees to it that all of that stays so.
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
  const ValueId *replaced; /* by result */
  BlockReaders readers;
  uint32_t *written, *more; /* by NodeId, the first result that it computes for its place; by
                               result, the next of the same node; each plus one, 0: none */
  NodeIds done;
  uint8_t *mark; /* by NodeId: 1 being placed, 2 placed */
  bool *shadow;  /* by result: its place is written by a copy at the end */
  bool asked;    /* for another shadow */
} Ordering;

static Block *block_of(const Ordering *s) { return &s->g->blocks.at[s->block]; }

static const Node *loop_of(const Ordering *s) { /* NULL: the block is the entry's */
  NodeId owner = block_of(s)->owner;
  return owner == NO_ID ? NULL : &s->g->nodes.at[owner];
}

/* Result i of the block has to lie where the block does not choose. */
static bool has_place(const Ordering *s, uint32_t i) {
  return loop_of(s) || s->g->entries.at[s->entry].results.at[i].role == RES_state;
}

static Loc loc_of(const Ordering *s, uint32_t i) {
  const Node *loop = loop_of(s);
  return loop ? loop->loc : s->g->entries.at[s->entry].results.at[i].loc;
}

/* ---- places ---------------------------------------------------------------------------------- */

/* What is known of values that results show, by value; copies made since are of none. */
enum {
  OUTPUT = 1,  /* a result that the host sees, which lies in the arena */
  PLACED = 2,  /* a result visited before gives it its place */
  REPLACED = 4 /* its place is a result's */
};

static uint8_t *shown_values(const Ordering *s) {
  uint8_t *shown = NEW_ARRAY(s->arena, uint8_t, s->g->values.len);
  for (uint32_t i = 0; i < block_of(s)->results.len; i++) {
    if (!has_place(s, i)) shown[view_source(s->g, block_of(s)->results.at[i])] |= OUTPUT;
    if (s->replaced[i] != NO_ID) shown[s->replaced[i]] |= REPLACED;
  }
  return shown;
}

static bool needs_copy(const Ordering *s, uint32_t i, ValueId v, uint8_t shown) {
  const Graph *g = s->g;
  ValueId old = s->replaced[i];
  if (old != NO_ID && v == old) return false; /* unchanged */
  Node *k = value_node(g, v);
  if (!k || shown & (PLACED | OUTPUT) || s->shadow[i]) return true;
  bool slice = loop_of(s) && old == NO_ID; /* a loop's results can grow in it */
  if (k->op != OP_kernel) return !slice;
  return old != NO_ID && !kernel_in_place(g, (NodeId)(k - g->nodes.at), old, v);
}

/* Results that cannot be computed where they have to lie are copied there at the end; by way of a
 * second copy where the value will be overwritten by then, as when two states change places. */
static void add_shadows(Ordering *s) {
  Graph *g = s->g;
  uint32_t n = block_of(s)->results.len;
  uint8_t *shown = shown_values(s);
  s->shadow = s->shadow ? s->shadow : NEW_ARRAY(s->arena, bool, n);
  for (uint32_t i = 0; i < n; i++) {
    ValueId v = block_of(s)->results.at[i], source = view_source(g, v);
    if (!has_place(s, i)) continue;
    if (!needs_copy(s, i, source, shown[source])) {
      shown[source] |= PLACED;
      continue;
    }
    if (shown[source] & REPLACED) v = kernel_copy(g, s->block, loc_of(s, i), v);
    v = kernel_copy(g, s->block, loc_of(s, i), v);
    block_of(s)->results.at[i] = v;
    s->shadow[i] = false; /* done */
  }
}

static bool is_state(const Ordering *s, ValueId v) {
  const Value *x = &s->g->values.at[v];
  return x->node == NO_ID && s->g->entries.at[s->entry].args.at[x->index].role == ARG_state;
}

/* What the host reads does not lie in a state. */
static void leave_states(Ordering *s) {
  Graph *g = s->g;
  const Entry *e = &g->entries.at[s->entry];
  bool *placed = NEW_ARRAY(s->arena, bool, g->values.len);
  for (uint32_t i = 0; i < e->results.len; i++)
    if (has_place(s, i)) placed[view_source(g, block_of(s)->results.at[i])] = true;
  for (uint32_t i = 0; i < e->results.len; i++) {
    ValueId v = block_of(s)->results.at[i], source = view_source(g, v);
    if (has_place(s, i) || !(is_state(s, source) || placed[source])) continue;
    v = kernel_copy(g, s->block, loc_of(s, i), v);
    block_of(s)->results.at[i] = v;
  }
}

/* ---- loops ----------------------------------------------------------------------------------- */

static uint32_t count_uses(const Ordering *s, ValueId v) {
  uint32_t uses = 0;
  for (uint32_t i = 0; i < block_of(s)->nodes.len; i++) {
    const Node *n = &s->g->nodes.at[block_of(s)->nodes.at[i]];
    for (uint32_t k = 0; k < n->nops; k++) uses += view_source(s->g, n->ops[k]) == v;
  }
  for (uint32_t i = 0; i < block_of(s)->results.len; i++)
    uses += view_source(s->g, block_of(s)->results.at[i]) == v;
  return uses;
}

/* What nobody else reads and a kernel computes may lie where the carry does. */
static bool begins_in_place(const Ordering *s, ValueId v) {
  const Node *k = value_node(s->g, v);
  return k && k->op == OP_kernel && count_uses(s, v) == 1;
}

/* The copies stand at the end of the block until `place` orders it. */
static void copy_first_carries(Ordering *s) {
  uint32_t n = block_of(s)->nodes.len;
  for (uint32_t i = 0; i < n; i++) {
    NodeId id = block_of(s)->nodes.at[i];
    for (uint32_t k = 0; k < node_int(&s->g->nodes.at[id], AT_carries, 0); k++) {
      ValueId v = s->g->nodes.at[id].ops[k];
      if (begins_in_place(s, v)) continue;
      v = kernel_copy(s->g, s->block, s->g->nodes.at[id].loc, v);
      s->g->nodes.at[id].ops[k] = v;
    }
  }
}

/* ---- the sequence ---------------------------------------------------------------------------- */

static bool place(Ordering *s, NodeId id);

static bool place_operands(Ordering *s, const Node *n) {
  for (uint32_t i = 0; i < n->nops; i++) {
    Node *d = value_node(s->g, n->ops[i]);
    if (d && !place(s, (NodeId)(d - s->g->nodes.at))) return false;
  }
  return true;
}

/* Everybody who reads the old value of what `id` writes goes first.  Where somebody waits for it
 * in turn, a shadow is asked for. */
static bool place_readers(Ordering *s, NodeId id) {
  for (uint32_t i = s->written[id]; i; i = s->more[i - 1]) {
    ValueId old = s->replaced[i - 1];
    for (uint32_t k = s->readers.first[old]; k < s->readers.first[old + 1]; k++) {
      NodeId reader = s->node[s->readers.at[k]];
      if (reader == id || place(s, reader)) continue;
      if (!s->asked) s->shadow[i - 1] = s->asked = true;
      return false;
    }
  }
  return true;
}

/* False: kernels wait for each other, and a shadow was asked for. */
static bool place(Ordering *s, NodeId id) {
  if (s->mark[id]) return s->mark[id] == 2;
  s->mark[id] = 1;
  if (!place_operands(s, &s->g->nodes.at[id]) || !place_readers(s, id)) return false;
  s->mark[id] = 2;
  vec_push(s->arena, &s->done, id);
  return true;
}

static void find_writers(Ordering *s) {
  uint32_t n = block_of(s)->results.len;
  s->written = NEW_ARRAY(s->arena, uint32_t, s->g->nodes.len);
  s->more = NEW_ARRAY(s->arena, uint32_t, n);
  for (uint32_t i = n; i-- > 0;) {
    Node *writer = value_node(s->g, view_source(s->g, block_of(s)->results.at[i]));
    if (s->replaced[i] == NO_ID || !writer) continue;
    uint32_t *first = &s->written[writer - s->g->nodes.at];
    s->more[i] = *first;
    *first = i + 1;
  }
}

static bool place_all(Ordering *s) {
  s->n = block_of(s)->nodes.len;
  s->node = block_of(s)->nodes.at;
  s->done.len = 0;
  s->asked = false;
  s->mark = NEW_ARRAY(s->arena, uint8_t, s->g->nodes.len);
  s->readers = block_readers(s->g, s->block, s->arena);
  find_writers(s);
  for (uint32_t i = 0; i < s->n; i++)
    if (!place(s, s->node[i])) return false;
  return true;
}

static bool order_block(Graph *g, uint32_t entry, BlockId block, Arena *arena) {
  Ordering s = {.g = g, .arena = arena, .entry = entry, .block = block};
  bool changed = false;
  for (uint32_t i = 0; i < block_of(&s)->nodes.len; i++) {
    NodeId id = block_of(&s)->nodes.at[i];
    if (g->nodes.at[id].op == OP_loop)
      changed |= order_block(g, entry, g->nodes.at[id].blocks[0], arena);
  }
  s.replaced = results_replaced(g, block, arena);
  copy_first_carries(&s);
  add_shadows(&s);
  if (!loop_of(&s)) leave_states(&s);
  for (uint32_t tries = 0; !place_all(&s); tries++) {
    if (tries > block_of(&s)->results.len) ice(g, block_of(&s)->owner, "order: no end");
    add_shadows(&s);
  }
  changed |= s.n && memcmp(s.node, s.done.at, s.n * sizeof *s.node);
  if (s.n) memcpy(s.node, s.done.at, s.n * sizeof *s.node);
  return changed;
}

bool pass_order(Graph *g, PassCtx *ctx) {
  bool changed = false;
  for (uint32_t i = 0; i < g->entries.len; i++)
    changed |= order_block(g, i, g->entries.at[i].body, ctx->arena);
  changed |= !g->ordered;
  g->ordered = true;
  return changed;
}
