/* gemm_jit.h: one gemm, or any one function, compiled in this process; for test and benchmark. */
#ifndef TESTS_UNIT_GEMM_JIT_H
#define TESTS_UNIT_GEMM_JIT_H

#include "codegen/cpu/gemm.h"

#include <llvm-c/LLJIT.h>
#include <llvm-c/TargetMachine.h>

/* C starts from init where the spec asks for it (gemm_jit sets the callback), rows of ldc. */
typedef void GemmFn(int32_t tid, int32_t threads, const void *a, const void *b, float *c,
                    const float *init, void *scratch);

typedef struct Jit {
  LLVMOrcLLJITRef jit;
  LLVMOrcExecutorAddress entry; /* of the function "entry" */
} Jit;

typedef struct GemmJit {
  Jit jit;
  GemmFn *run;
  uint64_t scratch_bytes;
} GemmJit;

typedef struct GemmTarget {
  const char *cpu, *features; /* NULL: the host's */
  const char *passes;         /* such as default<O3> */
  const char *listing;        /* a file for the assembly, or NULL */
} GemmTarget;

typedef void JitBuild(LLVMModuleRef module, void *ctx); /* defines "entry" */

bool jit_compile(Jit *j, JitBuild *build, void *ctx, const GemmTarget *target);
void jit_free(Jit *j);
void jit_set_attributes(LLVMValueRef fn, unsigned f32_lanes); /* those of a kernel function */

/* False, with a message on stderr, if LLVM refuses.  spec->store, init and ctx are filled here. */
bool gemm_jit(GemmJit *j, GemmSpec spec, int64_t ldc, bool init, const GemmTarget *target);

#endif
