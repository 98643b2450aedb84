/* simplify.c: local rewrites.  Three laws:
 *
 *   the type stays      a replacement has the element type, dims, rows and unit of what it replaces
 *   barriers stay       casts that round, draws, commits and kernels are never touched
 *   always downhill     a rule leaves fewer or cheaper nodes than it met, so the rewriting ends
 *
 * Every rule below is exact: same bits, any NaN equal to any NaN, for every operand that may occur
 * inside an entry, where subnormal numbers do not exist.  Rules that are not exact have no place
 * here, however tempting: x + 0 = x (fails at x = -0: the sum is +0), x·0 = 0 (NaN, infinity, -0),
 * x - x = 0, (x + y) + z = x + (y + z), x / c = x·(1/c) unless c is a power of two.
 *
 * A block is rebuilt front to back: a node whose operands have been rewritten is either kept or
 * replaced by what a rule builds, so a rule sees simplified operands, and chains fold in one walk.
 */
#include "passes/pass.h"
#include "ref/eval.h"

#include <math.h>
#include <string.h>

typedef VEC(ValueId) Map;

typedef struct Simplify {
  Builder b;
  PassCtx *c;
  Map map; /* by ValueId: what stands for it, or NO_ID */
  bool changed;
} Simplify;

typedef ValueId Rule(Simplify *s, const Node *n);

static const Node *def_of(const Simplify *s, ValueId v, Op op) {
  const Node *n = value_node(s->b.g, v);
  return n && n->op == op ? n : NULL;
}

static Type type_of(const Simplify *s, ValueId v) { return value_type(s->b.g, v); }

/* Whether every element of v is one number; the number as it is stored in the constant. */
static bool splat_of(const Simplify *s, ValueId v, double *value) {
  const Node *n = value_node(s->b.g, v);
  while (n && (op_flags[n->op] & F_VIEW)) n = value_node(s->b.g, n->ops[0]);
  if (!n || n->op != OP_constant) return false;
  *value = node_float(n, AT_value, 0);
  return true;
}

static bool is_number(const Simplify *s, ValueId v, double number) {
  double x;
  return splat_of(s, v, &x) && x == number && signbit(x) == signbit(number);
}

/* x, if it may stand for the result of n. */
static ValueId as_result(const Simplify *s, const Node *n, ValueId x) {
  return type_equal(type_of(s, x), type_of(s, n->res)) ? x : NO_ID;
}

/* ---- arithmetic ---------------------------------------------------------------------------- */

/* x + (-0) = x; for integers x + 0 = x. */
static ValueId add_zero(Simplify *s, const Node *n) {
  double zero = value_is_float(s->b.g, n->res) ? -0.0 : 0.0;
  for (int i = 0; i < 2; i++)
    if (is_number(s, n->ops[i], zero)) return as_result(s, n, n->ops[!i]);
  return NO_ID;
}

/* x - (+0) = x */
static ValueId sub_zero(Simplify *s, const Node *n) {
  return is_number(s, n->ops[1], 0.0) ? as_result(s, n, n->ops[0]) : NO_ID;
}

/* x · 1 = x */
static ValueId mul_one(Simplify *s, const Node *n) {
  for (int i = 0; i < 2; i++)
    if (is_number(s, n->ops[i], 1)) return as_result(s, n, n->ops[!i]);
  return NO_ID;
}

/* x / 1 = x;  x / c = x · (1/c) where c is a power of two and 1/c a normal f32 */
static ValueId div_power(Simplify *s, const Node *n) {
  double c;
  int e;
  if (!splat_of(s, n->ops[1], &c)) return NO_ID;
  if (c == 1) return as_result(s, n, n->ops[0]);
  if (type_of(s, n->res).dtype != DT_f32 || fabs(frexp(c, &e)) != 0.5 || e < -120 || e > 120)
    return NO_ID;
  Type inverse = type_of(s, n->ops[1]);
  if (!unit_times(0, inverse.unit, -1, &inverse.unit)) return NO_ID;
  return build2(&s->b, OP_mul, n->ops[0], build_constant(&s->b, inverse, 1 / c));
}

/* f(f(x)) = x: neg, not */
static ValueId involution(Simplify *s, const Node *n) {
  const Node *inner = def_of(s, n->ops[0], n->op);
  return inner ? as_result(s, n, inner->ops[0]) : NO_ID;
}

/* f(f(x)) = f(x): relu, abs, sign, round, floor */
static ValueId projection(Simplify *s, const Node *n) {
  return def_of(s, n->ops[0], n->op) ? as_result(s, n, n->ops[0]) : NO_ID;
}

/* f(x, x) = x: max, min, and, or */
static ValueId idempotent(Simplify *s, const Node *n) {
  return n->ops[0] == n->ops[1] ? as_result(s, n, n->ops[0]) : NO_ID;
}

/* true and b = b, false and b = false */
static ValueId and_constant(Simplify *s, const Node *n) {
  double v;
  for (int i = 0; i < 2; i++)
    if (splat_of(s, n->ops[i], &v)) return as_result(s, n, n->ops[v != 0 ? !i : i]);
  return NO_ID;
}

/* true or b = true, false or b = b */
static ValueId or_constant(Simplify *s, const Node *n) {
  double v;
  for (int i = 0; i < 2; i++)
    if (splat_of(s, n->ops[i], &v)) return as_result(s, n, n->ops[v != 0 ? i : !i]);
  return NO_ID;
}

/* select(true, x, y) = x, select(false, x, y) = y, select(c, x, x) = x */
static ValueId select_known(Simplify *s, const Node *n) {
  double c;
  if (n->ops[1] == n->ops[2]) return as_result(s, n, n->ops[1]);
  return splat_of(s, n->ops[0], &c) ? as_result(s, n, n->ops[c != 0 ? 1 : 2]) : NO_ID;
}

/* ---- places -------------------------------------------------------------------------------- */

/* A view of a view of a constant is the constant, broadcast: nothing stands between. */
static ValueId view_of_splat(Simplify *s, const Node *n) {
  const Node *x = value_node(s->b.g, n->ops[0]);
  double v;
  if (!x || !(op_flags[x->op] & F_VIEW) || !splat_of(s, n->ops[0], &v)) return NO_ID;
  return build_like(&s->b, n->res, v);
}

/* A view that moves nothing: reshape to its own dims, transpose by the identity, … */
static ValueId view_identity(Simplify *s, const Node *n) {
  const Attr *order = node_attr(n, n->op == OP_transpose ? AT_perm : AT_axes);
  for (uint32_t i = 0; order && i < order->n; i++)
    if (order->ints[i] != (int64_t)i) return NO_ID;
  return as_result(s, n, n->ops[0]);
}

/* broadcast(broadcast(x)) */
static ValueId broadcast_twice(Simplify *s, const Node *n) {
  const Node *inner = def_of(s, n->ops[0], OP_broadcast);
  if (!inner) return NO_ID;
  const Attr *first = node_attr(inner, AT_axes), *then = node_attr(n, AT_axes);
  int64_t axes[MAX_RANK];
  for (uint32_t i = 0; i < first->n; i++) axes[i] = then->ints[first->ints[i]];
  Attr a = attr_ints(AT_axes, first->n, axes);
  return build_typed(&s->b, OP_broadcast, type_of(s, n->res), 1, inner->ops, 1, &a);
}

/* transpose(transpose(x)) */
static ValueId transpose_twice(Simplify *s, const Node *n) {
  const Node *inner = def_of(s, n->ops[0], OP_transpose);
  if (!inner) return NO_ID;
  const Attr *first = node_attr(inner, AT_perm), *then = node_attr(n, AT_perm);
  int64_t perm[MAX_RANK];
  for (uint32_t i = 0; i < then->n; i++) perm[i] = first->ints[then->ints[i]];
  Attr a = attr_ints(AT_perm, then->n, perm);
  return build_typed(&s->b, OP_transpose, type_of(s, n->res), 1, inner->ops, 1, &a);
}

/* reshape(reshape(x)) */
static ValueId reshape_twice(Simplify *s, const Node *n) {
  const Node *inner = def_of(s, n->ops[0], OP_reshape);
  if (!inner) return NO_ID;
  return build_typed(&s->b, OP_reshape, type_of(s, n->res), 1, inner->ops, 0, NULL);
}

static bool swaps_last(const Attr *perm) {
  uint32_t r = perm->n;
  for (uint32_t i = 0; i + 2 < r; i++)
    if (perm->ints[i] != (int64_t)i) return false;
  return r >= 2 && perm->ints[r - 1] == (int64_t)r - 2;
}

/* matmul(transpose(a), b) reads a as it is stored: the chains of a contraction do not change. */
static ValueId matmul_transposed(Simplify *s, const Node *n) {
  static const AttrKey flag[2] = {AT_ta, AT_tb}, order[2] = {AT_perm_a, AT_perm_b};
  for (int i = 0; i < 2; i++) {
    const Node *x = def_of(s, n->ops[i], OP_transpose);
    if (!x || !swaps_last(node_attr(x, AT_perm)) || node_attr(n, order[i])) continue;
    bool swapped = !node_bool(n, flag[i]);
    ValueId ops[3] = {n->ops[0], n->ops[1], n->nops == 3 ? n->ops[2] : NO_ID};
    ops[i] = x->ops[0];
    Attr *attrs = NEW_ARRAY(s->c->arena, Attr, n->nattrs + 1);
    uint32_t count = 0;
    for (uint32_t k = 0; k < n->nattrs; k++)
      if (n->attrs[k].key != flag[i]) attrs[count++] = n->attrs[k];
    if (swapped) attrs[count++] = attr_bool(flag[i], true);
    return build_typed(&s->b, OP_matmul, type_of(s, n->res), n->nops, ops, count, attrs);
  }
  return NO_ID;
}

/* mask_rows(+0 everywhere) */
static ValueId mask_zero(Simplify *s, const Node *n) {
  return is_number(s, n->ops[0], 0.0) ? as_result(s, n, n->ops[0]) : NO_ID;
}

/* ---- casts --------------------------------------------------------------------------------- */

/* Bits of precision, exponent range: whether every number of `from` is one of `to`.  f8e8m0 reaches
 * below the normal numbers of f32 and is left out; so are i64 and u32, whose casts are rare. */
static bool holds_all(DType to, DType from) {
  static const struct {
    int8_t bits, low, high;
  } range[DT_COUNT] = {
      [DT_f32] = {24, -126, 127}, [DT_bf16] = {8, -126, 127}, [DT_f16] = {11, -24, 15},
      [DT_f8e4m3fn] = {4, -9, 8}, [DT_f8e5m2] = {3, -16, 15}, [DT_i32] = {31, 0, 30},
      [DT_u16] = {16, 0, 15},     [DT_u8] = {8, 0, 7},        [DT_i1] = {1, 0, 0}};
  if (to == from) return true;
  if (!range[to].bits || !range[from].bits || to == DT_i1) return false;
  if (dtype_kind[to] != 'f' && dtype_kind[from] == 'f') return false;
  return range[to].bits >= range[from].bits && range[to].low <= range[from].low &&
         range[to].high >= range[from].high;
}

/* A cast to its own type; cast(cast(x)) where the inner one loses nothing.  From int to int by way
 * of a float a number too large saturates, directly it would wrap: there the last must hold all. */
static ValueId cast_lossless(Simplify *s, const Node *n) {
  ValueId same = as_result(s, n, n->ops[0]);
  if (same != NO_ID) return same;
  const Node *inner = value_node(s->b.g, n->ops[0]);
  if (!inner || (inner->op != OP_cast && inner->op != OP_cast_policy)) return NO_ID;
  ValueId x = inner->ops[0];
  DType from = (DType)type_of(s, x).dtype, via = (DType)type_of(s, n->ops[0]).dtype;
  DType to = (DType)type_of(s, n->res).dtype;
  if (!holds_all(via, from)) return NO_ID;
  if (dtype_kind[via] == 'f' && dtype_kind[from] != 'f' && !holds_all(to, from)) return NO_ID;
  ValueId whole = as_result(s, n, x);
  return whole != NO_ID ? whole : build_typed(&s->b, n->op, type_of(s, n->res), 1, &x, 0, NULL);
}

/* ---- constants ----------------------------------------------------------------------------- */

/* n over numbers as the result y of a graph of its own. */
static Graph *graph_of_numbers(Simplify *s, const Node *n, const double *x) {
  Graph *g = graph_new(s->c->arena, s->b.g->strings, "fold", "");
  uint32_t entry = graph_add_entry(g, "fold", ENTRY_infer, 0, n->loc);
  Builder b = {.g = g, .block = g->entries.at[entry].body, .loc = n->loc};
  ValueId ops[SCALAR_ARGS];
  for (uint32_t i = 0; i < n->nops; i++)
    ops[i] = build_constant(&b, type_scalar((DType)type_of(s, n->ops[i]).dtype), x[i]);
  Type t = type_scalar((DType)type_of(s, n->res).dtype);
  graph_add_entry_result(g, entry, RES_value, "y", build_typed(&b, n->op, t, n->nops, ops, 0, NULL),
                         n->loc);
  return g;
}

static double value_in(Simplify *s, const Graph *g, EvalMode mode) {
  Eval *e = eval_new(s->c->arena, g, s->c->scalars, mode);
  eval_run(e, 0, 1);
  double y = tensor_get(eval_result(e, RES_value, "y"), 0);
  eval_free(e);
  return y;
}

/* An elementwise op on numbers.  The evaluator computes it, exactly and in f64; the result is a
 * constant where the f64 one rounds to the exact one, so that both modes keep their meaning:
 * 1e-3 · 2 folds, log(3) does not. */
static ValueId fold(Simplify *s, const Node *n) {
  double x[SCALAR_ARGS];
  if (!(op_flags[n->op] & F_EW) || n->nres != 1 || n->nops > SCALAR_ARGS) return NO_ID;
  for (uint32_t i = 0; i < n->nops; i++)
    if (!splat_of(s, n->ops[i], &x[i])) return NO_ID;
  const Graph *g = graph_of_numbers(s, n, x);
  double exact = value_in(s, g, EVAL_EXACT), wide = value_in(s, g, EVAL_F64);
  bool f32 = type_of(s, n->res).dtype == DT_f32;
  if (value_is_float(s->b.g, n->res) && !f32) return NO_ID;
  if (!isfinite(exact) || (f32 ? (double)(float)wide != exact : wide != exact)) return NO_ID;
  if (signbit(exact) != signbit(wide)) return NO_ID;
  return as_result(s, n, build_like(&s->b, n->res, wide));
}

/* ---- the walk ------------------------------------------------------------------------------ */

/* In order; the first that applies wins.  OP_COUNT: any op. */
static const struct {
  Op op;
  Rule *rule;
} rules[] = {
    {OP_add, add_zero},
    {OP_sub, sub_zero},
    {OP_mul, mul_one},
    {OP_div, div_power},
    {OP_neg, involution},
    {OP_not, involution},
    {OP_relu, projection},
    {OP_abs, projection},
    {OP_sign, projection},
    {OP_round, projection},
    {OP_floor, projection},
    {OP_max, idempotent},
    {OP_min, idempotent},
    {OP_and, idempotent},
    {OP_or, idempotent},
    {OP_and, and_constant},
    {OP_or, or_constant},
    {OP_select, select_known},
    {OP_reshape, view_identity},
    {OP_transpose, view_identity},
    {OP_broadcast, view_identity},
    {OP_reshape, view_of_splat},
    {OP_transpose, view_of_splat},
    {OP_broadcast, view_of_splat},
    {OP_broadcast, broadcast_twice},
    {OP_transpose, transpose_twice},
    {OP_reshape, reshape_twice},
    {OP_matmul, matmul_transposed},
    {OP_mask_rows, mask_zero},
    {OP_cast, cast_lossless},
    {OP_cast_policy, cast_lossless},
    {OP_COUNT, fold},
};

static ValueId try_rules(Simplify *s, const Node *n) {
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
    if (rules[i].op != n->op && rules[i].op != OP_COUNT) continue;
    ValueId v = rules[i].rule(s, n);
    if (v != NO_ID) return v;
  }
  return NO_ID;
}

static ValueId mapped(const Simplify *s, ValueId v) {
  while (v < s->map.len && s->map.at[v] != NO_ID) v = s->map.at[v];
  return v;
}

static void replace(Simplify *s, ValueId from, ValueId to) {
  while (s->map.len <= from) vec_push(s->c->arena, &s->map, NO_ID);
  s->map.at[from] = to;
  s->changed = true;
}

static void simplify_block(Simplify *s, BlockId id);

/* What a rule built stands in the block already; the next walk looks at it again. */
static void simplify_node(Simplify *s, NodeId id) {
  Graph *g = s->b.g;
  Node n = g->nodes.at[id];
  for (uint32_t i = 0; i < n.nops; i++) n.ops[i] = mapped(s, n.ops[i]);
  for (uint32_t i = 0; i < n.nblocks; i++) simplify_block(s, n.blocks[i]);
  builder_follow(&s->b, &n);
  ValueId v = n.nres == 1 ? try_rules(s, &n) : NO_ID;
  if (v != NO_ID) replace(s, n.res, v);
  else vec_push(g->arena, &g->blocks.at[s->b.block].nodes, id);
}

static void simplify_block(Simplify *s, BlockId id) {
  Graph *g = s->b.g;
  BlockId outer = s->b.block;
  NodeIds old = g->blocks.at[id].nodes;
  g->blocks.at[id].nodes = (NodeIds){0};
  s->b.block = id;
  for (uint32_t i = 0; i < old.len; i++) simplify_node(s, old.at[i]);
  ValueIds *results = &g->blocks.at[id].results;
  for (uint32_t i = 0; i < results->len; i++) results->at[i] = mapped(s, results->at[i]);
  s->b.block = outer;
}

/* Every rule goes downhill, so walks end; more than a few would be a rule that breaks the law. */
bool pass_simplify(Graph *g, PassCtx *c) {
  bool any = false;
  for (int walk = 0;; walk++) {
    Simplify s = {.b = {.g = g}, .c = c};
    for (uint32_t i = 0; i < g->entries.len; i++) simplify_block(&s, g->entries.at[i].body);
    if (!s.changed) return any;
    if (walk == 64) ice(g, NO_ID, "simplify: no end after %d walks", walk);
    any = true;
  }
}
