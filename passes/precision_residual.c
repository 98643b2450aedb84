/* precision_residual.c: which additions make the residual stream: a value plus what was computed
 * from it, x + f(x).  Going forward that is a layer's output, going backward a cotangent that
 * several uses of a value add up to.
 */
#include "passes/precision.h"

typedef struct Walk {
  const Precision *s;
  bool *seen; /* by value */
  ValueIds todo;
} Walk;

static void push(Walk *w, ValueId v) {
  if (w->seen[v]) return;
  w->seen[v] = true;
  vec_push(w->s->arena, &w->todo, v);
}

/* What v is computed from, in one step: into kernels through their results, out of them and of
 * loops through arguments. */
static void push_sources(Walk *w, ValueId v) {
  const Graph *g = w->s->g;
  const Node *n = value_node(g, v);
  Value at = g->values.at[v];
  if (!n) {
    NodeId owner = g->blocks.at[at.block].owner;
    if (owner == NO_ID) return;
    const Node *k = &g->nodes.at[owner];
    uint32_t before = k->op == OP_loop; /* the index */
    if (at.index >= before) push(w, k->ops[at.index - before]);
  } else if (n->op == OP_kernel) {
    push(w, g->blocks.at[n->blocks[0]].results.at[at.index]);
  } else {
    for (uint32_t i = 0; i < n->nops; i++) push(w, n->ops[i]);
  }
}

static bool depends_on(const Precision *s, ValueId v, ValueId origin) {
  Walk w = {.s = s, .seen = NEW_ARRAY(s->arena, bool, s->g->values.len)};
  push(&w, v);
  while (w.todo.len) {
    ValueId x = w.todo.at[--w.todo.len];
    if (x == origin) return true;
    push_sources(&w, x);
  }
  return false;
}

bool is_residual(const Precision *s, const Node *n) {
  if (n->op != OP_add) return false;
  ValueId x = value_origin(s->g, n->ops[0], true), y = value_origin(s->g, n->ops[1], true);
  return x != y && (depends_on(s, x, y) || depends_on(s, y, x));
}
