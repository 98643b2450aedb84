/* gemm.h: the matrix-product kernel form on the CPU.  Private to codegen/cpu.
 *
 * gemm.c knows nothing of the graph: it is told sizes, storage and strides, and calls back for
 * what rides on the accumulator and on the store.  So the blocking is tested alone, against its
 * definition, on any size (tests/unit/test_gemm.c), and measured alone (bench/gemm_peak.c). */
#ifndef CODEGEN_CPU_GEMM_H
#define CODEGEN_CPU_GEMM_H

#include <llvm-c/Core.h>
#include <stdbool.h>
#include <stdint.h>

/* What the target's vectors look like; filled from -mcpu by cpu_target. */
typedef struct VecInfo {
  unsigned f32_lanes;   /* lanes of a full vector: 4 (NEON), 8 (AVX2), 16 (AVX-512) */
  unsigned vector_regs; /* 16 (AVX2), 32 (AVX-512, NEON) */
  bool dot_bf16;        /* vdpbf16ps: a += x1 y1, then a += x0 y0 in each lane, rounded twice */
} VecInfo;

typedef enum GemmElem { GEMM_F32, GEMM_BF16, GEMM_F16, GEMM_E4M3, GEMM_E5M2 } GemmElem;

typedef struct GemmSpec GemmSpec;

/* Consumes C[row, col … col+lanes) (f32, <lanes x float>; lanes == 1: a plain float): applies the
 * expression that rides on the store and stores.  row and col are i64 values.  Called at emission
 * time, possibly several times; the builder stands where the code must go and the callback may
 * leave it in another block. */
typedef void GemmStore(void *ctx, LLVMBuilderRef b, LLVMValueRef row, LLVMValueRef col,
                       unsigned lanes, LLVMValueRef value);

/* Produces the accumulator operand's C[row, col … col+lanes), or NULL for none (+0). */
typedef LLVMValueRef GemmInit(void *ctx, LLVMBuilderRef b, LLVMValueRef row, LLVMValueRef col,
                              unsigned lanes);

/* Goes to product `element` of `batch`: *a and *bm come in as the operands' first elements and
 * become those of the product's.  Called at emission time like a store. */
typedef void GemmElement(void *ctx, LLVMBuilderRef b, LLVMValueRef element, LLVMValueRef *a,
                         LLVMValueRef *bm);

/* The factor, a float, of chunk `chunk` of row `line` of a (operand 0), of column `line` of b
 * (operand 1); i64 values.  Called at emission time; the builder stays in its block. */
typedef LLVMValueRef GemmScale(void *ctx, LLVMBuilderRef b, int operand, LLVMValueRef line,
                               LLVMValueRef chunk);

struct GemmSpec {
  int64_t m, n, k, k_chunk;
  GemmElem a, b;    /* storage of the operands */
  bool ta, tb;      /* a is [k, m] instead of [m, k]; b is [n, k] instead of [k, n] */
  int64_t lda, ldb; /* elements between rows of the stored matrices */
  VecInfo vec;
  const struct Scalars *scalars; /* where an operand is fp8: their conversions */
  GemmStore *store;
  GemmInit *init;   /* may be NULL */
  GemmScale *scale; /* NULL: none.  Else a chain times the product of its two factors is added */
  int64_t batch;    /* products of this shape, where `element` is given; else one */
  GemmElement *element;
  void *ctx;
};

/* Emits, at the builder's place inside a kernel function, this thread's share of C = A·B:
 * tid and threads are i32, a and b pointers, scratch this thread's private memory of at least
 * gemm_scratch_bytes(spec), on a cache line for speed.  Vectors are read up to 64 bytes past the
 * end of a and of b, whatever lies there; nothing is written past anything.  The code contains at
 * most two copies of the vector store and one of the scalar.  Leaves the builder behind the loops.
 */
void gemm_emit(const GemmSpec *spec, LLVMBuilderRef b, LLVMValueRef tid, LLVMValueRef threads,
               LLVMValueRef a_ptr, LLVMValueRef b_ptr, LLVMValueRef scratch);

uint64_t gemm_scratch_bytes(const GemmSpec *spec);

#endif
