/* reduce.c: the reduce form: what is reduced, in which passes, and how two partials join.
 *
 * Each stage is a pass over the elements.  Results of the space's dims are stored in the last pass,
 * or, if they need its reductions, in one more; then come the results of the reductions' dims.
 * What is left out (lanes of a tail, padding rows) is left out by selecting the old partial: adding
 * an identity would turn -0 into +0.
 */
#include "codegen/cpu/reduce.h"

#include <math.h>

/* ---- what is in the kernel ------------------------------------------------------------------- */

static unsigned depth_of(const uint8_t *depth, const Node *n) {
  unsigned d = 0;
  for (uint32_t i = 0; i < n->nops; i++)
    if (depth[n->ops[i]] > d) d = depth[n->ops[i]];
  return d;
}

/* depth, by value: how many reductions lie one behind the other on the way to it. */
static void find_reductions(Reduce *r, uint8_t *depth) {
  Kernel *k = r->k;
  const Graph *g = k->g;
  for (uint32_t i = 0; i < k->body->nodes.len; i++) {
    const Node *n = &g->nodes.at[k->body->nodes.at[i]];
    unsigned d = depth_of(depth, n);
    bool is_reduction = op_flags[n->op] & F_REDUCE;
    depth[n->res] = (uint8_t)(d + is_reduction);
    if (!is_reduction) continue;
    DType t = (DType)value_type(g, n->ops[0]).dtype;
    Reduction one = {n->res, n->ops[0], n->op, t, (ScalarId)op_program(n->op, t), d};
    vec_push(k->m->arena, &r->all, one);
    if (d + 1 > r->stages) r->stages = d + 1;
  }
}

static void find_space(Reduce *r) {
  Kernel *k = r->k;
  const Node *n = value_node(k->g, r->all.at[0].result);
  const Attr *axes = node_attr(n, AT_axes);
  Type space = value_type(k->g, n->ops[0]);
  r->rank = value_type(k->g, n->res).rank;
  r->trailing = axes->ints[axes->n - 1] == space.rank - 1;
  r->border = r->trailing ? r->rank : space.rank - r->rank;
  space_set(k, space, r->border, r->trailing ? 0 : r->border);
  int first = space_groups_before(k, r->border), last = k->axes - first;
  r->kept = r->trailing ? 0 : first;
  r->kept_n = r->trailing ? first : last;
  r->gone = r->trailing ? first : 0;
  r->gone_n = r->trailing ? last : first;
  r->n = r->outer = 1;
  for (int i = 0; i < space.rank; i++)
    *((i < r->border) == r->trailing ? &r->outer : &r->n) *= space.dim[i];
}

static void find_full_results(Reduce *r, const uint8_t *depth) {
  const Kernel *k = r->k;
  for (uint32_t i = 0; i < k->body->results.len; i++) {
    ValueId v = k->body->results.at[i];
    if (value_type(k->g, v).rank != k->rank) continue;
    r->full = true;
    r->late = r->late || depth[v] == r->stages;
  }
}

void reduce_find(Reduce *r, Kernel *k) {
  uint8_t *depth = NEW_ARRAY(k->m->arena, uint8_t, k->g->values.len);
  r->k = k;
  find_reductions(r, depth);
  if (!r->all.len) ice(k->g, (NodeId)(k->node - k->g->nodes.at), "cpu: nothing is reduced");
  if (r->all.len > MOST_REDUCTIONS)
    ice(k->g, (NodeId)(k->node - k->g->nodes.at), "cpu: too many reductions in one kernel");
  find_space(r);
  find_full_results(r, depth);
}

Stage reduce_stage(const Reduce *r, unsigned stage) {
  Stage s = {0};
  for (uint32_t i = 0; i < r->all.len; i++)
    if (r->all.at[i].stage == stage) s.one[s.n++] = &r->all.at[i];
  s.full = r->full && !r->late && stage == r->stages - 1;
  return s;
}

/* ---- joining --------------------------------------------------------------------------------- */

/* Partials of i1 are i32 masks: as vectors of i1 they would be unpacked in every turn of a loop. */
LLVMValueRef reduce_identity(Reduce *r, const Reduction *one, unsigned lanes) {
  const Module *m = r->k->m;
  double v = one->op == OP_reduce_max ? -INFINITY : one->op == OP_reduce_min ? INFINITY : 0;
  int32_t i = v < 0 ? INT32_MIN : v > 0 ? INT32_MAX : one->op == OP_reduce_and ? -1 : 0;
  bool is_float = dtype_kind[one->dtype] == 'f';
  LLVMValueRef c = is_float ? LLVMConstReal(m->f32, v) : LLVMConstInt(m->i32, (uint32_t)i, false);
  return k_splat(r->k, c, lanes);
}

static unsigned lanes_of(LLVMValueRef v) {
  LLVMTypeRef t = LLVMTypeOf(v);
  return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMGetVectorSize(t) : 1;
}

/* Folding joins fewer lanes than a vector has. */
LLVMValueRef reduce_join(Reduce *r, const Reduction *one, LLVMValueRef x, LLVMValueRef y) {
  Kernel *k = r->k;
  if (one->dtype == DT_i1)
    return one->op == OP_reduce_and ? LLVMBuildAnd(k->b, x, y, "") : LLVMBuildOr(k->b, x, y, "");
  unsigned whole = k->lanes;
  k->lanes = lanes_of(x);
  Val args[2] = {{x, k->lanes > 1, k->scope}, {y, k->lanes > 1, k->scope}};
  LLVMValueRef v = expr_program(k, one->join, 2, args).v;
  k->lanes = whole;
  return v;
}

static LLVMValueRef valid_lanes(Kernel *k) {
  LLVMValueRef v[64];
  for (unsigned i = 0; i < k->lanes; i++) v[i] = LLVMConstInt(k->m->i1, i < k->valid, false);
  return LLVMConstVector(v, k->lanes);
}

static Val reduced_value(Reduce *r, const Reduction *one, const Index *ix) {
  Kernel *k = r->k;
  Val x = expr_wide(k, expr_to_program(k, expr(k, one->x, ix), one->dtype));
  if (one->dtype != DT_i1) return x;
  k_go(k, x.scope);
  x.v = LLVMBuildSExt(k->b, x.v, k_vector(k->m->i32, k->lanes), "");
  return x;
}

/* The rows that may be padding are reduced, not kept. */
static bool is_tagged(const Reduce *r, Type t) {
  return t.rows >= 0 && (t.rows >= r->border) == r->trailing;
}

LLVMValueRef reduce_step(Reduce *r, const Reduction *one, LLVMValueRef partial, bool limited) {
  Kernel *k = r->k;
  Type t = value_type(k->g, one->x);
  Index ix = index_identity(t, 0);
  Val x = reduced_value(r, one, &ix), real = {0};
  bool masked = is_tagged(r, t) && !limited;
  if (masked) real = index_below(k, &ix.at[t.rows], k_real_rows(k, t));
  k_go(k, k->scope);
  LLVMValueRef sum = reduce_join(r, one, partial, x.v);
  if (masked) sum = LLVMBuildSelect(k->b, real.v, sum, partial, "");
  if (r->trailing && k->valid < k->lanes)
    sum = LLVMBuildSelect(k->b, valid_lanes(k), sum, partial, "");
  return sum;
}

void reduce_give(Reduce *r, const Reduction *one, LLVMValueRef total) {
  Kernel *k = r->k;
  Type t = value_type(k->g, one->result);
  Index ix = index_identity(t, k->lead);
  Val v = {total, lanes_of(total) > 1, k->scope};
  bool is_float = dtype_kind[one->dtype] == 'f';
  v = expr_from_program(k, v, is_float ? S_F32 : S_I32, one->dtype);
  expr_given(k, one->result, &ix, v);
}

/* ---- the form -------------------------------------------------------------------------------- */

void measure_reduce(Kernel *k) {
  Reduce r = {0};
  reduce_find(&r, k);
  if (reduce_shares_row(&r)) k->slot_bytes = reduce_slot_bytes(&r);
  else k->scratch_bytes = reduce_waiting(&r);
}

void emit_reduce(Kernel *k) {
  Reduce r = {0};
  reduce_find(&r, k);
  if (reduce_shares_row(&r)) reduce_row_blocks(&r);
  else if (r.trailing) reduce_rows(&r);
  else reduce_columns(&r);
}

void emit_finish(Kernel *k) {
  Reduce r = {0};
  reduce_find(&r, k);
  reduce_row_finish(&r);
}
