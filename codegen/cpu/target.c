/* target.c: what -mcpu means.
 *
 * Code uses the instructions of a *level*, never of one machine: levels have names that people
 * know, their features are listed here, and a context checks exactly those.  A processor's name
 * chooses the best level that it has, and LLVM schedules for that processor.  `native` asks the
 * machine. What a level lacks (gfni, vbmi, …) our kernels have no use for.
 */
#include "codegen/cpu/emit.h"

#include <llvm-c/Support.h>
#include <llvm-c/Target.h>

#include <string.h>

typedef struct Level {
  const char *name, *lower; /* the flag for an older processor */
  VecInfo vec;
  const char *const *features;
} Level;

#if defined(__x86_64__)

#define V3 "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"
#define V4 V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"
static const char *const v3_features[] = {V3, NULL};
static const char *const v4_features[] = {V4, NULL};
static const char *const bf16_features[] = {V4, "avx512bf16", NULL};

/* Ascending; the first is the default. */
static const Level levels[] = {
    {"x86-64-v3", "-mcpu= of a lower level (there is none yet)", {8, 16, false}, v3_features},
    {"x86-64-v4", "-mcpu=x86-64-v3", {16, 32, false}, v4_features},
    {"x86-64-v4+avx512bf16", "-mcpu=x86-64-v4", {16, 32, true}, bf16_features},
};

/* By the level that a processor has, names as LLVM writes them. */
static const char *const processors[][2] = {
    {"haswell", "x86-64-v3"},
    {"broadwell", "x86-64-v3"},
    {"skylake", "x86-64-v3"},
    {"alderlake", "x86-64-v3"},
    {"raptorlake", "x86-64-v3"},
    {"meteorlake", "x86-64-v3"},
    {"znver1", "x86-64-v3"},
    {"znver2", "x86-64-v3"},
    {"znver3", "x86-64-v3"},
    {"skylake-avx512", "x86-64-v4"},
    {"cascadelake", "x86-64-v4"},
    {"cooperlake", "x86-64-v4"},
    {"icelake-client", "x86-64-v4"},
    {"icelake-server", "x86-64-v4"},
    {"tigerlake", "x86-64-v4"},
    {"rocketlake", "x86-64-v4"},
    {"sapphirerapids", "x86-64-v4"},
    {"graniterapids", "x86-64-v4"},
    {"znver4", "x86-64-v4+avx512bf16"},
    {"znver5", "x86-64-v4+avx512bf16"},
};

#else

static const char *const neon_features[] = {"neon", NULL};
static const Level levels[] = {
    {"armv8-a", "-mcpu= of a lower level (there is none)", {4, 32, false}, neon_features}};
static const char *const processors[][2] = {
    {"cortex-a72", "armv8-a"},  {"cortex-a76", "armv8-a"},  {"neoverse-n1", "armv8-a"},
    {"neoverse-n2", "armv8-a"}, {"neoverse-v1", "armv8-a"}, {"neoverse-v2", "armv8-a"},
    {"apple-m1", "armv8-a"},    {"generic", "armv8-a"},
};

#endif

enum {
  LEVELS = sizeof levels / sizeof *levels,
  PROCESSORS = sizeof processors / sizeof *processors
};

static const Level *find_level(const char *name) {
  for (int i = 0; i < LEVELS; i++)
    if (!strcmp(levels[i].name, name)) return &levels[i];
  return NULL;
}

/* LLVM calls the baseline of aarch64 "generic"; what we add to a level of its is a feature to it.
 */
static const char *llvm_name(const Level *l) {
  if (l->vec.dot_bf16) return "x86-64-v4";
  return strncmp(l->name, "arm", 3) ? l->name : "generic";
}

static const CpuTarget *make(Arena *a, const char *name, const Level *l, const char *tune) {
  CpuTarget *t = NEW(a, CpuTarget);
  t->base = (Target){.name = name, .auto_precision = "bf16", .f32_lanes = l->vec.f32_lanes};
  t->vec = l->vec;
  t->level = llvm_name(l);
  t->tune = tune;
  t->lower = l->lower;
  t->more = l->vec.dot_bf16 ? "+avx512bf16" : NULL;
  t->features = l->features;
  return t;
}

/* "+avx,-avx10.1,…" */
static bool has_feature(const char *all, const char *name) {
  size_t n = strlen(name);
  for (const char *s = all; s; s = strchr(s, ','), s = s ? s + 1 : NULL)
    if (*s == '+' && !strncmp(s + 1, name, n) && (s[n + 1] == ',' || !s[n + 1])) return true;
  return false;
}

static bool has_level(const char *all, const Level *l) {
  for (const char *const *f = l->features; *f; f++)
    if (!has_feature(all, *f)) return false;
  return true;
}

static const Level *level_of(const char *processor) { /* NULL: not in the table */
  for (int i = 0; i < PROCESSORS; i++)
    if (!strcmp(processors[i][0], processor)) return find_level(processors[i][1]);
  return NULL;
}

/* Instructions for bf16 are there on more processors than they pay on (docs/why/dot-bf16.md). */
static bool pays(const Level *l, const char *processor) {
  return !l->vec.dot_bf16 || l == level_of(processor);
}

static const CpuTarget *native(Arena *a, const char **why) {
  char *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
  const Level *best = NULL;
  for (int i = 0; i < LEVELS; i++)
    if (has_level(features, &levels[i]) && pays(&levels[i], cpu)) best = &levels[i];
  const CpuTarget *t = NULL;
  if (best)
    t = make(a, arena_printf(a, "native:%s", best->name), best, arena_text(a, cpu, strlen(cpu)));
  else *why = arena_printf(a, "-mcpu=native: this processor lacks what %s has", levels[0].name);
  LLVMDisposeMessage(cpu);
  LLVMDisposeMessage(features);
  return t;
}

static const CpuTarget *unknown(Arena *a, const char *name, const char **why) {
  const char *names[LEVELS + PROCESSORS + 1] = {"native"};
  for (int i = 0; i < LEVELS; i++) names[1 + i] = levels[i].name;
  for (int i = 0; i < PROCESSORS; i++) names[1 + LEVELS + i] = processors[i][0];
  const char *near = nearest_name(name, names, LEVELS + PROCESSORS + 1);
  Text known = {.arena = a};
  for (int i = 0; i < LEVELS; i++) text_printf(&known, "%s, ", levels[i].name);
  *why = arena_printf(a, "-mcpu=%s: no such processor%s%s%s; known levels: %snative", name,
                      near ? ", did you mean " : "", near ? near : "", near ? "?" : "", known.at);
  return NULL;
}

const CpuTarget *cpu_target(Arena *a, const char *name, const char **why) {
  if (!name) name = levels[0].name;
  if (!strcmp(name, "native")) return native(a, why);
  const Level *l = find_level(name);
  if (l) return make(a, l->name, l, llvm_name(l));
  l = level_of(name);
  if (l) return make(a, arena_printf(a, "%s:%s", name, l->name), l, name);
  return unknown(a, name, why);
}

const Target *cpu_target_info(const CpuTarget *t) { return &t->base; }

/* A third of LLVM's time goes into cleaning up what our kernels do not need cleaned: their
 * addresses are a base and constants, invariants stand outside of loops already.  The step is as
 * fast without; LLVM has no other way to say so than its flags. */
void target_init(int opt) {
  static const char *const flags[] = {"mpcc",
                                      "-disable-lsr",
                                      "-disable-cgp",
                                      "-disable-machine-licm",
                                      "-disable-machine-cse",
                                      "-disable-machine-sink"};
  if (opt < 3) LLVMParseCommandLineOptions(sizeof flags / sizeof *flags, flags, "");
  LLVMInitializeNativeTarget();
  LLVMInitializeNativeAsmPrinter();
}

/* Kernels come unrolled and blocked for registers, so LLVM's own effort buys little: at the level
 * `less` the step is as fast as at `default` and compiles in four fifths of the time. */
static LLVMCodeGenOptLevel effort(int opt) {
  if (opt <= 0) return LLVMCodeGenLevelNone;
  return opt < 3 ? LLVMCodeGenLevelLess : LLVMCodeGenLevelDefault;
}

LLVMTargetMachineRef target_machine(const CpuTarget *t, int opt, const char **why) {
  char *triple = LLVMGetDefaultTargetTriple(), *message = NULL;
  LLVMTargetRef target;
  LLVMTargetMachineRef tm = NULL;
  if (LLVMGetTargetFromTriple(triple, &target, &message)) *why = "LLVM does not know this machine";
  else
    tm = LLVMCreateTargetMachine(target, triple, t->level, "", effort(opt), LLVMRelocPIC,
                                 LLVMCodeModelDefault);
  LLVMDisposeMessage(message);
  LLVMDisposeMessage(triple);
  return tm;
}
