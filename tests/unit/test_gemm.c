/* test_gemm.c: the emitted gemm against the order of additions it promises, bit for bit.
 *
 * Every case is compiled in this process, for the host's vectors and for AVX2, run by each of a
 * few "threads" in turn, and compared with a naive loop of fmaf under DAZ/FTZ.  Operands end 64
 * bytes before an unreadable page (that slack is NaN), results and scratch right at one, so a read
 * or write too far is a crash; results have canaries between their rows.
 */
#define _DEFAULT_SOURCE
#include "gemm_jit.h"
#include "tests/unit/oracle.h"

#include <llvm-c/Core.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__x86_64__)
#include <immintrin.h>
static void flush_subnormals(void) { _mm_setcsr(_mm_getcsr() | 0x8040); }
#endif

#if !defined(__x86_64__)
int main(void) { return 77; /* skipped: only x86-64's way into DAZ/FTZ is known here */ }
#else

enum { SLACK = 64, PAGE = 1 << 16, ROOM = 1 << 22 };

/* ---- memory that ends at an unreadable page ------------------------------------------------- */

typedef struct Region {
  char *end;
} Region;

static Region region_new(void) {
  char *p = mmap(NULL, ROOM + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED || mprotect(p + ROOM, PAGE, PROT_NONE)) {
    perror("test_gemm");
    exit(1);
  }
  return (Region){p + ROOM};
}

/* The last `bytes` before the slack; the slack is NaN in f32, bf16 and f16. */
static void *region_take(Region r, uint64_t bytes, uint64_t slack) {
  if (bytes + slack > ROOM) exit(1);
  memset(r.end - slack, 0xFF, slack);
  return r.end - slack - bytes;
}

static uint64_t elem_bytes(GemmElem e) { return e == GEMM_F32 ? 4 : 2; }

/* ---- random operands ------------------------------------------------------------------------ */

static uint64_t next_random(uint64_t *s) {
  *s += 0x9E3779B97F4A7C15u;
  uint64_t z = *s;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/* Kinds of values: plain ones; tiny and subnormal (products flush to ±0); zeros of both signs and
 * cancelling ones; the whole range of exponents, overflow included. */
typedef enum Values { PLAIN, TINY, ZEROS, WIDE, VALUES } Values;

static uint32_t random_bits(uint64_t *s, Values kind) {
  uint64_t r = next_random(s);
  uint32_t sign = (uint32_t)(r & 1) << 31, mantissa = (uint32_t)(r >> 8) & 0x7FFFFF;
  uint32_t pick = (uint32_t)(r >> 40) & 0xFF;
  switch (kind) {
  case TINY: return sign | (pick % 8 ? (60 + pick % 10) << 23 : 0) | mantissa;
  case ZEROS: return sign | (pick % 3 ? 0 : 127u << 23);
  case WIDE: return sign | (pick % 255) << 23 | mantissa;
  default: return sign | (120 + pick % 8) << 23 | mantissa;
  }
}

/* Of the same kinds: no scale of f16 lets a product underflow in f32, so TINY is subnormal f16. */
static uint16_t random_f16(uint64_t *seed, Values kind) {
  uint64_t r = next_random(seed);
  uint32_t pick = (uint32_t)(r >> 40), e = 12 + pick % 6;
  if (kind == TINY) e = pick % 2;
  else if (kind == WIDE) e = pick % 31;
  uint16_t sign = (uint16_t)(r << 15);
  if (kind == ZEROS) return (uint16_t)(sign | (pick % 3 ? 0 : 0x3c00));
  return (uint16_t)(sign | e << 10 | (r >> 8 & 0x3ff));
}

static void fill(void *p, GemmElem e, int64_t count, uint64_t *seed, Values kind) {
  for (int64_t i = 0; i < count; i++) {
    uint32_t bits = random_bits(seed, kind);
    uint16_t half = e == GEMM_F16 ? random_f16(seed, kind) : (uint16_t)(bits >> 16);
    if (e == GEMM_F32) memcpy((char *)p + 4 * i, &bits, 4);
    else memcpy((char *)p + 2 * i, &half, 2);
  }
}

static float element(const void *p, GemmElem e, int64_t i) {
  uint32_t bits;
  uint16_t half;
  float f;
  if (e == GEMM_F32) {
    memcpy(&bits, (const char *)p + 4 * i, 4);
  } else {
    memcpy(&half, (const char *)p + 2 * i, 2);
    if (e == GEMM_F16) return (float)f16_value(half);
    bits = (uint32_t)half << 16;
  }
  memcpy(&f, &bits, 4);
  return f;
}

/* ---- the meaning ---------------------------------------------------------------------------- */

static float reference(const GemmSpec *s, const void *a, const void *b, float total, int64_t i,
                       int64_t j) {
  bool pad = s->a == GEMM_BF16 && s->b == GEMM_BF16 && s->k % 2;
  for (int64_t k0 = 0; k0 < s->k; k0 += s->k_chunk) {
    float chain = 0;
    for (int64_t k = k0; k < s->k && k < k0 + s->k_chunk; k++) {
      float x = element(a, s->a, s->ta ? k * s->lda + i : i * s->lda + k);
      float y = element(b, s->b, s->tb ? j * s->ldb + k : k * s->ldb + j);
      chain = fmaf(x, y, chain);
    }
    if (pad && k0 + s->k_chunk >= s->k) chain = fmaf(0.0f, 0.0f, chain);
    total += chain;
  }
  return total;
}

static bool same(float x, float y) {
  return memcmp(&x, &y, sizeof x) == 0 || (isnan(x) && isnan(y));
}

/* ---- one case ------------------------------------------------------------------------------- */

typedef struct Bench {
  Region a, b, c, init, scratch;
  uint64_t seed;
  int cases, failures;
} Bench;

static const float canary = -12345.678f;

static bool holds(const GemmSpec *s, const void *a, const void *b, const float *init,
                  const float *c, int64_t ldc) {
  for (int64_t i = 0; i < s->m; i++)
    for (int64_t j = 0; j < ldc && i * ldc + j < (s->m - 1) * ldc + s->n; j++) {
      float want = canary;
      if (j < s->n) want = reference(s, a, b, init ? init[i * ldc + j] : 0.0f, i, j);
      if (same(want, c[i * ldc + j])) continue;
      fprintf(stderr, "C[%lld,%lld] is %a, should be %a\n", (long long)i, (long long)j,
              (double)c[i * ldc + j], (double)want);
      return false;
    }
  return true;
}

static int64_t stored(int64_t rows, int64_t cols, int64_t ld) { return (rows - 1) * ld + cols; }

static bool run_values(Bench *t, const GemmSpec *s, const GemmJit *jit, int64_t ldc, bool init,
                       int threads, Values kind) {
  int64_t an = s->ta ? stored(s->k, s->m, s->lda) : stored(s->m, s->k, s->lda);
  int64_t bn = s->tb ? stored(s->n, s->k, s->ldb) : stored(s->k, s->n, s->ldb);
  int64_t cn = stored(s->m, s->n, ldc);
  void *a = region_take(t->a, (uint64_t)an * elem_bytes(s->a), SLACK);
  void *b = region_take(t->b, (uint64_t)bn * elem_bytes(s->b), SLACK);
  float *c = region_take(t->c, (uint64_t)cn * 4, 0);
  float *from = region_take(t->init, (uint64_t)cn * 4, 0);
  void *scratch = region_take(t->scratch, jit->scratch_bytes, 0);
  fill(a, s->a, an, &t->seed, kind);
  fill(b, s->b, bn, &t->seed, kind);
  fill(from, GEMM_F32, cn, &t->seed, kind);
  for (int64_t i = 0; i < cn; i++) c[i] = canary;
  for (int i = 0; i < threads; i++) {
    memset(scratch, 0xFF, jit->scratch_bytes);
    jit->run(i, threads, a, b, c, from, scratch);
  }
  return holds(s, a, b, init ? from : NULL, c, ldc);
}

/* One in three is optimized: the passes take longer than everything else here. */
static void run_case(Bench *t, GemmSpec s, const GemmTarget *target, uint64_t variant) {
  static const int teams[] = {1, 2, 3, 7, 64};
  static const char *const names[] = {"f32", "bf16", "f16"};
  GemmTarget how = *target;
  how.passes = variant % 3 ? "default<O0>" : "default<O2>";
  bool init = variant & 1;
  int64_t gap = (variant >> 1) % 3;
  s.lda = (s.ta ? s.m : s.k) + gap;
  s.ldb = (s.tb ? s.k : s.n) + (gap ? 3 - gap : 0);
  int64_t ldc = s.n + gap;
  GemmJit jit;
  bool ok = gemm_jit(&jit, s, ldc, init, &how);
  for (Values kind = PLAIN; ok && kind < VALUES; kind++)
    ok = run_values(t, &s, &jit, ldc, init, teams[(variant + kind) % 5], kind);
  jit_free(&jit.jit);
  t->cases++;
  if (ok) return;
  t->failures++;
  fprintf(stderr,
          "failed: lanes %u m %lld n %lld k %lld chunk %lld ta %d tb %d a %s b %s init %d\n",
          s.vec.f32_lanes, (long long)s.m, (long long)s.n, (long long)s.k, (long long)s.k_chunk,
          s.ta, s.tb, names[s.a], names[s.b], init);
}

/* ---- the cases ------------------------------------------------------------------------------ */

/* Each row is run in all four transposes, with every pair of operand types in turn. */
static const int64_t shapes[][4] = {
    /* m, n, k, k_chunk */
    {1, 1, 1, 4},       {1, 17, 5, 4},     {2, 3, 7, 256},   {5, 15, 31, 8},   {7, 16, 16, 16},
    {13, 31, 37, 16},   {16, 33, 64, 32},  {29, 47, 19, 6},  {64, 10, 61, 61}, {10, 64, 33, 64},
    {31, 65, 21, 5},    {1, 130, 40, 32},  {67, 1, 23, 256}, {97, 49, 50, 25}, {120, 24, 9, 4},
    {3, 100, 300, 256}, {8, 48, 257, 128},
};

static void run_all(Bench *t, const GemmTarget *target, VecInfo vec) {
  static const GemmElem elems[][2] = {
      {GEMM_F32, GEMM_F32},  {GEMM_BF16, GEMM_BF16}, {GEMM_F16, GEMM_F16},
      {GEMM_BF16, GEMM_F32}, {GEMM_F32, GEMM_F16},   {GEMM_BF16, GEMM_F16},
      {GEMM_F32, GEMM_BF16}, {GEMM_F16, GEMM_F32},   {GEMM_F16, GEMM_BF16}};
  uint64_t variant = 0;
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    for (int transposed = 0; transposed < 4; transposed++, variant++) {
      GemmSpec s = {.m = shapes[i][0],
                    .n = shapes[i][1],
                    .k = shapes[i][2],
                    .k_chunk = shapes[i][3],
                    .ta = transposed & 1,
                    .tb = transposed >> 1,
                    .vec = vec};
      for (size_t e = 0; e < (vec.f32_lanes == 16 ? 1 + i % 2 : 1); e++) {
        size_t pair = e == 0 ? variant % 3 : 3 + (variant + i) % 6;
        s.a = elems[pair][0];
        s.b = elems[pair][1];
        run_case(t, s, target, variant * 5 + e);
      }
    }
}

/* Blocks of strips: a is larger than a block's share of the cache. */
static void run_large(Bench *t, const GemmTarget *target, VecInfo vec) {
  for (int i = 0; i < 4; i++) {
    GemmSpec s = {.m = 210,
                  .n = 20,
                  .k = 2801,
                  .k_chunk = 256,
                  .ta = i & 1,
                  .tb = i >> 1,
                  .a = i % 3 || vec.dot_bf16 ? GEMM_BF16 : GEMM_F32,
                  .b = i % 2 && !vec.dot_bf16 ? GEMM_F16 : GEMM_BF16,
                  .vec = vec};
    run_case(t, s, target, 7u + (uint64_t)i);
  }
}

/* Pairs of bf16 in one instruction: every shape, every transpose. */
static void run_dots(Bench *t, const GemmTarget *target, VecInfo vec) {
  uint64_t variant = 0;
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    for (int transposed = 0; transposed < 4; transposed++, variant++) {
      GemmSpec s = {.m = shapes[i][0],
                    .n = shapes[i][1],
                    .k = shapes[i][2],
                    .k_chunk = shapes[i][3],
                    .a = GEMM_BF16,
                    .b = GEMM_BF16,
                    .ta = transposed & 1,
                    .tb = transposed >> 1,
                    .vec = vec};
      run_case(t, s, target, variant * 5);
    }
  run_large(t, target, vec);
}

int main(void) {
  flush_subnormals();
  Bench t = {region_new(), region_new(), region_new(), region_new(), region_new(), 1, 0, 0};
  char *features = LLVMGetHostCPUFeatures();
  bool wide = strstr(features, "+avx512f") != NULL && strstr(features, "+avx512vl") != NULL;
  bool fma = strstr(features, "+fma") != NULL && strstr(features, "+avx2") != NULL;
  bool dots = strstr(features, "+avx512bf16") != NULL;
  LLVMDisposeMessage(features);
  if (!fma) return 77;
  GemmTarget host = {NULL, NULL, NULL, NULL};
  GemmTarget avx2 = {"x86-64-v3", "-avx512f", NULL, NULL};
  GemmTarget plain = {"x86-64-v3", "", NULL, NULL};
  if (wide) run_all(&t, &host, (VecInfo){16, 32, false});
  if (wide) run_large(&t, &host, (VecInfo){16, 32, false});
  if (wide && dots) run_dots(&t, &host, (VecInfo){16, 32, true});
  else printf("left out: vdpbf16ps, which this processor lacks\n");
  run_all(&t, &avx2, (VecInfo){8, 16, false});
  run_case(&t,
           (GemmSpec){.m = 14, .n = 27, .k = 35, .k_chunk = 16, .tb = true, .vec = {4, 16, false}},
           &plain, 1);
  printf("%d gemms, %d wrong\n", t.cases, t.failures);
  return t.failures != 0;
}
#endif
