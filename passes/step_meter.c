/* step_meter.c: what share of the weights a step did not change.
 *
 *   unchanged      of all that it trains, as they are kept
 *   unchanged_low  of those that are multiplied or looked up in a low type, rounded to that: what
 *                  the next forward pass sees; with --watch alone, for rounding twice costs a step
 *                  of a small model a tenth
 *
 * Units that are dead, gradients that were flushed to zero, updates below half an ulp of what they
 * are added to: all end there.  Counted in ints by the kernel that has old and new weight in hand.
 * Of a skipped step it is 1.
 */
#include "passes/precision.h"

#include <string.h>

typedef struct Finder {
  Step *s;
  ValueId *weight; /* by value: the argument that it shows, or NO_ID */
} Finder;

static void find_in_block(Finder *f, BlockId block);

static void find_in_node(Finder *f, const Node *n) {
  const Graph *g = f->s->b.g;
  DType t = precision_type(node_text(n, AT_prec, g->train.precision));
  for (uint32_t k = 0; k < n->nops; k++) {
    ValueId weight = f->weight[n->ops[k]];
    if (weight == NO_ID) continue;
    if (n->op == OP_loop) f->weight[g->blocks.at[n->blocks[0]].args.at[k + 1]] = weight;
    else if (op_flags[n->op] & F_VIEW) f->weight[n->res] = weight;
    else if (loads_low(n, k) && t != DT_f32) f->s->low[g->values.at[weight].index] = (uint8_t)t;
  }
  if (n->op == OP_loop) find_in_block(f, n->blocks[0]);
}

static void find_in_block(Finder *f, BlockId block) {
  const Graph *g = f->s->b.g;
  for (uint32_t i = 0; i < g->blocks.at[block].nodes.len; i++)
    find_in_node(f, &g->nodes.at[g->blocks.at[block].nodes.at[i]]);
}

void step_find_low(Step *s) {
  const Graph *g = s->b.g;
  const Entry *e = &g->entries.at[s->entry];
  Finder f = {s, NEW_ARRAY(s->c->arena, ValueId, g->values.len)};
  for (ValueId v = 0; v < g->values.len; v++) f.weight[v] = NO_ID;
  s->low = NEW_ARRAY(s->c->arena, uint8_t, e->args.len);
  s->low_args = e->args.len;
  s->unchanged.same = s->unchanged_low.same = NO_ID;
  for (uint32_t i = 0; i < e->args.len; i++) {
    s->low[i] = DT_f32;
    ValueId v = g->blocks.at[e->body].args.at[i];
    if (e->args.at[i].role == ARG_state) f.weight[v] = v;
  }
  if (s->c->options->nwatches) find_in_block(&f, e->body);
}

/* ---- counting -------------------------------------------------------------------------------- */

static void count(Step *s, StepMeter *m, ValueId new, ValueId old) {
  ValueId same = build_cast(&s->b, build2(&s->b, OP_eq, new, old), DT_i32);
  ValueId n = build_reduce_rows(&s->b, OP_sum, same);
  m->weights += type_count(value_type(s->b.g, new));
  m->same = m->same == NO_ID ? n : build2(&s->b, OP_add, m->same, n);
}

void step_meter(Step *s, ValueId new, ValueId old) {
  uint32_t argument = s->b.g->values.at[old].index;
  DType low = argument < s->low_args ? (DType)s->low[argument] : DT_f32;
  count(s, &s->unchanged, new, old);
  if (low != DT_f32)
    count(s, &s->unchanged_low, build_cast(&s->b, new, low), build_cast(&s->b, old, low));
}

/* More weights than an i32 counts are not counted. */
static void show(Step *s, const StepMeter *m, const char *name) {
  if (m->same == NO_ID || m->weights > INT32_MAX) return;
  Type t = type_scalar(DT_f32);
  ValueId all = build_constant(&s->b, t, (double)m->weights);
  ValueId share = build2(&s->b, OP_div, build_cast(&s->b, m->same, DT_f32), all);
  ValueId one = build_constant(&s->b, t, 1);
  step_result(s, RES_gauge, name, build_select(&s->b, s->ok, share, one));
}

void step_show_meters(Step *s) {
  show(s, &s->unchanged, "unchanged");
  show(s, &s->unchanged_low, "unchanged_low");
}
