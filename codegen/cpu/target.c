/* target.c: what --target, -mcpu and --multiversion mean.
 *
 * Code uses the instructions of a *level*, never of one machine: levels have names that people
 * know, their features are listed here, and a context checks exactly those.  A processor's name
 * chooses the best level that it has, and LLVM schedules for that processor.  `native` asks the
 * machine. What a level lacks (gfni, vbmi, …) our kernels have no use for.
 *
 * An output holds several levels, lowest first, and a context takes the best it can run
 * (runtime/level.c); without a word, all that the architecture has.
 */
#include "codegen/cpu/emit.h"

#include <llvm-c/Support.h>
#include <llvm-c/Target.h>

#include <string.h>

typedef struct Level {
  const char *arch, *name, *llvm; /* what LLVM calls it, or the next lower that it knows */
  const char *more;               /* features beyond that, as LLVM writes them; NULL: none */
  VecInfo vec;
  const char *const *features;
} Level;

#define V3 "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"
#define V4 V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"
static const char *const v3_features[] = {V3, NULL};
static const char *const v4_features[] = {V4, NULL};
static const char *const bf16_features[] = {V4, "avx512bf16", NULL};
static const char *const neon_features[] = {"neon", NULL};

/* Ascending, of each architecture. */
static const Level levels[] = {
    {"x86_64", "x86-64-v3", "x86-64-v3", NULL, {8, 16, false}, v3_features},
    {"x86_64", "x86-64-v4", "x86-64-v4", NULL, {16, 32, false}, v4_features},
    {"x86_64", "x86-64-v4+avx512bf16", "x86-64-v4", "+avx512bf16", {16, 32, true}, bf16_features},
    {"aarch64", "armv8-a", "generic", NULL, {4, 32, false}, neon_features},
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
    {"cortex-a72", "armv8-a"},
    {"cortex-a76", "armv8-a"},
    {"neoverse-n1", "armv8-a"},
    {"neoverse-n2", "armv8-a"},
    {"neoverse-v1", "armv8-a"},
    {"neoverse-v2", "armv8-a"},
    {"apple-m1", "armv8-a"},
    {"generic", "armv8-a"},
};

enum {
  LEVELS = sizeof levels / sizeof *levels,
  PROCESSORS = sizeof processors / sizeof *processors
};

/* ---- levels by name -------------------------------------------------------------------------- */

static const Level *find_level(const char *arch, const char *name) {
  for (int i = 0; i < LEVELS; i++)
    if (!strcmp(levels[i].arch, arch) && !strcmp(levels[i].name, name)) return &levels[i];
  return NULL;
}

/* The level of a processor; NULL: not in the table. */
static const Level *level_of(const char *arch, const char *processor) {
  for (int i = 0; i < PROCESSORS; i++)
    if (!strcmp(processors[i][0], processor)) return find_level(arch, processors[i][1]);
  return NULL;
}

static CpuLevel level(const char *name, const Level *l, const char *tune) {
  return (CpuLevel){.name = name,
                    .vec = l->vec,
                    .llvm = l->llvm,
                    .tune = tune,
                    .more = l->more,
                    .features = l->features};
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

/* Instructions for bf16 are there on more processors than they pay on (docs/why/dot-bf16.md). */
static bool pays(const Level *l, const char *processor) {
  return !l->vec.dot_bf16 || l == level_of(l->arch, processor);
}

static bool native(Arena *a, const CpuTarget *t, CpuLevel *out, const char **why) {
  char *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
  const Level *best = NULL;
  for (int i = 0; i < LEVELS; i++)
    if (!strcmp(levels[i].arch, t->arch) && has_level(features, &levels[i]) &&
        pays(&levels[i], cpu))
      best = &levels[i];
  if (best)
    *out = level(arena_printf(a, "native:%s", best->name), best, arena_text(a, cpu, strlen(cpu)));
  else *why = arena_printf(a, "native: this processor has no level of %s that mpcc knows", t->arch);
  LLVMDisposeMessage(cpu);
  LLVMDisposeMessage(features);
  return best != NULL;
}

static bool unknown(Arena *a, const CpuTarget *t, const char *name, const char **why) {
  const char *names[LEVELS + PROCESSORS + 1];
  int n = 0;
  Text known = {.arena = a};
  for (int i = 0; i < LEVELS; i++) {
    if (strcmp(levels[i].arch, t->arch)) continue;
    names[n++] = levels[i].name;
    text_printf(&known, "%s%s", n > 1 ? ", " : "", levels[i].name);
  }
  if (!t->foreign) names[n++] = "native";
  for (int i = 0; i < PROCESSORS; i++)
    if (find_level(t->arch, processors[i][1])) names[n++] = processors[i][0];
  const char *near = nearest_name(name, names, n);
  *why = arena_printf(a, "%s: no such processor of %s%s%s%s; known levels: %s%s", name, t->arch,
                      near ? ", did you mean " : "", near ? near : "", near ? "?" : "", known.at,
                      t->foreign ? "" : ", native");
  return false;
}

static bool find(Arena *a, const CpuTarget *t, const char *name, CpuLevel *out, const char **why) {
  if (!strcmp(name, "native") && !t->foreign) return native(a, t, out, why);
  const Level *l = find_level(t->arch, name), *of = level_of(t->arch, name);
  if (l) *out = level(l->name, l, l->llvm);
  else if (of) *out = level(arena_printf(a, "%s:%s", name, of->name), of, name);
  else return unknown(a, t, name, why);
  return true;
}

/* ---- targets --------------------------------------------------------------------------------- */

/* All features of x are y's. */
static bool within(const CpuLevel *x, const CpuLevel *y) {
  for (const char *const *f = x->features; *f; f++) {
    const char *const *g = y->features;
    while (*g && strcmp(*f, *g)) g++;
    if (!*g) return false;
  }
  return true;
}

/* "The last that the CPU has" is the best only where each level has all that those before have. */
static bool add(Arena *a, CpuTarget *t, CpuLevel l, const char **why) {
  for (unsigned i = 0; i < t->n; i++) {
    if (within(&t->level[i], &l) && strcmp(t->level[i].name, l.name)) continue;
    *why = arena_printf(a, "%s behind %s: levels stand in ascending order, each once", l.name,
                        t->level[i].name);
    return false;
  }
  if (t->n < CPU_MOST_LEVELS) t->level[t->n++] = l;
  else *why = arena_printf(a, "more than %d levels in one output", CPU_MOST_LEVELS);
  return !*why;
}

static bool add_all(Arena *a, CpuTarget *t, const char **why) {
  for (int i = 0; i < LEVELS; i++)
    if (!strcmp(levels[i].arch, t->arch) &&
        !add(a, t, level(levels[i].name, &levels[i], levels[i].llvm), why))
      return false;
  return true;
}

/* "x86-64-v3,v4": what is like the first goes without the prefix. */
static bool add_named(Arena *a, CpuTarget *t, const char *names, const char **why) {
  for (const char *s = names; s; s = strchr(s, ','), s = s ? s + 1 : NULL) {
    const char *name = arena_text(a, s, strcspn(s, ","));
    CpuLevel l;
    if (name[0] == 'v' && name[1] >= '0' && name[1] <= '9' && !strcmp(t->arch, "x86_64"))
      name = arena_printf(a, "x86-64-%s", name);
    if (!find(a, t, name, &l, why) || !add(a, t, l, why)) return false;
  }
  return true;
}

static const char *arch_of(Arena *a, const char *triple) {
  const char *arch = arena_text(a, triple, strcspn(triple, "-"));
  if (!strcmp(arch, "arm64")) return "aarch64";
  return strcmp(arch, "amd64") ? arch : "x86_64";
}

static bool knows(const char *arch) {
  for (int i = 0; i < LEVELS; i++)
    if (!strcmp(levels[i].arch, arch)) return true;
  return false;
}

const CpuTarget *cpu_target(Arena *a, const char *triple, const char *names, const char **why) {
  char *host = LLVMGetDefaultTargetTriple(),
       *full = LLVMNormalizeTargetTriple(triple ? triple : host);
  CpuTarget *t = NEW(a, CpuTarget);
  t->triple = arena_text(a, full, strlen(full));
  t->arch = arch_of(a, t->triple);
  t->foreign = strcmp(t->arch, arch_of(a, host)) != 0;
  LLVMDisposeMessage(full);
  LLVMDisposeMessage(host);
  *why = NULL;
  if (!knows(t->arch) || !strstr(t->triple, "linux"))
    *why = arena_printf(a, "mpcc makes code for x86_64 and aarch64 under Linux, not for %s",
                        t->triple);
  else if (names) add_named(a, t, names, why);
  else add_all(a, t, why);
  if (*why) return NULL;
  Text all = {.arena = a};
  for (unsigned i = 0; i < t->n; i++) text_printf(&all, "%s%s", i ? "," : "", t->level[i].name);
  t->base = (Target){.name = all.at,
                     .auto_precision = "bf16",
                     .f32_lanes = t->level[0].vec.f32_lanes,
                     .costs = &costs_cpu};
  return t;
}

const Target *cpu_target_info(const CpuTarget *t) { return &t->base; }

bool cpu_target_foreign(const CpuTarget *t) { return t->foreign; }

const char *target_lower(const CpuTarget *t) {
  const char *lower = NULL;
  for (int i = 0; i < LEVELS && levels[i].features != t->level[0].features; i++)
    if (!strcmp(levels[i].arch, t->arch)) lower = levels[i].name;
  return lower;
}

/* ---- LLVM ------------------------------------------------------------------------------------ */

/* A third of LLVM's time goes into cleaning up what our kernels do not need cleaned: their
 * addresses are a base and constants, invariants stand outside of loops already.  The step is as
 * fast without; LLVM has no other way to say so than its flags. */
void target_init(const CpuTarget *t, int opt) {
  static const char *const flags[] = {"mpcc",
                                      "-disable-lsr",
                                      "-disable-cgp",
                                      "-disable-machine-licm",
                                      "-disable-machine-cse",
                                      "-disable-machine-sink"};
  if (opt < 3) LLVMParseCommandLineOptions(sizeof flags / sizeof *flags, flags, "");
  LLVMInitializeNativeTarget();
  LLVMInitializeNativeAsmPrinter();
  if (!t->foreign) return;
  LLVMInitializeAllTargetInfos();
  LLVMInitializeAllTargets();
  LLVMInitializeAllTargetMCs();
  LLVMInitializeAllAsmPrinters();
}

/* Kernels come unrolled and blocked for registers, so LLVM's own effort buys little: at the level
 * `less` the step is as fast as at `default` and compiles in four fifths of the time. */
static LLVMCodeGenOptLevel effort(int opt) {
  if (opt <= 0) return LLVMCodeGenLevelNone;
  return opt < 3 ? LLVMCodeGenLevelLess : LLVMCodeGenLevelDefault;
}

/* Of the lowest level; functions say which is theirs. */
LLVMTargetMachineRef target_machine(const CpuTarget *t, int opt, const char **why) {
  char *message = NULL;
  LLVMTargetRef target;
  LLVMTargetMachineRef tm = NULL;
  if (LLVMGetTargetFromTriple(t->triple, &target, &message))
    *why = "this LLVM was built without the target";
  else
    tm = LLVMCreateTargetMachine(target, t->triple, t->level[0].llvm, "", effort(opt), LLVMRelocPIC,
                                 LLVMCodeModelDefault);
  LLVMDisposeMessage(message);
  return tm;
}
