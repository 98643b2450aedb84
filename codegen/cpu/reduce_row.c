/* reduce_row.c: contiguous reductions: a trailing run of axes, a row, to one element.
 *
 * Blocks of 4096 elements; in a block 32 partials, held in 32 / lanes vectors and folded at the end.
 */
#include "codegen/cpu/reduce.h"

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
    for (unsigned i = 0; i < h; i++) p[i] = reduce_join(r, one, p[i], p[i + h]);
  LLVMValueRef v = p[0];
  for (unsigned h = k->lanes / 2; h > 0; h /= 2)
    v = reduce_join(r, one, some(k, v, 0, h), some(k, v, h, h));
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
      p[i * r->vectors + j] = reduce_step(r, s->one[i], p[i * r->vectors + j], false);
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
    p[i] = reduce_identity(r, s->one[i / r->vectors], k->lanes);
  row_steps(r, s, at, count, p);
  for (unsigned i = 0; i < s->n; i++)
    total[i] = reduce_join(r, s->one[i], total[i], fold(r, s->one[i], p + i * r->vectors));
}

static void row_stage(Reduce *r, unsigned stage) {
  Kernel *k = r->k;
  Stage s = reduce_stage(r, stage);
  LLVMValueRef total[MOST];
  int64_t whole = r->n - r->n % BLOCK;
  for (unsigned i = 0; i < s.n; i++) total[i] = reduce_identity(r, s.one[i], 1);
  if (whole > 0) {
    Loop l;
    loop_open(k, &l, k_int(k, 0), k_int(k, whole), BLOCK, s.n, total);
    row_block(r, &s, l.i, BLOCK, total);
    loop_close(k, &l, total);
  }
  if (whole < r->n) row_block(r, &s, k_int(k, whole), r->n - whole, total);
  for (unsigned i = 0; i < s.n; i++) reduce_give(r, s.one[i], total[i]);
}

void reduce_rows(Reduce *r) {
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
