/* precision.c: the storage type of every value that crosses a kernel border, and the casts.
 *
 * Groups are fixed; inside one everything is f32.  A value in memory is f32 or low (bf16).  Under
 * an explicit `bf16` every matmul reads low operands; a value is stored low when its op's triple
 * allows it (column PREC of ops.def, store) and it is a matmul's operand, a matmul's result, or an
 * activation or cotangent (tagged with the batch axis, rank 2 and more).  Never low: what PREC
 * stores in f32 (losses, sums), weight gradients (a matmul that contracts over the batch axis),
 * results of the entry, and so masters, moments and everything the optimizer computes.
 *
 * A low value is written by its kernel through `cast.policy` and read through another; a matmul
 * reads it as it is.  A parameter that a matmul reads gets a derived low copy, a state of its own:
 * every entry that writes the master writes the copy in the same kernel, and the entry `derive`
 * makes it anew after init, load or set.  So no step casts a weight.  After this pass every
 * rounding is meaning: nobody adds, moves or drops a cast.
 */
#include "passes/pass.h"

#include <string.h>

typedef enum Prec {
  PREC_none,
  PREC_any,
  PREC_low,
  PREC_f32,
  PREC_stored,
  PREC_follow,
  PREC_widest,
  PREC_integer
} Prec;

typedef struct PrecRow {
  uint8_t load, math, store;
} PrecRow;

static const PrecRow prec[OP_COUNT] = {
#define OP(name, doc) [OP_##name] =
#define PREC(load, math, store) {PREC_##load, PREC_##math, PREC_##store},
#include "ir/ops.def"
};

typedef struct Precision {
  Graph *g;
  Arena *arena;
  DType low;
  uint32_t entry;
  BlockId block;
  uint32_t values; /* before the pass */
  bool *operand;   /* of a matmul, perhaps through a view */
  ValueId *low_of; /* value: its low form (itself: stored low), NO_ID: none */
  NodeIds nodes;   /* of the block, as rewritten so far */
} Precision;

/* The node inside the kernel that computes result v. */
static Node *made_by(const Graph *g, ValueId v) {
  Node *k = value_node(g, v);
  if (!k || k->op != OP_kernel) return k;
  return value_node(g, g->blocks.at[k->blocks[0]].results.at[g->values.at[v].index]);
}

static bool contracts_rows(const Graph *g, const Node *n) {
  Type a = value_type(g, n->ops[0]), b = value_type(g, n->ops[1]);
  int ak = node_bool(n, AT_ta) ? 0 : 1, bk = node_bool(n, AT_tb) ? 1 : 0;
  return a.rows == ak || b.rows == bk;
}

static void mark_operands(Precision *s, const Node *k) {
  const Block *body = &s->g->blocks.at[k->blocks[0]];
  for (uint32_t i = 0; i < body->nodes.len; i++) {
    const Node *n = &s->g->nodes.at[body->nodes.at[i]];
    if (n->op != OP_matmul) continue;
    for (int j = 0; j < 2; j++) {
      uint32_t arg = s->g->values.at[n->ops[j]].index;
      s->operand[k->ops[arg]] = s->operand[view_source(s->g, k->ops[arg])] = true;
    }
  }
}

static bool is_entry_result(const Graph *g, BlockId block, ValueId v) {
  const Block *b = &g->blocks.at[block];
  for (uint32_t i = 0; i < b->results.len; i++)
    if (view_source(g, b->results.at[i]) == v) return true;
  return false;
}

static bool stored_low(const Precision *s, ValueId v) {
  Type t = value_type(s->g, v);
  const Node *n = made_by(s->g, v);
  if (t.dtype != DT_f32 || !n || is_entry_result(s->g, s->block, v)) return false;
  if (n->op == OP_matmul && contracts_rows(s->g, n)) return false;
  if (prec[n->op].store == PREC_f32) return false; /* a matmul that reads it gets a cast */
  return s->operand[v] || n->op == OP_matmul || (t.rows >= 0 && t.rank >= 2);
}

/* ---- rewriting kernels ----------------------------------------------------------------------- */

static ValueId cast_node(Graph *g, BlockId block, Loc loc, ValueId x, DType to) {
  Type t = type_with(value_type(g, x), to);
  return g->nodes.at[graph_add_node(g, block, OP_cast_policy, loc, 1, &x, 1, &t, 0, NULL)].res;
}

static bool is_low_use(const Node *n, uint32_t operand) {
  return n->op == OP_matmul && operand < 2;
}
static bool is_wide_use(const Node *n, uint32_t operand) {
  return n->op != OP_cast_policy && !is_low_use(n, operand);
}

static void write_low(Precision *s, NodeId k, uint32_t result) {
  Graph *g = s->g;
  BlockId body = g->nodes.at[k].blocks[0];
  ValueId y = g->blocks.at[body].results.at[result];
  g->blocks.at[body].results.at[result] = cast_node(g, body, g->nodes.at[k].loc, y, s->low);
  g->values.at[g->nodes.at[k].res + result].type.dtype = (uint8_t)s->low;
}

/* The kernel's argument becomes low; all but matmuls read it through a cast. */
static void read_low(Precision *s, NodeId k, uint32_t arg) {
  Graph *g = s->g;
  BlockId body = g->nodes.at[k].blocks[0];
  ValueId a = g->blocks.at[body].args.at[arg];
  g->values.at[a].type.dtype = (uint8_t)s->low;
  if (!kernel_uses(g, k, a, is_wide_use)) return;
  ValueId wide = cast_node(g, body, g->nodes.at[k].loc, a, DT_f32);
  kernel_replace_uses(g, k, a, wide, is_wide_use);
  kernel_move_last_first(g, body);
}

/* Matmuls of the kernel that read argument `arg` read `low` instead. */
static void read_low_beside(Precision *s, NodeId k, uint32_t arg, ValueId low) {
  Graph *g = s->g;
  BlockId body = g->nodes.at[k].blocks[0];
  ValueId a = g->blocks.at[body].args.at[arg];
  if (kernel_uses(g, k, a, is_wide_use)) {
    kernel_replace_uses(g, k, a, kernel_add_operand(g, k, low), is_low_use);
    return;
  }
  g->nodes.at[k].ops[arg] = low;
  g->values.at[a].type.dtype = (uint8_t)s->low;
}

/* ---- derived copies of parameters ------------------------------------------------------------ */

static const char *low_path(const Precision *s, const char *path) {
  char *text = arena_printf(s->arena, "%s:%s", path, dtype_name[s->low]);
  return intern(s->g->strings, text, strlen(text));
}

static void declare_copy(Precision *s, const State *master) {
  const char *path = low_path(s, master->path);
  if (graph_state(s->g, path)) return;
  State copy = {.path = path,
                .kind = STATE_derived,
                .type = type_with(master->type, s->low),
                .loc = master->loc,
                .master = master->path};
  vec_push(s->g->arena, &s->g->states, copy);
}

/* The derived copy of parameter argument v, or NO_ID where v is something else. */
static ValueId derived_copy(Precision *s, ValueId v) {
  Graph *g = s->g;
  if (value_node(g, v)) return NO_ID;
  Port port = g->entries.at[s->entry].args.at[g->values.at[v].index];
  State *master = port.role == ARG_state ? graph_state(g, port.name) : NULL;
  if (!master || master->kind != STATE_param) return NO_ID;
  declare_copy(s, master);
  return graph_add_entry_arg(g, s->entry, ARG_state, low_path(s, port.name),
                             type_with(value_type(g, v), s->low), port.loc);
}

/* A kernel that does nothing but cast v, placed before what is labelled next. */
static ValueId cast_before(Precision *s, ValueId v, Loc loc) {
  ValueId low = kernel_cast(s->g, s->block, loc, v, s->low);
  vec_push(s->arena, &s->nodes, s->g->values.at[low].node);
  return low;
}

/* Every master that the entry writes has its copy written by the same kernel. */
static void write_copies(Precision *s) {
  Graph *g = s->g;
  uint32_t n = g->entries.at[s->entry].results.len;
  for (uint32_t i = 0; i < n; i++) {
    Port port = g->entries.at[s->entry].results.at[i];
    if (port.role != RES_state || !graph_state(g, low_path(s, port.name))) continue;
    ValueId v = g->blocks.at[s->block].results.at[i];
    Node *k = value_node(g, v);
    if (!k) continue; /* not changed */
    if (k->op != OP_kernel) ice(g, (NodeId)(k - g->nodes.at), "precision: a master behind a view");
    NodeId id = (NodeId)(k - g->nodes.at);
    BlockId body = k->blocks[0];
    ValueId y = g->blocks.at[body].results.at[g->values.at[v].index];
    ValueId low = cast_node(g, body, k->loc, y, s->low);
    graph_add_entry_result(g, s->entry, RES_state, low_path(s, port.name),
                           kernel_add_result(g, id, low), port.loc);
  }
}

static void build_derive(Precision *s) {
  Graph *g = s->g;
  int e = graph_entry_find(g, ENTRY_derive);
  uint32_t entry = e >= 0 ? (uint32_t)e : graph_add_entry(g, "derive", ENTRY_derive, 0, (Loc){0});
  for (uint32_t i = 0; i < g->states.len; i++) {
    State copy = g->states.at[i];
    if (copy.kind != STATE_derived || graph_entry_result(g, entry, RES_state, copy.path) != NO_ID)
      continue;
    State *master = graph_state(g, copy.master);
    ValueId x = graph_add_entry_arg(g, entry, ARG_state, copy.master, master->type, copy.loc);
    ValueId low = kernel_cast(g, g->entries.at[entry].body, copy.loc, x, (DType)copy.type.dtype);
    graph_add_entry_result(g, entry, RES_state, copy.path, low, copy.loc);
  }
}

/* ---- one entry ------------------------------------------------------------------------------- */

static void label_results(Precision *s, NodeId k) {
  for (uint32_t i = 0; i < s->g->nodes.at[k].nres; i++) {
    ValueId v = s->g->nodes.at[k].res + i;
    if (!stored_low(s, v)) continue;
    write_low(s, k, i);
    s->low_of[v] = v;
  }
}

/* The low form of v, or NO_ID where it stays as it is: f32 and not asked for, or no float. */
static ValueId low_form(Precision *s, ValueId v, bool asked, Loc loc) {
  if (v >= s->values) return NO_ID;
  if (s->low_of[v] != NO_ID || !asked || value_type(s->g, v).dtype != DT_f32) return s->low_of[v];
  ValueId low = derived_copy(s, v);
  return s->low_of[v] = low != NO_ID ? low : cast_before(s, v, loc);
}

static void label_operands(Precision *s, NodeId k) {
  uint32_t n = s->g->nodes.at[k].nops;
  for (uint32_t i = 0; i < n; i++) {
    ValueId v = s->g->nodes.at[k].ops[i];
    ValueId a = s->g->blocks.at[s->g->nodes.at[k].blocks[0]].args.at[i];
    bool asked = kernel_uses(s->g, k, a, is_low_use);
    ValueId low = low_form(s, v, asked, s->g->nodes.at[k].loc);
    if (low == v) read_low(s, k, i);
    else if (low != NO_ID && asked) read_low_beside(s, k, i, low);
  }
}

static void label_view(Precision *s, NodeId id) {
  Node n = s->g->nodes.at[id];
  ValueId low = low_form(s, n.ops[0], s->operand[n.res], n.loc);
  if (low == NO_ID || (low != n.ops[0] && !s->operand[n.res])) return;
  n.ops[0] = low;
  s->g->values.at[n.res].type.dtype = (uint8_t)s->low;
  s->low_of[n.res] = n.res;
}

static void set_up(Precision *s) {
  Graph *g = s->g;
  s->block = g->entries.at[s->entry].body;
  s->values = g->values.len;
  s->operand = NEW_ARRAY(s->arena, bool, s->values);
  s->low_of = NEW_ARRAY(s->arena, ValueId, s->values);
  s->nodes = (NodeIds){0};
  for (ValueId v = 0; v < s->values; v++) s->low_of[v] = NO_ID;
  const Block *b = &g->blocks.at[s->block];
  for (uint32_t i = 0; i < b->nodes.len; i++)
    if (g->nodes.at[b->nodes.at[i]].op == OP_kernel) mark_operands(s, &g->nodes.at[b->nodes.at[i]]);
}

static void label_entry(Precision *s) {
  set_up(s);
  uint32_t n = s->g->blocks.at[s->block].nodes.len;
  for (uint32_t i = 0; i < n; i++) {
    NodeId id = s->g->blocks.at[s->block].nodes.at[i];
    if (s->g->nodes.at[id].op == OP_kernel) {
      label_operands(s, id);
      label_results(s, id);
    } else label_view(s, id);
    vec_push(s->arena, &s->nodes, id);
  }
  NodeIds *nodes = &s->g->blocks.at[s->block].nodes;
  nodes->at = arena_copy(s->g->arena, s->nodes.at, s->nodes.len * sizeof *s->nodes.at);
  nodes->len = nodes->cap = s->nodes.len;
}

bool pass_precision(Graph *g, PassCtx *ctx) {
  const char *word = g->train.precision ? g->train.precision : "f32";
  if (!strcmp(word, "f32")) return false;
  Precision s = {.g = g, .arena = ctx->arena, .low = DT_bf16};
  for (s.entry = 0; s.entry < g->entries.len; s.entry++) {
    EntryKind kind = g->entries.at[s.entry].kind;
    if (kind != ENTRY_init && kind != ENTRY_derive) label_entry(&s);
  }
  for (s.entry = 0; s.entry < g->entries.len; s.entry++) {
    s.block = g->entries.at[s.entry].body;
    if (g->entries.at[s.entry].kind == ENTRY_step) write_copies(&s);
  }
  build_derive(&s);
  return true;
}
