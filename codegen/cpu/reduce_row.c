/* reduce_row.c: contiguous reductions: a trailing run of axes, a row, to one element.
 *
 * Blocks of 4096 elements; in a block 32 partials, held in 32 / lanes vectors and folded at the
 * end. Threads share out the rows.  Where there is one long row only, they share out its blocks:
 * each block's fold goes to memory that all threads see, and behind a meeting thread 0 joins them
 * in order, so the bits are those of one thread.
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

/* Elements that a turn of the loop visits: all partials once; a vector where there are none. */
static int64_t turn(const Reduce *r, const Stage *s) {
  return (int64_t)r->k->lanes * (s->n ? r->vectors : 1);
}

/* Visits `count` elements, a turn at most, from place `at` of the row, vector by vector. */
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
    for (unsigned i = 0; i < s->n; i++)
      p[i * r->vectors + j] = reduce_step(r, s->one[i], p[i * r->vectors + j], false);
    if (s->full) emit_results(k, k->rank);
  }
  k->sub = 0;
  k->valid = k->lanes;
}

/* Visits count elements from place `at`, turn by turn. */
static void row_steps(Reduce *r, const Stage *s, LLVMValueRef at, int64_t count, LLVMValueRef *p) {
  Kernel *k = r->k;
  int64_t whole = count - count % turn(r, s);
  LLVMValueRef end = k_plus(k, at, whole);
  if (whole > 0) {
    Loop l;
    loop_open(k, &l, at, end, turn(r, s), s->n * r->vectors, p);
    row_step(r, s, l.i, turn(r, s), p);
    loop_close(k, &l, p);
  }
  if (whole == count) return;
  inner_open(k);
  row_step(r, s, end, count - whole, p);
  inner_close(k);
}

/* fold[i] of the count ≤ 4096 elements from place `at`. */
static void row_block(Reduce *r, const Stage *s, LLVMValueRef at, int64_t count,
                      LLVMValueRef *folded) {
  Kernel *k = r->k;
  LLVMValueRef p[MOST];
  for (unsigned i = 0; i < s->n * r->vectors; i++)
    p[i] = reduce_identity(r, s->one[i / r->vectors], k->lanes);
  row_steps(r, s, at, count, p);
  for (unsigned i = 0; i < s->n; i++) folded[i] = fold(r, s->one[i], p + i * r->vectors);
}

static void join_block(Reduce *r, const Stage *s, LLVMValueRef at, int64_t count,
                       LLVMValueRef *total) {
  LLVMValueRef folded[MOST];
  row_block(r, s, at, count, folded);
  for (unsigned i = 0; i < s->n; i++) total[i] = reduce_join(r, s->one[i], total[i], folded[i]);
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
    join_block(r, &s, l.i, BLOCK, total);
    loop_close(k, &l, total);
  }
  if (whole < r->n) join_block(r, &s, k_int(k, whole), r->n - whole, total);
  for (unsigned i = 0; i < s.n; i++) reduce_give(r, s.one[i], total[i]);
}

/* `and` and `or` give the same bits in any order, so one vector of partials will do: a quarter of
 * the code where the row's program is long (an optimizer's update, which watches for infinities).
 */
static bool order_matters(const Reduce *r) {
  for (uint32_t i = 0; i < r->all.len; i++)
    if (r->all.at[i].dtype != DT_i1) return true;
  return false;
}

static void fit_partials(Reduce *r) {
  Kernel *k = r->k;
  k->lanes = k->valid = k->m->level->vec.f32_lanes;
  r->vectors = order_matters(r) ? PARTIALS / k->lanes : 1;
}

void reduce_rows(Reduce *r) {
  Kernel *k = r->k;
  LLVMValueRef from, end;
  Loop l;
  const Stage results = {.full = true};
  fit_partials(r);
  k_share(k, r->outer, 1, &from, &end);
  loop_open(k, &l, from, end, 1, 0, NULL);
  space_place(k, r->kept, r->kept_n, l.i, AXIS_SPLAT);
  for (unsigned s = 0; s < r->stages; s++) row_stage(r, s);
  if (r->late) row_steps(r, &results, k_int(k, 0), r->n, NULL);
  emit_results(k, r->rank);
  loop_close(k, &l, NULL);
}

/* ---- one row --------------------------------------------------------------------------------- */

static int64_t block_count(const Reduce *r) { return (r->n + BLOCK - 1) / BLOCK; }

/* Worth it from two blocks on; several stages would need a meeting each. */
bool reduce_shares_row(const Reduce *r) {
  bool shared = node_int(r->k->node, AT_part, 0) >= 0;
  return shared && r->trailing && r->outer == 1 && r->stages == 1 && !r->late && r->n > BLOCK;
}

uint64_t reduce_slot_bytes(const Reduce *r) { return 4 * (uint64_t)block_count(r) * r->all.len; }

/* The i-th reduction's fold of a block, 4 bytes, in the memory that all threads see. */
static LLVMValueRef slot(Reduce *r, unsigned i, LLVMValueRef block) {
  Kernel *k = r->k;
  LLVMValueRef at = k_plus(k, block, (int64_t)i * block_count(r));
  return LLVMBuildGEP2(k->b, k->m->i32, k->scratch, &at, 1, "");
}

static void store_block(Reduce *r, const Stage *s, LLVMValueRef block, int64_t count) {
  Kernel *k = r->k;
  LLVMValueRef folded[MOST];
  row_block(r, s, k_times(k, block, BLOCK), count, folded);
  for (unsigned i = 0; i < s->n; i++)
    LLVMSetAlignment(LLVMBuildStore(k->b, folded[i], slot(r, i, block)), 4);
}

void reduce_row_blocks(Reduce *r) {
  Kernel *k = r->k;
  Stage s = reduce_stage(r, 0);
  int64_t whole = r->n / BLOCK, rest = r->n % BLOCK;
  LLVMValueRef from, end;
  Loop l;
  fit_partials(r);
  k_share(k, whole, 1, &from, &end);
  loop_open(k, &l, from, end, 1, 0, NULL);
  store_block(r, &s, l.i, BLOCK);
  loop_close(k, &l, NULL);
  if (!rest) return;
  LLVMBasicBlockRef exit = branch_open(k, k_is_last_thread(k));
  store_block(r, &s, k_int(k, whole), rest);
  branch_close(k, exit);
}

void reduce_row_finish(Reduce *r) {
  Kernel *k = r->k;
  Stage s = reduce_stage(r, 0);
  LLVMValueRef total[MOST];
  Loop l;
  k->lanes = k->valid = 1;
  for (unsigned i = 0; i < s.n; i++) total[i] = reduce_identity(r, s.one[i], 1);
  loop_open(k, &l, k_int(k, 0), k_int(k, block_count(r)), 1, s.n, total);
  for (unsigned i = 0; i < s.n; i++) {
    LLVMValueRef x = LLVMBuildLoad2(k->b, LLVMTypeOf(total[i]), slot(r, i, l.i), "");
    LLVMSetAlignment(x, 4);
    total[i] = reduce_join(r, s.one[i], total[i], x);
  }
  loop_close(k, &l, total);
  for (unsigned i = 0; i < s.n; i++) reduce_give(r, s.one[i], total[i]);
  emit_results(k, r->rank);
}
