/* precision_part.c: a part of a weight that is wanted both in f32 and in a low type, or in two,
 * becomes two: the one, of the master, that was there, and one of the low copy for products, which
 * precision_move.c finds.  So the low one is no cast of the other.
 *
 * Asked for once the cut has decided, since where everybody reads the part low there is nothing to
 * do; what is split is decided anew.
 */
#include "passes/precision.h"

typedef struct Part {
  Precision *s;
  Low low;
  NodeId kernel; /* that makes it */
} Part;

/* Is v, in the kernel, made of parameters and constants by moves alone?  *by_master: one of
 * those is not read low yet. */
static bool is_part(const Part *p, ValueId v, bool *by_master) {
  const Graph *g = p->s->g;
  const Node *n = value_node(g, v);
  uint32_t arg = g->values.at[v].index;
  if (value_type(g, v).dtype != DT_f32) return false;
  if (!n) {
    Origin o = precision_origin(p->s, g->nodes.at[p->kernel].ops[arg]);
    *by_master |= !(*read_choice(p->s, p->kernel, arg) >> p->low & 1);
    return !o.sliced && copied_parameter(p->s, o.value, p->low);
  }
  bool part = n->op == OP_constant;
  for (uint32_t j = 0; j < n->nops; j++) {
    if (!moves_operand(g, n, j)) continue;
    part = is_part(p, n->ops[j], by_master);
    if (!part) return false;
  }
  return part;
}

/* Operand i of a kernel shows v, and a product in it, say, takes it in the low type. */
static bool asks(const Part *p, NodeId k, uint32_t i, ValueId v) {
  const Graph *g = p->s->g;
  return g->nodes.at[k].op == OP_kernel && view_source(g, g->nodes.at[k].ops[i]) == v &&
         asks_low(p->s, k, i, p->low);
}

/* Operand i of n shows v, and n is a loop that sees it whole in each iteration: as what; else
 * NO_ID.
 */
static ValueId seen_inside(const Part *p, NodeId n, uint32_t i, ValueId v) {
  const Graph *g = p->s->g;
  const Node *loop = &g->nodes.at[n];
  if (loop->op != OP_loop || view_source(g, loop->ops[i]) != v) return NO_ID;
  ValueId arg = g->blocks.at[loop->blocks[0]].args.at[i + 1];
  return loop_invariant(g, arg) == NO_ID ? NO_ID : arg;
}

static bool is_asked(const Part *p, BlockId block, ValueId v) {
  const Graph *g = p->s->g;
  const NodeIds *nodes = &g->blocks.at[block].nodes;
  for (uint32_t k = 0; k < nodes->len; k++)
    for (uint32_t i = 0; i < g->nodes.at[nodes->at[k]].nops; i++) {
      ValueId arg = seen_inside(p, nodes->at[k], i, v);
      if (asks(p, nodes->at[k], i, v)) return true;
      if (arg != NO_ID && is_asked(p, value_block(g, arg), arg)) return true;
    }
  return false;
}

/* ---- the second one -------------------------------------------------------------------------- */

/* v of the kernel's body, with all that goes into it, in that of kernel `again`. */
static ValueId copy(Part *p, NodeId again, ValueId v, ValueId *map) {
  Graph *g = p->s->g;
  Value at = g->values.at[v];
  if (map[v] != NO_ID) return map[v];
  if (at.node == NO_ID)
    return map[v] = region_add_operand(g, again, g->nodes.at[p->kernel].ops[at.index]);
  for (uint32_t j = 0; j < g->nodes.at[at.node].nops; j++)
    copy(p, again, g->nodes.at[at.node].ops[j], map);
  NodeId n = graph_copy_node(g, at.node, g->nodes.at[again].blocks[0], map);
  DType low = low_type[p->low];
  if (precision_of(p->s, &g->nodes.at[n]) != low)
    node_set_attr(g, n, attr_text(AT_prec, dtype_name[low]));
  return map[v];
}

/* Behind the kernel one that makes its result v alone. */
static ValueId make_again(Part *p, uint32_t at, ValueId v) {
  Graph *g = p->s->g;
  Node k = g->nodes.at[p->kernel];
  uint32_t end = g->blocks.at[k.block].nodes.len;
  ValueId *map = NEW_ARRAY(p->s->arena, ValueId, g->values.len);
  for (ValueId x = 0; x < g->values.len; x++) map[x] = NO_ID;
  NodeId again = kernel_map(g, k.block, k.loc, 0, NULL, value_type(g, v));
  ValueId inside = g->blocks.at[k.blocks[0]].results.at[g->values.at[v].index];
  inside = copy(p, again, inside, map);
  vec_push(g->arena, &g->blocks.at[g->nodes.at[again].blocks[0]].results, inside);
  graph_move_nodes(g, k.block, end, at + 1);
  return g->nodes.at[again].res;
}

/* x with the views that operand i of kernel k sees v through, in front of position *at. */
static ValueId show(Part *p, BlockId block, uint32_t *at, ValueId x, ValueId as) {
  Graph *g = p->s->g;
  Type t = value_type(g, as);
  uint32_t end = g->blocks.at[block].nodes.len;
  if (type_same_dims(t, value_type(g, x))) return x;
  Builder b = {.g = g, .block = block, .loc = value_node(g, as)->loc};
  x = build_reshape(&b, x, t);
  graph_move_nodes(g, block, end, (*at)++);
  return x;
}

/* Views of v that nobody reads any more. */
static void drop_views(Part *p, BlockId block, ValueId v) {
  Graph *g = p->s->g;
  const NodeIds *nodes = &g->blocks.at[block].nodes;
  for (uint32_t i = nodes->len; i-- > 0;) {
    NodeId n = nodes->at[i];
    bool shows = g->nodes.at[n].op == OP_reshape && view_source(g, g->nodes.at[n].res) == v;
    if (shows && !graph_count_uses(g, block, g->nodes.at[n].res)) graph_drop_node(g, n);
  }
}

static void read_again(Part *p, BlockId block, ValueId v, ValueId again);

/* In the loop too, where operand i is the argument `arg`. */
static void read_inside(Part *p, NodeId loop, uint32_t i, ValueId arg, ValueId again) {
  Graph *g = p->s->g;
  BlockId block = g->nodes.at[loop].blocks[0];
  read_again(p, block, arg, region_add_operand(g, loop, again));
  drop_views(p, block, arg);
  if (!graph_count_uses(g, block, arg)) g->nodes.at[loop].ops[i] = again;
}

/* Who asks for v low reads `again`. */
static void read_again(Part *p, BlockId block, ValueId v, ValueId again) {
  Graph *g = p->s->g;
  for (uint32_t at = 0; at < g->blocks.at[block].nodes.len; at++) {
    NodeId n = g->blocks.at[block].nodes.at[at];
    uint32_t operands = g->nodes.at[n].nops;
    for (uint32_t i = 0; i < operands; i++) {
      ValueId as = g->nodes.at[n].ops[i], arg = seen_inside(p, n, i, v);
      if (arg != NO_ID && is_asked(p, value_block(g, arg), arg))
        read_inside(p, n, i, arg, show(p, block, &at, again, as));
      else if (asks(p, n, i, v)) ask_beside(p->s, n, i, p->low, show(p, block, &at, again, as));
    }
  }
}

/* ---- which ----------------------------------------------------------------------------------- */

static bool split_kernel(Part *p, BlockId block, uint32_t at) {
  Graph *g = p->s->g;
  bool any = false;
  p->kernel = g->blocks.at[block].nodes.at[at];
  for (uint32_t i = g->nodes.at[p->kernel].nres; i-- > 0;) {
    ValueId v = g->nodes.at[p->kernel].res + i;
    ValueId inside = g->blocks.at[g->nodes.at[p->kernel].blocks[0]].results.at[i];
    bool by_master = false;
    if (v >= p->s->values) continue; /* another has gone: the next time */
    if (!is_part(p, inside, &by_master) || !by_master || !is_asked(p, block, v)) continue;
    read_again(p, block, v, make_again(p, at, v));
    drop_views(p, block, v);
    kernel_drop_unused(g, p->kernel, i);
    any = true;
  }
  return any;
}

static bool split_block(Part *p, BlockId block) {
  const Graph *g = p->s->g;
  const NodeIds *nodes = &g->blocks.at[block].nodes;
  NodeId before = g->nodes.len;
  bool any = false;
  for (uint32_t at = 0; at < nodes->len; at++) {
    NodeId n = nodes->at[at];
    if (n >= before) continue;
    if (g->nodes.at[n].op == OP_loop) any |= split_block(p, g->nodes.at[n].blocks[0]);
    else if (g->nodes.at[n].op == OP_kernel) any |= split_kernel(p, block, at);
    nodes = &g->blocks.at[block].nodes;
    if (at < nodes->len && nodes->at[at] != n) at--; /* it is gone */
  }
  return any;
}

bool split_parts(Precision *s, Low low) {
  return split_block(&(Part){.s = s, .low = low}, s->g->entries.at[s->entry].body);
}
