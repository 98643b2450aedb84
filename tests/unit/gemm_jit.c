/* gemm_jit.c: a kernel function around gemm_emit, optimized and loaded by LLVM's LLJIT.
 *
 * The callbacks do what the kernel emitter's do: address an element of a row-major f32 matrix and
 * load or store it.  Failure is reported once, here.
 */
#include "gemm_jit.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/Orc.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>

#include <stdio.h>
#include <string.h>

typedef struct Matrices {
  LLVMValueRef c, init;
  int64_t ldc;
} Matrices;

static LLVMValueRef element(LLVMBuilderRef b, LLVMValueRef p, int64_t ld, LLVMValueRef row,
                            LLVMValueRef col) {
  LLVMTypeRef i64 = LLVMTypeOf(row), f32 = LLVMFloatTypeInContext(LLVMGetTypeContext(i64));
  LLVMValueRef at = LLVMBuildMul(b, row, LLVMConstInt(i64, (uint64_t)ld, false), "");
  at = LLVMBuildAdd(b, at, col, "");
  return LLVMBuildGEP2(b, f32, p, &at, 1, "");
}

static void store_element(void *ctx, LLVMBuilderRef b, LLVMValueRef row, LLVMValueRef col,
                          unsigned lanes, LLVMValueRef value) {
  const Matrices *m = ctx;
  (void)lanes;
  LLVMSetAlignment(LLVMBuildStore(b, value, element(b, m->c, m->ldc, row, col)), 4);
}

static LLVMValueRef load_element(void *ctx, LLVMBuilderRef b, LLVMValueRef row, LLVMValueRef col,
                                 unsigned lanes) {
  const Matrices *m = ctx;
  LLVMTypeRef f32 = LLVMFloatTypeInContext(LLVMGetTypeContext(LLVMTypeOf(row)));
  LLVMTypeRef type = lanes == 1 ? f32 : LLVMVectorType(f32, lanes);
  LLVMValueRef v = LLVMBuildLoad2(b, type, element(b, m->init, m->ldc, row, col), "");
  LLVMSetAlignment(v, 4);
  return v;
}

static void set_attribute(LLVMValueRef fn, const char *name, const char *value) {
  LLVMContextRef c = LLVMGetTypeContext(LLVMTypeOf(fn));
  LLVMAttributeRef a =
      LLVMCreateStringAttribute(c, name, (unsigned)strlen(name), value, (unsigned)strlen(value));
  LLVMAddAttributeAtIndex(fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex, a);
}

void jit_set_attributes(LLVMValueRef fn, unsigned f32_lanes) {
  set_attribute(fn, "denormal-fp-math", "preserve-sign,preserve-sign");
  if (f32_lanes < 16) return;
  set_attribute(fn, "prefer-vector-width", "512");
  set_attribute(fn, "min-legal-vector-width", "512");
}

typedef struct Job {
  GemmSpec spec;
  int64_t ldc;
  bool init;
} Job;

static void build_gemm(LLVMModuleRef module, void *ctx) {
  Job *job = ctx;
  LLVMContextRef c = LLVMGetModuleContext(module);
  LLVMTypeRef i32 = LLVMInt32TypeInContext(c), ptr = LLVMPointerTypeInContext(c, 0);
  LLVMTypeRef params[] = {i32, i32, ptr, ptr, ptr, ptr, ptr};
  LLVMTypeRef type = LLVMFunctionType(LLVMVoidTypeInContext(c), params, 7, false);
  LLVMValueRef fn = LLVMAddFunction(module, "entry", type), arg[7];
  LLVMGetParams(fn, arg);
  jit_set_attributes(fn, job->spec.vec.f32_lanes);
  LLVMBuilderRef b = LLVMCreateBuilderInContext(c);
  LLVMPositionBuilderAtEnd(b, LLVMAppendBasicBlockInContext(c, fn, "entry"));
  Matrices m = {arg[4], arg[5], job->ldc};
  job->spec.store = store_element;
  job->spec.init = job->init ? load_element : NULL;
  job->spec.ctx = &m;
  gemm_emit(&job->spec, b, arg[0], arg[1], arg[2], arg[3], arg[6]);
  LLVMBuildRetVoid(b);
  LLVMDisposeBuilder(b);
}

static bool failed(LLVMErrorRef e) {
  if (!e) return false;
  char *text = LLVMGetErrorMessage(e);
  fprintf(stderr, "gemm_jit: %s\n", text);
  LLVMDisposeErrorMessage(text);
  return true;
}

static LLVMTargetMachineRef machine(const GemmTarget *t) {
  char *triple = LLVMGetDefaultTargetTriple(), *why = NULL;
  char *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
  LLVMTargetRef target = NULL;
  LLVMTargetMachineRef tm = NULL;
  if (!LLVMGetTargetFromTriple(triple, &target, &why))
    tm = LLVMCreateTargetMachine(target, triple, t->cpu ? t->cpu : cpu,
                                 t->features ? t->features : features, LLVMCodeGenLevelAggressive,
                                 LLVMRelocPIC, LLVMCodeModelJITDefault);
  else fprintf(stderr, "gemm_jit: %s\n", why);
  LLVMDisposeMessage(why);
  LLVMDisposeMessage(triple);
  LLVMDisposeMessage(cpu);
  LLVMDisposeMessage(features);
  return tm;
}

static bool optimize(LLVMModuleRef m, LLVMTargetMachineRef tm, const GemmTarget *t) {
  char *why = NULL, *layout = NULL, *triple = LLVMGetTargetMachineTriple(tm);
  LLVMTargetDataRef data = LLVMCreateTargetDataLayout(tm);
  LLVMSetTarget(m, triple);
  LLVMSetDataLayout(m, layout = LLVMCopyStringRepOfTargetData(data));
  LLVMDisposeMessage(layout);
  LLVMDisposeMessage(triple);
  LLVMDisposeTargetData(data);
  bool bad = LLVMVerifyModule(m, LLVMReturnStatusAction, &why);
  if (bad) fprintf(stderr, "gemm_jit: %s\n", why);
  LLVMDisposeMessage(why);
  if (bad) return false;
  LLVMPassBuilderOptionsRef o = LLVMCreatePassBuilderOptions();
  bad = failed(LLVMRunPasses(m, t->passes, tm, o));
  LLVMDisposePassBuilderOptions(o);
  if (!bad && t->listing) {
    why = NULL;
    bad = LLVMTargetMachineEmitToFile(tm, m, t->listing, LLVMAssemblyFile, &why);
    if (bad) fprintf(stderr, "gemm_jit: %s\n", why);
    LLVMDisposeMessage(why);
  }
  return !bad;
}

static bool load(Jit *j, LLVMOrcThreadSafeModuleRef module, LLVMTargetMachineRef tm) {
  LLVMOrcLLJITBuilderRef builder = LLVMOrcCreateLLJITBuilder();
  LLVMOrcLLJITBuilderSetJITTargetMachineBuilder(
      builder, LLVMOrcJITTargetMachineBuilderCreateFromTargetMachine(tm)); /* takes tm */
  if (failed(LLVMOrcCreateLLJIT(&j->jit, builder))) {
    LLVMOrcDisposeThreadSafeModule(module);
    return false;
  }
  LLVMOrcJITDylibRef lib = LLVMOrcLLJITGetMainJITDylib(j->jit);
  return !failed(LLVMOrcLLJITAddLLVMIRModule(j->jit, lib, module)) &&
         !failed(LLVMOrcLLJITLookup(j->jit, &j->entry, "entry"));
}

bool jit_compile(Jit *j, JitBuild *build, void *ctx, const GemmTarget *target) {
  *j = (Jit){0};
  LLVMInitializeNativeTarget();
  LLVMInitializeNativeAsmPrinter();
  LLVMTargetMachineRef tm = machine(target);
  if (!tm) return false;
  LLVMOrcThreadSafeContextRef context = LLVMOrcCreateNewThreadSafeContext();
  LLVMModuleRef m =
      LLVMModuleCreateWithNameInContext("jit", LLVMOrcThreadSafeContextGetContext(context));
  build(m, ctx);
  bool ok = optimize(m, tm, target);
  LLVMOrcThreadSafeModuleRef module = LLVMOrcCreateNewThreadSafeModule(m, context);
  LLVMOrcDisposeThreadSafeContext(context);
  if (ok) return load(j, module, tm);
  LLVMOrcDisposeThreadSafeModule(module);
  LLVMDisposeTargetMachine(tm);
  return false;
}

void jit_free(Jit *j) {
  if (j->jit) failed(LLVMOrcDisposeLLJIT(j->jit));
  j->jit = NULL;
}

bool gemm_jit(GemmJit *j, GemmSpec spec, int64_t ldc, bool init, const GemmTarget *target) {
  Job job = {spec, ldc, init};
  *j = (GemmJit){.scratch_bytes = gemm_scratch_bytes(&spec)};
  if (!jit_compile(&j->jit, build_gemm, &job, target)) return false;
  memcpy(&j->run, &j->jit.entry, sizeof j->run);
  return true;
}
