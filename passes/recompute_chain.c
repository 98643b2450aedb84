/* recompute_chain.c: computing a value again: which kernels that takes, and their clones.
 *
 * A kernel is a function of its operands, so its clone has its bits, as long as the operands still
 * hold what they held: a state or a carry that is stored over in place does not from then on, nor
 * does what a loop began with.  Random numbers come from a key, not from a stream, so they come out
 * alike.  An operand that is gone by then is computed again too, or kept until then. */
#include "passes/recompute.h"

#include <string.h>

enum { DEEPEST = 64 }; /* chain of what is gone */

const Node *timeline_node(const Timeline *t, uint32_t position) {
  return &t->g->nodes.at[t->g->blocks.at[t->block].nodes.at[position]];
}

uint64_t timeline_bytes(const Timeline *t, ValueId v) {
  return t->in_place[v] ? 0 : value_bytes(t->g, v);
}

/* ---- the timeline ---------------------------------------------------------------------------- */

static void add_uses(Timeline *t, uint32_t position) {
  const Node *n = timeline_node(t, position);
  for (uint32_t i = 0; i < n->nops; i++) {
    ValueId v = view_source(t->g, n->ops[i]);
    t->until[n->ops[i]] = t->until[v] = position;
    bool begins = n->op == OP_loop && i < node_int(n, AT_carries, 0);
    if (begins && t->over[v] == NO_ID) t->over[v] = position;
  }
}

static void add_results(Timeline *t) {
  const Block *b = &t->g->blocks.at[t->block];
  const ValueId *replaced = results_replaced(t->g, t->block, t->arena);
  for (uint32_t i = 0; i < b->results.len; i++) {
    ValueId v = view_source(t->g, b->results.at[i]), old = replaced[i];
    Node *maker = value_node(t->g, v);
    t->until[v] = t->n;
    t->in_place[v] = t->in_place[v] || old != NO_ID || t->g->blocks.at[t->block].owner != NO_ID;
    if (old != NO_ID && maker) t->over[old] = t->at[maker - t->g->nodes.at];
  }
}

Timeline timeline_of(Graph *g, BlockId block, const bool *clone, Arena *arena) {
  Timeline t = {.g = g, .arena = arena, .block = block, .n = g->blocks.at[block].nodes.len};
  t.at = NEW_ARRAY(arena, uint32_t, g->nodes.len);
  t.until = NEW_ARRAY(arena, uint32_t, g->values.len);
  t.over = NEW_ARRAY(arena, uint32_t, g->values.len);
  t.in_place = NEW_ARRAY(arena, bool, g->values.len);
  t.clone = clone ? clone : NEW_ARRAY(arena, bool, g->nodes.len);
  memset(t.at, 0xff, g->nodes.len * sizeof *t.at);
  for (ValueId v = 0; v < g->values.len; v++) t.over[v] = NO_ID;
  for (uint32_t i = 0; i < t.n; i++) t.at[g->blocks.at[block].nodes.at[i]] = i;
  for (uint32_t i = 0; i < t.n; i++) add_uses(&t, i);
  add_results(&t);
  t.readers = block_readers(g, block, arena);
  return t;
}

/* What all of a block's own values take at each position; of a loop's, its block's peak. */
uint64_t timeline_peak(const Timeline *t, uint32_t *position) {
  uint64_t *more = NEW_ARRAY(t->arena, uint64_t, t->n + 2), now = 0, most = 0;
  for (uint32_t i = 0; i < t->n; i++) {
    const Node *n = timeline_node(t, i);
    uint32_t where;
    for (uint32_t k = 0; n->op != OP_reshape && k < n->nres; k++) {
      uint64_t bytes = timeline_bytes(t, n->res + k);
      uint32_t until = t->until[n->res + k];
      more[i] += bytes;
      more[(until < i ? i : until) + 1] -= bytes;
    }
    if (n->op != OP_loop) continue;
    Timeline inside = timeline_of(t->g, n->blocks[0], NULL, t->arena);
    uint64_t bytes = timeline_peak(&inside, &where);
    more[i] += bytes;
    more[i + 1] -= bytes;
  }
  *position = 0;
  for (uint32_t i = 0; i < t->n; i++) {
    now += more[i];
    if (now <= most) continue;
    most = now;
    *position = i;
  }
  return most;
}

uint32_t timeline_next_use(const Timeline *t, ValueId v, uint32_t after) {
  const uint32_t *at = t->readers.at;
  uint32_t low = t->readers.first[v], end = t->readers.first[v + 1], high = end;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (at[middle] < after + 1) low = middle + 1;
    else high = middle;
  }
  while (low < end && timeline_node(t, at[low])->op == OP_reshape) low++;
  return low < end ? at[low] : NO_ID;
}

/* ---- the plan -------------------------------------------------------------------------------- */

typedef struct Planning {
  const Timeline *t;
  MayRepeat *may;
  Again *a;
} Planning;

static double cost_of(const Timeline *t, const Node *k) {
  double cost = 0;
  for (uint32_t i = 0; i < k->nops; i++) cost += (double)value_bytes(t->g, k->ops[i]);
  for (uint32_t i = 0; i < k->nres; i++) cost += (double)value_bytes(t->g, k->res + i);
  const Block *b = &t->g->blocks.at[k->blocks[0]];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &t->g->nodes.at[b->nodes.at[i]];
    if (op_form[n->op] == FORM_gemm) cost += 2.0 * (double)matmul_work(t->g, n) / 10;
  }
  return cost;
}

static bool in_chain(const Again *a, ValueId v) {
  for (uint32_t i = 0; i < a->chain.len; i++)
    if (a->chain.at[i] == v) return true;
  return false;
}

/* The kernel whose clone would make v. */
static const Node *maker(const Timeline *t, ValueId v) {
  const Node *k = value_node(t->g, v);
  bool ours = k && k->op == OP_kernel && t->at[k - t->g->nodes.at] != NO_ID;
  if (!ours || t->clone[k - t->g->nodes.at]) return NULL;
  for (uint32_t i = 0; i < k->nres; i++)
    if (t->in_place[k->res + i]) return NULL;
  return k;
}

static bool repeat(Planning *p, ValueId v, int depth);

/* The operand holds its value in front of `before`, or will. */
static bool provide(Planning *p, ValueId v, int depth) {
  const Timeline *t = p->t;
  if (t->over[v] != NO_ID && t->over[v] < p->a->before) return false;
  if (!value_node(t->g, v) || in_chain(p->a, v)) return true;
  bool over_peak = t->until[v] < p->a->peak, there = t->until[v] >= p->a->before;
  if ((p->a->anew || (over_peak && !there)) && depth < DEEPEST && p->may(t, v)) {
    Again before = *p->a;
    if (repeat(p, v, depth + 1)) return true;
    *p->a = before;
  }
  p->a->kept += over_peak && !there ? timeline_bytes(t, v) : 0;
  return true;
}

static bool repeat(Planning *p, ValueId v, int depth) {
  const Node *k = maker(p->t, v);
  if (!k) return false;
  for (uint32_t i = 0; i < k->nops; i++)
    if (!provide(p, view_source(p->t->g, k->ops[i]), depth)) return false;
  p->a->cost += cost_of(p->t, k);
  vec_push(p->t->arena, &p->a->chain, v);
  return true;
}

bool again_plan(const Timeline *t, ValueId v, MayRepeat *may, Again *a) {
  Planning p = {t, may, a};
  a->chain.len = 0;
  a->kept = 0;
  a->cost = 0;
  return repeat(&p, v, 0);
}

/* ---- the clones ------------------------------------------------------------------------------ */

typedef struct Cloning {
  const Timeline *t;
  const Again *a;
  ValueId *map; /* by value there was: what stands for it in the clones */
  uint32_t values;
  NodeIds *clones;
} Cloning;

/* x, with the clone below the views that lead to it. */
static ValueId seen_through(Cloning *c, ValueId x) {
  Graph *g = c->t->g;
  if (x >= c->values || c->map[x] != NO_ID) return x < c->values ? c->map[x] : x;
  const Node *view = value_node(g, x);
  if (!view || view->op != OP_reshape) return x;
  ValueId below = seen_through(c, view->ops[0]);
  if (below == view->ops[0]) return x;
  Type type = value_type(g, x);
  Loc loc = view->loc;
  NodeId id = graph_add_node(g, c->t->block, OP_reshape, loc, 1, &below, 1, &type, 0, NULL);
  return c->map[x] = g->nodes.at[id].res;
}

/* Only with the results that are wanted. */
static void clone_kernel(Cloning *c, ValueId v) {
  Graph *g = c->t->g;
  const Node *k = value_node(g, v);
  NodeId id = (NodeId)(k - g->nodes.at);
  for (uint32_t i = 0; i < g->nodes.at[id].nops; i++) seen_through(c, g->nodes.at[id].ops[i]);
  NodeId copy = graph_copy_node(g, id, c->t->block, c->map);
  vec_push(c->t->arena, c->clones, copy);
  Node *n = &g->nodes.at[copy];
  Block *body = &g->blocks.at[n->blocks[0]];
  uint32_t wanted = 0;
  for (uint32_t i = 0; i < n->nres; i++) {
    ValueId old = g->nodes.at[id].res + i, new = n->res + wanted;
    c->map[old] = NO_ID;
    if (!in_chain(c->a, old)) continue;
    c->map[old] = new;
    g->values.at[new].type = value_type(g, old);
    body->results.at[wanted++] = body->results.at[i];
  }
  n->nres = body->results.len = wanted;
}

static void use_clones(Cloning *c, NodeId id) {
  Graph *g = c->t->g;
  for (uint32_t i = 0; i < g->nodes.at[id].nops; i++) {
    ValueId x = seen_through(c, g->nodes.at[id].ops[i]);
    g->nodes.at[id].ops[i] = x;
  }
}

void again_do(const Timeline *t, const Again *a, NodeIds *clones) {
  Graph *g = t->g;
  Cloning c = {.t = t, .a = a, .values = g->values.len, .clones = clones};
  NodeIds later = {0};
  c.map = NEW_ARRAY(t->arena, ValueId, c.values);
  for (ValueId v = 0; v < c.values; v++) c.map[v] = NO_ID;
  for (uint32_t i = a->before; i < t->n; i++)
    vec_push(t->arena, &later, g->blocks.at[t->block].nodes.at[i]);
  for (uint32_t i = 0; i < a->chain.len; i++)
    if (c.map[a->chain.at[i]] == NO_ID) clone_kernel(&c, a->chain.at[i]);
  for (uint32_t i = 0; i < later.len; i++) use_clones(&c, later.at[i]);
  graph_move_nodes(g, t->block, t->n, a->before);
}
