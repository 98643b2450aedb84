/* scalar_emit.h: a scalar program as LLVM instructions.  Private to codegen/cpu.
 *
 * The second of the readers of ir/scalar.def: the evaluator interprets a program, this one emits
 * it, for one lane or many.  Both give the same bits, which tests/unit/test_scalar_emit.c holds it
 * to, so nothing here may be left to LLVM's taste: no libm, no contraction, no fast-math flag. */
#ifndef CODEGEN_CPU_SCALAR_EMIT_H
#define CODEGEN_CPU_SCALAR_EMIT_H

#include "ir/scalar.h"

#include <llvm-c/Core.h>

/* Emits p at the builder's place, straight-line.  lanes == 1: plain float, i32, i1; otherwise
 * vectors of that many lanes (at most 64), i1 ones included.  args[p->nargs], results[p->nres]. The
 * function around it has the attribute "denormal-fp-math"="preserve-sign,preserve-sign" and runs
 * under DAZ and FTZ; then every lane has the bits of scalar_run (any NaN for any NaN), at any -O
 * level. */
void scalar_emit(LLVMBuilderRef b, const SProg *p, unsigned lanes, const LLVMValueRef *args,
                 LLVMValueRef *results);

/* The programs f16_to_f32 and f32_to_f16 by the instructions that every level has: the same bits.
 * The code is an i16, or a vector of them. */
LLVMValueRef scalar_widen_f16(LLVMBuilderRef b, LLVMValueRef code);
LLVMValueRef scalar_narrow_f16(LLVMBuilderRef b, LLVMValueRef x);

/* x, floats, hidden from LLVM, which then knows nothing of it; no instruction. */
LLVMValueRef scalar_fence(LLVMBuilderRef b, LLVMValueRef x);

/* The LLVM type of a value of `type` in so many lanes. */
LLVMTypeRef scalar_llvm_type(LLVMContextRef c, SType type, unsigned lanes);

#endif
