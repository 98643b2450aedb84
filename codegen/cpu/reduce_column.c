/* reduce_column.c: strided reductions: a leading run of axes goes, the columns stay.
 *
 * A few vectors of columns at a time, a unit, go through the rows, in chains of 64; threads share
 * out the columns.  Where several passes are needed a unit goes through all rows, its partials in
 * registers.  Where one will do, all units go through a few rows before the next few come: rows are
 * read as they lie in memory, and the partials wait in scratch.
 */
#include "codegen/cpu/reduce.h"

enum {
  MOST_VECTORS = 4,
  FEW = 8,                   /* rows at a time: a divisor of CHAIN */
  MOST_WAITING = 128 * 1024, /* bytes of scratch, of a second-level cache */
  LINE = 64
};

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

/* The end of the rows from … end-1 that the stage visits. */
static LLVMValueRef limited(Reduce *r, const Stage *s, LLVMValueRef end) {
  Kernel *k = r->k;
  if (!s->limit) return end;
  LLVMValueRef less = LLVMBuildICmp(k->b, LLVMIntSLT, s->limit, end, "");
  return LLVMBuildSelect(k->b, less, s->limit, end, "");
}

/* p[i] goes on over rows from … end-1. */
static void column_steps(Reduce *r, const Stage *s, const Columns *c, LLVMValueRef from,
                         LLVMValueRef end, LLVMValueRef *p) {
  Kernel *k = r->k;
  Loop l;
  loop_open(k, &l, from, end, 1, s->n * c->n, p);
  space_place(k, r->gone, r->gone_n, l.i, AXIS_SPLAT);
  for (unsigned j = 0; j < c->n; j++) {
    columns_enter(r, c, j);
    for (unsigned i = 0; i < s->n; i++)
      p[i * c->n + j] = reduce_step(r, s->one[i], p[i * c->n + j], s->limit);
    if (s->full) emit_results(k, k->rank);
  }
  loop_close(k, &l, p);
}

/* total[i] joined with the chain over rows from … from+count-1. */
static void column_chain(Reduce *r, const Stage *s, const Columns *c, LLVMValueRef from,
                         int64_t count, LLVMValueRef *total) {
  Kernel *k = r->k;
  LLVMValueRef p[MOST];
  unsigned n = s->n * c->n;
  for (unsigned i = 0; i < n; i++) p[i] = reduce_identity(r, s->one[i / c->n], k->lanes);
  column_steps(r, s, c, from, limited(r, s, k_plus(k, from, count)), p);
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

/* ---- few rows at a time ---------------------------------------------------------------------- */

static unsigned unit_vectors(const Reduce *r) {
  unsigned few = PARTIALS / r->k->m->level->vec.f32_lanes;
  return few < MOST_VECTORS ? few : MOST_VECTORS;
}

/* Bytes that one reduction's partials take, of all columns. */
static int64_t waiting_bytes(const Reduce *r) { return (4 * r->outer + LINE - 1) / LINE * LINE; }

static bool goes_by_rows(const Reduce *r) {
  int64_t unit = (int64_t)unit_vectors(r) * r->k->m->level->vec.f32_lanes;
  return r->stages == 1 && !r->late && r->n >= 2 * FEW && r->outer >= 2 * unit &&
         2 * r->all.len * waiting_bytes(r) <= MOST_WAITING;
}

uint64_t reduce_waiting(const Reduce *r) {
  return !r->trailing && goes_by_rows(r) ? 2 * r->all.len * (uint64_t)waiting_bytes(r) : 0;
}

typedef enum Waiting { TOTALS, PARTIALS_OF_CHAIN } Waiting;

static LLVMValueRef place(Reduce *r, Waiting w, unsigned i, LLVMValueRef column) {
  Kernel *k = r->k;
  int64_t array = (int64_t)i + (w == TOTALS ? 0 : r->all.len);
  LLVMValueRef at = k_plus(k, column, array * waiting_bytes(r) / 4);
  return LLVMBuildGEP2(k->b, k->m->i32, k->scratch, &at, 1, "");
}

/* The waiting values of the unit at `column` from memory, or to it. */
static void wait_or_go(Reduce *r, const Stage *s, Waiting w, LLVMValueRef column, bool go,
                       LLVMValueRef *v) {
  Kernel *k = r->k;
  for (unsigned i = 0; i < s->n; i++)
    for (unsigned j = 0; j < r->vectors; j++) {
      LLVMValueRef p = place(r, w, i, k_plus(k, column, (int64_t)j * k->lanes));
      LLVMValueRef *x = &v[i * r->vectors + j], access;
      if (go) {
        LLVMTypeRef t = LLVMTypeOf(reduce_identity(r, s->one[i], k->lanes));
        access = *x = LLVMBuildLoad2(k->b, t, p, "");
      } else {
        access = LLVMBuildStore(k->b, *x, p);
      }
      LLVMSetAlignment(access, 4);
    }
}

static void identities(Reduce *r, const Stage *s, LLVMValueRef *v) {
  for (unsigned i = 0; i < s->n * r->vectors; i++)
    v[i] = reduce_identity(r, s->one[i / r->vectors], r->k->lanes);
}

typedef struct Units { /* a thread's columns */
  LLVMValueRef from, end;
} Units;

static void unit_open(Reduce *r, const Units *u, Loop *l) {
  loop_open(r->k, l, u->from, u->end, (int64_t)r->vectors * r->k->lanes, 0, NULL);
}

static void begin_totals(Reduce *r, const Stage *s, const Units *u) {
  Loop l;
  LLVMValueRef v[MOST];
  unit_open(r, u, &l);
  identities(r, s, v);
  wait_or_go(r, s, TOTALS, l.i, false, v);
  wait_or_go(r, s, PARTIALS_OF_CHAIN, l.i, false, v);
  loop_close(r->k, &l, NULL);
}

static void few_rows(Reduce *r, const Stage *s, const Units *u, LLVMValueRef from,
                     LLVMValueRef end) {
  Kernel *k = r->k;
  Loop l;
  LLVMValueRef p[MOST];
  unit_open(r, u, &l);
  Columns c = columns_at(r, l.i, (int64_t)r->vectors * k->lanes);
  k->sub_scope = k->scope;
  wait_or_go(r, s, PARTIALS_OF_CHAIN, l.i, true, p);
  column_steps(r, s, &c, from, end, p);
  wait_or_go(r, s, PARTIALS_OF_CHAIN, l.i, false, p);
  loop_close(k, &l, NULL);
}

static void end_chain(Reduce *r, const Stage *s, const Units *u) {
  Kernel *k = r->k;
  Loop l;
  LLVMValueRef p[MOST], total[MOST];
  unit_open(r, u, &l);
  wait_or_go(r, s, TOTALS, l.i, true, total);
  wait_or_go(r, s, PARTIALS_OF_CHAIN, l.i, true, p);
  for (unsigned i = 0; i < s->n * r->vectors; i++)
    total[i] = reduce_join(r, s->one[i / r->vectors], total[i], p[i]);
  wait_or_go(r, s, TOTALS, l.i, false, total);
  identities(r, s, p);
  wait_or_go(r, s, PARTIALS_OF_CHAIN, l.i, false, p);
  loop_close(k, &l, NULL);
}

static void chain_by_rows(Reduce *r, const Stage *s, const Units *u, LLVMValueRef from,
                          int64_t count) {
  Kernel *k = r->k;
  int64_t whole = count - count % FEW;
  LLVMValueRef rest = k_plus(k, from, whole);
  Loop l;
  if (whole > 0) {
    loop_open(k, &l, from, rest, FEW, 0, NULL);
    few_rows(r, s, u, l.i, limited(r, s, k_plus(k, l.i, FEW)));
    loop_close(k, &l, NULL);
  }
  if (whole < count) few_rows(r, s, u, rest, limited(r, s, k_plus(k, from, count)));
  end_chain(r, s, u);
}

static void give_totals(Reduce *r, const Stage *s, const Units *u) {
  Kernel *k = r->k;
  Loop l;
  LLVMValueRef total[MOST];
  unit_open(r, u, &l);
  Columns c = columns_at(r, l.i, (int64_t)r->vectors * k->lanes);
  k->sub_scope = k->scope;
  wait_or_go(r, s, TOTALS, l.i, true, total);
  for (unsigned j = 0; j < c.n; j++) {
    columns_enter(r, &c, j);
    for (unsigned i = 0; i < s->n; i++) reduce_give(r, s->one[i], total[i * c.n + j]);
    emit_results(k, r->rank);
  }
  loop_close(k, &l, NULL);
}

static void columns_by_rows(Reduce *r, Units u) {
  Kernel *k = r->k;
  Stage s = reduce_stage(r, 0);
  int64_t whole = r->n - r->n % CHAIN;
  s.limit = row_limit(r, &s);
  begin_totals(r, &s, &u);
  if (whole > 0) {
    Loop l;
    loop_open(k, &l, k_int(k, 0), k_int(k, whole), CHAIN, 0, NULL);
    chain_by_rows(r, &s, &u, l.i, CHAIN);
    loop_close(k, &l, NULL);
  }
  if (whole < r->n) chain_by_rows(r, &s, &u, k_int(k, whole), r->n - whole);
  give_totals(r, &s, &u);
}

/* ---- the form -------------------------------------------------------------------------------- */

void reduce_columns(Reduce *r) {
  Kernel *k = r->k;
  bool by_rows = goes_by_rows(r);
  fit_lanes(k, r->outer);
  r->vectors = by_rows ? unit_vectors(r) : MOST_VECTORS;
  int64_t unit = (int64_t)r->vectors * k->lanes, whole = r->outer - r->outer % unit;
  if (whole > 0) {
    LLVMValueRef from, end;
    Loop l;
    k_share(k, whole, unit, &from, &end);
    if (by_rows) {
      columns_by_rows(r, (Units){from, end});
    } else {
      loop_open(k, &l, from, end, unit, 0, NULL);
      columns(r, l.i, unit);
      loop_close(k, &l, NULL);
    }
  }
  if (whole == r->outer) return;
  LLVMBasicBlockRef exit = branch_open(k, k_is_last_thread(k));
  columns(r, k_int(k, whole), r->outer - whole);
  branch_close(k, exit);
}
