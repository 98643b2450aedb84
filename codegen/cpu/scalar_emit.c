/* scalar_emit.c: a scalar program as LLVM instructions, one primitive after the other.
 *
 * Most primitives are one LLVM instruction of the same meaning.  The exceptions:
 *
 * - LLVM's rewrites of floats are exact for IEEE arithmetic and blind to DAZ.  x * 1, x / 1, x - 0
 *   and x + -0 become x, x * -1 becomes fneg, where the hardware would flush a subnormal x; a
 *   select between the two things an fcmp compared becomes minps or maxps, which flush what a
 *   select passes on.  llvm.arithmetic.fence, itself no instruction, hides an operand from that.
 *   A select that only feeds arithmetic, which would flush its operand anyway, needs no fence.
 * - Shifts by 32 or more are poison in LLVM, so the distance is made harmless and the result
 *   selected.  Conversion to integers is the saturating intrinsic for the same reason.
 * - rint is llvm.roundeven: one instruction from SSE4.1 on, whatever the rounding mode is.
 * - Conversion of f16 does not go by its program: one instruction does the same, for it knows no
 * DAZ where it widens and has nothing left to flush where it narrows.  What is narrowed is fenced,
 *   else LLVM computes in half what led to it.
 */
#include "codegen/cpu/scalar_emit.h"

#include <assert.h>
#include <string.h>

enum { LANES = 64 };

typedef struct Emit {
  LLVMBuilderRef b;
  LLVMModuleRef module;
  LLVMTypeRef type[3]; /* by SType */
  unsigned lanes;
} Emit;

typedef LLVMValueRef Value;

LLVMTypeRef scalar_llvm_type(LLVMContextRef c, SType type, unsigned lanes) {
  LLVMTypeRef t = type == S_F32   ? LLVMFloatTypeInContext(c)
                  : type == S_I32 ? LLVMInt32TypeInContext(c)
                                  : LLVMInt1TypeInContext(c);
  return lanes == 1 ? t : LLVMVectorType(t, lanes);
}

/* Constants are unique in LLVM: equal ones are the same pointer. */
static Value splat(const Emit *e, Value v) {
  Value lane[LANES];
  if (e->lanes == 1) return v;
  for (unsigned i = 0; i < e->lanes; i++) lane[i] = v;
  return LLVMConstVector(lane, e->lanes);
}

static LLVMTypeRef lane_type(const Emit *e, SType type) {
  return e->lanes == 1 ? e->type[type] : LLVMGetElementType(e->type[type]);
}

static Value constant(const Emit *e, SType type, uint32_t bits) {
  SType stored = type == S_F32 ? S_I32 : type;
  Value v = splat(e, LLVMConstInt(lane_type(e, stored), bits, false));
  return type == S_F32 ? LLVMConstBitCast(v, e->type[S_F32]) : v;
}

static Value call(const Emit *e, const char *name, LLVMTypeRef *over, unsigned n, Value *x,
                  unsigned nx) {
  unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
  LLVMTypeRef type = LLVMIntrinsicGetType(LLVMGetTypeContext(over[0]), id, over, n);
  return LLVMBuildCall2(e->b, type, LLVMGetIntrinsicDeclaration(e->module, id, over, n), x, nx, "");
}

static Value call_f32(Emit *e, const char *name, Value *x, unsigned nx) {
  return call(e, name, &e->type[S_F32], 1, x, nx);
}

static Value fence(Emit *e, Value x) { return call_f32(e, "llvm.arithmetic.fence", &x, 1); }

/* x, hidden if it is the constant +-`bits` that an LLVM rewrite waits for. */
static Value hide(Emit *e, Value x, uint32_t bits) {
  bool waited = x == constant(e, S_F32, bits) || x == constant(e, S_F32, bits ^ 0x80000000);
  return waited ? fence(e, x) : x;
}

static Value emit_arithmetic(Emit *e, SPrim prim, Value *x) {
  enum { ZERO = 0, ONE = 0x3f800000 };
  switch (prim) {
  case SP_add: return LLVMBuildFAdd(e->b, hide(e, x[0], ZERO), hide(e, x[1], ZERO), "");
  case SP_sub: return LLVMBuildFSub(e->b, hide(e, x[0], ZERO), hide(e, x[1], ZERO), "");
  case SP_mul: return LLVMBuildFMul(e->b, hide(e, x[0], ONE), hide(e, x[1], ONE), "");
  case SP_div: return LLVMBuildFDiv(e->b, x[0], hide(e, x[1], ONE), "");
  default: break;
  }
  return call_f32(e, "llvm.fma", (Value[]){x[0], x[1], hide(e, x[2], ZERO)}, 3);
}

static Value emit_select(Emit *e, Value *x, bool fenced) {
  Value yes = x[1], no = x[2];
  if (fenced && !LLVMIsConstant(yes)) yes = fence(e, yes);
  else if (fenced && !LLVMIsConstant(no)) no = fence(e, no);
  return LLVMBuildSelect(e->b, x[0], yes, no, "");
}

static Value emit_shift(Emit *e, LLVMOpcode op, Value *x) {
  Value near = LLVMBuildICmp(e->b, LLVMIntULT, x[1], constant(e, S_I32, 32), "");
  Value by = LLVMBuildAnd(e->b, x[1], constant(e, S_I32, 31), "");
  Value shifted = LLVMBuildBinOp(e->b, op, x[0], by, "");
  return LLVMBuildSelect(e->b, near, shifted, constant(e, S_I32, 0), "");
}

static Value emit_sar(Emit *e, Value *x) {
  Value last = constant(e, S_I32, 31);
  Value near = LLVMBuildICmp(e->b, LLVMIntULT, x[1], last, "");
  return LLVMBuildAShr(e->b, x[0], LLVMBuildSelect(e->b, near, x[1], last, ""), "");
}

static Value emit_umulhi(Emit *e, Value *x) {
  LLVMTypeRef wide = LLVMInt64TypeInContext(LLVMGetTypeContext(e->type[S_I32]));
  Value shift = LLVMConstInt(wide, 32, false);
  if (e->lanes > 1) wide = LLVMVectorType(wide, e->lanes);
  Value a = LLVMBuildZExt(e->b, x[0], wide, ""), b = LLVMBuildZExt(e->b, x[1], wide, "");
  Value high = LLVMBuildLShr(e->b, LLVMBuildMul(e->b, a, b, ""), splat(e, shift), "");
  return LLVMBuildTrunc(e->b, high, e->type[S_I32], "");
}

static Value emit_ftoi(Emit *e, Value *x) {
  LLVMTypeRef over[] = {e->type[S_I32], e->type[S_F32]};
  return call(e, "llvm.fptosi.sat", over, 2, x, 1);
}

static Value emit_prim(Emit *e, SPrim prim, SType type, Value *x, bool seen) {
  LLVMBuilderRef b = e->b;
  switch (prim) {
  case SP_add:
  case SP_sub:
  case SP_mul:
  case SP_div:
  case SP_fma: return emit_arithmetic(e, prim, x);
  case SP_neg: return LLVMBuildFNeg(b, x[0], "");
  case SP_abs: return call_f32(e, "llvm.fabs", x, 1);
  case SP_sqrt: return call_f32(e, "llvm.sqrt", x, 1);
  case SP_rint: return call_f32(e, "llvm.roundeven", x, 1);
  case SP_lt: return LLVMBuildFCmp(b, LLVMRealOLT, x[0], x[1], "");
  case SP_le: return LLVMBuildFCmp(b, LLVMRealOLE, x[0], x[1], "");
  case SP_eq: return LLVMBuildFCmp(b, LLVMRealOEQ, x[0], x[1], "");
  case SP_iadd: return LLVMBuildAdd(b, x[0], x[1], "");
  case SP_isub: return LLVMBuildSub(b, x[0], x[1], "");
  case SP_imul: return LLVMBuildMul(b, x[0], x[1], "");
  case SP_umulhi: return emit_umulhi(e, x);
  case SP_and:
  case SP_band: return LLVMBuildAnd(b, x[0], x[1], "");
  case SP_or:
  case SP_bor: return LLVMBuildOr(b, x[0], x[1], "");
  case SP_xor: return LLVMBuildXor(b, x[0], x[1], "");
  case SP_shl: return emit_shift(e, LLVMShl, x);
  case SP_shr: return emit_shift(e, LLVMLShr, x);
  case SP_sar: return emit_sar(e, x);
  case SP_ilt: return LLVMBuildICmp(b, LLVMIntSLT, x[0], x[1], "");
  case SP_ult: return LLVMBuildICmp(b, LLVMIntULT, x[0], x[1], "");
  case SP_ieq: return LLVMBuildICmp(b, LLVMIntEQ, x[0], x[1], "");
  case SP_bnot: return LLVMBuildNot(b, x[0], "");
  case SP_select: return emit_select(e, x, type == S_F32 && seen);
  case SP_bits:
  case SP_float: return LLVMBuildBitCast(b, x[0], e->type[type], "");
  case SP_itof: return LLVMBuildSIToFP(b, x[0], e->type[type], "");
  case SP_utof: return LLVMBuildUIToFP(b, x[0], e->type[type], "");
  case SP_ftoi: return emit_ftoi(e, x);
  case SP_btoi: return LLVMBuildZExt(b, x[0], e->type[type], "");
  case SP_ARG:
  case SP_CONST: break; /* not computed from operands */
  }
  return NULL;
}

/* Primitives that hand on a float as it is; all others read a subnormal as zero. */
static bool passes_on(SPrim prim) {
  return prim == SP_select || prim == SP_neg || prim == SP_abs || prim == SP_bits;
}

/* Which values show their bits: results, and what such primitives hand on. */
static void find_seen(const SProg *p, bool *seen) {
  for (uint32_t r = 0; r < p->nres; r++) seen[p->res[r]] = true;
  for (uint32_t i = 0; i < p->ninst; i++)
    for (int k = 0; k < 3 && passes_on((SPrim)p->inst[i].prim); k++) seen[p->inst[i].x[k]] = true;
}

void scalar_emit(LLVMBuilderRef b, const SProg *p, unsigned lanes, const LLVMValueRef *args,
                 LLVMValueRef *results) {
  assert(p->ninst <= SCALAR_INSTS && lanes <= LANES);
  LLVMValueRef fn = LLVMGetBasicBlockParent(LLVMGetInsertBlock(b));
  LLVMContextRef c = LLVMGetTypeContext(LLVMTypeOf(fn));
  Emit e = {.b = b, .module = LLVMGetGlobalParent(fn), .lanes = lanes};
  for (int t = S_F32; t <= S_I1; t++) e.type[t] = scalar_llvm_type(c, (SType)t, lanes);
  Value v[SCALAR_INSTS] = {0};
  bool seen[SCALAR_INSTS] = {false};
  find_seen(p, seen);
  for (uint32_t i = 0; i < p->ninst; i++) {
    const SInst *s = &p->inst[i];
    Value x[] = {v[s->x[0]], v[s->x[1]], v[s->x[2]]};
    if (s->prim == SP_ARG) v[i] = args[s->imm];
    else if (s->prim == SP_CONST) v[i] = constant(&e, (SType)s->type, s->imm);
    else v[i] = emit_prim(&e, (SPrim)s->prim, (SType)s->type, x, seen[i]);
  }
  for (uint32_t r = 0; r < p->nres; r++) results[r] = v[p->res[r]];
}

/* t with as many lanes as v has. */
static LLVMTypeRef like(LLVMValueRef v, LLVMTypeRef t) {
  LLVMTypeRef of = LLVMTypeOf(v);
  return LLVMGetTypeKind(of) == LLVMVectorTypeKind ? LLVMVectorType(t, LLVMGetVectorSize(of)) : t;
}

LLVMValueRef scalar_widen_f16(LLVMBuilderRef b, LLVMValueRef code) {
  LLVMContextRef c = LLVMGetTypeContext(LLVMTypeOf(code));
  Value half = LLVMBuildBitCast(b, code, like(code, LLVMHalfTypeInContext(c)), "");
  return LLVMBuildFPExt(b, half, like(code, LLVMFloatTypeInContext(c)), "");
}

LLVMValueRef scalar_fence(LLVMBuilderRef b, LLVMValueRef x) {
  LLVMValueRef fn = LLVMGetBasicBlockParent(LLVMGetInsertBlock(b));
  Emit e = {.b = b, .module = LLVMGetGlobalParent(fn), .type[S_F32] = LLVMTypeOf(x)};
  return fence(&e, x);
}

LLVMValueRef scalar_narrow_f16(LLVMBuilderRef b, LLVMValueRef x) {
  LLVMContextRef c = LLVMGetTypeContext(LLVMTypeOf(x));
  if (!LLVMIsConstant(x)) x = scalar_fence(b, x);
  Value half = LLVMBuildFPTrunc(b, x, like(x, LLVMHalfTypeInContext(c)), "");
  return LLVMBuildBitCast(b, half, like(x, LLVMInt16TypeInContext(c)), "");
}
