/* gemm_peak.c: the emitted gemm as a share of the machine's fma peak, one thread.
 *
 * The peak is a loop over registers only, compiled like the kernels, once per vector width.  All
 * measurements are taken in turn, round after round, so a change of clock meets all of them; the
 * medians are printed.  If an OpenBLAS is found at run time its sgemm takes part.
 *
 *   gemm_peak [rounds] [listing.s]     the listing is the assembly of the last gemm compiled
 */
#define _DEFAULT_SOURCE
#include "tests/unit/gemm_jit.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { MAX_ITEMS = 64, MAX_ROUNDS = 101, PEAK_TRIPS = 20000, SLACK = 64 };

typedef void PeakFn(int64_t trips, float *data);
typedef void Sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                   int lda, const float *b, int ldb, float beta, float *c, int ldc);

typedef struct Isa {
  const char *name;
  GemmTarget target;
  VecInfo vec;
} Isa;

typedef struct Item {
  const char *name;
  const Isa *isa; /* NULL: OpenBLAS */
  GemmSpec spec;  /* m == 0: the peak */
  GemmJit gemm;
  Jit jit;
  PeakFn *peak;
  void *a, *b, *scratch;
  float *c;
  double flop, seconds[MAX_ROUNDS];
} Item;

/* ---- the peak ------------------------------------------------------------------------------- */

typedef struct Peak {
  LLVMBuilderRef b;
  LLVMTypeRef i64, vec, fma_type;
  LLVMValueRef fn, fma, x, y;
  unsigned chains;
} Peak;

static LLVMValueRef peak_at(const Peak *p, uint64_t i) {
  LLVMValueRef at = LLVMConstInt(p->i64, i, false);
  return LLVMBuildGEP2(p->b, p->vec, LLVMGetParam(p->fn, 1), &at, 1, "");
}

static LLVMBasicBlockRef peak_block(const Peak *p) {
  return LLVMAppendBasicBlockInContext(LLVMGetTypeContext(p->i64), p->fn, "");
}

static LLVMValueRef peak_phi(const Peak *p, LLVMTypeRef type, LLVMBasicBlockRef from) {
  LLVMValueRef phi = LLVMBuildPhi(p->b, type, ""), zero = LLVMConstNull(type);
  LLVMAddIncoming(phi, &zero, &from, 1);
  return phi;
}

/* As many independent chains as registers hold beside the two factors: c = c·x + y. */
static void peak_loop(const Peak *p, LLVMValueRef chain[]) {
  LLVMBasicBlockRef before = LLVMGetInsertBlock(p->b), loop = peak_block(p), done = peak_block(p);
  LLVMBuildBr(p->b, loop);
  LLVMPositionBuilderAtEnd(p->b, loop);
  LLVMValueRef i = peak_phi(p, p->i64, before);
  for (unsigned k = 0; k < p->chains; k++) chain[k] = peak_phi(p, p->vec, before);
  for (unsigned k = 0; k < p->chains; k++) {
    LLVMValueRef args[] = {chain[k], p->x, p->y}, phi = chain[k];
    chain[k] = LLVMBuildCall2(p->b, p->fma_type, p->fma, args, 3, "");
    LLVMAddIncoming(phi, &chain[k], &loop, 1);
  }
  LLVMValueRef next = LLVMBuildAdd(p->b, i, LLVMConstInt(p->i64, 1, false), "");
  LLVMAddIncoming(i, &next, &loop, 1);
  LLVMValueRef more = LLVMBuildICmp(p->b, LLVMIntSLT, next, LLVMGetParam(p->fn, 0), "");
  LLVMBuildCondBr(p->b, more, loop, done);
  LLVMPositionBuilderAtEnd(p->b, done);
}

static void build_peak(LLVMModuleRef module, void *ctx) {
  const Isa *isa = ctx;
  LLVMContextRef c = LLVMGetModuleContext(module);
  Peak p = {.b = LLVMCreateBuilderInContext(c), .i64 = LLVMInt64TypeInContext(c)};
  p.vec = LLVMVectorType(LLVMFloatTypeInContext(c), isa->vec.f32_lanes);
  p.chains = isa->vec.vector_regs - 4;
  LLVMTypeRef params[] = {p.i64, LLVMPointerTypeInContext(c, 0)};
  p.fn = LLVMAddFunction(module, "entry",
                         LLVMFunctionType(LLVMVoidTypeInContext(c), params, 2, false));
  jit_set_attributes(p.fn, isa->vec.f32_lanes);
  unsigned id = LLVMLookupIntrinsicID("llvm.fma", 8);
  p.fma = LLVMGetIntrinsicDeclaration(module, id, &p.vec, 1);
  p.fma_type = LLVMIntrinsicGetType(c, id, &p.vec, 1);
  LLVMPositionBuilderAtEnd(p.b, peak_block(&p));
  p.x = LLVMBuildLoad2(p.b, p.vec, peak_at(&p, 0), "");
  p.y = LLVMBuildLoad2(p.b, p.vec, peak_at(&p, 1), "");
  LLVMValueRef chain[32];
  peak_loop(&p, chain);
  for (unsigned k = 1; k < p.chains; k++) chain[0] = LLVMBuildFAdd(p.b, chain[0], chain[k], "");
  LLVMBuildStore(p.b, chain[0], peak_at(&p, 2));
  LLVMBuildRetVoid(p.b);
  LLVMDisposeBuilder(p.b);
}

static bool peak_prepare(Item *it) {
  Isa isa = *it->isa;
  if (!jit_compile(&it->jit, build_peak, &isa, &isa.target)) return false;
  memcpy(&it->peak, &it->jit.entry, sizeof it->peak);
  it->c = aligned_alloc(64, 4096);
  for (int i = 0; i < 1024; i++) it->c[i] = i < (int)isa.vec.f32_lanes ? 0.5f : 0.25f;
  it->flop = 2.0 * PEAK_TRIPS * (isa.vec.vector_regs - 4) * isa.vec.f32_lanes;
  return true;
}

/* ---- gemms ---------------------------------------------------------------------------------- */

/* Huge pages where the system has them, as the runtime's arena does. */
static void *memory(uint64_t bytes) {
  uint64_t page = 1 << 21, size = (bytes + page - 1) / page * page;
  void *p = aligned_alloc(page, size);
  if (!p) exit(1);
#ifdef MADV_HUGEPAGE
  madvise(p, size, MADV_HUGEPAGE);
#endif
  memset(p, 0, size);
  return p;
}

static void *operand(GemmElem e, int64_t count) {
  char *p = memory((uint64_t)count * (e == GEMM_BF16 ? 2 : 4) + SLACK);
  for (int64_t i = 0; i < count; i++) {
    float f = 1.0f / (float)(1 + i % 97) * (i % 3 ? 1.0f : -1.0f);
    if (e == GEMM_BF16) /* the upper half */
      memcpy(p + 2 * i, (char *)&f + 2, 2);
    else memcpy(p + 4 * i, &f, 4);
  }
  return p;
}

static bool gemm_prepare(Item *it) {
  GemmSpec *s = &it->spec;
  s->lda = s->ta ? s->m : s->k;
  s->ldb = s->tb ? s->k : s->n;
  it->a = operand(s->a, s->m * s->k);
  it->b = operand(s->b, s->k * s->n);
  it->c = operand(GEMM_F32, s->m * s->n);
  it->flop = 2.0 * (double)s->m * (double)s->n * (double)s->k;
  if (!it->isa) return true;
  s->vec = it->isa->vec;
  s->k_chunk = 256;
  if (!gemm_jit(&it->gemm, *s, s->n, false, &it->isa->target)) return false;
  it->scratch = memory(it->gemm.scratch_bytes);
  return true;
}

static void run(const Item *it, Sgemm *sgemm) {
  const GemmSpec *s = &it->spec;
  if (it->peak) it->peak(PEAK_TRIPS, it->c);
  else if (it->isa) it->gemm.run(0, 1, it->a, it->b, it->c, NULL, it->scratch);
  else
    sgemm(101, s->ta ? 112 : 111, s->tb ? 112 : 111, (int)s->m, (int)s->n, (int)s->k, 1.0f, it->a,
          (int)s->lda, it->b, (int)s->ldb, 0.0f, it->c, (int)s->n);
}

/* ---- measuring ------------------------------------------------------------------------------ */

/* Processor time: others on the machine then cost no more than their share of the caches. */
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of one run, over some milliseconds of runs after a warm one. */
static double measure(const Item *it, Sgemm *sgemm) {
  int repeat = (int)(4e8 / it->flop) + 1;
  run(it, sgemm);
  double start = now();
  for (int i = 0; i < repeat; i++) run(it, sgemm);
  return (now() - start) / repeat;
}

static int compare(const void *x, const void *y) {
  double a = *(const double *)x, b = *(const double *)y;
  return (a > b) - (a < b);
}

static double median(double *v, int n) {
  qsort(v, (size_t)n, sizeof *v, compare);
  return v[n / 2];
}

static Sgemm *find_sgemm(void) {
  static const char *const names[] = {"libopenblas.so.0", "libopenblas.so"};
  Sgemm *f = NULL;
  for (size_t i = 0; i < 2 && !f; i++) {
    void *lib = dlopen(names[i], RTLD_NOW), *at = NULL;
    void (*threads)(int) = NULL;
    if (lib && (at = dlsym(lib, "cblas_sgemm"))) memcpy(&f, &at, sizeof f);
    if (f && (at = dlsym(lib, "openblas_set_num_threads"))) memcpy(&threads, &at, sizeof threads);
    if (threads) threads(1);
  }
  return f;
}

/* ---- what is measured ----------------------------------------------------------------------- */

static const struct {
  const char *name;
  int64_t m, n, k;
  bool ta, tb;
} shapes[] = {
    {"768^3", 768, 768, 768, false, false},       {"768^3 tb", 768, 768, 768, false, true},
    {"64x256x784 tb", 64, 256, 784, false, true}, {"64x256x256 tb", 64, 256, 256, false, true},
    {"64x10x256 tb", 64, 10, 256, false, true},   {"64x256x256", 64, 256, 256, false, false},
    {"256x784x64 ta", 256, 784, 64, true, false}, {"10x256x64 ta", 10, 256, 64, true, false},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static int list_items(Item *items, const Isa *isas, int isa_count, bool blas) {
  int n = 0;
  for (int i = 0; i < isa_count; i++) items[n++] = (Item){.name = "peak", .isa = &isas[i]};
  for (int s = 0; s < SHAPES; s++) {
    GemmSpec spec = {.m = shapes[s].m,
                     .n = shapes[s].n,
                     .k = shapes[s].k,
                     .ta = shapes[s].ta,
                     .tb = shapes[s].tb};
    if (blas) items[n++] = (Item){.name = shapes[s].name, .spec = spec};
    for (int i = 0; i < 2 * isa_count; i++) {
      spec.a = spec.b = i % 2 ? GEMM_BF16 : GEMM_F32;
      if (isas[i / 2].vec.dot_bf16 && !(i % 2)) continue; /* f32 is as without */
      items[n++] = (Item){.name = shapes[s].name, .isa = &isas[i / 2], .spec = spec};
    }
  }
  return n;
}

static double rate(Item *it, int rounds) { return it->flop / median(it->seconds, rounds) * 1e-9; }

/* The peak of the item's own vectors; OpenBLAS is judged by the widest. */
static double peak_of(Item *items, int n, const Item *it, int rounds) {
  double peak = 0;
  for (int i = 0; i < n; i++)
    if (items[i].peak && (!it->isa || items[i].isa == it->isa)) peak = rate(&items[i], rounds);
  return peak;
}

static void report(Item *items, int n, int rounds) {
  double blas = 0;
  printf("%-16s %-8s %-5s %10s %8s %8s %8s\n", "shape", "vectors", "type", "us", "GFLOP/s",
         "of peak", "of BLAS");
  for (int i = 0; i < n; i++) {
    Item *it = &items[i];
    double r = rate(it, rounds);
    if (!it->isa) blas = r;
    const char *type = it->peak ? "-" : it->spec.a == GEMM_BF16 ? "bf16" : "f32";
    printf("%-16s %-8s %-5s %10.2f %8.1f %7.1f%%", it->name, it->isa ? it->isa->name : "openblas",
           type, it->flop / r * 1e-3, r, 100 * r / peak_of(items, n, it, rounds));
    if (!it->peak && it->isa && blas > 0) printf(" %7.2fx", r / blas);
    putchar('\n');
  }
}

int main(int argc, char **argv) {
  int rounds = argc > 1 ? atoi(argv[1]) : 11;
  const char *listing = argc > 2 ? argv[2] : NULL;
  if (rounds < 1 || rounds > MAX_ROUNDS) rounds = MAX_ROUNDS;
  char *features = LLVMGetHostCPUFeatures();
  bool wide = strstr(features, "+avx512f") != NULL;
  bool dots =
      strstr(features, "+avx512bf16") != NULL; /* two fma of a lane in one: beyond the peak */
  LLVMDisposeMessage(features);
  const Isa isas[] = {
      {"avx2", {"x86-64-v3", "", "default<O3>", listing}, {8, 16, false}},
      {"avx512", {NULL, NULL, "default<O3>", listing}, {16, 32, false}},
      {"dotbf16", {NULL, NULL, "default<O3>", listing}, {16, 32, true}},
  };
  Sgemm *sgemm = find_sgemm();
  Item *items = calloc(MAX_ITEMS, sizeof *items);
  int n = list_items(items, isas, wide ? 2 + dots : 1, sgemm != NULL);
  for (int i = 0; i < n; i++)
    if (!(items[i].spec.m ? gemm_prepare(&items[i]) : peak_prepare(&items[i]))) return 1;
  for (int r = 0; r < rounds; r++)
    for (int i = 0; i < n; i++) items[i].seconds[r] = measure(&items[i], sgemm);
  report(items, n, rounds);
  return 0;
}
