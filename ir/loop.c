/* loop.c: edits of nodes that own a block, loops above all, that several make.
 *
 * Closing: a loop's block is to see its arguments alone (docs/why/loops.md), so what it reads from
 * outside becomes an invariant, one operand each however often it is read; constants, a number
 * spread out, and views of such are copied inside instead, being cheaper made again than read. */
#include "ir/ir.h"

#include <string.h>

ValueId region_add_operand(Graph *g, NodeId region, ValueId v) {
  Node *n = &g->nodes.at[region];
  ValueId *ops = NEW_ARRAY(g->arena, ValueId, n->nops + 1);
  if (n->nops) memcpy(ops, n->ops, n->nops * sizeof *ops);
  ops[n->nops++] = v;
  n->ops = ops;
  return graph_add_arg(g, n->blocks[0], value_type(g, v));
}

/* Results of a node are consecutive values. */
ValueId loop_add_result(Graph *g, NodeId loop, ValueId inside) {
  Node *n = &g->nodes.at[loop];
  Type each = value_type(g, inside), all = each;
  all.rank++;
  all.rows = -1;
  all.dim[0] = node_int(n, AT_trip, 1);
  for (int i = 0; i < each.rank; i++) all.dim[i + 1] = each.dim[i];
  ValueId first = g->values.len;
  vec_push(g->arena, &g->blocks.at[n->blocks[0]].results, inside);
  for (uint32_t i = 0; i <= n->nres; i++) {
    Value v = {.node = loop, .block = n->block, .index = i};
    v.type = i < n->nres ? value_type(g, n->res + i) : all;
    vec_push(g->arena, &g->values, v);
  }
  n->res = first;
  return first + n->nres++;
}

ValueId loop_stack_result(Graph *g, NodeId loop, ValueId inside) {
  Node old = g->nodes.at[loop];
  ValueId v = loop_add_result(g, loop, inside);
  for (uint32_t i = 0; i < old.nres; i++)
    graph_replace_uses(g, old.block, old.res + i, g->nodes.at[loop].res + i);
  return v;
}

ValueId loop_invariant(const Graph *g, ValueId v) {
  Value x = g->values.at[v];
  NodeId owner = x.node == NO_ID ? g->blocks.at[x.block].owner : NO_ID;
  const Node *n = owner == NO_ID ? NULL : &g->nodes.at[owner];
  if (!n || n->op != OP_loop) return NO_ID;
  int64_t moving = node_int(n, AT_carries, 0) + node_int(n, AT_slices, 0);
  return x.index > moving && x.index <= n->nops ? n->ops[x.index - 1] : NO_ID;
}

ValueId value_source(const Graph *g, ValueId v, bool moved) {
  for (ValueId out = v; out != NO_ID; out = loop_invariant(g, v)) v = value_origin(g, out, moved);
  return v;
}

/* ---- closing --------------------------------------------------------------------------------- */

typedef struct Closing {
  Graph *g;
  Arena *scratch;
  NodeId loop;
  BlockId block;
  VEC(Replaced) seen; /* values from outside, and what they are inside */
  NodeIds nodes;      /* the block's, with the copies */
  bool changed;
} Closing;

/* A number spread out, a few constants, views of such: cheaper made again than read. */
static bool is_cheap(const Graph *g, ValueId v) {
  const Node *n = value_node(g, v);
  if (n && n->op == OP_broadcast && !value_type(g, n->ops[0]).rank) return true;
  if (!n || n->nres != 1 || (n->nops && !(op_flags[n->op] & F_VIEW))) return false;
  for (uint32_t i = 0; i < n->nops; i++)
    if (!is_cheap(g, n->ops[i])) return false;
  return n->nops || n->op == OP_constant || n->op == OP_iota;
}

static ValueId inside(Closing *c, ValueId v);

static ValueId copy_inside(Closing *c, ValueId v) {
  Graph *g = c->g;
  Node n = *value_node(g, v);
  ValueId *ops = NEW_ARRAY(c->scratch, ValueId, n.nops);
  Type t = value_type(g, v);
  for (uint32_t i = 0; i < n.nops; i++) ops[i] = inside(c, n.ops[i]);
  NodeId copy = graph_add_node(g, c->block, n.op, n.loc, n.nops, ops, 1, &t, n.nattrs, n.attrs);
  vec_push(c->scratch, &c->nodes, copy);
  return g->nodes.at[copy].res;
}

static ValueId inside(Closing *c, ValueId v) {
  if (value_block(c->g, v) == c->block) return v;
  for (uint32_t i = 0; i < c->seen.len; i++)
    if (c->seen.at[i].from == v) return c->seen.at[i].to;
  bool copies = is_cheap(c->g, v);
  ValueId to = copies ? copy_inside(c, v) : region_add_operand(c->g, c->loop, v);
  vec_push(c->scratch, &c->seen, (Replaced){v, to});
  c->changed = true;
  return to;
}

static bool close_block(Graph *g, BlockId block, Arena *scratch);

/* Inner loops first: what they want becomes an operand here. */
bool graph_close_loop(Graph *g, NodeId loop, Arena *scratch) {
  BlockId block = g->nodes.at[loop].blocks[0];
  Closing c = {.g = g, .scratch = scratch, .loop = loop, .block = block};
  c.changed = close_block(g, block, scratch);
  NodeIds old = g->blocks.at[block].nodes;
  for (uint32_t i = 0; i < old.len; i++) {
    uint32_t nops = g->nodes.at[old.at[i]].nops;
    for (uint32_t k = 0; k < nops; k++) {
      ValueId v = inside(&c, g->nodes.at[old.at[i]].ops[k]);
      g->nodes.at[old.at[i]].ops[k] = v;
    }
    vec_push(scratch, &c.nodes, old.at[i]);
  }
  for (uint32_t i = 0; i < g->blocks.at[block].results.len; i++) {
    ValueId v = inside(&c, g->blocks.at[block].results.at[i]);
    g->blocks.at[block].results.at[i] = v;
  }
  NodeIds *nodes = &g->blocks.at[block].nodes;
  nodes->at = arena_copy(g->arena, c.nodes.at, c.nodes.len * sizeof *c.nodes.at);
  nodes->len = nodes->cap = c.nodes.len;
  return c.changed;
}

static bool close_block(Graph *g, BlockId block, Arena *scratch) {
  bool changed = false;
  for (uint32_t i = 0; i < g->blocks.at[block].nodes.len; i++) {
    NodeId id = g->blocks.at[block].nodes.at[i];
    if (g->nodes.at[id].op == OP_loop) changed |= graph_close_loop(g, id, scratch);
  }
  return changed;
}

bool graph_close_loops(Graph *g, Arena *scratch) {
  bool changed = false;
  for (uint32_t i = 0; i < g->entries.len; i++)
    changed |= close_block(g, g->entries.at[i].body, scratch);
  return changed;
}
