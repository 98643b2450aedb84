/* gemm_micro.c: the innermost block: rows × vecs accumulators, one chunk of k.
 *
 * A step of k loads vecs vectors of b, then broadcasts each row's a[i, k] from memory and adds
 * rows × vecs products by fma; nothing else is in the loop.  Each accumulator is one chain: from
 * +0, k ascending, so the order in which lanes and rows are visited means nothing.  At the end of a
 * chunk the chain is added to the tile's total, times its row's and its column's factor if chunks
 * are scaled.
 *
 * The pad of an odd bf16 contraction, fma(+0, +0, chain), is chain + (+0): the product is +0 and
 * the sum is rounded once either way.  It turns a chain of -0 into +0 and changes nothing else.  It
 * belongs to the last chunk, but every chunk may have it: in an earlier one it can only change the
 * sign of a total that is zero, and a zero of either sign plus the last, padded, chain (never -0)
 * has one result.
 */
#include "codegen/cpu/gemm_parts.h"

typedef struct State {
  LLVMValueRef acc[GEMM_MAX_ACC], a, b;
} State;

static LLVMValueRef micro_fma(Gemm *g, LLVMValueRef x, LLVMValueRef y, LLVMValueRef z) {
  LLVMValueRef args[] = {x, y, z};
  if (!g->plan.pairs) return LLVMBuildCall2(g->b, g->fma_type, g->fma, args, 3, "");
  LLVMTypeRef t[3];
  LLVMGetParamTypes(g->fma_type, t);
  LLVMValueRef a = LLVMBuildBitCast(g->b, x, t[1], ""), b = LLVMBuildBitCast(g->b, y, t[2], "");
  return LLVMBuildCall2(g->b, g->fma_type, g->fma, (LLVMValueRef[]){z, a, b}, 3, "");
}

/* Bytes from one unit of k to the next in what the micro-kernel reads. */
static int64_t a_step(const Gemm *g) { return g->spec->ta ? 4 * g->plan.lda : 4; }

static int64_t b_elem_bytes(const Gemm *g) {
  return g->plan.pack_b ? 4 : gemm_elem_bytes(g->spec->b);
}

static int64_t b_step(const Gemm *g) { return g->plan.ldb * b_elem_bytes(g); }

/* The products of the unit of k that lies `ahead` steps after the state's pointers. */
static void micro_step(Gemm *g, const GemmMicro *m, State *s, int64_t ahead) {
  unsigned lanes = g->spec->vec.f32_lanes;
  GemmElem elem = g->plan.pack_b ? GEMM_F32 : g->spec->b;
  int64_t row = g->spec->ta ? 4 : 4 * g->plan.lda;
  LLVMValueRef col[GEMM_MAX_VECS] = {0};
  for (int64_t v = 0; v < m->vecs; v++) {
    int64_t at = ahead * b_step(g) + v * lanes * b_elem_bytes(g);
    col[v] = gemm_load_f32(g, elem, lanes, gemm_at(g, s->b, gemm_int(g, at)));
  }
  for (int64_t r = 0; r < m->rows; r++) {
    LLVMValueRef p = gemm_at(g, s->a, gemm_int(g, ahead * a_step(g) + r * row));
    LLVMValueRef x = gemm_splat(g, gemm_load(g, g->f32, p, 4));
    for (int64_t v = 0; v < m->vecs; v++) {
      LLVMValueRef *acc = &s->acc[r * m->vecs + v];
      *acc = micro_fma(g, x, col[v], *acc);
    }
  }
}

static LLVMValueRef micro_phi(Gemm *g, LLVMValueRef start, LLVMBasicBlockRef from) {
  LLVMValueRef phi = LLVMBuildPhi(g->b, LLVMTypeOf(start), "");
  LLVMAddIncoming(phi, &start, &from, 1);
  return phi;
}

/* trips rounds of `unroll` steps each; s is the state before and, on return, after. */
static void micro_loop(Gemm *g, const GemmMicro *m, State *s, LLVMValueRef trips, int64_t unroll) {
  int64_t accs = m->rows * m->vecs;
  LLVMBasicBlockRef before = LLVMGetInsertBlock(g->b);
  GemmLoop l = gemm_loop(g, gemm_int(g, 0), trips, 1);
  LLVMBasicBlockRef body = LLVMGetInsertBlock(g->b);
  LLVMPositionBuilderBefore(g->b, LLVMGetFirstInstruction(l.head));
  State in;
  for (int64_t i = 0; i < accs; i++) in.acc[i] = micro_phi(g, s->acc[i], before);
  in.a = micro_phi(g, s->a, before);
  in.b = micro_phi(g, s->b, before);
  LLVMPositionBuilderAtEnd(g->b, body);
  State out = in;
  for (int64_t u = 0; u < unroll; u++) micro_step(g, m, &out, u);
  out.a = gemm_at(g, in.a, gemm_int(g, unroll * a_step(g)));
  out.b = gemm_at(g, in.b, gemm_int(g, unroll * b_step(g)));
  for (int64_t i = 0; i < accs; i++) LLVMAddIncoming(in.acc[i], &out.acc[i], &body, 1);
  LLVMAddIncoming(in.a, &out.a, &body, 1);
  LLVMAddIncoming(in.b, &out.b, &body, 1);
  gemm_loop_end(g, &l);
  *s = in;
}

/* Chain x of row r, vector v of the tile by the product of its factors. */
static LLVMValueRef micro_scale(Gemm *g, const GemmMicro *m, LLVMValueRef row_factor, int64_t v,
                                LLVMValueRef x) {
  if (!g->spec->scale) return x;
  LLVMValueRef at = gemm_int(g, 4 * v * g->spec->vec.f32_lanes);
  LLVMValueRef column = gemm_load(g, g->vf32, gemm_at(g, m->factors, at), 4);
  return LLVMBuildFMul(g->b, x, LLVMBuildFMul(g->b, gemm_splat(g, row_factor), column, ""), "");
}

static LLVMValueRef row_factor(Gemm *g, const GemmMicro *m, int64_t r) {
  if (!g->spec->scale) return NULL;
  return g->spec->scale(g->spec->ctx, g->b, 0, gemm_add(g, m->row, gemm_int(g, r)), m->chunk);
}

static void micro_finish(Gemm *g, const GemmMicro *m, const State *s) {
  int64_t lanes = g->spec->vec.f32_lanes;
  bool pad = g->spec->a == GEMM_BF16 && g->spec->b == GEMM_BF16 && g->spec->k % 2 != 0 &&
             !g->plan.pairs; /* whose last one has it inside */
  for (int64_t r = 0; r < m->rows; r++) {
    LLVMValueRef factor = row_factor(g, m, r);
    for (int64_t v = 0; v < m->vecs; v++) {
      LLVMValueRef x = micro_scale(g, m, factor, v, s->acc[r * m->vecs + v]);
      LLVMValueRef p = gemm_at(g, m->tile, gemm_int(g, 4 * lanes * (r * g->plan.nv + v)));
      if (pad) x = LLVMBuildFAdd(g->b, x, LLVMConstNull(g->vf32), "");
      if (g->plan.chunks > 1) x = LLVMBuildFAdd(g->b, gemm_load(g, g->vf32, p, 4), x, "");
      gemm_store(g, x, p);
    }
  }
}

void gemm_micro(Gemm *g, const GemmMicro *m) {
  int64_t accs = m->rows * m->vecs, unroll = accs <= 12 ? 4 : 2, step = g->plan.per_unit;
  int64_t last = (g->plan.k_last + step - 1) / step, chunk = g->spec->k_chunk / step;
  bool whole = last % unroll == 0 && (g->plan.chunks == 1 || chunk % unroll == 0);
  LLVMValueRef units = gemm_units(g, m->kc);
  State s = {.a = m->a, .b = m->b};
  for (int64_t i = 0; i < accs; i++) s.acc[i] = LLVMConstNull(g->vf32);
  micro_loop(g, m, &s, LLVMBuildUDiv(g->b, units, gemm_int(g, unroll), ""), unroll);
  if (!whole) micro_loop(g, m, &s, LLVMBuildURem(g->b, units, gemm_int(g, unroll), ""), 1);
  micro_finish(g, m, &s);
}
