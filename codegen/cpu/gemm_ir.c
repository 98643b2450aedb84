/* gemm_ir.c: building IR for the gemm emitter: index arithmetic, loops, widening loads.
 *
 * Loops are tested on top with one phi; accumulators are phis of the micro-kernel's own loop, so
 * nothing here depends on mem2reg.  Every address is base + bytes through an i8 GEP.  Alignment is
 * promised only as far as the element goes: shapes are the user's.
 */
#include "codegen/cpu/gemm_parts.h"
#include "codegen/cpu/scalar_emit.h"

void gemm_ir_init(Gemm *g, LLVMBuilderRef b, LLVMValueRef any) {
  g->b = b;
  g->ctx = LLVMGetTypeContext(LLVMTypeOf(any));
  g->fn = LLVMGetBasicBlockParent(LLVMGetInsertBlock(b));
  g->i8 = LLVMInt8TypeInContext(g->ctx);
  g->i64 = LLVMInt64TypeInContext(g->ctx);
  g->f32 = LLVMFloatTypeInContext(g->ctx);
  g->vf32 = LLVMVectorType(g->f32, g->spec->vec.f32_lanes);
  static const char fma[] = "llvm.fma", dot[] = "llvm.x86.avx512bf16.dpbf16ps.512";
  bool pairs = g->plan.pairs;
  unsigned id = pairs ? LLVMLookupIntrinsicID(dot, sizeof dot - 1) : LLVMLookupIntrinsicID(fma, 8);
  unsigned over = pairs ? 0 : 1; /* the one has no overloads */
  g->fma = LLVMGetIntrinsicDeclaration(LLVMGetGlobalParent(g->fn), id, &g->vf32, over);
  g->fma_type = LLVMIntrinsicGetType(g->ctx, id, &g->vf32, over);
}

int64_t gemm_elem_bytes(GemmElem e) {
  return e == GEMM_F32 ? 4 : e == GEMM_E4M3 || e == GEMM_E5M2 ? 1 : 2;
}

LLVMValueRef gemm_int(Gemm *g, int64_t v) { return LLVMConstInt(g->i64, (uint64_t)v, true); }

LLVMValueRef gemm_add(Gemm *g, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildNSWAdd(g->b, x, y, "");
}

LLVMValueRef gemm_sub(Gemm *g, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildNSWSub(g->b, x, y, "");
}

LLVMValueRef gemm_mul(Gemm *g, LLVMValueRef x, int64_t y) {
  return LLVMBuildNSWMul(g->b, x, gemm_int(g, y), "");
}

LLVMValueRef gemm_less(Gemm *g, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildICmp(g->b, LLVMIntSLT, x, y, "");
}

LLVMValueRef gemm_equal(Gemm *g, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildICmp(g->b, LLVMIntEQ, x, y, "");
}

LLVMValueRef gemm_min(Gemm *g, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildSelect(g->b, gemm_less(g, x, y), x, y, "");
}

LLVMValueRef gemm_max(Gemm *g, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildSelect(g->b, gemm_less(g, x, y), y, x, "");
}

LLVMValueRef gemm_at(Gemm *g, LLVMValueRef p, LLVMValueRef bytes) {
  return LLVMBuildGEP2(g->b, g->i8, p, &bytes, 1, "");
}

LLVMValueRef gemm_load(Gemm *g, LLVMTypeRef type, LLVMValueRef p, unsigned align) {
  LLVMValueRef v = LLVMBuildLoad2(g->b, type, p, "");
  LLVMSetAlignment(v, align);
  return v;
}

void gemm_store(Gemm *g, LLVMValueRef value, LLVMValueRef p) {
  LLVMSetAlignment(LLVMBuildStore(g->b, value, p), 4);
}

static LLVMTypeRef lanes_of(LLVMTypeRef t, unsigned lanes) {
  return lanes == 1 ? t : LLVMVectorType(t, lanes);
}

LLVMValueRef gemm_widen_fp8(Gemm *g, GemmElem elem, unsigned lanes, LLVMValueRef code) {
  ScalarId widen = elem == GEMM_E4M3 ? SC_e4m3_to_f32 : SC_e5m2_to_f32;
  LLVMValueRef x;
  scalar_emit(g->b, &g->spec->scalars->prog[widen], lanes, &code, &x);
  return x;
}

/* Widening is exact; bf16 is the upper half of an f32. */
LLVMValueRef gemm_load_f32(Gemm *g, GemmElem elem, unsigned lanes, LLVMValueRef p) {
  LLVMTypeRef f32 = lanes_of(g->f32, lanes);
  if (elem == GEMM_F32) return gemm_load(g, f32, p, 4);
  LLVMTypeRef i32 = LLVMInt32TypeInContext(g->ctx), wide = lanes_of(i32, lanes);
  if (gemm_elem_bytes(elem) == 1) {
    LLVMValueRef code = gemm_load(g, lanes_of(g->i8, lanes), p, 1);
    return gemm_widen_fp8(g, elem, lanes, LLVMBuildZExt(g->b, code, wide, ""));
  }
  LLVMValueRef half = gemm_load(g, lanes_of(LLVMInt16TypeInContext(g->ctx), lanes), p, 2);
  if (elem == GEMM_F16) return scalar_widen_f16(g->b, half);
  LLVMValueRef by[64] = {0};
  for (unsigned i = 0; i < lanes; i++) by[i] = LLVMConstInt(i32, 16, false);
  LLVMValueRef count = lanes == 1 ? by[0] : LLVMConstVector(by, lanes);
  LLVMValueRef bits = LLVMBuildShl(g->b, LLVMBuildZExt(g->b, half, wide, ""), count, "");
  return LLVMBuildBitCast(g->b, bits, f32, "");
}

LLVMValueRef gemm_units(Gemm *g, LLVMValueRef k) {
  if (g->plan.per_unit == 1) return k;
  LLVMValueRef up = gemm_add(g, k, gemm_int(g, g->plan.per_unit - 1));
  return LLVMBuildUDiv(g->b, up, gemm_int(g, g->plan.per_unit), "");
}

LLVMValueRef gemm_splat(Gemm *g, LLVMValueRef scalar) {
  unsigned lanes = g->spec->vec.f32_lanes;
  LLVMTypeRef i32 = LLVMInt32TypeInContext(g->ctx);
  LLVMValueRef none = LLVMGetPoison(LLVMVectorType(LLVMTypeOf(scalar), lanes));
  LLVMValueRef one = LLVMBuildInsertElement(g->b, none, scalar, LLVMConstInt(i32, 0, false), "");
  return LLVMBuildShuffleVector(g->b, one, none, LLVMConstNull(LLVMVectorType(i32, lanes)), "");
}

static LLVMBasicBlockRef block(Gemm *g, const char *name) {
  return LLVMAppendBasicBlockInContext(g->ctx, g->fn, name);
}

GemmLoop gemm_loop(Gemm *g, LLVMValueRef lo, LLVMValueRef hi, int64_t step) {
  GemmLoop l = {block(g, "loop"), NULL, NULL, gemm_int(g, step)};
  LLVMBasicBlockRef before = LLVMGetInsertBlock(g->b), body = block(g, "body");
  l.exit = block(g, "exit");
  LLVMBuildBr(g->b, l.head);
  LLVMPositionBuilderAtEnd(g->b, l.head);
  l.i = LLVMBuildPhi(g->b, g->i64, "");
  LLVMAddIncoming(l.i, &lo, &before, 1);
  LLVMBuildCondBr(g->b, gemm_less(g, l.i, hi), body, l.exit);
  LLVMPositionBuilderAtEnd(g->b, body);
  return l;
}

void gemm_loop_end(Gemm *g, const GemmLoop *l) {
  LLVMValueRef next = gemm_add(g, l->i, l->step);
  LLVMBasicBlockRef here = LLVMGetInsertBlock(g->b);
  LLVMAddIncoming(l->i, &next, &here, 1);
  LLVMBuildBr(g->b, l->head);
  LLVMPositionBuilderAtEnd(g->b, l->exit);
}

GemmIf gemm_if(Gemm *g, LLVMValueRef cond) {
  LLVMBasicBlockRef then = block(g, "then");
  GemmIf c = {block(g, "else"), block(g, "join")};
  LLVMBuildCondBr(g->b, cond, then, c.otherwise);
  LLVMPositionBuilderAtEnd(g->b, then);
  return c;
}

void gemm_else(Gemm *g, const GemmIf *c) {
  LLVMBuildBr(g->b, c->join);
  LLVMPositionBuilderAtEnd(g->b, c->otherwise);
}

void gemm_if_end(Gemm *g, const GemmIf *c) {
  LLVMBuildBr(g->b, c->join);
  LLVMPositionBuilderAtEnd(g->b, c->join);
}
