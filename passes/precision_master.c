/* precision_master.c: what the permanent state of a weight is, where the program asks for another
 * one than an f32 master and its low copy (docs/why/masters.md).
 *
 *   master(sr)     the low type alone.  optimize made every value that commits one of that type, so
 *                  storing it rounds nothing; the derived copy goes, the state takes its place
 *   master(split)  three parts instead of the f32: PATH:bf16, its value to nearest even, which is
 *                  what the copy was; PATH:rest, its lower 16 bits; PATH:up, a bit an element, set
 *                  where it was a tie that rounded up.  Together they are the f32, exactly, so
 *                  a run has the bits of one with f32 masters
 *
 * Who read the f32 joins the parts in its own kernel, and the kernel that commits it takes it
 * apart.  Only trained weights with a bf16 copy are split: of others the f32 is the one form
 * there is.
 *
 * Bits are stored eight a byte, in planes: byte k holds those of elements k, k + m, k + 2m …, m a
 * plane's length, so that packing and unpacking go by vectors.  A number of elements that 8 does
 * not divide has 4, 2 or 1 planes.
 */
#include "passes/precision.h"

#include <string.h>

typedef struct Master { /* of the weight and the entry at hand */
  Graph *g;
  Arena *arena;
  State state; /* as it was */
  bool split;
  DType type;                  /* that the program works in */
  const char *low, *rest, *up; /* paths; low: also that of the derived copy */
  uint32_t entry;
  BlockId body;
  uint32_t nparts;
  ValueId parts[3]; /* as kernels read them: low; of a split one also rest, up */
} Master;

static const char *path_with(Master *m, const char *suffix) {
  return states_name(m->g, arena_printf(m->arena, "%s:%s", m->state.path, suffix));
}

static Type type_bits(Type t) { return type_with(t, DT_i1); }

static int64_t planes_of(Type t) {
  int64_t n = type_count(t), planes = 8;
  while (n % planes) planes /= 2;
  return planes;
}

static Type planes_type(Type t, DType d) {
  int64_t planes = planes_of(t);
  return type_make(d, 2, (int64_t[]){planes, type_count(t) / planes});
}

static Type packed_type(Type t) {
  return type_make(DT_u8, 1, (int64_t[]){type_count(t) / planes_of(t)});
}

/* ---- kernels --------------------------------------------------------------------------------- */

static Builder inside(const Graph *g, NodeId k) {
  return (Builder){.g = (Graph *)g, .block = g->nodes.at[k].blocks[0], .loc = g->nodes.at[k].loc};
}

static ValueId argument(const Graph *g, NodeId k, uint32_t i) {
  return g->blocks.at[g->nodes.at[k].blocks[0]].args.at[i];
}

/* base^i for the i-th plane, in f32: exact. */
static ValueId plane_power(Builder *b, Type t, double base) {
  ValueId i = build_iota(b, type_with(t, DT_i32), 0);
  ValueId power = build_constant(b, type_with(t, DT_f32), 1);
  double x = base;
  for (int64_t k = 1; k < t.dim[0]; k++, x *= base)
    power = build_select(b, build2(b, OP_eq, i, build_like(b, i, (double)k)),
                         build_like(b, power, x), power);
  return power;
}

static uint32_t nodes_of(const Master *m) { return m->g->blocks.at[m->body].nodes.len; }

static ValueId view(Master *m, ValueId x, Type t) {
  Builder b = {.g = m->g, .block = m->body, .loc = m->state.loc};
  return build_reshape(&b, x, t);
}

/* Bit i of byte k is element (i, k). */
static ValueId unpack(Master *m, ValueId packed) {
  Graph *g = m->g;
  Type t = planes_type(m->state.type, DT_f32);
  NodeId k = kernel_map(g, m->body, m->state.loc, 1, &packed, type_bits(t));
  Builder b = inside(g, k);
  ValueId x = build_broadcast(&b, argument(g, k, 0), t, (int64_t[]){1});
  ValueId down = build2(&b, OP_mul, build_cast(&b, x, DT_f32), plane_power(&b, t, 0.5));
  down = build1(&b, OP_floor, down);
  ValueId even = build1(&b, OP_floor, build2(&b, OP_mul, down, build_like(&b, down, 0.5)));
  even = build2(&b, OP_mul, even, build_like(&b, even, 2));
  vec_push(g->arena, &g->blocks.at[b.block].results, build2(&b, OP_ne, down, even));
  return view(m, g->nodes.at[k].res, type_bits(m->state.type));
}

static ValueId pack(Master *m, ValueId bits) {
  Graph *g = m->g;
  Type t = planes_type(m->state.type, DT_i1);
  ValueId x = view(m, bits, t);
  NodeId k = kernel_map(g, m->body, m->state.loc, 1, &x, packed_type(m->state.type));
  node_set_attr(g, k, attr_text(AT_form, form_name[FORM_reduce]));
  Builder b = inside(g, k);
  ValueId power = plane_power(&b, t, 2);
  ValueId chosen = build_select(&b, argument(g, k, 0), power, build_like(&b, power, 0));
  ValueId sum = build_reduce(&b, OP_sum, chosen, 1, (int64_t[]){0});
  vec_push(g->arena, &g->blocks.at[b.block].results, build_cast(&b, sum, DT_u8));
  return g->nodes.at[k].res;
}

/* The node of kernel k that gives the f32 of its arguments parts[0 …]. */
static ValueId join(Master *m, NodeId k, const ValueId *parts) {
  Builder b = inside(m->g, k);
  Type t = type_with(m->state.type, DT_f32);
  if (!m->split) return build_typed(&b, OP_cast_policy, t, 1, parts, 0, NULL);
  return build_typed(&b, OP_bf16_join, t, 3, (ValueId[]){parts[2], parts[1], parts[0]}, 0, NULL);
}

/* ---- who reads the f32 ----------------------------------------------------------------------- */

static void take_parts(Master *m) {
  Graph *g = m->g;
  Type t = m->state.type, type[] = {type_with(t, m->type), type_with(t, DT_u16), packed_type(t)};
  const char *path[] = {m->low, m->rest, m->up};
  for (uint32_t i = 0; i < m->nparts; i++) {
    m->parts[i] = graph_entry_arg(g, m->entry, ARG_state, path[i]);
    if (m->parts[i] == NO_ID)
      m->parts[i] = graph_add_entry_arg(g, m->entry, ARG_state, path[i], type[i], m->state.loc);
  }
  if (m->split) m->parts[2] = unpack(m, m->parts[2]);
}

static bool product_reads(const Graph *g, const Node *k, ValueId arg) {
  const Block *body = &g->blocks.at[k->blocks[0]];
  for (uint32_t i = 0; i < body->nodes.len; i++) {
    const Node *n = &g->nodes.at[body->nodes.at[i]];
    for (uint32_t j = 0; op_form[n->op] == FORM_gemm && j < n->nops; j++)
      if (n->ops[j] == arg) return true;
  }
  return false;
}

/* These compute what they load: maps, reductions, and products behind their sums, which widen. */
static bool joins_itself(const Master *m, const Node *n, uint32_t k) {
  if (node_is_kernel(n, FORM_map) || node_is_kernel(n, FORM_reduce)) return true;
  return !m->split && node_is_kernel(n, FORM_gemm) &&
         !product_reads(m->g, n, m->g->blocks.at[n->blocks[0]].args.at[k]);
}

/* Operand i of kernel k, the f32, becomes the low part, and the others come behind. */
static void join_inside(Master *m, NodeId k, uint32_t i) {
  Graph *g = m->g;
  ValueId part[3] = {argument(g, k, i)};
  g->nodes.at[k].ops[i] = m->parts[0];
  g->values.at[part[0]].type.dtype = (uint8_t)m->type;
  for (uint32_t p = 1; p < m->nparts; p++) part[p] = region_add_operand(g, k, m->parts[p]);
  ValueId joined = join(m, k, part);
  graph_replace_uses(g, g->nodes.at[k].blocks[0], part[0], joined);
  Node *n = value_node(g, joined);
  n->ops[n->nops - 1] = part[0];
  kernel_move_last_first(g, n->block);
}

static ValueId join_outside(Master *m) {
  Graph *g = m->g;
  Type t = type_with(m->state.type, DT_f32);
  NodeId k = kernel_map(g, m->body, m->state.loc, m->nparts, m->parts, t);
  ValueId part[3];
  for (uint32_t p = 0; p < m->nparts; p++) part[p] = argument(g, k, p);
  ValueId joined = join(m, k, part);
  vec_push(g->arena, &g->blocks.at[g->nodes.at[k].blocks[0]].results, joined);
  return g->nodes.at[k].res;
}

/* Operand k of node n, the f32, from its parts: kernels join them as they read; for loops, views
 * and products one kernel of its own does, the first time. */
static void join_operand(Master *m, NodeId n, uint32_t k, ValueId *joined) {
  if (joins_itself(m, &m->g->nodes.at[n], k)) {
    join_inside(m, n, k);
    return;
  }
  if (*joined == NO_ID) *joined = join_outside(m);
  m->g->nodes.at[n].ops[k] = *joined;
}

/* The parts are taken, that is, the bits unpacked, in front of the first who reads them. */
static void replace_reads(Master *m, ValueId whole) {
  Graph *g = m->g;
  uint32_t n = nodes_of(m), first = n;
  ValueId joined = NO_ID;
  for (uint32_t i = 0; i < n; i++) {
    NodeId id = g->blocks.at[m->body].nodes.at[i];
    for (uint32_t k = 0; k < g->nodes.at[id].nops; k++) {
      if (g->nodes.at[id].ops[k] != whole) continue;
      if (first == n) take_parts(m), first = i;
      join_operand(m, id, k, &joined);
    }
  }
  graph_move_nodes(m->g, m->body, n, first); /* next to who reads them */
}

/* ---- who writes it --------------------------------------------------------------------------- */

static int find_result(const Master *m, const char *path) {
  const Entry *e = &m->g->entries.at[m->entry];
  for (uint32_t i = 0; i < e->results.len; i++)
    if (e->results.at[i].role == RES_state && !strcmp(e->results.at[i].name, path)) return (int)i;
  return -1;
}

static ValueId *result(Master *m, int i) { return &m->g->blocks.at[m->body].results.at[i]; }

static void add_result(Master *m, const char *path, ValueId v) {
  graph_add_entry_result(m->g, m->entry, RES_state, path, v, m->state.loc);
}

/* The kernel that makes x and can make its parts beside it. */
static NodeId maker_of(Master *m, ValueId *x) {
  Graph *g = m->g;
  const Node *n = value_node(g, *x);
  bool views = !n || n->op != OP_kernel;
  if (views || node_is_kernel(n, FORM_scatter))
    *x = kernel_copy(g, m->body, m->state.loc, *x);
  return g->values.at[*x].node;
}

/* What is written in place of the f32 x: its low form, if no kernel wrote it yet, and the rest. */
static void write_parts(Master *m, ValueId x, bool has_low) {
  Graph *g = m->g;
  NodeId k = maker_of(m, &x);
  uint32_t i = g->values.at[x].index;
  Builder b = inside(g, k);
  ValueId y = g->blocks.at[b.block].results.at[i];
  Type t = value_type(g, y);
  ValueId low = build_typed(&b, OP_cast_policy, type_with(t, m->type), 1, &y, 0, NULL);
  if (!has_low) add_result(m, m->low, kernel_add_result(g, k, low));
  if (m->split) {
    uint32_t n = nodes_of(m), behind = 0;
    while (g->blocks.at[m->body].nodes.at[behind++] != k) continue;
    ValueId rest = build_typed(&b, OP_bf16_rest, type_with(t, DT_u16), 1, &y, 0, NULL);
    ValueId down = build_constant(&b, type_with(t, DT_i1), 0);
    ValueId up = build2(&b, OP_ne, y, join(m, k, (ValueId[]){low, rest, down}));
    up = build2(&b, OP_and, up, build2(&b, OP_eq, y, y)); /* NaN is no tie */
    add_result(m, m->rest, kernel_add_result(g, k, rest));
    add_result(m, m->up, pack(m, kernel_add_result(g, k, up)));
    graph_move_nodes(m->g, m->body, n, behind); /* next to who makes it */
  }
  kernel_drop_unused(g, k, i);
}

/* x: an argument where the entry leaves the weight as it is. */
static void replace_writes(Master *m) {
  Graph *g = m->g;
  int whole = find_result(m, m->state.path), low = find_result(m, m->low);
  ValueId x = whole < 0 ? *result(m, low) : *result(m, whole);
  graph_drop_entry_result(g, m->entry, (uint32_t)(whole < 0 ? low : whole));
  NodeId made = g->values.at[x].node;
  if (whole >= 0 && made != NO_ID) write_parts(m, x, low >= 0);
  else if (made != NO_ID) kernel_drop_unused(g, made, g->values.at[x].index); /* of `derive` */
}

/* ---- weights --------------------------------------------------------------------------------- */

static void rename_ports(Port *ports, uint32_t n, int state, const char *from, const char *to) {
  for (uint32_t i = 0; i < n; i++)
    if (ports[i].role == state && !strcmp(ports[i].name, from)) ports[i].name = to;
}

static void convert_entry(Master *m) {
  Graph *g = m->g;
  Entry *e = &g->entries.at[m->entry];
  m->body = e->body;
  ValueId whole = graph_entry_arg(g, m->entry, ARG_state, m->state.path);
  bool writes = find_result(m, m->state.path) >= 0 ||
                (e->kind == ENTRY_derive && find_result(m, m->low) >= 0);
  if (writes) replace_writes(m);
  if (whole != NO_ID) replace_reads(m, whole);
  if (whole != NO_ID) graph_drop_entry_arg(g, m->entry, g->values.at[whole].index);
  if (m->split) return;
  rename_ports(e->args.at, e->args.len, ARG_state, m->low, m->state.path);
  rename_ports(e->results.at, e->results.len, RES_state, m->low, m->state.path);
}

static void remove_state(Graph *g, const char *path) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < g->states.len; i++)
    if (strcmp(g->states.at[i].path, path)) g->states.at[kept++] = g->states.at[i];
  g->states.len = kept;
}

static void add_part(Master *m, const char *path, Type t) {
  State part = {
      .path = path, .kind = STATE_part, .type = t, .loc = m->state.loc, .master = m->state.path};
  vec_push(m->g->arena, &m->g->states, part);
}

static void convert(Precision *s, uint32_t state) {
  Graph *g = s->g;
  Master m = {.g = g, .arena = s->arena, .state = g->states.at[state], .type = s->type};
  m.split = m.state.store == STORE_split;
  m.nparts = m.split ? 3 : 1;
  m.low = path_with(&m, dtype_name[m.type]);
  m.rest = path_with(&m, "rest");
  m.up = path_with(&m, "up");
  for (m.entry = 0; m.entry < g->entries.len; m.entry++) convert_entry(&m);
  if (m.split) {
    graph_state(g, m.low)->kind = STATE_part;
    add_part(&m, m.rest, type_with(m.state.type, DT_u16));
    add_part(&m, m.up, packed_type(m.state.type));
    return;
  }
  g->states.at[state].type.dtype = (uint8_t)m.type;
  remove_state(g, m.low);
}

/* Those with a copy in bf16, as part of an f32. */
static void choose_split(Graph *g) {
  bool split = g->train.master && !strcmp(g->train.master, "split");
  for (uint32_t i = 0; split && i < g->states.len; i++) {
    const State *copy = &g->states.at[i];
    if (copy->kind != STATE_derived || copy->type.dtype != DT_bf16) continue;
    State *master = graph_state(g, copy->master);
    if (!master->frozen && type_count(master->type)) master->store = STORE_split;
  }
}

static void remove_empty_derive(Graph *g) {
  int e = graph_entry_find(g, ENTRY_derive);
  if (e < 0 || g->entries.at[e].results.len) return;
  for (uint32_t i = (uint32_t)e + 1; i < g->entries.len; i++)
    g->entries.at[i - 1] = g->entries.at[i];
  g->entries.len--;
}

void store_masters(Precision *s) {
  choose_split(s->g);
  for (uint32_t i = 0; i < s->g->states.len; i++)
    if (s->g->states.at[i].kind == STATE_param && s->g->states.at[i].store) convert(s, i);
  remove_empty_derive(s->g);
}
