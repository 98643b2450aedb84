/* group.c: which nodes become one kernel.
 *
 * Knows shapes and forms, no element types: what happens inside a group stays in registers, in f32,
 * and `precision` later labels only what crosses a border.
 *
 * Every node starts as a group of its own; in topological order each one is merged with the groups
 * of its producers where the forms combine (table in `combine`) and no path through a third group
 * would make a cycle.  Constants, iota, broadcast, transpose, slice, pad and rescale cost nothing:
 * they belong to no group and are copied into each kernel that reads them; only where one is a
 * matmul's operand, a view's source, a loop's operand or a block's result is it computed for
 * itself.  So a cotangent is in memory at its own loss scale, never at a lesser one.  `reshape` is
 * a view between kernels.  A loop stays what it is; its block is grouped like an entry's.
 *
 * What asks where a step was first not finite wants no groups: each node of those entries is a
 * kernel.
 *
 * Afterwards a block holds kernels, reshapes and loops only, each kernel obeying ir/program.h.
 */
#include "passes/group.h"

#include <stdlib.h>

Node *group_node(const Grouping *s, uint32_t p) { return &s->g->nodes.at[s->node[p]]; }

uint32_t group_root(Grouping *s, uint32_t p) {
  while (s->parent[p] != p) p = s->parent[p] = s->parent[s->parent[p]];
  return p;
}

static Type rows_of(const Group *c) { /* dims of a trailing reduce's results */
  Type t = c->space;
  t.rank -= c->nred;
  return t;
}

/* ---- edges ----------------------------------------------------------------------------------- */

static bool is_free(Op op) {
  return op == OP_constant || op == OP_iota || op == OP_broadcast || op == OP_transpose ||
         op == OP_slice || op == OP_pad || op == OP_rescale;
}

/* From which operand on the node reads what is in memory. */
static uint32_t first_in_memory(const Node *n) {
  if (n->op == OP_scatter_add) return 2; /* where its sums begin */
  return op_form[n->op] == FORM_gemm || n->op == OP_reshape || n->op == OP_loop ? 0 : n->nops;
}

/* Free nodes whose value somebody needs in memory get a kernel. */
static void anchor_free_nodes(Grouping *s) {
  for (uint32_t p = 0; p < s->n; p++) s->inlined[p] = is_free(group_node(s, p)->op);
  for (uint32_t p = 0; p < s->n; p++) {
    Node *n = group_node(s, p);
    for (uint32_t i = first_in_memory(n); i < n->nops; i++) {
      Node *d = value_node(s->g, n->ops[i]);
      if (d) s->inlined[s->pos[d - s->g->nodes.at]] = false;
    }
  }
  Block *b = &s->g->blocks.at[s->block];
  for (uint32_t i = 0; i < b->results.len; i++) {
    Node *d = value_node(s->g, b->results.at[i]);
    if (d) s->inlined[s->pos[d - s->g->nodes.at]] = false;
  }
}

/* A broadcast that repeats whole rows: operand axis i is result axis i, nothing stretches. */
static bool repeats_rows(const Graph *g, const Node *n) {
  const Attr *axes = node_attr(n, AT_axes);
  Type from = value_type(g, n->ops[0]), to = value_type(g, n->res);
  for (int i = 0; i < from.rank; i++)
    if (axes->ints[i] != i || from.dim[i] != to.dim[i]) return false;
  return true;
}

static EdgeKind through(const Grouping *s, const Node *n, EdgeKind outer) {
  if (n->op == OP_rescale) return outer;
  if (outer != EDGE_DIRECT || n->op != OP_broadcast) return EDGE_OTHER;
  return repeats_rows(s->g, n) ? EDGE_ROW : EDGE_OTHER;
}

static void add_edges(Grouping *s, uint32_t to, ValueId v, EdgeKind kind) {
  Node *d = value_node(s->g, v);
  if (!d) return;
  uint32_t p = s->pos[d - s->g->nodes.at];
  if (s->inlined[p]) {
    for (uint32_t i = 0; i < d->nops; i++) add_edges(s, to, d->ops[i], through(s, d, kind));
    return;
  }
  vec_push(s->arena, &s->in[to], (Edge){p, v, kind});
  vec_push(s->arena, &s->out[p], to);
}

static EdgeKind operand_kind(const Node *n, uint32_t i) {
  if (op_form[n->op] == FORM_gemm || n->op == OP_loop) return EDGE_OPERAND;
  if (n->op == OP_rescale) return EDGE_DIRECT;
  if (is_free(n->op)) return EDGE_OTHER; /* one in memory: reads elements of another index */
  if (n->op == OP_gather && i == 0) return EDGE_GATHER;
  if (n->op == OP_embedding || n->op == OP_scatter_add) return EDGE_OTHER;
  return EDGE_DIRECT;
}

/* ---- which groups combine -------------------------------------------------------------------- */

static Group group_of(const Grouping *s, const Node *n) {
  Group c = {.form = op_form[n->op]};
  if (n->op == OP_loop) return c;
  c.space = value_type(s->g, n->res);
  if (c.form != FORM_reduce) return c;
  const Attr *axes = node_attr(n, AT_axes);
  c.space = value_type(s->g, n->ops[0]);
  c.nred = (uint8_t)axes->n;
  c.count = 1;
  c.trailing = axes->ints[0] == c.space.rank - (int64_t)axes->n;
  return c;
}

static bool is_row_level(const Group *reduce, const Group *map) {
  return reduce->trailing && type_same_dims(rows_of(reduce), map->space);
}

static bool combine_map_reduce(const Group *map, const Group *reduce, EdgeKind e) {
  bool same = type_same_dims(map->space, reduce->space);
  if (e == EDGE_DIRECT) return same || is_row_level(reduce, map);
  if (e == EDGE_ROW) return is_row_level(reduce, map);
  return e == EDGE_GATHER && same && reduce->trailing;
}

static bool combine_reduce_map(const Group *reduce, const Group *map, EdgeKind e) {
  bool same = type_same_dims(map->space, reduce->space);
  if (!reduce->trailing) return false;
  if (e == EDGE_DIRECT) return same || is_row_level(reduce, map);
  if (e == EDGE_ROW) return same;
  return e == EDGE_GATHER && is_row_level(reduce, map);
}

/* p produces what c reads over an edge of this kind; *out is the form of both together. */
static bool combine(const Group *p, const Group *c, EdgeKind e, Group *out) {
  bool same = type_same_dims(p->space, c->space);
  *out = c->form == FORM_map ? *p : *c;
  if (p->form == FORM_map && c->form == FORM_map) return same && e == EDGE_DIRECT;
  if (p->form == FORM_map && c->form == FORM_reduce) return combine_map_reduce(p, c, e);
  if (p->form == FORM_reduce && c->form == FORM_map) return combine_reduce_map(p, c, e);
  if (p->form == FORM_reduce && c->form == FORM_reduce)
    return same && p->trailing && c->trailing && p->nred == c->nred && e != EDGE_OTHER;
  if (p->form == FORM_gemm && c->form == FORM_map) return same && e == EDGE_DIRECT;
  if (p->form == FORM_map && c->form == FORM_gemm) return same && e == EDGE_DIRECT;
  return false;
}

/* Is there a way from a member of p to a member of c through a third group? */
static bool path_around(Grouping *s, uint32_t p, uint32_t c) {
  uint32_t last = 0;
  for (uint32_t i = 0; i < s->member[c].len; i++)
    if (s->member[c].at[i] > last) last = s->member[c].at[i];
  Positions *todo = &s->todo;
  s->search++;
  todo->len = 0;
  for (uint32_t i = 0; i < s->member[p].len; i++) vec_push(s->arena, todo, s->member[p].at[i]);
  while (todo->len) {
    uint32_t x = todo->at[--todo->len], of = group_root(s, x);
    for (uint32_t i = 0; i < s->out[x].len; i++) {
      uint32_t y = s->out[x].at[i], to = group_root(s, y);
      if (to == c && of != p) return true;
      if (to == p || to == c || y > last || s->seen[to] == s->search) continue;
      s->seen[to] = s->search;
      for (uint32_t k = 0; k < s->member[to].len; k++)
        vec_push(s->arena, todo, s->member[to].at[k]);
    }
  }
  return false;
}

/* Why the two do not combine over an edge of this kind. */
static const char *clash(const Group *p, const Group *c, EdgeKind e) {
  if (e == EDGE_OPERAND) return "a matmul reads its operands from memory";
  if (e == EDGE_GATHER) return "it is read at indices known at run time";
  if (e == EDGE_OTHER) return "it is read in another order";
  if (p->form == FORM_reduce && !p->trailing)
    return "sums along leading axes are complete only when all threads are done";
  if (p->form == FORM_gemm) return "what rides on a matmul's store is elementwise, of its shape";
  if (c->form == FORM_gemm) return "what goes into a matmul is its operand or its accumulator";
  if (p->form == FORM_scatter || c->form == FORM_scatter) return "a scatter takes and gives memory";
  return "they go over other axes";
}

/* Why p does not go into c's kernel; NULL: nothing is in the way, and *out is both together. */
static const char *obstacle(Grouping *s, uint32_t p, uint32_t c, Group *out) {
  for (uint32_t i = 0; i < s->member[c].len; i++) {
    Edges *in = &s->in[s->member[c].at[i]];
    for (uint32_t k = 0; k < in->len; k++) {
      EdgeKind e = in->at[k].kind;
      if (group_root(s, in->at[k].from) == p && !combine(&s->group[p], &s->group[c], e, out))
        return clash(&s->group[p], &s->group[c], e);
    }
  }
  out->count = s->group[p].count + s->group[c].count;
  if (out->count > MOST_REDUCTIONS) return "a kernel holds no more reductions";
  return path_around(s, p, c) ? "a kernel between the two would have to come first" : NULL;
}

/* Somebody outside wants v besides x. */
static bool wanted_elsewhere(Grouping *s, uint32_t p, uint32_t x, Edge e) {
  const Positions *readers = &s->out[e.from];
  for (uint32_t i = 0; i < readers->len; i++)
    if (readers->at[i] != x && group_root(s, readers->at[i]) != p) return true;
  return s->in_memory[e.from];
}

/* What rides on a gemm's store should spare a value its way through memory.  Where the value goes
 * there all the same, x rides only if its own result does too (gelu, of which the next matmul wants
 * the result and the gradient the operand); else it is cheaper in the kernel that wants it (a mask,
 * the optimizer). */
static bool rides_well(Grouping *s, uint32_t p, uint32_t x) {
  if (s->group[p].form != FORM_gemm || s->in_memory[x]) return true;
  for (uint32_t k = 0; k < s->in[x].len; k++)
    if (group_root(s, s->in[x].at[k].from) == p && wanted_elsewhere(s, p, x, s->in[x].at[k]))
      return false;
  return true;
}

const char *group_obstacle(Grouping *s, uint32_t x, Edge e, Group *both) {
  uint32_t p = group_root(s, e.from), c = group_root(s, x);
  if (!s->group[p].form || !s->group[c].form) return "a view or a loop stands between kernels";
  if (e.kind == EDGE_OPERAND) return clash(&s->group[p], &s->group[c], e.kind);
  if (!rides_well(s, p, x)) return "it goes to memory all the same, for others";
  return obstacle(s, p, c, both);
}

static void merge_with_producers(Grouping *s, uint32_t x) {
  for (uint32_t k = 0; k < s->in[x].len; k++) {
    uint32_t p = group_root(s, s->in[x].at[k].from), c = group_root(s, x);
    Group both;
    if (p == c || group_obstacle(s, x, s->in[x].at[k], &both)) continue;
    s->parent[p] = c;
    s->group[c] = both;
    for (uint32_t i = 0; i < s->member[p].len; i++)
      vec_push(s->arena, &s->member[c], s->member[p].at[i]);
  }
}

/* ---- writing the kernels --------------------------------------------------------------------- */

static void mark_used_outside(Grouping *s) {
  for (uint32_t p = 0; p < s->n; p++)
    for (uint32_t k = 0; k < s->in[p].len; k++)
      if (group_root(s, s->in[p].at[k].from) != group_root(s, p))
        s->used_outside[s->in[p].at[k].value] = true;
  Block *b = &s->g->blocks.at[s->block];
  for (uint32_t i = 0; i < b->results.len; i++) s->used_outside[b->results.at[i]] = true;
}

typedef struct KernelText { /* a kernel being written */
  BlockId body;
  uint32_t root;
  ValueIds operands, touched; /* outer values of its arguments; inner[] entries to clear */
} KernelText;

static void set_inner(Grouping *s, KernelText *k, ValueId v, ValueId inside) {
  s->inner[v] = inside;
  vec_push(s->arena, &k->touched, v);
}

static void copy_into(Grouping *s, KernelText *k, NodeId id);

/* v as seen inside the kernel. */
static ValueId inside(Grouping *s, KernelText *k, ValueId v) {
  if (s->inner[v] != NO_ID) return s->inner[v];
  Node *d = value_node(s->g, v);
  uint32_t p = d ? s->pos[d - s->g->nodes.at] : NO_ID;
  if (d && (s->inlined[p] || group_root(s, p) == k->root)) {
    copy_into(s, k, s->node[p]);
    return s->inner[v];
  }
  ValueId arg = graph_add_arg(s->g, k->body, value_type(s->g, v));
  vec_push(s->arena, &k->operands, s->outer[v]);
  set_inner(s, k, v, arg);
  return arg;
}

static void copy_into(Grouping *s, KernelText *k, NodeId id) {
  Node n = s->g->nodes.at[id];
  if (s->inner[n.res] != NO_ID) return;
  ValueId *ops = NEW_ARRAY(s->arena, ValueId, n.nops);
  for (uint32_t i = 0; i < n.nops; i++) ops[i] = inside(s, k, n.ops[i]);
  Type t = value_type(s->g, n.res);
  NodeId copy = graph_add_node(s->g, k->body, n.op, n.loc, n.nops, ops, 1, &t, n.nattrs, n.attrs);
  set_inner(s, k, n.res, s->g->nodes.at[copy].res);
}

static int by_position(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

Positions group_in_order(const Grouping *s, uint32_t root) {
  Positions m = s->member[root];
  m.at = arena_copy(s->arena, m.at, m.len * sizeof *m.at);
  qsort(m.at, m.len, sizeof *m.at, by_position);
  return m;
}

const Node *group_anchor(const Grouping *s, const Positions *m, uint8_t form) {
  for (uint32_t i = 0; i < m->len; i++) {
    const Node *n = group_node(s, m->at[i]);
    if (op_form[n->op] != FORM_map && op_form[n->op] == form) return n;
  }
  return group_node(s, m->at[0]);
}

/* The matmul of a gemm comes first, so that its operands are the kernel's first. */
static Loc write_anchor(Grouping *s, KernelText *k, const Positions *m) {
  const Node *n = group_anchor(s, m, s->group[k->root].form);
  Loc loc = n->loc;
  if (op_form[n->op] == FORM_gemm) copy_into(s, k, (NodeId)(n - s->g->nodes.at));
  return loc;
}

static void write_kernel(Grouping *s, uint32_t r) {
  Graph *g = s->g;
  Positions m = group_in_order(s, r);
  KernelText k = {.body = graph_add_block(g, NO_ID), .root = r};
  VEC(Type) types = {0};
  ValueIds results = {0};
  Loc loc = write_anchor(s, &k, &m);
  for (uint32_t i = 0; i < m.len; i++) {
    ValueId res = group_node(s, m.at[i])->res;
    copy_into(s, &k, s->node[m.at[i]]);
    if (!s->used_outside[res]) continue;
    vec_push(s->arena, &results, res);
    vec_push(s->arena, &types, value_type(g, res));
    vec_push(g->arena, &g->blocks.at[k.body].results, s->inner[res]);
  }
  for (uint32_t i = 0; i < k.touched.len; i++) s->inner[k.touched.at[i]] = NO_ID;
  if (!results.len) return; /* nobody reads it */
  Attr form = attr_text(AT_form, form_name[s->group[r].form]);
  NodeId id = graph_add_node(g, s->fresh, OP_kernel, loc, k.operands.len, k.operands.at, types.len,
                             types.at, 1, &form);
  g->nodes.at[id].nblocks = 1;
  g->nodes.at[id].blocks = arena_copy(g->arena, &k.body, sizeof k.body);
  g->blocks.at[k.body].owner = id;
  for (uint32_t i = 0; i < results.len; i++) s->outer[results.at[i]] = g->nodes.at[id].res + i;
}

static void write_view(Grouping *s, uint32_t p) {
  Node n = *group_node(s, p);
  ValueId x = s->outer[n.ops[0]];
  Type t = value_type(s->g, n.res);
  NodeId id = graph_add_node(s->g, s->fresh, OP_reshape, n.loc, 1, &x, 1, &t, 0, NULL);
  s->outer[n.res] = s->g->nodes.at[id].res;
}

/* The node itself, reading what its operands have become. */
static void write_loop(Grouping *s, uint32_t p) {
  Node *n = group_node(s, p);
  for (uint32_t i = 0; i < n->nops; i++) n->ops[i] = s->outer[n->ops[i]];
  vec_push(s->g->arena, &s->g->blocks.at[s->fresh].nodes, s->node[p]);
}

/* Writes the group after those it reads. */
static void write_group(Grouping *s, uint32_t r) {
  if (s->written[r]) return;
  s->written[r] = true;
  for (uint32_t i = 0; i < s->member[r].len; i++) {
    Edges *in = &s->in[s->member[r].at[i]];
    for (uint32_t k = 0; k < in->len; k++) write_group(s, group_root(s, in->at[k].from));
  }
  if (group_node(s, r)->op == OP_reshape) write_view(s, r);
  else if (group_node(s, r)->op == OP_loop) write_loop(s, r);
  else write_kernel(s, r);
}

/* ---- one block ------------------------------------------------------------------------------- */

static void set_up(Grouping *s) {
  Block *b = &s->g->blocks.at[s->block];
  Arena *a = s->arena;
  s->n = b->nodes.len;
  s->node = arena_copy(a, b->nodes.at, s->n * sizeof *s->node);
  s->pos = NEW_ARRAY(a, uint32_t, s->g->nodes.len);
  s->inlined = NEW_ARRAY(a, bool, s->n);
  s->in_memory = NEW_ARRAY(a, bool, s->n);
  s->parent = NEW_ARRAY(a, uint32_t, s->n);
  s->group = NEW_ARRAY(a, Group, s->n);
  s->in = NEW_ARRAY(a, Edges, s->n);
  s->out = NEW_ARRAY(a, Positions, s->n);
  s->member = NEW_ARRAY(a, Positions, s->n);
  s->written = NEW_ARRAY(a, bool, s->n);
  s->seen = NEW_ARRAY(a, uint32_t, s->n);
  s->values = s->g->values.len;
  s->used_outside = NEW_ARRAY(a, bool, s->values);
  s->outer = NEW_ARRAY(a, ValueId, s->values);
  s->inner = NEW_ARRAY(a, ValueId, s->values);
  for (ValueId v = 0; v < s->values; v++) s->outer[v] = v, s->inner[v] = NO_ID;
  for (uint32_t p = 0; p < s->n; p++) s->pos[s->node[p]] = p, s->parent[p] = p;
}

/* Results that go through memory whatever is grouped: operands of matmuls and views, results. */
static void find_in_memory(Grouping *s) {
  for (uint32_t p = 0; p < s->n; p++)
    for (uint32_t k = 0; k < s->in[p].len; k++)
      if (s->in[p].at[k].kind == EDGE_OPERAND || group_node(s, p)->op == OP_reshape)
        s->in_memory[s->in[p].at[k].from] = true;
  const Block *b = &s->g->blocks.at[s->block];
  for (uint32_t i = 0; i < b->results.len; i++) {
    Node *d = value_node(s->g, b->results.at[i]);
    if (d) s->in_memory[s->pos[d - s->g->nodes.at]] = true;
  }
}

static void find_groups(Grouping *s, bool merge) {
  anchor_free_nodes(s);
  for (uint32_t p = 0; p < s->n; p++) {
    Node *n = group_node(s, p);
    if (n->op == OP_kernel) ice(s->g, s->node[p], "group: an ungrouped graph is wanted");
    if (s->inlined[p]) continue;
    s->group[p] = group_of(s, n);
    vec_push(s->arena, &s->member[p], p);
    for (uint32_t i = 0; i < n->nops; i++) add_edges(s, p, n->ops[i], operand_kind(n, i));
  }
  find_in_memory(s);
  for (uint32_t p = 0; merge && p < s->n; p++)
    if (!s->inlined[p]) merge_with_producers(s, p);
}

static void group_block(Graph *g, BlockId block, PassCtx *c, const char *entry, bool merge) {
  for (uint32_t i = 0; i < g->blocks.at[block].nodes.len; i++) {
    const Node *n = &g->nodes.at[g->blocks.at[block].nodes.at[i]];
    if (n->op == OP_loop) group_block(g, n->blocks[0], c, entry, merge);
  }
  Grouping s = {.g = g, .arena = c->arena, .block = block, .entry = entry};
  set_up(&s);
  find_groups(&s, merge);
  mark_used_outside(&s);
  if (merge) group_remarks(&s, c->diag);
  s.fresh = graph_add_block(g, NO_ID);
  for (uint32_t p = 0; p < s.n; p++)
    if (!s.inlined[p]) write_group(&s, group_root(&s, p));
  Block *b = &g->blocks.at[block];
  b->nodes = g->blocks.at[s.fresh].nodes;
  g->blocks.at[s.fresh].nodes.len = 0;
  for (uint32_t i = 0; i < b->nodes.len; i++) g->nodes.at[b->nodes.at[i]].block = block;
  for (uint32_t i = 0; i < b->results.len; i++) b->results.at[i] = s.outer[b->results.at[i]];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    Node *n = &g->nodes.at[b->nodes.at[i]];
    for (uint32_t k = 0; k < n->nres; k++) g->values.at[n->res + k].block = block;
  }
}

void group_singly(Graph *g, uint32_t entry, PassCtx *ctx) {
  group_block(g, g->entries.at[entry].body, ctx, g->entries.at[entry].name, false);
}

bool pass_group(Graph *g, PassCtx *ctx) {
  graph_close_loops(g, ctx->arena);
  for (uint32_t i = 0; i < g->entries.len; i++)
    if (g->entries.at[i].kind == ENTRY_replay) group_singly(g, i, ctx);
    else group_block(g, g->entries.at[i].body, ctx, g->entries.at[i].name, true);
  return true;
}
