/* custom_grad.c: the gradient of a function whose program says what it is.
 *
 * In front of `custom_grad` stand the nodes of the rule, written for a `cotangent` of degree one in
 * S.  They are copied for what really arrives, in their order; nothing goes to the function's own
 * computation.  When all is differentiated y takes the place of the op's result, and nothing needs
 * the rule any more; where nothing is differentiated, `expand` does that.
 */
#include "passes/pass.h"

/* Where the node stands in the body's list, before `from`. */
static uint32_t find_back(const Block *body, NodeId id, uint32_t from) {
  while (from-- > 0)
    if (body->nodes.at[from] == id) return from;
  return 0;
}

static bool depends(const Node *n, const ValueId *map) {
  for (uint32_t i = 0; i < n->nops; i++)
    if (map[n->ops[i]] != NO_ID) return true;
  return false;
}

/* Degree one in S becomes the exponent that arrived. */
static void copy_scaled(Grad *r, NodeId id, ValueId *map, Unit unit) {
  Graph *g = r->b.g;
  NodeId to = graph_copy_node(g, id, r->b.block, map);
  const Node *copy = &g->nodes.at[to];
  for (uint32_t i = 0; i < copy->nres; i++) {
    Type *t = &g->values.at[copy->res + i].type;
    if (t->unit) t->unit = unit;
  }
}

static ValueId *copy_rule(Grad *r, const Node *n) {
  Graph *g = r->b.g;
  const Block *body = &g->blocks.at[n->block];
  ValueId dy = n->ops[1], *map = NEW_ARRAY(r->c->arena, ValueId, g->values.len);
  for (uint32_t i = 0; i < g->values.len; i++) map[i] = NO_ID;
  map[dy] = build_cast(&r->b, r->dy, (DType)value_type(g, dy).dtype);
  Unit unit = value_type(g, r->dy).unit;
  uint32_t last = find_back(body, r->node, body->nodes.len);
  uint32_t first = find_back(body, g->values.at[dy].node, last);
  for (uint32_t i = first + 1; i < last; i++) {
    NodeId id = g->blocks.at[n->block].nodes.at[i];
    if (depends(&g->nodes.at[id], map)) copy_scaled(r, id, map, unit);
  }
  return map;
}

void vjp_custom_grad(Grad *r) {
  Node n = r->b.g->nodes.at[r->node]; /* a copy: the array moves */
  uint32_t inputs = (n.nops - 2) / 2;
  const ValueId *map = copy_rule(r, &n);
  for (uint32_t i = 0; i < inputs; i++) {
    ValueId g = n.ops[2 + inputs + i];
    if (grad_wants(r, 2 + i)) grad_give(r, 2 + i, map[g] == NO_ID ? g : map[g]);
  }
}

void custom_grads_drop(Graph *g, BlockId block, Arena *scratch) {
  VEC(Replaced) done = {0};
  const Block *body = &g->blocks.at[block];
  for (uint32_t i = 0; i < body->nodes.len; i++) {
    const Node *n = &g->nodes.at[body->nodes.at[i]];
    if (n->op == OP_custom_grad) vec_push(scratch, &done, (Replaced){n->res, n->ops[0]});
  }
  graph_replace_all(g, scratch, done.len, done.at);
}
