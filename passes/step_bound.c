/* step_bound.c: the largest S under which the first cotangent in f16 is known to be finite.
 *
 * That of cross_entropy's logits is at most what arrives at the entropy, which is S times what the
 * loss makes of it: a mean over 128 places divides by 128, a coefficient multiplies.  So bounds are
 * handed back from the loss, through sums, moves and products with constants; behind anything else,
 * a weight from the data, say, none is known.  Of other losses nothing is known either: S is the
 * scaler's to find.
 */
#include "passes/pass.h"

#include <math.h>

static const double F16_MOST = 65504;

typedef struct Bound {
  const Graph *g;
  double *of;  /* value: |cotangent| / S at most; 0: it has none; infinity: that is not known */
  double most; /* of all cross_entropies in f16 whose bound is known */
} Bound;

/* Element by element the result is an operand's or its negative, or adds some of them up. */
static const bool is_plain[OP_COUNT] = {
    [OP_add] = true,   [OP_sub] = true,     [OP_neg] = true,
    [OP_sum] = true,   [OP_reshape] = true, [OP_transpose] = true,
    [OP_slice] = true, [OP_cast] = true,    [OP_mask_rows] = true};

/* |v|, if it is one number everywhere; else infinity. */
static double size_of_constant(const Graph *g, ValueId v) {
  const Node *n = value_constant(g, v);
  return n ? fabs(node_float(n, AT_value, 0)) : INFINITY;
}

/* What a cotangent of n's result is at most multiplied by on its way to operand i. */
static double factor(const Graph *g, const Node *n, uint32_t i) {
  if (is_plain[n->op]) return 1;
  if (n->op == OP_mul) return size_of_constant(g, n->ops[!i]);
  if (n->op == OP_div && !i) return 1 / size_of_constant(g, n->ops[1]);
  if (n->op == OP_select) return i ? 1 : 0;
  if (n->op == OP_broadcast)
    return (double)(type_count(value_type(g, n->res)) / type_count(value_type(g, n->ops[0])));
  return n->op == OP_stop ? 0 : INFINITY;
}

static bool is_f16(const Graph *g, const Node *n) {
  const Node *z = value_node(g, value_origin(g, n->ops[0], true));
  return node_precision(g, n) == DT_f16 || (z && node_precision(g, z) == DT_f16);
}

static void hand_back(Bound *b, const Node *n) {
  double bound = b->of[n->res];
  if (n->op == OP_cross_entropy && isfinite(bound) && is_f16(b->g, n))
    b->most = fmax(b->most, bound);
  for (uint32_t i = 0; bound > 0 && i < n->nops; i++) {
    double f = factor(b->g, n, i);
    if (f > 0) b->of[n->ops[i]] += bound * f;
  }
}

/* Carries of a loop add up what its micro-batches give; what comes from outside is let go. */
static void walk(Bound *b, BlockId block) {
  const Graph *g = b->g;
  const NodeIds *nodes = &g->blocks.at[block].nodes;
  for (uint32_t i = nodes->len; i-- > 0;) {
    const Node *n = &g->nodes.at[nodes->at[i]];
    if (n->op == OP_loop) {
      const ValueIds *results = &g->blocks.at[n->blocks[0]].results;
      for (uint32_t k = 0; k < n->nres; k++) b->of[results->at[k]] += b->of[n->res + k];
      walk(b, n->blocks[0]);
    } else if (n->nres == 1) hand_back(b, n);
  }
}

static void walk_step(Bound *b, const Entry *e, uint32_t scaler) {
  const ValueIds *results = &b->g->blocks.at[e->body].results;
  for (uint32_t i = 0; i < e->results.len; i++) {
    const Port *p = &e->results.at[i];
    if (p->role == RES_loss && graph_scaler_of(b->g, p->name) == scaler) b->of[results->at[i]] += 1;
  }
  walk(b, e->body);
}

double scaler_bound(const Graph *g, uint32_t scaler) {
  Arena scratch = {0};
  Bound b = {.g = g, .of = NEW_ARRAY(&scratch, double, g->values.len)};
  int power;
  for (uint32_t i = 0; i < g->entries.len; i++)
    if (g->entries.at[i].kind == ENTRY_step) walk_step(&b, &g->entries.at[i], scaler);
  arena_free(&scratch);
  if (b.most == 0) return INFINITY;
  frexp(F16_MOST / b.most, &power);
  return ldexp(1, power - 1);
}
