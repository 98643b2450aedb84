/* reduce_column.c: strided reductions: a leading run of axes goes, the columns stay.
 *
 * A few vectors of columns at a time go through all rows, in chains of 64; threads share out the
 * columns.
 */
#include "codegen/cpu/reduce.h"

enum { MOST_VECTORS = 4 };

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
static void column_chain(Reduce *r, const Stage *s, const Columns *c, LLVMValueRef from,
                         int64_t count, LLVMValueRef *total) {
  Kernel *k = r->k;
  LLVMValueRef p[MOST];
  unsigned n = s->n * c->n;
  Loop l;
  for (unsigned i = 0; i < n; i++) p[i] = reduce_identity(r, s->one[i / c->n], k->lanes);
  LLVMValueRef end = k_plus(k, from, count);
  if (s->limit) {
    LLVMValueRef less = LLVMBuildICmp(k->b, LLVMIntSLT, s->limit, end, "");
    end = LLVMBuildSelect(k->b, less, s->limit, end, "");
  }
  loop_open(k, &l, from, end, 1, n, p);
  space_place(k, r->gone, r->gone_n, l.i, AXIS_SPLAT);
  for (unsigned j = 0; j < c->n; j++) {
    columns_enter(r, c, j);
    for (unsigned i = 0; i < s->n; i++)
      p[i * c->n + j] = reduce_step(r, s->one[i], p[i * c->n + j], s->limit);
    if (s->full) emit_results(k, k->rank);
  }
  loop_close(k, &l, p);
  for (unsigned i = 0; i < n; i++) total[i] = reduce_join(r, s->one[i / c->n], total[i], p[i]);
}

/* Padding that is a suffix of the rows, for each reduction of the stage, is never visited. */
static LLVMValueRef row_limit(Reduce *r, const Stage *s) {
  Kernel *k = r->k;
  if (s->full) return NULL; /* padding has results too */
  for (unsigned i = 0; i < s->n; i++)
    if (value_type(k->g, s->one[i]->x).rows != 0) return NULL;
  Type t = value_type(k->g, s->one[0]->x);
  LLVMValueRef real = k_real_rows(k, t);
  k_go(k, k->scope);
  return k_times(k, real, r->n / t.dim[0]);
}

static void column_stage(Reduce *r, const Columns *c, unsigned stage) {
  Kernel *k = r->k;
  Stage s = reduce_stage(r, stage);
  s.limit = row_limit(r, &s);
  LLVMValueRef total[MOST];
  unsigned n = s.n * c->n;
  int64_t whole = r->n - r->n % CHAIN;
  for (unsigned i = 0; i < n; i++) total[i] = reduce_identity(r, s.one[i / c->n], k->lanes);
  if (whole > 0) {
    Loop l;
    loop_open(k, &l, k_int(k, 0), k_int(k, whole), CHAIN, n, total);
    column_chain(r, &s, c, l.i, CHAIN, total);
    loop_close(k, &l, total);
  }
  if (whole < r->n) column_chain(r, &s, c, k_int(k, whole), r->n - whole, total);
  for (unsigned i = 0; i < n; i++) {
    columns_enter(r, c, i % c->n);
    reduce_give(r, s.one[i / c->n], total[i]);
  }
}

static void columns_late(Reduce *r, const Columns *c) {
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
  if (r->late) columns_late(r, &c);
  for (unsigned j = 0; j < c.n; j++) {
    columns_enter(r, &c, j);
    emit_results(k, r->rank);
  }
}

void reduce_columns(Reduce *r) {
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
