/* expand.c: composite ops as graphs of simpler ones.
 *
 * A rule `expand_NAME` appends nodes and gives the value that replaces the node's result, of its
 * very type.  The arithmetic is f32 whatever the operands are stored in; casts are added where they
 * differ.
 */
#include "ref/expand.h"

#include <math.h>

typedef ValueId ExpandRule(Builder *b, const Node *n, Type result);

static ValueId exp_shifted(Builder *b, ValueId x, ValueId max) {
  ValueId m = build_broadcast_leading(b, max, value_type(b->g, x));
  return build1(b, OP_exp, build2(b, OP_sub, x, m));
}

static ValueId expand_softmax(Builder *b, const Node *n, Type result) {
  ValueId x = build_cast(b, n->ops[0], DT_f32);
  ValueId e = exp_shifted(b, x, build_reduce_last(b, OP_reduce_max, x));
  ValueId s = build_reduce_last(b, OP_sum, e);
  ValueId y = build2(b, OP_div, e, build_broadcast_leading(b, s, value_type(b->g, x)));
  return build_cast(b, y, (DType)result.dtype);
}

/* The largest along the last axis, and the log of the sum of exp(x - it). */
static ValueId log_sum(Builder *b, ValueId x, ValueId *max) {
  *max = build_reduce_last(b, OP_reduce_max, x);
  return build1(b, OP_log, build_reduce_last(b, OP_sum, exp_shifted(b, x, *max)));
}

static ValueId expand_log_softmax(Builder *b, const Node *n, Type result) {
  ValueId x = build_cast(b, n->ops[0], DT_f32), max, log = log_sum(b, x, &max);
  Type t = value_type(b->g, x);
  ValueId below = build2(b, OP_sub, x, build_broadcast_leading(b, max, t));
  ValueId y = build2(b, OP_sub, below, build_broadcast_leading(b, log, t));
  return build_cast(b, y, (DType)result.dtype);
}

/* An infinite maximum is not subtracted: -inf everywhere gives -inf, not NaN. */
static ValueId expand_logsumexp(Builder *b, const Node *n, Type result) {
  ValueId x = build_cast(b, n->ops[0], DT_f32), max = build_reduce_last(b, OP_reduce_max, x);
  ValueId none = build_like(b, max, 0);
  max = build_select(b, build1(b, OP_isfinite, max), max, none);
  ValueId log = build1(b, OP_log, build_reduce_last(b, OP_sum, exp_shifted(b, x, max)));
  return build_cast(b, build2(b, OP_add, log, max), (DType)result.dtype);
}

/* The mean along the last axis, as it is kept there. */
static ValueId row_mean(Builder *b, ValueId x) {
  Type t = value_type(b->g, x), one = t;
  one.unit = 0;
  ValueId sum = build_broadcast_leading(b, build_reduce_last(b, OP_sum, x), t);
  return build2(b, OP_div, sum, build_constant(b, one, (double)t.dim[t.rank - 1]));
}

ValueId build_standard(Builder *b, ValueId x, bool center, double eps, ValueId *inverse) {
  x = build_cast(b, x, DT_f32);
  if (center) x = build2(b, OP_sub, x, row_mean(b, x));
  ValueId variance = row_mean(b, build2(b, OP_mul, x, x));
  ValueId sum = build2(b, OP_add, variance, build_like(b, variance, eps));
  *inverse = build1(b, OP_rsqrt, sum);
  return build2(b, OP_mul, x, *inverse);
}

static ValueId along_last(Builder *b, ValueId vector, Type t) {
  return build_broadcast(b, build_cast(b, vector, DT_f32), t, (int64_t[]){t.rank - 1});
}

static ValueId expand_norm(Builder *b, const Node *n, Type result, bool center) {
  ValueId inverse;
  ValueId y = build_standard(b, n->ops[0], center, node_float(n, AT_eps, 0), &inverse);
  Type t = value_type(b->g, y);
  if (n->nops > 1) y = build2(b, OP_mul, y, along_last(b, n->ops[1], t));
  if (n->nops > 2) y = build2(b, OP_add, y, along_last(b, n->ops[2], t));
  return build_cast(b, y, (DType)result.dtype);
}

static ValueId expand_layer_norm(Builder *b, const Node *n, Type result) {
  return expand_norm(b, n, result, true);
}

static ValueId expand_rms_norm(Builder *b, const Node *n, Type result) {
  return expand_norm(b, n, result, false);
}

/* (1 - s) loss + s (log_sum + max - mean of z): both are at least 0. */
static ValueId smoothed(Builder *b, ValueId loss, ValueId z, ValueId max, ValueId log, ValueId s) {
  Type t = value_type(b->g, loss);
  int64_t n = value_type(b->g, z).dim[value_type(b->g, z).rank - 1];
  ValueId sum = build_reduce_last(b, OP_sum, z);
  ValueId mean = build2(b, OP_div, sum, build_like(b, sum, (double)n));
  ValueId even = build2(b, OP_add, build2(b, OP_sub, max, mean), log);
  s = build_splat(b, build_cast(b, s, DT_f32), t);
  ValueId rest = build2(b, OP_sub, build_like(b, loss, 1), s);
  loss = build2(b, OP_mul, rest, loss);
  return build2(b, OP_add, loss, build2(b, OP_mul, s, even));
}

/* log s lies in [0, log n] and max - z[target] is one rounding of a number ≥ 0: nothing cancels. */
static ValueId expand_cross_entropy(Builder *b, const Node *n, Type result) {
  ValueId z = build_cast(b, n->ops[0], DT_f32), max, log = log_sum(b, z, &max);
  ValueId below = build2(b, OP_sub, max, build_wide(b, build2(b, OP_gather, z, n->ops[1])));
  ValueId loss = build2(b, OP_add, below, log);
  if (n->nops > 2) loss = smoothed(b, loss, z, max, log, n->ops[2]);
  return build_cast(b, build_wide(b, loss), (DType)result.dtype);
}

/* y log(1 + e^-z) + (1 - y) log(1 + e^z): for y in [0, 1] a sum of numbers ≥ 0. */
static ValueId expand_bce_logits(Builder *b, const Node *n, Type result) {
  ValueId z = build_cast(b, n->ops[0], DT_f32), y = build_cast(b, n->ops[1], DT_f32);
  ValueId yes = build2(b, OP_mul, y, build1(b, OP_softplus, build1(b, OP_neg, z)));
  ValueId rest = build2(b, OP_sub, build_like(b, y, 1), y);
  ValueId no = build2(b, OP_mul, rest, build1(b, OP_softplus, z));
  return build_cast(b, build_wide(b, build2(b, OP_add, yes, no)), (DType)result.dtype);
}

/* The smallest index that holds the maximum.  If there is a NaN the maximum is one, equals nothing,
 * and the index of the first NaN is left.  Others count as the last index, so it is always in
 * range. */
static ValueId expand_argmax(Builder *b, const Node *n, Type result) {
  ValueId x = n->ops[0];
  Type t = value_type(b->g, x);
  ValueId max = build_broadcast_leading(b, build_reduce_last(b, OP_reduce_max, x), t);
  ValueId hit = build2(b, OP_eq, x, max);
  if (type_is_float(t)) hit = build2(b, OP_or, hit, build2(b, OP_ne, x, x));
  Type index = type_with(t, DT_i32);
  index.unit = 0;
  int last = t.rank - 1;
  ValueId other = build_constant(b, index, (double)(t.dim[last] - 1));
  ValueId i = build_select(b, hit, build_iota(b, index, last), other);
  return build_cast(b, build_reduce_last(b, OP_reduce_min, i), (DType)result.dtype);
}

/* Each operand lies at its place among zeros; which counts there is told by the index. */
static ValueId expand_concat(Builder *b, const Node *n, Type result) {
  int axis = (int)node_int(n, AT_axis, 0);
  int64_t starts[MAX_RANK] = {0}, steps[MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1}, end = 0;
  Type index = type_with(result, DT_i32);
  index.unit = 0;
  ValueId at = build_iota(b, index, axis), y = NO_ID;
  for (uint32_t i = 0; i < n->nops; i++) {
    starts[axis] = end;
    int64_t size = value_type(b->g, n->ops[i]).dim[axis];
    ValueId x = n->ops[i];
    Type t = value_type(b->g, x);
    t.rows = result.rows;
    x = build_broadcast_leading(b, x, t); /* gives it the batch's tag */
    x = build_pad(b, x, result, starts, steps);
    ValueId before = build2(b, OP_lt, at, build_constant(b, index, (double)end));
    y = y == NO_ID ? x : build_select(b, before, y, x);
    end += size;
  }
  return y;
}

static ValueId expand_one_hot(Builder *b, const Node *n, Type result) {
  Type index = type_with(result, DT_i32);
  index.unit = 0;
  ValueId i = build_broadcast_leading(b, build_cast(b, n->ops[0], DT_i32), index);
  ValueId hit = build2(b, OP_eq, build_iota(b, index, result.rank - 1), i);
  ValueId one = build_constant(b, result, 1), zero = build_constant(b, result, 0);
  return build_select(b, hit, one, zero); /* C leaves open which argument it computes first */
}

/* The row-major index, by arithmetic: a flat iota would need a reshape, which ends a kernel, so a
 * dropout mask could not be drawn where it is used. */
static ValueId element_index(Builder *b, Type t) {
  ValueId index = t.rank ? build_iota(b, t, 0) : build_constant(b, t, 0);
  for (int axis = 1; axis < t.rank; axis++) {
    ValueId before = build2(b, OP_mul, index, build_constant(b, t, (double)t.dim[axis]));
    index = build2(b, OP_add, before, build_iota(b, t, axis));
  }
  return index;
}

/* Philox counts the elements in row-major order, so the draws do not depend on the dims.  word: the
 * seed's two, then perhaps the draw. */
static ValueId draw_bits(Builder *b, const Node *n, uint32_t first, Type t) {
  uint64_t site = (uint64_t)node_int(n, AT_site, 0);
  t = type_with(t, DT_i32);
  t.unit = 0;
  ValueId word[6] = {element_index(b, t)};
  for (uint32_t i = 0; i < 2; i++) {
    word[1 + i] = build_splat(b, build_cast(b, n->ops[first + i], DT_i32), t);
    word[3 + i] = build_constant(b, t, (double)(int32_t)(uint32_t)(site >> 32 * i));
  }
  bool numbered = n->nops > first + 2;
  word[5] = numbered ? build_splat(b, build_cast(b, n->ops[first + 2], DT_i32), t)
                     : build_constant(b, t, 0);
  return build(b, OP_philox, 6, word, 0, NULL);
}

static ValueId draw(Builder *b, const Node *n, uint32_t first, Type t, Op from_bits) {
  return build1(b, from_bits, draw_bits(b, n, first, t));
}

static ValueId expand_uniform(Builder *b, const Node *n, Type result) {
  return build_cast(b, draw(b, n, 0, result, OP_bits_to_uniform), (DType)result.dtype);
}

static ValueId expand_normal(Builder *b, const Node *n, Type result) {
  return build_cast(b, draw(b, n, 0, result, OP_bits_to_normal), (DType)result.dtype);
}

static ValueId expand_dropout(Builder *b, const Node *n, Type result) {
  double rate = node_float(n, AT_rate, 0);
  ValueId x = build_cast(b, n->ops[0], DT_f32);
  ValueId u = draw(b, n, 1, result, OP_bits_to_uniform);
  ValueId keep = build2(b, OP_ge, u, build_like(b, u, rate));
  ValueId y = build2(b, OP_mul, x, build_like(b, u, 1 / (1 - rate))), none = build_like(b, y, 0);
  return build_cast(b, build_select(b, keep, y, none), (DType)result.dtype);
}

static ValueId expand_stochastic_round(Builder *b, const Node *n, Type result) {
  ValueId operands[] = {n->ops[0], draw_bits(b, n, 1, result)};
  return build_typed(b, OP_round_by_bits, result, 2, operands, 0, NULL);
}

/* N_r / N is at most 1, so no row's seed exceeds S. */
static ValueId expand_loss_seed(Builder *b, const Node *n, Type result) {
  bool scaled = node_bool(n, AT_scaled);
  uint32_t losses = n->nops - scaled;
  ValueId own = n->ops[node_int(n, AT_index, 0)];
  ValueId weighs = build2(b, OP_gt, own, build_like(b, own, 0));
  ValueId seed = build2(b, OP_div, build_least_positive(b, losses, n->ops), own);
  if (scaled) seed = build2(b, OP_mul, n->ops[losses], seed);
  return build_select(b, weighs, seed, build_constant(b, result, 0));
}

ValueId build_amax(Builder *b, ValueId x, const Attr *axes) {
  int64_t perm[MAX_RANK], rest[MAX_RANK];
  int rank = value_type(b->g, x).rank, kept = axes ? (int)axes->n : 0, n = 0, moved = 0;
  x = build1(b, OP_abs, build_cast(b, x, DT_f32));
  if (!kept) return build_reduce_rows(b, OP_reduce_max, x);
  for (int i = 0; i < kept; i++) perm[i] = axes->ints[i];
  for (int i = 0, k = 0; i < rank; i++)
    if (k < kept && axes->ints[k] == i) moved += k++ != i;
    else rest[n] = kept + n, perm[kept + n++] = i;
  if (moved) x = build_transpose(b, x, perm);
  return build_wide(b, build_reduce(b, OP_reduce_max, x, (uint32_t)n, rest));
}

static ValueId expand_saturate(Builder *b, const Node *n, Type result) {
  const Attr *axes = node_attr(n, AT_scale_axes);
  ValueId ops[] = {n->ops[0], n->ops[1]};
  if (axes && axes->n) ops[1] = build_broadcast(b, ops[1], result, axes->ints);
  return build_typed(b, OP_saturate, result, 2, ops, 0, NULL);
}

/* Rows first, so that threads share them. */
static ValueId expand_quantize(Builder *b, const Node *n, Type result) {
  ValueId x = n->ops[0], scale = n->ops[1], inverse;
  uint32_t index = b->g->values.at[n->res].index;
  if (index == 0) return expand_saturate(b, n, result);
  ValueId amax = build_amax(b, x, node_attr(n, AT_scale_axes));
  ValueId finite = build1(b, OP_isfinite, amax);
  if (index == 2) return amax;
  if (!type_count(value_type(b->g, x))) finite = build_like(b, finite, 1); /* nothing is infinite */
  if (index == 3 && value_type(b->g, finite).rank)
    finite = build_reduce_rows(b, OP_reduce_and, finite);
  if (index == 3) return build1(b, OP_not, finite);
  Type one = value_type(b->g, scale);
  one.unit = 0;
  inverse = build2(b, OP_div, build_constant(b, one, 1), scale);
  inverse = build_select(b, finite, inverse, build_like(b, inverse, NAN));
  return build_cast(b, inverse, (DType)result.dtype);
}

static ValueId expand_first(Builder *b, const Node *n, Type result) {
  (void)b;
  (void)result;
  return n->ops[0];
}

static ValueId expand_zero(Builder *b, const Node *n, Type result) {
  (void)n;
  return build_constant(b, result, 0);
}

#define expand_none NULL

static ExpandRule *const expand_rule[OP_COUNT] = {
#define OP(name, doc) [OP_##name] =
#define EXPAND(rule) expand_##rule,
#include "ir/ops.def"
};

bool expand_is_composite(Op op) { return expand_rule[op] != NULL; }

/* Appends what a composite node stands for to the builder's block; the value that replaces that one
 * of its results. */
static ValueId expand_node(Builder *b, NodeId id, uint32_t result) {
  Node n = b->g->nodes.at[id]; /* a copy: the array moves */
  n.res += result;
  return expand_rule[n.op](b, &n, value_type(b->g, n.res));
}

/* ---- a whole graph --------------------------------------------------------------------------- */

typedef struct Expansion {
  Graph *g;
  Arena *scratch;
  VEC(Replaced) done;
} Expansion;

/* Lists the nodes anew: a composite gives way to what it stands for, so operands stay before users.
 */
static void expand_block(Expansion *x, BlockId block) {
  NodeIds old = x->g->blocks.at[block].nodes;
  x->g->blocks.at[block].nodes = (NodeIds){0};
  for (uint32_t i = 0; i < old.len; i++) {
    Node n = x->g->nodes.at[old.at[i]];
    for (uint32_t k = 0; k < n.nblocks; k++) expand_block(x, n.blocks[k]);
    if (expand_is_composite(n.op)) {
      Builder b = {.g = x->g, .block = block};
      builder_follow(&b, &n);
      for (uint32_t k = 0; k < n.nres; k++)
        vec_push(x->scratch, &x->done, (Replaced){n.res + k, expand_node(&b, old.at[i], k)});
    } else {
      vec_push(x->g->arena, &x->g->blocks.at[block].nodes, old.at[i]);
    }
  }
}

const ValueId *expand_graph(Graph *g, Arena *scratch, bool *changed) {
  Expansion x = {.g = g, .scratch = scratch};
  for (uint32_t i = 0; i < g->entries.len; i++) expand_block(&x, g->entries.at[i].body);
  *changed = x.done.len > 0;
  return graph_replace_all(g, scratch, x.done.len, x.done.at);
}
