/* kernel.c: edits of kernel nodes that several passes make: another operand or result, a cast or a
 * copy as a kernel of its own.
 *
 * Operands and the arguments of the block stay in step, results of the node and of the block too;
 * types are never changed in place, as a value may be read elsewhere. */
#include "passes/pass.h"

#include <string.h>

static BlockId body_of(const Graph *g, NodeId k) { return g->nodes.at[k].blocks[0]; }

bool kernel_uses(const Graph *g, NodeId k, ValueId v, KernelUse *of_interest, const void *ctx) {
  const Block *b = &g->blocks.at[body_of(g, k)];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    for (uint32_t j = 0; j < n->nops; j++)
      if (n->ops[j] == v && of_interest(n, j, ctx)) return true;
  }
  for (uint32_t i = 0; i < b->results.len; i++)
    if (b->results.at[i] == v) return true;
  return false;
}

void kernel_replace_uses(Graph *g, NodeId k, ValueId from, ValueId to, KernelUse *of_interest,
                         const void *ctx) {
  Block *b = &g->blocks.at[body_of(g, k)];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    Node *n = &g->nodes.at[b->nodes.at[i]];
    for (uint32_t j = 0; j < n->nops; j++)
      if (n->ops[j] == from && of_interest(n, j, ctx)) n->ops[j] = to;
  }
}

void kernel_move_last_first(Graph *g, BlockId block) {
  graph_move_nodes(g, block, g->blocks.at[block].nodes.len - 1, 0);
}

static ValueId new_result(Graph *g, NodeId k, uint32_t index, Type t) {
  Value v = {.type = t, .node = k, .block = g->nodes.at[k].block, .index = index};
  vec_push(g->arena, &g->values, v);
  return g->values.len - 1;
}

/* Results of a node are consecutive values: a node with one more is another node in its place. */
ValueId kernel_add_result(Graph *g, NodeId k, ValueId inside) {
  Node old = g->nodes.at[k];
  vec_push(g->arena, &g->blocks.at[old.blocks[0]].results, inside);
  ValueId first = g->values.len;
  for (uint32_t i = 0; i <= old.nres; i++)
    new_result(g, k, i, value_type(g, i < old.nres ? old.res + i : inside));
  g->nodes.at[k].res = first;
  g->nodes.at[k].nres++;
  for (uint32_t i = 0; i < old.nres; i++) graph_replace_uses(g, old.block, old.res + i, first + i);
  return first + old.nres;
}

static void drop_result(Graph *g, NodeId k, uint32_t i) {
  Node old = g->nodes.at[k];
  ValueIds *results = &g->blocks.at[old.blocks[0]].results;
  ValueId first = g->values.len;
  for (uint32_t j = 0, to = 0; j < old.nres; j++) {
    if (j == i) continue;
    results->at[to] = results->at[j];
    ValueId v = new_result(g, k, to++, value_type(g, old.res + j));
    graph_replace_uses(g, old.block, old.res + j, v);
  }
  results->len--;
  g->nodes.at[k].res = first;
  g->nodes.at[k].nres--;
}

void kernel_drop_unused(Graph *g, NodeId k, uint32_t i) {
  Node n = g->nodes.at[k];
  if (graph_count_uses(g, n.block, n.res + i)) return;
  if (n.nres > 1) drop_result(g, k, i);
  else graph_drop_node(g, k);
}

NodeId kernel_close(Graph *g, BlockId block, Loc loc, Form form, BlockId body, uint32_t nops,
                    const ValueId *ops, uint32_t nres, const Type *types) {
  Attr attr = attr_text(AT_form, form_name[form]);
  NodeId k = graph_add_node(g, block, OP_kernel, loc, nops, ops, nres, types, 1, &attr);
  g->nodes.at[k].nblocks = 1;
  g->nodes.at[k].blocks = arena_copy(g->arena, &body, sizeof body);
  g->blocks.at[body].owner = k;
  return k;
}

NodeId kernel_map(Graph *g, BlockId block, Loc loc, uint32_t nops, const ValueId *ops, Type t) {
  BlockId body = graph_add_block(g, NO_ID);
  for (uint32_t i = 0; i < nops; i++) graph_add_arg(g, body, value_type(g, ops[i]));
  return kernel_close(g, block, loc, FORM_map, body, nops, ops, 1, &t);
}

ValueId kernel_cast(Graph *g, BlockId block, Loc loc, ValueId x, DType to) {
  Type t = type_with(value_type(g, x), to);
  NodeId k = kernel_map(g, block, loc, 1, &x, t);
  BlockId body = body_of(g, k);
  ValueId arg = g->blocks.at[body].args.at[0];
  NodeId cast = graph_add_node(g, body, OP_cast_policy, loc, 1, &arg, 1, &t, 0, NULL);
  vec_push(g->arena, &g->blocks.at[body].results, g->nodes.at[cast].res);
  return g->nodes.at[k].res;
}

ValueId kernel_copy(Graph *g, BlockId block, Loc loc, ValueId x) {
  NodeId k = kernel_map(g, block, loc, 1, &x, value_type(g, x));
  BlockId body = body_of(g, k);
  vec_push(g->arena, &g->blocks.at[body].results, g->blocks.at[body].args.at[0]);
  return g->nodes.at[k].res;
}
