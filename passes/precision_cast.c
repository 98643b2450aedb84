/* precision_cast.c: kernels that read and write low values, and the derived copies of parameters
 * (what is low: precision.c).
 *
 * A low value is narrowed inside the kernel that makes it and widened inside the one that reads
 * it, so casts cost no traffic.  A parameter that is loaded low is not cast in the step at all: its
 * copy is written by the kernel that commits the master. */
#include "passes/precision.h"

#include <string.h>

/* ---- kernels --------------------------------------------------------------------------------- */

static ValueId cast_node(Graph *g, BlockId block, Loc loc, ValueId x, DType to) {
  Type t = type_with(value_type(g, x), to);
  NodeId cast = graph_add_node(g, block, OP_cast_policy, loc, 1, &x, 1, &t, 0, NULL);
  return g->nodes.at[cast].res; /* the array moves when a node is added */
}

/* ctx of the uses below: all low loads, or those of nodes that work in one type. */
typedef struct Asked {
  const Precision *s;
  Low low;
} Asked;

static bool is_asked(const Node *n, uint32_t operand, const void *ctx) {
  const Asked *a = ctx;
  return loads_low(n, operand) && precision_of(a->s, n) == low_type[a->low];
}
static bool is_other(const Node *n, uint32_t operand, const void *ctx) {
  return n->op != OP_cast_policy && !is_asked(n, operand, ctx);
}
static bool is_taken(const Node *n, uint32_t operand, const void *ctx) {
  return takes_low(n, operand) && is_asked(n, operand, ctx);
}
static bool is_asked_cast(const Node *n, uint32_t operand, const void *ctx) {
  return is_asked(n, operand, ctx) && !takes_low(n, operand);
}
static bool is_cast(const Node *n, uint32_t operand, const void *ctx) {
  const Asked *a = ctx;
  return n->op != OP_cast_policy && !is_taken(n, operand, ctx) &&
         !moves_low(a->s->g, n, operand, low_type[a->low]);
}

/* Uses of `from` of this kind read `low` through a cast to f32. */
static void read_through_cast(Precision *s, NodeId k, ValueId from, ValueId low, KernelUse *use,
                              const Asked *ctx) {
  Graph *g = s->g;
  BlockId body = g->nodes.at[k].blocks[0];
  if (!kernel_uses(g, k, from, use, ctx)) return;
  ValueId wide = cast_node(g, body, g->nodes.at[k].loc, low, DT_f32);
  kernel_replace_uses(g, k, from, wide, use, ctx);
  kernel_move_last_first(g, body);
}

void write_low(Precision *s, NodeId k, uint32_t result, Low low) {
  Graph *g = s->g;
  BlockId body = g->nodes.at[k].blocks[0];
  ValueId y = g->blocks.at[body].results.at[result];
  if (value_type(g, y).dtype != low_type[low]) /* else a move of what was read low */
    y = cast_node(g, body, g->nodes.at[k].loc, y, low_type[low]);
  g->blocks.at[body].results.at[result] = y;
  g->values.at[g->nodes.at[k].res + result].type.dtype = (uint8_t)low_type[low];
}

static ValueId argument(const Graph *g, NodeId k, uint32_t arg) {
  return g->blocks.at[g->nodes.at[k].blocks[0]].args.at[arg];
}

void read_low(Precision *s, NodeId k, uint32_t arg, Low low) {
  ValueId a = argument(s->g, k, arg);
  s->g->values.at[a].type.dtype = (uint8_t)low_type[low];
  read_through_cast(s, k, a, a, is_cast, &(Asked){s, low});
}

bool asks_low(const Precision *s, NodeId k, uint32_t arg, Low low) {
  const Block *body = &s->g->blocks.at[s->g->nodes.at[k].blocks[0]];
  for (uint32_t i = 0; i < body->nodes.len; i++) {
    const Node *n = &s->g->nodes.at[body->nodes.at[i]];
    for (uint32_t j = 0; j < n->nops; j++)
      if (n->ops[j] == body->args.at[arg] && is_asked(n, j, &(Asked){s, low})) return true;
  }
  return false;
}

void ask_beside(Precision *s, NodeId k, uint32_t arg, Low low, ValueId v) {
  Graph *g = s->g;
  ValueId a = argument(g, k, arg);
  Asked ctx = {s, low};
  if (kernel_uses(g, k, a, is_other, &ctx))
    kernel_replace_uses(g, k, a, region_add_operand(g, k, v), is_asked, &ctx);
  else g->nodes.at[k].ops[arg] = v;
}

void read_low_beside(Precision *s, NodeId k, uint32_t arg, Low low, ValueId form) {
  Graph *g = s->g;
  ValueId a = argument(g, k, arg), b = a;
  Asked ctx = {s, low};
  if (kernel_uses(g, k, a, is_other, &ctx)) {
    b = region_add_operand(g, k, form);
    kernel_replace_uses(g, k, a, b, is_taken, &ctx);
  } else {
    g->nodes.at[k].ops[arg] = form;
    g->values.at[a].type.dtype = (uint8_t)low_type[low];
  }
  read_through_cast(s, k, a, b, is_asked_cast, &ctx);
}

/* ---- derived copies of parameters ------------------------------------------------------------ */

static const char *low_path(const Precision *s, const char *path, Low low) {
  return states_name(s->g, arena_printf(s->arena, "%s:%s", path, dtype_name[low_type[low]]));
}

static void declare_copy(Precision *s, const State *master, Low low) {
  const char *path = low_path(s, master->path, low);
  if (graph_state(s->g, path)) return;
  State copy = {.path = path,
                .kind = STATE_derived,
                .type = type_with(master->type, low_type[low]),
                .loc = master->loc,
                .master = master->path};
  vec_push(s->g->arena, &s->g->states, copy);
}

const State *copied_parameter(const Precision *s, ValueId v, Low low) {
  const State *master = argument_state(s->g, v);
  if (!master || master->kind != STATE_param) return NULL;
  /* A calibration runs once: for its sake no step writes a copy. */
  bool once = s->g->entries.at[s->entry].kind == ENTRY_calibrate;
  return once && !graph_state(s->g, low_path(s, master->path, low)) ? NULL : master;
}

/* The derived copy of parameter argument v, or NO_ID where v is something else. */
static ValueId derived_copy(Precision *s, ValueId v, Low low) {
  const State *master = copied_parameter(s, v, low);
  if (!master) return NO_ID;
  const char *path = low_path(s, master->path, low);
  Type t = type_with(value_type(s->g, v), low_type[low]);
  Loc loc = s->g->entries.at[s->entry].args.at[s->g->values.at[v].index].loc;
  declare_copy(s, master, low);
  return graph_add_entry_arg(s->g, s->entry, ARG_state, path, t, loc);
}

/* What a loop's block sees whole of outside has its form there: cast once, not in each iteration.
 */
static ValueId form_from_outside(Precision *s, ValueId v, Low low, Loc loc) {
  Graph *g = s->g;
  NodeId loop = s->at->loop;
  if (loop == NO_ID || value_node(g, v)) return NO_ID;
  const Node *n = &g->nodes.at[loop];
  int64_t operand = (int64_t)g->values.at[v].index - 1; /* the index comes first */
  if (operand < node_int(n, AT_carries, 0) + node_int(n, AT_slices, 0)) return NO_ID;
  Frame *inside = s->at;
  s->at = inside->outer;
  ValueId form = low_form(s, n->ops[operand], low, loc);
  s->at = inside;
  return form == NO_ID ? NO_ID : region_add_operand(g, loop, form);
}

ValueId make_low(Precision *s, ValueId v, Low low, Loc loc) {
  ValueId form = derived_copy(s, v, low);
  if (form == NO_ID) form = form_from_outside(s, v, low, loc);
  if (form != NO_ID) return form;
  form = kernel_cast(s->g, s->at->block, loc, v, low_type[low]);
  vec_push(s->arena, &s->at->nodes, s->g->values.at[form].node);
  return form;
}

static void write_copy(Precision *s, uint32_t result, Low low) {
  Graph *g = s->g;
  Port port = g->entries.at[s->entry].results.at[result];
  if (port.role != RES_state || !graph_state(g, low_path(s, port.name, low))) return;
  ValueId v = g->blocks.at[g->entries.at[s->entry].body].results.at[result];
  Node *k = value_node(g, v);
  if (!k) return; /* not changed */
  NodeId id = (NodeId)(k - g->nodes.at);
  if (k->op != OP_kernel) ice(g, id, "precision: a master behind a view");
  BlockId body = k->blocks[0];
  ValueId y = g->blocks.at[body].results.at[g->values.at[v].index];
  ValueId copy = cast_node(g, body, k->loc, y, low_type[low]);
  graph_add_entry_result(g, s->entry, RES_state, low_path(s, port.name, low),
                         kernel_add_result(g, id, copy), port.loc);
}

void write_copies(Precision *s) {
  uint32_t n = s->g->entries.at[s->entry].results.len;
  for (uint32_t i = 0; i < n; i++)
    for (Low low = 0; low < LOWS; low++) write_copy(s, i, low);
}

void build_derive(Precision *s) {
  Graph *g = s->g;
  int e = graph_entry_find(g, ENTRY_derive);
  uint32_t entry = e >= 0 ? (uint32_t)e : graph_add_entry(g, "derive", ENTRY_derive, 0, (Loc){0});
  for (uint32_t i = 0; i < g->states.len; i++) {
    State copy = g->states.at[i];
    if (copy.kind != STATE_derived || graph_entry_result(g, entry, RES_state, copy.path) != NO_ID)
      continue;
    State *master = graph_state(g, copy.master);
    ValueId x = graph_entry_arg(g, entry, ARG_state, copy.master);
    if (x == NO_ID)
      x = graph_add_entry_arg(g, entry, ARG_state, copy.master, master->type, copy.loc);
    ValueId low = kernel_cast(g, g->entries.at[entry].body, copy.loc, x, (DType)copy.type.dtype);
    graph_add_entry_result(g, entry, RES_state, copy.path, low, copy.loc);
  }
}

/* ---- both copies by one kernel --------------------------------------------------------------- */

/* The kernel that makes what kernel `id` does nothing but cast; NO_ID: it is no such kernel, or
 * that one has a single result by its form. */
static NodeId cast_source(const Graph *g, NodeId id) {
  const Node *n = &g->nodes.at[id];
  if (n->op != OP_kernel || n->nops != 1 || n->nres != 1) return NO_ID;
  const NodeIds *body = &g->blocks.at[n->blocks[0]].nodes;
  if (body->len != 1 || g->nodes.at[body->at[0]].op != OP_cast_policy) return NO_ID;
  const Node *from = value_node(g, n->ops[0]);
  if (!from || from->op != OP_kernel) return NO_ID;
  return node_is_kernel(from, FORM_scatter) ? NO_ID : (NodeId)(from - g->nodes.at);
}

/* Where nobody else reads the f32 result, as between regions of two types, the low one is it. */
static void fold_cast(Graph *g, NodeId cast, NodeId source, BlockId block, bool alone) {
  Node n = g->nodes.at[cast];
  BlockId body = g->nodes.at[source].blocks[0];
  uint32_t result = g->values.at[n.ops[0]].index;
  DType to = (DType)value_type(g, n.res).dtype;
  ValueId low = cast_node(g, body, n.loc, g->blocks.at[body].results.at[result], to);
  ValueId copy = n.ops[0];
  if (alone) {
    g->blocks.at[body].results.at[result] = low;
    g->values.at[copy].type.dtype = (uint8_t)to;
  } else copy = kernel_add_result(g, source, low);
  graph_replace_uses(g, block, n.res, copy);
}

void fold_casts(Precision *s, BlockId block) {
  Graph *g = s->g;
  NodeIds *nodes = &g->blocks.at[block].nodes;
  for (uint32_t i = 0; i < nodes->len;) {
    NodeId id = nodes->at[i], source = cast_source(g, id);
    if (g->nodes.at[id].op == OP_loop) fold_casts(s, g->nodes.at[id].blocks[0]);
    if (source == NO_ID) {
      i++;
      continue;
    }
    bool alone = graph_count_uses(g, block, g->nodes.at[id].ops[0]) == 1;
    memmove(nodes->at + i, nodes->at + i + 1, (nodes->len - i - 1) * sizeof *nodes->at);
    nodes->len--;
    fold_cast(g, id, source, block, alone);
  }
}
