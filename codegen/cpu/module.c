/* module.c: the LLVM module: types, function attributes, calls of the runtime, passes, output.
 *
 * What -O changes: nothing in the bits.  There are no fast-math flags, fused multiply-adds are
 * calls of llvm.fma, and the attribute denormal-fp-math makes LLVM fold constants as the hardware
 * computes under DAZ and FTZ.  Kernels come vectorised and with their invariants outside of loops,
 * so the pipeline only cleans up; LLVM's vectorisers and idiom recognition (which would call
 * memset) are left out, and so compilation takes milliseconds.
 */
#include "codegen/cpu/emit.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/Transforms/PassBuilder.h>

#include <string.h>

void module_init(Module *m, LLVMTargetMachineRef tm) {
  m->ctx = LLVMContextCreate();
  m->mod = LLVMModuleCreateWithNameInContext(m->o->name, m->ctx);
  LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(tm);
  char *triple = LLVMGetTargetMachineTriple(tm);
  LLVMSetModuleDataLayout(m->mod, layout);
  LLVMSetTarget(m->mod, triple);
  LLVMDisposeTargetData(layout);
  LLVMDisposeMessage(triple);
  m->none = LLVMVoidTypeInContext(m->ctx);
  m->i1 = LLVMInt1TypeInContext(m->ctx);
  m->i8 = LLVMInt8TypeInContext(m->ctx);
  m->i16 = LLVMInt16TypeInContext(m->ctx);
  m->i32 = LLVMInt32TypeInContext(m->ctx);
  m->i64 = LLVMInt64TypeInContext(m->ctx);
  m->f32 = LLVMFloatTypeInContext(m->ctx);
  m->f64 = LLVMDoubleTypeInContext(m->ctx);
  m->ptr = LLVMPointerTypeInContext(m->ctx, 0);
}

LLVMValueRef module_int(const Module *m, int64_t v) {
  return LLVMConstInt(m->i64, (uint64_t)v, true);
}

const char *module_place(const Module *m, Loc loc) {
  const Diag *d = m->o->sources;
  bool known = d && loc.source < d->sources.len;
  const char *file = known ? d->sources.at[loc.source].name : m->g->source;
  if (!file || !loc.line) return m->g->name;
  return arena_printf(m->arena, "%s:%u:%u", file, (unsigned)loc.line, (unsigned)loc.col);
}

/* ---- attributes ------------------------------------------------------------------------------ */

void module_add_attribute(const Module *m, LLVMValueRef fn, unsigned at, const char *name,
                          uint64_t v) {
  unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
  LLVMAddAttributeAtIndex(fn, at, LLVMCreateEnumAttribute(m->ctx, kind, v));
}

static void add_text(const Module *m, LLVMValueRef fn, const char *key, const char *value) {
  unsigned nk = (unsigned)strlen(key), nv = (unsigned)strlen(value);
  LLVMAttributeRef a = LLVMCreateStringAttribute(m->ctx, key, nk, value, nv);
  LLVMAddAttributeAtIndex(fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex, a);
}

void module_attributes(const Module *m, LLVMValueRef fn) {
  const char *width = m->level->vec.f32_lanes == 16 ? "512" : "256";
  module_add_attribute(m, fn, (unsigned)LLVMAttributeFunctionIndex, "nounwind", 0);
  add_text(m, fn, "denormal-fp-math", "preserve-sign,preserve-sign");
  add_text(m, fn, "target-cpu", m->level->llvm);
  add_text(m, fn, "tune-cpu", m->level->tune);
  if (m->level->more) add_text(m, fn, "target-features", m->level->more);
  add_text(m, fn, "prefer-vector-width", width);
  add_text(m, fn, "min-legal-vector-width", width);
  add_text(m, fn, "no-builtins", "");
}

/* ---- the runtime's functions ----------------------------------------------------------------- */

typedef struct RuntimeCall {
  const char *name;
  char result;
  const char *args;
} RuntimeCall;

enum { V = 'V', I = 'I', L = 'L', P = 'P' };

static const RuntimeCall runtime_calls[] = {
#define CALL(name, result, args) {#name, result, args},
#include "runtime/calls.def"
};

static LLVMTypeRef type_of_letter(const Module *m, char c) {
  return c == V ? m->none : c == I ? m->i32 : c == L ? m->i64 : m->ptr;
}

static LLVMValueRef module_runtime(Module *m, const char *name) {
  LLVMValueRef known = LLVMGetNamedFunction(m->mod, name);
  if (known) return known;
  const RuntimeCall *c = runtime_calls;
  while (strcmp(c->name, name)) c++;
  LLVMTypeRef args[8];
  unsigned n = 0;
  for (; c->args[n]; n++) args[n] = type_of_letter(m, c->args[n]);
  LLVMTypeRef t = LLVMFunctionType(type_of_letter(m, c->result), args, n, false);
  return LLVMAddFunction(m->mod, name, t);
}

LLVMValueRef module_call(Module *m, LLVMBuilderRef b, const char *name, unsigned n,
                         LLVMValueRef *args) {
  LLVMValueRef fn = module_runtime(m, name);
  return LLVMBuildCall2(b, LLVMGlobalGetValueType(fn), fn, args, n, "");
}

/* ---- passes, output -------------------------------------------------------------------------- */

/* No instcombine: our code has no use for it, and it knows nothing of FTZ. */
static const char *const pipeline[] = {
    NULL,
    "function(early-cse<memssa>,simplifycfg)",
    "function(early-cse<memssa>,simplifycfg,loop-mssa(licm),early-cse<memssa>,adce)",
    "function(early-cse<memssa>,simplifycfg,loop-mssa(licm),gvn,simplifycfg,loop-mssa(licm),adce)",
};

/* LLVM's message in our arena. */
static bool failed(Module *m, char *message, const char **why) {
  *why = arena_printf(m->arena, "LLVM: %s", message);
  LLVMDisposeMessage(message);
  return false;
}

bool module_optimize(Module *m, LLVMTargetMachineRef tm, const char **why) {
  char *message = NULL;
  if (LLVMVerifyModule(m->mod, LLVMReturnStatusAction, &message)) return failed(m, message, why);
  LLVMDisposeMessage(message);
  const char *passes = pipeline[m->o->opt < 0 ? 0 : m->o->opt > 3 ? 3 : m->o->opt];
  if (!passes) return true;
  LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
  LLVMErrorRef error = LLVMRunPasses(m->mod, passes, tm, options);
  LLVMDisposePassBuilderOptions(options);
  if (!error) return true;
  char *text = LLVMGetErrorMessage(error);
  *why = arena_printf(m->arena, "LLVM: %s", text);
  LLVMDisposeErrorMessage(text);
  return false;
}

static CpuCode keep(Module *m, const char *at, size_t size) {
  return (CpuCode){arena_text(m->arena, at, size), size};
}

static void print_module(Module *m, CpuCode *code) {
  char *text = LLVMPrintModuleToString(m->mod);
  *code = keep(m, text, strlen(text));
  LLVMDisposeMessage(text);
}

bool module_write(Module *m, LLVMTargetMachineRef tm, CpuCode *code, const char **why) {
  LLVMMemoryBufferRef buffer;
  char *message = NULL;
  if (m->o->output == CPU_LL) {
    print_module(m, code);
    return true;
  }
  LLVMCodeGenFileType type = m->o->output == CPU_ASM ? LLVMAssemblyFile : LLVMObjectFile;
  if (LLVMTargetMachineEmitToMemoryBuffer(tm, m->mod, type, &message, &buffer))
    return failed(m, message, why);
  *code = keep(m, LLVMGetBufferStart(buffer), LLVMGetBufferSize(buffer));
  LLVMDisposeMemoryBuffer(buffer);
  return true;
}
