/* cpu.h: Program to machine code, through LLVM.  What tools see of codegen/cpu.
 *
 * One Program gives one module: a function a distinct kernel, one an entry, the constant tables of
 * runtime/model.h, and one exported symbol, NAME_get_api.  It calls nothing but the runtime's
 * symbols of calls.def.
 */
#ifndef CODEGEN_CPU_CPU_H
#define CODEGEN_CPU_CPU_H

#include "ir/program.h"
#include "ir/target.h"

/* A machine and the instruction-set levels that code is made for: a context runs the best one that
 * its CPU has.  All levels share the Program, so memory and bits are the same. */
typedef struct CpuTarget CpuTarget;

enum { CPU_MOST_PARTS = 16, CPU_MOST_LEVELS = 8 };

/* triple: of the machine, NULL: this one.  names: levels ("x86-64-v3", "v4+avx512bf16"), LLVM
 * processor names (the best level that serves one, tuned for it) or "native", ascending, commas
 * between; NULL: all levels of the architecture.  NULL if it is not known: *why says so. */
const CpuTarget *cpu_target(Arena *arena, const char *triple, const char *names, const char **why);
const Target *cpu_target_info(const CpuTarget *t); /* for the passes */
bool cpu_target_foreign(const CpuTarget *t);       /* not the machine that mpcc runs on */

typedef enum CpuOutput { CPU_OBJECT, CPU_ASM, CPU_LL } CpuOutput;

typedef struct CpuOptions {
  const char *name;        /* prefix of the exported symbol, a C identifier; desc->name */
  const char *source_hash; /* desc->source_hash */
  const char *policy;      /* desc->policy */
  const char *manifest;    /* desc->manifest */
  const char *compiler;    /* desc->compiler: "mpcc 0.1.0" */
  const Diag *sources;     /* names for the places in faults; may be NULL */
  int opt;                 /* 0 … 3; the bits of the results do not depend on it */
  bool with_main;          /* also int main(int, char **), which hands over to mp_cli */
  CpuOutput output;
  unsigned parts; /* objects only: as many, made by as many threads; 0: one */
  bool check_nan; /* every run looks at what each kernel wrote: mp_model's */
  bool no_origin; /* a step cannot be asked where it was first not finite */
} CpuOptions;

typedef struct CpuCode {
  const char *at; /* in the arena; NUL-terminated behind `size` */
  size_t size;
} CpuCode;

/* code[o->parts]: objects that belong together in one link, or the one text.  false: LLVM refused
 * (*why); that is our mistake, not the user's. */
bool cpu_compile(const Program *p, const CpuTarget *t, const CpuOptions *o, Arena *arena,
                 CpuCode *code, const char **why);

/* What the compiled model will say of itself (mpcc_rt.h), in the arena. */
const struct mp_desc *cpu_describe(const Program *p, const CpuTarget *t, const CpuOptions *o,
                                   Arena *arena);

#endif
