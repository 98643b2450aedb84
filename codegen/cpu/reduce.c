/* reduce.c: the reduce form, in the orders of ref/reduce.c.
 *
 * Reductions come in stages: those of stage s read nothing but reductions of earlier stages, so one
 * pass over the row serves all of a stage (softmax: the maximum, then the sum).  After the last
 * stage come the results of the reductions' dims and one more pass for those of the space.
 *
 * Contiguous (a trailing run is reduced): for each row, blocks of 4096; in a block 32 partials, held
 * in 32 / lanes vectors, folded at the end.  Strided (a leading run): a few vectors of columns at a
 * time, chains over 64 rows.  What is left out (lanes of a tail, padding rows) is left out by
 * selecting the old partial: adding an identity would turn -0 into +0.
 */
#include "codegen/cpu/emit.h"

#include <math.h>

enum { BLOCK = 4096, PARTIALS = 32, CHAIN = 64, MOST_VECTORS = 4, MOST = MAX_CARRIED };

typedef struct Reduction {
  ValueId result, x;
  Op op;
  DType dtype;
  ScalarId join;
  unsigned stage;
} Reduction;

typedef struct Reduce {
  Kernel *k;
  VEC(Reduction) all;
  unsigned stages;
  bool trailing;      /* contiguous */
  int border;         /* the axis where the kept axes end (contiguous) or begin (strided) */
  int kept, kept_n;   /* groups of the kept axes */
  int gone, gone_n;   /* of the reduced ones */
  int64_t n, outer;   /* elements reduced to one; how many such */
  unsigned vectors;   /* side by side */
  int rank;           /* of a reduction's result */
  bool full;          /* there are results of the space's dims */
} Reduce;

/* ---- what is in the kernel ------------------------------------------------------------------------ */

static unsigned depth_of(const uint8_t *depth, const Node *n) {
  unsigned d = 0;
  for (uint32_t i = 0; i < n->nops; i++)
    if (depth[n->ops[i]] > d) d = depth[n->ops[i]];
  return d;
}

/* depth, by value: how many reductions lie one behind the other on the way to it. */
static void find_reductions(Reduce *r) {
  Kernel *k = r->k;
  const Graph *g = k->g;
  uint8_t *depth = NEW_ARRAY(k->m->arena, uint8_t, g->values.len);
  for (uint32_t i = 0; i < k->body->nodes.len; i++) {
    const Node *n = &g->nodes.at[k->body->nodes.at[i]];
    unsigned d = depth_of(depth, n);
    bool is_reduction = op_flags[n->op] & F_REDUCE;
    depth[n->res] = (uint8_t)(d + is_reduction);
    if (!is_reduction) continue;
    DType t = (DType)value_type(g, n->ops[0]).dtype;
    Reduction one = {n->res, n->ops[0], n->op, t, op_program(n->op, t), d};
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
  for (uint32_t i = 0; i < k->body->results.len; i++)
    r->full = r->full || value_type(k->g, k->body->results.at[i]).rank == space.rank;
}

/* The reductions of a stage, side by side; reduction i has partials p[i · vectors …]. */
typedef struct Stage {
  const Reduction *one[MOST];
  unsigned n;
  LLVMValueRef limit; /* strided: rows from here on are padding; NULL: none */
} Stage;

static Stage stage_of(const Reduce *r, unsigned stage) {
  Stage s = {0};
  for (uint32_t i = 0; i < r->all.len; i++)
    if (r->all.at[i].stage == stage) s.one[s.n++] = &r->all.at[i];
  return s;
}

/* ---- joining ---------------------------------------------------------------------------------------- */

/* Partials of i1 are i32 masks: as vectors of i1 they would be unpacked in every turn of a loop. */
static LLVMValueRef identity(Reduce *r, const Reduction *one, unsigned lanes) {
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
static LLVMValueRef join(Reduce *r, const Reduction *one, LLVMValueRef x, LLVMValueRef y) {
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

/* The partial joined with the reduction's operand at the place where the axes stand; limited: the
 * place is no padding. */
static LLVMValueRef step(Reduce *r, const Reduction *one, LLVMValueRef partial, bool limited) {
  Kernel *k = r->k;
  Type t = value_type(k->g, one->x);
  Index ix = index_identity(t, 0);
  Val x = reduced_value(r, one, &ix), real = {0};
  bool masked = is_tagged(r, t) && !limited;
  if (masked) real = index_below(k, &ix.at[t.rows], k_real_rows(k, t));
  k_go(k, k->scope);
  LLVMValueRef sum = join(r, one, partial, x.v);
  if (masked) sum = LLVMBuildSelect(k->b, real.v, sum, partial, "");
  if (r->trailing && k->valid < k->lanes)
    sum = LLVMBuildSelect(k->b, valid_lanes(k), sum, partial, "");
  return sum;
}

/* The result's element, from now on its value in this scope. */
static void give(Reduce *r, const Reduction *one, LLVMValueRef total) {
  Kernel *k = r->k;
  Type t = value_type(k->g, one->result);
  Index ix = index_identity(t, k->lead);
  Val v = {total, lanes_of(total) > 1, k->scope};
  bool is_float = dtype_kind[one->dtype] == 'f';
  v = expr_from_program(k, v, is_float ? S_F32 : S_I32, one->dtype);
  expr_given(k, one->result, &ix, v);
}

/* ---- contiguous: a row to one element ------------------------------------------------------------------ */

static LLVMValueRef some(Kernel *k, LLVMValueRef v, unsigned from, unsigned n) {
  LLVMValueRef pick[PARTIALS];
  for (unsigned i = 0; i < n; i++) pick[i] = LLVMConstInt(k->m->i32, from + i, false);
  if (n == 1) return LLVMBuildExtractElement(k->b, v, pick[0], "");
  LLVMValueRef none = LLVMGetPoison(LLVMTypeOf(v));
  return LLVMBuildShuffleVector(k->b, v, none, LLVMConstVector(pick, n), "");
}

/* p[i] = p[i] join p[i + h] for h = 16, 8, …: first whole vectors, then halves of the last one. */
static LLVMValueRef fold(Reduce *r, const Reduction *one, LLVMValueRef *p) {
  Kernel *k = r->k;
  for (unsigned h = r->vectors / 2; h > 0; h /= 2)
    for (unsigned i = 0; i < h; i++) p[i] = join(r, one, p[i], p[i + h]);
  LLVMValueRef v = p[0];
  for (unsigned h = k->lanes / 2; h > 0; h /= 2)
    v = join(r, one, some(k, v, 0, h), some(k, v, h, h));
  return v;
}

/* Visits `count` ≤ 32 elements from place `at` of the row, vector by vector; p NULL: the results. */
static void row_step(Reduce *r, const Stage *s, LLVMValueRef at, int64_t count, LLVMValueRef *p) {
  Kernel *k = r->k;
  k->sub_scope = k->scope;
  for (unsigned j = 0; (int64_t)j * k->lanes < count; j++) {
    int64_t left = count - (int64_t)j * k->lanes;
    k->sub = j;
    k->valid = left < k->lanes ? (unsigned)left : k->lanes;
    k_go(k, k->scope);
    LLVMValueRef here = k_plus(k, at, (int64_t)j * k->lanes);
    space_place(k, r->gone, r->gone_n, here, AXIS_STEP);
    if (!p) emit_results(k, k->rank);
    for (unsigned i = 0; p && i < s->n; i++)
      p[i * r->vectors + j] = step(r, s->one[i], p[i * r->vectors + j], false);
  }
  k->sub = 0;
  k->valid = k->lanes;
}

/* Visits count elements from place `at`, in steps of 32 or what is left. */
static void row_steps(Reduce *r, const Stage *s, LLVMValueRef at, int64_t count, LLVMValueRef *p) {
  Kernel *k = r->k;
  int64_t whole = count - count % PARTIALS;
  LLVMValueRef end = k_plus(k, at, whole);
  if (whole > 0) {
    Loop l;
    loop_open(k, &l, at, end, PARTIALS, p ? s->n * r->vectors : 0, p);
    row_step(r, s, l.i, PARTIALS, p);
    loop_close(k, &l, p);
  }
  if (whole == count) return;
  inner_open(k);
  row_step(r, s, end, count - whole, p);
  inner_close(k);
}

/* total[i] joined with the count ≤ 4096 elements from place `at`. */
static void row_block(Reduce *r, const Stage *s, LLVMValueRef at, int64_t count, LLVMValueRef *total) {
  Kernel *k = r->k;
  LLVMValueRef p[MOST];
  for (unsigned i = 0; i < s->n * r->vectors; i++)
    p[i] = identity(r, s->one[i / r->vectors], k->lanes);
  row_steps(r, s, at, count, p);
  for (unsigned i = 0; i < s->n; i++)
    total[i] = join(r, s->one[i], total[i], fold(r, s->one[i], p + i * r->vectors));
}

static void row_stage(Reduce *r, unsigned stage) {
  Kernel *k = r->k;
  Stage s = stage_of(r, stage);
  LLVMValueRef total[MOST];
  int64_t whole = r->n - r->n % BLOCK;
  for (unsigned i = 0; i < s.n; i++) total[i] = identity(r, s.one[i], 1);
  if (whole > 0) {
    Loop l;
    loop_open(k, &l, k_int(k, 0), k_int(k, whole), BLOCK, s.n, total);
    row_block(r, &s, l.i, BLOCK, total);
    loop_close(k, &l, total);
  }
  if (whole < r->n) row_block(r, &s, k_int(k, whole), r->n - whole, total);
  for (unsigned i = 0; i < s.n; i++) give(r, s.one[i], total[i]);
}

static void emit_rows(Reduce *r) {
  Kernel *k = r->k;
  LLVMValueRef from, end;
  Loop l;
  k->lanes = k->valid = k->m->target->vec.f32_lanes;
  r->vectors = PARTIALS / k->lanes;
  k_share(k, r->outer, 1, &from, &end);
  loop_open(k, &l, from, end, 1, 0, NULL);
  space_place(k, r->kept, r->kept_n, l.i, AXIS_SPLAT);
  for (unsigned s = 0; s < r->stages; s++) row_stage(r, s);
  if (r->full) row_steps(r, NULL, k_int(k, 0), r->n, NULL);
  emit_results(k, r->rank);
  loop_close(k, &l, NULL);
}

/* ---- strided: a few vectors of columns at a time ---------------------------------------------------------- */

typedef struct Columns {
  Axis at[MOST_VECTORS][MAX_RANK + 1]; /* where the kept axes stand for each vector */
  unsigned valid[MOST_VECTORS];
  unsigned n;
} Columns;

static void columns_enter(Reduce *r, const Columns *c, unsigned j) {
  Kernel *k = r->k;
  k->sub = j;
  k->valid = c->valid[j];
  for (int g = r->kept; g < r->kept + r->kept_n; g++) k->axis[g] = c->at[j][g];
}

static Columns columns_at(Reduce *r, LLVMValueRef at, int64_t count) {
  Kernel *k = r->k;
  Columns c = {.n = (unsigned)((count + k->lanes - 1) / k->lanes)};
  for (unsigned j = 0; j < c.n; j++) {
    int64_t left = count - (int64_t)j * k->lanes;
    c.valid[j] = left < k->lanes ? (unsigned)left : k->lanes;
    LLVMValueRef here = k_plus(k, at, (int64_t)j * k->lanes);
    space_place(k, r->kept, r->kept_n, here, AXIS_STEP);
    for (int g = 0; g < k->axes; g++) c.at[j][g] = k->axis[g];
  }
  return c;
}

/* total[i] joined with the chain over rows from … from+count-1. */
static void column_chain(Reduce *r, const Stage *s, const Columns *c, LLVMValueRef from, int64_t count,
                         LLVMValueRef *total) {
  Kernel *k = r->k;
  LLVMValueRef p[MOST];
  unsigned n = s->n * c->n;
  Loop l;
  for (unsigned i = 0; i < n; i++) p[i] = identity(r, s->one[i / c->n], k->lanes);
  LLVMValueRef end = k_plus(k, from, count);
  if (s->limit) {
    LLVMValueRef less = LLVMBuildICmp(k->b, LLVMIntSLT, s->limit, end, "");
    end = LLVMBuildSelect(k->b, less, s->limit, end, "");
  }
  loop_open(k, &l, from, end, 1, n, p);
  space_place(k, r->gone, r->gone_n, l.i, AXIS_SPLAT);
  for (unsigned j = 0; j < c->n; j++) {
    columns_enter(r, c, j);
    for (unsigned i = 0; i < s->n; i++) p[i * c->n + j] = step(r, s->one[i], p[i * c->n + j], s->limit);
  }
  loop_close(k, &l, p);
  for (unsigned i = 0; i < n; i++) total[i] = join(r, s->one[i / c->n], total[i], p[i]);
}

/* Padding that is a suffix of the rows, for each reduction of the stage, is never visited. */
static LLVMValueRef row_limit(Reduce *r, const Stage *s) {
  Kernel *k = r->k;
  for (unsigned i = 0; i < s->n; i++)
    if (value_type(k->g, s->one[i]->x).rows != 0) return NULL;
  Type t = value_type(k->g, s->one[0]->x);
  LLVMValueRef real = k_real_rows(k, t);
  k_go(k, k->scope);
  return k_times(k, real, r->n / t.dim[0]);
}

static void column_stage(Reduce *r, const Columns *c, unsigned stage) {
  Kernel *k = r->k;
  Stage s = stage_of(r, stage);
  s.limit = row_limit(r, &s);
  LLVMValueRef total[MOST];
  unsigned n = s.n * c->n;
  int64_t whole = r->n - r->n % CHAIN;
  for (unsigned i = 0; i < n; i++) total[i] = identity(r, s.one[i / c->n], k->lanes);
  if (whole > 0) {
    Loop l;
    loop_open(k, &l, k_int(k, 0), k_int(k, whole), CHAIN, n, total);
    column_chain(r, &s, c, l.i, CHAIN, total);
    loop_close(k, &l, total);
  }
  if (whole < r->n) column_chain(r, &s, c, k_int(k, whole), r->n - whole, total);
  for (unsigned i = 0; i < n; i++) {
    columns_enter(r, c, i % c->n);
    give(r, s.one[i / c->n], total[i]);
  }
}

static void columns_full(Reduce *r, const Columns *c) {
  Kernel *k = r->k;
  Loop l;
  loop_open(k, &l, k_int(k, 0), k_int(k, r->n), 1, 0, NULL);
  space_place(k, r->gone, r->gone_n, l.i, AXIS_SPLAT);
  for (unsigned j = 0; j < c->n; j++) {
    columns_enter(r, c, j);
    emit_results(k, k->rank);
  }
  loop_close(k, &l, NULL);
}

/* Columns at … at+count-1, in a scope of their own. */
static void columns(Reduce *r, LLVMValueRef at, int64_t count) {
  Kernel *k = r->k;
  Columns c = columns_at(r, at, count);
  k->sub_scope = k->scope;
  for (unsigned s = 0; s < r->stages; s++) column_stage(r, &c, s);
  if (r->full) columns_full(r, &c);
  for (unsigned j = 0; j < c.n; j++) {
    columns_enter(r, &c, j);
    emit_results(k, r->rank);
  }
}

static void emit_columns(Reduce *r) {
  Kernel *k = r->k;
  fit_lanes(k, r->outer);
  r->vectors = MOST_VECTORS;
  int64_t unit = (int64_t)r->vectors * k->lanes, whole = r->outer - r->outer % unit;
  if (whole > 0) {
    LLVMValueRef from, end;
    Loop l;
    k_share(k, whole, unit, &from, &end);
    loop_open(k, &l, from, end, unit, 0, NULL);
    columns(r, l.i, unit);
    loop_close(k, &l, NULL);
  }
  if (whole == r->outer) return;
  LLVMBasicBlockRef exit = branch_open(k, k_is_last_thread(k));
  columns(r, k_int(k, whole), r->outer - whole);
  branch_close(k, exit);
}

void emit_reduce(Kernel *k) {
  Reduce r = {.k = k};
  find_reductions(&r);
  if (!r.all.len) ice(k->g, (NodeId)(k->node - k->g->nodes.at), "cpu: nothing is reduced");
  find_space(&r);
  if (r.all.len * PARTIALS / 4 > MOST)
    ice(k->g, (NodeId)(k->node - k->g->nodes.at), "cpu: too many reductions in one kernel");
  if (r.trailing) emit_rows(&r);
  else emit_columns(&r);
}
