/* gemm_pack.c: copies of the operands in the shape the micro-kernel wants, widened to f32, or as
 * pairs of bf16.
 *
 * a keeps its layout (the micro-kernel broadcasts single elements, any row distance will do); it is
 * copied only to be widened.  b becomes a panel: for each k, the panel's columns in a row.
 * Where b is stored [n, k] the panel is its transpose, taken in blocks of 16 bytes of k × lanes
 * columns: sixteen-byte pieces of rows j, j+4, j+8 … are put side by side in one register, and
 * four such registers are transposed 4×4 in every 128-bit part at once, which costs eight cheap
 * shuffles for any vector length.  bf16 and f16 travel as pairs of k in 32 bits, fp8 as fours, and
 * are widened at the end (little-endian: the lower k is the lower part).
 *
 * A transposed panel is filled up to whole blocks of k: what is read there belongs to the next
 * chunk, the next row or the slack behind the operand, and nobody uses it.
 *
 * A pair holds the lower k in its upper half, which vdpbf16ps multiplies first.  Beside the last of
 * an odd k stands +0, in both operands.
 */
#include "codegen/cpu/gemm_parts.h"
#include "codegen/cpu/scalar_emit.h"

#include <assert.h>

enum { PIECE = 4 }; /* 32-bit units in 16 bytes */

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- pairs ---------------------------------------------------------------------------------- */

static LLVMTypeRef vector_i32(Gemm *g) {
  return LLVMVectorType(LLVMInt32TypeInContext(g->ctx), g->spec->vec.f32_lanes);
}

static LLVMValueRef splat_i32(Gemm *g, uint32_t v) {
  LLVMValueRef c[GEMM_LINE];
  for (unsigned i = 0; i < g->spec->vec.f32_lanes; i++)
    c[i] = LLVMConstInt(LLVMInt32TypeInContext(g->ctx), v, false);
  return LLVMConstVector(c, g->spec->vec.f32_lanes);
}

/* Pairs as they lie in memory, lower k first, with their halves exchanged. */
static LLVMValueRef exchange(Gemm *g, LLVMValueRef pairs) {
  LLVMValueRef up = LLVMBuildShl(g->b, pairs, splat_i32(g, 16), "");
  LLVMValueRef down = LLVMBuildLShr(g->b, pairs, splat_i32(g, 16), "");
  return LLVMBuildOr(g->b, up, down, "");
}

static LLVMValueRef load_halves(Gemm *g, LLVMValueRef p) {
  LLVMTypeRef half = LLVMVectorType(LLVMInt16TypeInContext(g->ctx), g->spec->vec.f32_lanes);
  return LLVMBuildZExt(g->b, gemm_load(g, half, p, 2), vector_i32(g), "");
}

/* A vector of pairs from row k of a matrix, at p, and from row k + 1, +0 where that does not exist.
 */
static LLVMValueRef load_rows(Gemm *g, LLVMValueRef p, int64_t row_bytes, LLVMValueRef exists) {
  LLVMValueRef next = LLVMBuildSelect(g->b, exists, gemm_int(g, row_bytes), gemm_int(g, 0), "");
  LLVMValueRef high = LLVMBuildShl(g->b, load_halves(g, p), splat_i32(g, 16), "");
  LLVMValueRef low = load_halves(g, gemm_at(g, p, next));
  low = LLVMBuildSelect(g->b, exists, low, splat_i32(g, 0), "");
  return LLVMBuildOr(g->b, high, low, "");
}

/* ---- a -------------------------------------------------------------------------------------- */

static void pack_a_f32(Gemm *g, LLVMValueRef src, LLVMValueRef rows, LLVMValueRef dst) {
  const GemmSpec *s = g->spec;
  int64_t lanes = s->vec.f32_lanes, bytes = gemm_elem_bytes(s->a);
  LLVMValueRef k = gemm_int(g, s->k);
  GemmLoop y = gemm_loop(g, gemm_int(g, 0), s->ta ? k : rows, 1);
  LLVMValueRef from = gemm_at(g, src, gemm_mul(g, y.i, bytes * s->lda));
  LLVMValueRef to = gemm_at(g, dst, gemm_mul(g, y.i, 4 * g->plan.lda));
  GemmLoop x = gemm_loop(g, gemm_int(g, 0), s->ta ? rows : k, lanes);
  LLVMValueRef p = gemm_at(g, from, gemm_mul(g, x.i, bytes));
  LLVMValueRef v = gemm_load_f32(g, s->a, s->vec.f32_lanes, p);
  gemm_store(g, v, gemm_at(g, to, gemm_mul(g, x.i, 4)));
  gemm_loop_end(g, &x);
  gemm_loop_end(g, &y);
}

/* a is [m, k]: its pairs lie side by side. */
static void pack_a_pairs(Gemm *g, LLVMValueRef src, LLVMValueRef rows, LLVMValueRef dst) {
  const GemmSpec *s = g->spec;
  LLVMTypeRef i16 = LLVMInt16TypeInContext(g->ctx), i32 = LLVMInt32TypeInContext(g->ctx);
  GemmLoop y = gemm_loop(g, gemm_int(g, 0), rows, 1);
  LLVMValueRef from = gemm_at(g, src, gemm_mul(g, y.i, 2 * s->lda));
  LLVMValueRef to = gemm_at(g, dst, gemm_mul(g, y.i, 4 * g->plan.lda));
  GemmLoop x = gemm_loop(g, gemm_int(g, 0), gemm_int(g, (s->k + 1) / 2), s->vec.f32_lanes);
  LLVMValueRef at = gemm_mul(g, x.i, 4);
  LLVMValueRef v = gemm_load(g, vector_i32(g), gemm_at(g, from, at), 2);
  gemm_store(g, exchange(g, v), gemm_at(g, to, at));
  gemm_loop_end(g, &x);
  if (s->k % 2) {
    LLVMValueRef last = gemm_load(g, i16, gemm_at(g, from, gemm_int(g, 2 * (s->k - 1))), 2);
    last = LLVMBuildShl(g->b, LLVMBuildZExt(g->b, last, i32, ""), LLVMConstInt(i32, 16, false), "");
    gemm_store(g, last, gemm_at(g, to, gemm_int(g, 2 * (s->k - 1))));
  }
  gemm_loop_end(g, &y);
}

/* a is [k, m]: its pairs lie in two rows. */
static void pack_a_rows(Gemm *g, LLVMValueRef src, LLVMValueRef rows, LLVMValueRef dst) {
  const GemmSpec *s = g->spec;
  LLVMValueRef k = gemm_int(g, s->k);
  GemmLoop y = gemm_loop(g, gemm_int(g, 0), k, 2);
  LLVMValueRef from = gemm_at(g, src, gemm_mul(g, y.i, 2 * s->lda));
  LLVMValueRef to = gemm_at(g, dst, gemm_mul(g, y.i, 2 * g->plan.lda));
  LLVMValueRef exists = gemm_less(g, gemm_add(g, y.i, gemm_int(g, 1)), k);
  GemmLoop x = gemm_loop(g, gemm_int(g, 0), rows, s->vec.f32_lanes);
  LLVMValueRef v = load_rows(g, gemm_at(g, from, gemm_mul(g, x.i, 2)), 2 * s->lda, exists);
  gemm_store(g, v, gemm_at(g, to, gemm_mul(g, x.i, 4)));
  gemm_loop_end(g, &x);
  gemm_loop_end(g, &y);
}

void gemm_pack_a(Gemm *g, LLVMValueRef row0, LLVMValueRef rows, LLVMValueRef dst) {
  const GemmSpec *s = g->spec;
  int64_t bytes = gemm_elem_bytes(s->a) * (s->ta ? 1 : s->lda);
  LLVMValueRef src = gemm_at(g, g->a, gemm_mul(g, row0, bytes));
  if (!g->plan.pairs) pack_a_f32(g, src, rows, dst);
  else if (s->ta) pack_a_rows(g, src, rows, dst);
  else pack_a_pairs(g, src, rows, dst);
}

/* ---- the transpose of 4 × lanes units of 32 bits -------------------------------------------- */

static LLVMValueRef shuffle(Gemm *g, LLVMValueRef x, LLVMValueRef y, const unsigned *mask,
                            unsigned n) {
  LLVMTypeRef i32 = LLVMInt32TypeInContext(g->ctx);
  LLVMValueRef at[GEMM_LINE];
  assert(n <= GEMM_LINE);
  for (unsigned i = 0; i < n; i++) at[i] = LLVMConstInt(i32, mask[i], false);
  return LLVMBuildShuffleVector(g->b, x, y, LLVMConstVector(at, n), "");
}

/* In every 128-bit part: take[0..4) picks units 0–3 of x, 4–7 of y. */
static LLVMValueRef shuffle_parts(Gemm *g, LLVMValueRef x, LLVMValueRef y, const unsigned *take) {
  unsigned lanes = g->spec->vec.f32_lanes, mask[GEMM_LINE];
  for (unsigned i = 0; i < lanes; i++) {
    unsigned t = take[i % PIECE], part = i - i % PIECE;
    mask[i] = t < PIECE ? part + t : lanes + part + t - PIECE;
  }
  return shuffle(g, x, y, mask, lanes);
}

static LLVMValueRef concat(Gemm *g, LLVMValueRef x, LLVMValueRef y, unsigned n) {
  unsigned mask[GEMM_LINE];
  for (unsigned i = 0; i < 2 * n; i++) mask[i] = i;
  return shuffle(g, x, y, mask, 2 * n);
}

/* The pieces at p + column[first], p + column[first+4] … in one register. */
static LLVMValueRef gather_pieces(Gemm *g, LLVMValueRef p, const int64_t *column, unsigned first,
                                  unsigned lanes) {
  if (lanes > PIECE) {
    LLVMValueRef lo = gather_pieces(g, p, column, first, lanes / 2);
    LLVMValueRef hi = gather_pieces(g, p, column, first + lanes / 2, lanes / 2);
    return concat(g, lo, hi, lanes / 2);
  }
  LLVMTypeRef piece = LLVMVectorType(LLVMInt32TypeInContext(g->ctx), PIECE);
  unsigned align = gemm_elem_bytes(g->spec->b) == 1 ? 1 : 2;
  return gemm_load(g, piece, gemm_at(g, p, gemm_int(g, column[first])), align);
}

static void transpose(Gemm *g, LLVMValueRef p, const int64_t *column, LLVMValueRef out[PIECE]) {
  static const unsigned lo[] = {0, 4, 1, 5}, hi[] = {2, 6, 3, 7};
  static const unsigned low[] = {0, 1, 4, 5}, high[] = {2, 3, 6, 7};
  LLVMValueRef v[PIECE];
  for (unsigned r = 0; r < PIECE; r++)
    v[r] = gather_pieces(g, p, column, r, g->spec->vec.f32_lanes);
  LLVMValueRef a = shuffle_parts(g, v[0], v[1], lo), b = shuffle_parts(g, v[2], v[3], lo);
  LLVMValueRef c = shuffle_parts(g, v[0], v[1], hi), d = shuffle_parts(g, v[2], v[3], hi);
  out[0] = shuffle_parts(g, a, b, low);
  out[1] = shuffle_parts(g, a, b, high);
  out[2] = shuffle_parts(g, c, d, low);
  out[3] = shuffle_parts(g, c, d, high);
}

/* ---- panels of b ---------------------------------------------------------------------------- */

/* Pairs of k as f32: the lower halves are the even k. */
static void widen_pairs(Gemm *g, LLVMValueRef pair, LLVMValueRef *even, LLVMValueRef *odd) {
  LLVMTypeRef half = LLVMVectorType(LLVMInt16TypeInContext(g->ctx), g->spec->vec.f32_lanes);
  if (g->spec->b == GEMM_BF16) {
    *even = LLVMBuildShl(g->b, pair, splat_i32(g, 16), "");
    *odd = LLVMBuildAnd(g->b, pair, splat_i32(g, 0xFFFF0000u), "");
    return;
  }
  LLVMValueRef high = LLVMBuildLShr(g->b, pair, splat_i32(g, 16), "");
  *even = scalar_widen_f16(g->b, LLVMBuildTrunc(g->b, pair, half, ""));
  *odd = scalar_widen_f16(g->b, LLVMBuildTrunc(g->b, high, half, ""));
}

/* Fours of k as f32: the lowest bits are the first k. */
static void store_fours(Gemm *g, LLVMValueRef unit, LLVMValueRef dst, int64_t row) {
  for (uint32_t i = 0; i < 4; i++) {
    LLVMValueRef code = LLVMBuildLShr(g->b, unit, splat_i32(g, 8 * i), "");
    LLVMValueRef x = gemm_widen_fp8(g, g->spec->b, g->spec->vec.f32_lanes, code);
    gemm_store(g, x, gemm_at(g, dst, gemm_int(g, i * row)));
  }
}

/* One vector of columns, one block of k, from p (its first column) to dst. */
static void pack_block(Gemm *g, LLVMValueRef p, const int64_t *column, LLVMValueRef dst) {
  LLVMValueRef unit[PIECE];
  int64_t row = 4 * g->plan.ldb;
  transpose(g, p, column, unit);
  for (int i = 0; i < PIECE; i++) {
    if (g->spec->b == GEMM_F32 || g->plan.pairs) {
      LLVMValueRef v = g->plan.pairs ? exchange(g, unit[i]) : unit[i];
      gemm_store(g, v, gemm_at(g, dst, gemm_int(g, i * row)));
      continue;
    }
    if (gemm_elem_bytes(g->spec->b) == 1) {
      store_fours(g, unit[i], gemm_at(g, dst, gemm_int(g, 4 * i * row)), row);
      continue;
    }
    LLVMValueRef even, odd;
    widen_pairs(g, unit[i], &even, &odd);
    gemm_store(g, even, gemm_at(g, dst, gemm_int(g, 2 * i * row)));
    gemm_store(g, odd, gemm_at(g, dst, gemm_int(g, (2 * i + 1) * row)));
  }
}

/* Columns past the last repeat it: their results are never stored. */
static void pack_transposed(Gemm *g, int64_t vecs, int64_t cols, LLVMValueRef src, LLVMValueRef kc,
                            LLVMValueRef dst) {
  int64_t lanes = g->spec->vec.f32_lanes, bytes = gemm_elem_bytes(g->spec->b);
  GemmLoop l = gemm_loop(g, gemm_int(g, 0), kc, PIECE * 4 / bytes);
  LLVMValueRef from = gemm_at(g, src, gemm_mul(g, l.i, bytes));
  LLVMValueRef to = gemm_at(g, dst, gemm_mul(g, l.i, 4 * g->plan.ldb / g->plan.per_unit));
  for (int64_t v = 0; v < vecs; v++) {
    int64_t column[GEMM_LINE];
    for (int64_t j = 0; j < lanes; j++)
      column[j] = min64(v * lanes + j, cols - 1) * g->spec->ldb * bytes;
    pack_block(g, from, column, gemm_at(g, to, gemm_int(g, 4 * v * lanes)));
  }
  gemm_loop_end(g, &l);
}

static void pack_rows(Gemm *g, int64_t vecs, LLVMValueRef src, LLVMValueRef kc, LLVMValueRef dst) {
  int64_t lanes = g->spec->vec.f32_lanes, bytes = gemm_elem_bytes(g->spec->b);
  GemmLoop l = gemm_loop(g, gemm_int(g, 0), kc, 1);
  LLVMValueRef from = gemm_at(g, src, gemm_mul(g, l.i, bytes * g->spec->ldb));
  LLVMValueRef to = gemm_at(g, dst, gemm_mul(g, l.i, 4 * g->plan.ldb));
  for (int64_t v = 0; v < vecs; v++) {
    LLVMValueRef p = gemm_at(g, from, gemm_int(g, v * lanes * bytes));
    LLVMValueRef x = gemm_load_f32(g, g->spec->b, g->spec->vec.f32_lanes, p);
    gemm_store(g, x, gemm_at(g, to, gemm_int(g, 4 * v * lanes)));
  }
  gemm_loop_end(g, &l);
}

/* b is [k, n]: its pairs lie in two rows. */
static void pack_row_pairs(Gemm *g, int64_t vecs, LLVMValueRef src, LLVMValueRef kc,
                           LLVMValueRef dst) {
  int64_t lanes = g->spec->vec.f32_lanes, row = 2 * g->spec->ldb;
  GemmLoop l = gemm_loop(g, gemm_int(g, 0), kc, 2);
  LLVMValueRef from = gemm_at(g, src, gemm_mul(g, l.i, row));
  LLVMValueRef to = gemm_at(g, dst, gemm_mul(g, l.i, 2 * g->plan.ldb));
  LLVMValueRef exists = gemm_less(g, gemm_add(g, l.i, gemm_int(g, 1)), kc);
  for (int64_t v = 0; v < vecs; v++) {
    LLVMValueRef x = load_rows(g, gemm_at(g, from, gemm_int(g, 2 * v * lanes)), row, exists);
    gemm_store(g, x, gemm_at(g, to, gemm_int(g, 4 * v * lanes)));
  }
  gemm_loop_end(g, &l);
}

/* Where kc is odd the last pair of each column is one element and +0. */
static void clear_beside_last(Gemm *g, int64_t vecs, LLVMValueRef kc, LLVMValueRef dst) {
  LLVMValueRef one = gemm_int(g, 1), odd = LLVMBuildAnd(g->b, kc, one, "");
  LLVMValueRef is_odd = gemm_equal(g, odd, one);
  LLVMValueRef mask =
      LLVMBuildSelect(g->b, is_odd, splat_i32(g, 0xFFFF0000u), splat_i32(g, 0xFFFFFFFFu), "");
  LLVMValueRef last = gemm_sub(g, gemm_units(g, kc), one);
  LLVMValueRef row = gemm_at(g, dst, gemm_mul(g, last, 4 * g->plan.ldb));
  for (int64_t v = 0; v < vecs; v++) {
    LLVMValueRef p = gemm_at(g, row, gemm_int(g, 4 * v * g->spec->vec.f32_lanes));
    gemm_store(g, LLVMBuildAnd(g->b, gemm_load(g, vector_i32(g), p, 4), mask, ""), p);
  }
}

static LLVMValueRef b_at(Gemm *g, LLVMValueRef col0, LLVMValueRef k0) {
  const GemmSpec *s = g->spec;
  LLVMValueRef row = s->tb ? col0 : k0, col = s->tb ? k0 : col0;
  LLVMValueRef at = gemm_add(g, gemm_mul(g, row, s->ldb), col);
  return gemm_at(g, g->bm, gemm_mul(g, at, gemm_elem_bytes(s->b)));
}

void gemm_pack_b(Gemm *g, int64_t vecs, int64_t cols, LLVMValueRef col0, LLVMValueRef k0,
                 LLVMValueRef kc, LLVMValueRef dst) {
  LLVMValueRef src = b_at(g, col0, k0);
  if (g->spec->tb) pack_transposed(g, vecs, cols, src, kc, dst);
  else if (g->plan.pairs) pack_row_pairs(g, vecs, src, kc, dst);
  else pack_rows(g, vecs, src, kc, dst);
  if (g->spec->tb && g->plan.pairs && g->spec->k % 2) clear_beside_last(g, vecs, kc, dst);
}
