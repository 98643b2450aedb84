/* replay.c: what a skipped step is asked by, under --with-replay: each step up to its guard, twice.
 *
 *   NAME.replay  in f32 and without a loss scale.  What is not finite there, either, is so in the
 *                model or the data; what is finite there the program's types could not hold.  A
 *                copy from before `grad`, which `fp8` and `precision` leave alone; none where all
 *                of the step is f32
 *   NAME.origin  as the step computes it, bit for bit: copied when every rounding stands
 *
 * Both have the step's arguments, and for results what its guard asks (role finite); they write no
 * state, so nothing else is to be undone.  In both each op is a kernel: the runtime looks at what
 * kernels write (runtime/origin.c), so it names the op.  What a kernel computes does not depend on
 * how it was grouped, since inside one everything is f32 and the order of every sum belongs to the
 * op.
 */
#include "passes/pass.h"

static uint32_t copy_step(Graph *g, uint32_t step, const char *suffix, EntryKind kind, Arena *a) {
  const char *name = arena_printf(a, "%s.%s", g->entries.at[step].name, suffix);
  return graph_copy_entry(g, step, states_name(g, name), kind, a);
}

void replay_add(Graph *g, uint32_t step, PassCtx *c) {
  if (precision_is_low(g)) copy_step(g, step, "replay", ENTRY_replay, c->arena);
}

void replay_keep_questions(Graph *g, uint32_t entry) {
  const Entry *e = &g->entries.at[entry];
  for (uint32_t i = e->results.len; i-- > 0;)
    if (e->results.at[i].role != RES_finite) graph_drop_entry_result(g, entry, i);
}

/* ---- no kernels ------------------------------------------------------------------------------ */

typedef struct Flat {
  Graph *g;
  ValueId *map; /* of what was there: results of kernels, values inside them */
} Flat;

static ValueId now(const Flat *f, ValueId v) { return f->map[v] == NO_ID ? v : f->map[v]; }

/* Its nodes stand at the end of `block`, reading what it read. */
static void unwrap(Flat *f, const Node *k, BlockId block) {
  Graph *g = f->g;
  BlockId body = k->blocks[0];
  for (uint32_t i = 0; i < k->nops; i++) f->map[g->blocks.at[body].args.at[i]] = now(f, k->ops[i]);
  for (uint32_t i = 0; i < g->blocks.at[body].nodes.len; i++)
    graph_copy_node(g, g->blocks.at[body].nodes.at[i], block, f->map);
  for (uint32_t i = 0; i < k->nres; i++)
    f->map[k->res + i] = now(f, g->blocks.at[body].results.at[i]);
}

static void keep(Flat *f, NodeId id, BlockId block) {
  Node *n = &f->g->nodes.at[id];
  for (uint32_t i = 0; i < n->nops; i++) n->ops[i] = now(f, n->ops[i]);
  vec_push(f->g->arena, &f->g->blocks.at[block].nodes, id);
}

static void flatten(Flat *f, BlockId block) {
  Graph *g = f->g;
  NodeIds old = g->blocks.at[block].nodes;
  g->blocks.at[block].nodes = (NodeIds){0};
  for (uint32_t i = 0; i < old.len; i++) {
    Node n = g->nodes.at[old.at[i]];
    if (n.op == OP_loop) flatten(f, n.blocks[0]);
    if (n.op == OP_kernel) unwrap(f, &n, block);
    else keep(f, old.at[i], block);
  }
  ValueIds *results = &g->blocks.at[block].results;
  for (uint32_t i = 0; i < results->len; i++) results->at[i] = now(f, results->at[i]);
}

static void flatten_entry(Graph *g, uint32_t entry, Arena *scratch) {
  Flat f = {.g = g, .map = NEW_ARRAY(scratch, ValueId, g->values.len)};
  for (ValueId v = 0; v < g->values.len; v++) f.map[v] = NO_ID;
  flatten(&f, g->entries.at[entry].body);
}

/* ---- the pass -------------------------------------------------------------------------------- */

bool pass_replay(Graph *g, PassCtx *c) {
  uint32_t entries = g->entries.len;
  bool changed = false;
  for (uint32_t i = 0; c->options->replay && i < entries; i++) {
    if (g->entries.at[i].kind != ENTRY_step) continue;
    uint32_t origin = copy_step(g, i, "origin", ENTRY_origin, c->arena);
    replay_keep_questions(g, origin);
    flatten_entry(g, origin, c->arena);
    dce_entry(g, origin, c->arena);
    group_singly(g, origin, c);
    changed = true;
  }
  return changed;
}
