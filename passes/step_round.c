/* step_round.c: `master(sr)`: weights that have no master.
 *
 * Such a weight is of the program's low type and nothing else.  Its update is computed in f32 and
 * rounded to one of the two neighbours in that type, the nearer the likelier, so that what is far
 * below half a unit of the last place still moves the mean.  The key of the draws is seed, path,
 * attempt and element.  The rounded value is what commits and what `nonfinite` looks at; a skipped
 * step falls back on the old one.  Until pass `precision` stores it low, the state is f32 and holds
 * values of the low type alone.
 *
 * Which weights: those that are trained and that something which works in the program's type
 * reads.  What only regions of another type read (`precision(f32)`, `--keep`) stays f32.
 */
#include "passes/pass.h"

#include <string.h>

static bool is_sr(const Graph *g) { return g->train.master && !strcmp(g->train.master, "sr"); }

static DType program_type(const Graph *g) { return precision_type(g->train.precision); }

static bool reads_low(const Graph *g, BlockId block, ValueId v);

/* Through views and into loops. */
static bool node_reads_low(const Graph *g, const Node *n, uint32_t operand) {
  if (n->op == OP_loop)
    return reads_low(g, n->blocks[0], g->blocks.at[n->blocks[0]].args.at[operand + 1]);
  if (op_flags[n->op] & F_VIEW) return reads_low(g, n->block, n->res);
  const char *word = node_text(n, AT_prec, NULL);
  return !word || precision_type(word) == program_type(g);
}

static bool reads_low(const Graph *g, BlockId block, ValueId v) {
  const NodeIds *nodes = &g->blocks.at[block].nodes;
  for (uint32_t i = 0; i < nodes->len; i++) {
    const Node *n = &g->nodes.at[nodes->at[i]];
    for (uint32_t k = 0; k < n->nops; k++)
      if (n->ops[k] == v && node_reads_low(g, n, k)) return true;
  }
  return false;
}

static bool is_read_low(const Graph *g, const char *path) {
  for (uint32_t i = 0; i < g->entries.len; i++) {
    ValueId v = graph_entry_arg(g, i, ARG_state, path);
    bool computes = g->entries.at[i].kind != ENTRY_update;
    if (v != NO_ID && computes && reads_low(g, g->entries.at[i].body, v)) return true;
  }
  return false;
}

void step_choose_rounded(Graph *g) {
  if (!is_sr(g) || program_type(g) == DT_f32) return;
  for (uint32_t i = 0; i < g->entries.len; i++) {
    const Entry *e = &g->entries.at[i];
    for (uint32_t k = 0; e->kind == ENTRY_update && k < e->args.len; k++) {
      const Port *p = &e->args.at[k];
      if (p->role == ARG_grad && is_read_low(g, p->name)) graph_state(g, p->name)->store = STORE_sr;
    }
  }
}

static ValueId seed_word(Step *s, const char *name) {
  Graph *g = s->b.g;
  ValueId v = graph_entry_arg(g, s->entry, ARG_seed, name);
  if (v != NO_ID) return v;
  return graph_add_entry_arg(g, s->entry, ARG_seed, states_name(g, name), type_scalar(DT_i32),
                             s->loc);
}

ValueId step_round(Step *s, const char *path, ValueId new) {
  Graph *g = s->b.g;
  if (graph_state(g, path)->store != STORE_sr) return new;
  ValueId operands[] = {new, seed_word(s, "lo"), seed_word(s, "hi"), step_state(s, "attempt")};
  uint64_t site = hash_bytes(path, strlen(path), hash_bytes("round", 5, 0));
  Attr a = attr_int(AT_site, (int64_t)(site >> 1));
  Type low = type_with(value_type(g, new), program_type(g));
  return build_cast(&s->b, build_typed(&s->b, OP_stochastic_round, low, 4, operands, 1, &a),
                    DT_f32);
}
