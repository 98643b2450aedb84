/* test_fp8.c: conversions to what is narrower than f32, against others' idea of them.
 *
 *     test_fp8                  a stride through all 2^32 patterns, MPCC_LONG=1: all of them
 *     test_fp8 --codes NAME STRIDE   what the program f32_to_… makes of patterns 0, STRIDE, …, a
 * byte or two each; for test_ml_dtypes.py
 *
 * fp8: against the integer formula of docs/precision.md, against the nearer of two neighbours found
 * in numbers, and its table of cases; where the CUDA toolkit is installed all against its headers
 * too, bf16 and f16 as well.  NaNs are compared by class.  A subnormal f32 is zero to a program; in
 * fp8 and f16 that is what it rounds to anyway, in bf16 alone CUDA sees a difference.
 */
#include "tests/unit/cuda_oracle.h"
#include "tests/unit/fp8_oracle.h"
#include "tests/unit/sweep.h"

#include <stdlib.h>

enum { STRIDE = 4099 };

typedef struct Test {
  const Scalars *scalars;
  Checks checks;
  uint32_t stride;
} Test;

static Sweep sweep(const Test *t, ScalarId id) {
  return sweep_start(&t->scalars->prog[id], t->stride);
}

static uint32_t run1(const Test *t, ScalarId id, uint32_t x) {
  uint64_t saved = float_mode_set();
  uint32_t y;
  scalar_run(&t->scalars->prog[id], &x, &y);
  float_mode_restore(saved);
  return y;
}

/* ---- fp8 ------------------------------------------------------------------------------------- */

static bool is_nan_code(const Fp8Format *f, uint32_t code) {
  return (code & 0x7f) > (f->m == 2 ? 0x7c : 0x7e);
}

static void test_narrow(Test *t, const Fp8Format *f, bool sat) {
  uint32_t wrong[2] = {0}, at = 0;
  Sweep s = sweep(t, sat ? f->narrow_sat : f->narrow);
  while (sweep_next(&s))
    for (uint32_t i = 0; i < s.n; i++) {
      bool formula = s.y[i] == fp8_by_formula(f, s.x[i], sat);
      bool value = s.y[i] == fp8_by_value(f, s.x[i], sat);
      wrong[0] += !formula;
      wrong[1] += !value;
      if (!formula || !value) at = s.x[i];
    }
  check_that(&t->checks, !wrong[0] && !wrong[1], "%s%s: %u not by formula, %u not by value: %08x",
             f->name, sat ? "_sat" : "", wrong[0], wrong[1], at);
}

/* Counters of saturation: exactly where the cast that saturates and the other one part. */
static void test_too_large(Test *t, const Fp8Format *f, ScalarId too_large) {
  uint32_t wrong = 0, at = 0, sat[SWEEP_BLOCK], is[SWEEP_BLOCK];
  Sweep s = sweep(t, f->narrow);
  while (sweep_next(&s)) {
    uint64_t saved = float_mode_set();
    scalar_run_many(&t->scalars->prog[f->narrow_sat], s.n, s.x, sat);
    scalar_run_many(&t->scalars->prog[too_large], s.n, s.x, is);
    float_mode_restore(saved);
    for (uint32_t i = 0; i < s.n; i++)
      if (is[i] != (s.y[i] != sat[i])) wrong++, at = s.x[i];
  }
  check_that(&t->checks, !wrong, "%s_too_large: %u wrong, such as %08x", f->name, wrong, at);
}

/* Every code is widened exactly and comes back; so does what lies halfway between two, to the even
 * one, and what lies just beside the middle to the nearer. */
static void test_widen(Test *t, const Fp8Format *f) {
  for (uint32_t code = 0; code < 0x100; code++) {
    uint32_t x = run1(t, f->widen, code | 0xabcd00), back = run1(t, f->narrow, x);
    bool number = (code & 0x7f) <= f->largest;
    bool good = x >> 31 == code >> 7;
    if (number) good = good && (double)float_of(x) == fp8_value(f, code) && back == code;
    else if (is_nan_code(f, code)) good = good && is_nan(x) && back == 0x7f;
    else good = good && isinf(float_of(x)) && back == code;
    check_that(&t->checks, good, "%s code %02x is %08x and back %02x", f->name, code, x, back);
    if ((code & 0x7f) >= f->largest) continue;
    uint32_t middle = bits_of((float)((fp8_value(f, code) + fp8_value(f, code + 1)) / 2));
    check_that(&t->checks,
               run1(t, f->narrow, middle) == code + (code & 1) &&
                   run1(t, f->narrow, middle - 1) == code &&
                   run1(t, f->narrow, middle + 1) == code + 1,
               "%s: about the middle above %02x", f->name, code);
  }
}

/* docs/precision.md: e4m3 saturating and not, e5m2 saturating and not. */
static void test_cases(Test *t) {
  static const struct {
    float x;
    uint8_t code[4];
  } CASES[] = {
      {1, {0x38, 0x38, 0x3c, 0x3c}},
      {1.0625f, {0x38, 0x38, 0x3c, 0x3c}},
      {0x1.100002p0f, {0x39, 0x39, 0x3c, 0x3c}}, /* which bf16 would make the tie */
      {0.1f, {0x1d, 0x1d, 0x2e, 0x2e}},
      {448, {0x7e, 0x7e, 0x5f, 0x5f}},
      {464, {0x7e, 0x7e, 0x5f, 0x5f}},
      {0x1.d00002p8f, {0x7e, 0x7f, 0x5f, 0x5f}},
      {57344, {0x7e, 0x7f, 0x7b, 0x7b}},
      {61440, {0x7e, 0x7f, 0x7b, 0x7c}},
      {0x1p-6f, {0x08, 0x08, 0x24, 0x24}},
      {0x1p-9f, {0x01, 0x01, 0x18, 0x18}},
      {0x1p-10f, {0, 0, 0x14, 0x14}},
      {0x1p-17f, {0, 0, 0, 0}},
      {-123.456f, {0xef, 0xef, 0xd8, 0xd8}},
      {INFINITY, {0x7e, 0x7f, 0x7b, 0x7c}},
      {-INFINITY, {0xfe, 0xff, 0xfb, 0xfc}},
      {-0.0f, {0x80, 0x80, 0x80, 0x80}},
      {-0x1p-130f, {0x80, 0x80, 0x80, 0x80}},
  };
  for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
    for (int k = 0; k < 4; k++) {
      const Fp8Format *f = &fp8_formats[k / 2];
      uint32_t y = run1(t, k % 2 ? f->narrow : f->narrow_sat, bits_of(CASES[i].x));
      check_that(&t->checks, y == CASES[i].code[k], "%s of %a is %02x", f->name, (double)CASES[i].x,
                 y);
    }
}

/* 2^floor(log2 |x|), by frexp. */
static uint32_t e8m0_oracle(uint32_t x) {
  int e = 0;
  float v = float_of(x);
  if (!isfinite(v)) return 0xff;
  frexpf(v, &e);
  return e < -125 || v == 0 ? 0 : (uint32_t)(e + 126);
}

static void test_e8m0(Test *t) {
  uint32_t at = 0;
  uint32_t wrong =
      sweep_differences(&t->scalars->prog[SC_f32_to_e8m0], t->stride, e8m0_oracle, &at);
  check_that(&t->checks, !wrong, "e8m0: %u wrong, such as %08x", wrong, at);
  for (uint32_t code = 0; code < 0x100; code++) {
    float v = float_of(run1(t, SC_e8m0_to_f32, code));
    bool good = code == 0xff ? isnan(v) : (double)v == (code ? ldexp(1, (int)code - 127) : 0);
    check_that(&t->checks, good, "e8m0 code %02x is %a", code, (double)v);
  }
}

/* ---- CUDA ------------------------------------------------------------------------------------ */

#if defined(HAVE_CUDA_FP8) || defined(HAVE_CUDA_HALF)
/* Codes that are above `infinity` without the bit `sign` are NaN. */
static void compare(Test *t, ScalarId id, Conversion *cuda, uint32_t sign, uint32_t infinity,
                    bool subnormals) {
  uint32_t wrong = 0, at = 0;
  Sweep s = sweep(t, id);
  while (sweep_next(&s))
    for (uint32_t i = 0; i < s.n; i++) {
      if (!subnormals && is_subnormal(s.x[i])) continue;
      uint32_t want = cuda(s.x[i]);
      bool nan = (s.y[i] & ~sign) > infinity && (want & ~sign) > infinity;
      if (s.y[i] != want && !nan) wrong++, at = s.x[i];
    }
  check_that(&t->checks, !wrong, "%s: %u differ from CUDA, such as %08x", t->scalars->prog[id].name,
             wrong, at);
}
#endif

static void test_cuda_fp8(Test *t) {
#ifdef HAVE_CUDA_FP8
  static Conversion *const from[] = {cuda_from_e4m3, cuda_from_e5m2, cuda_from_e8m0};
  static const ScalarId widen[] = {SC_e4m3_to_f32, SC_e5m2_to_f32, SC_e8m0_to_f32};
  compare(t, SC_f32_to_e4m3, cuda_e4m3, 0x80, 0x7e, true);
  compare(t, SC_f32_to_e4m3_sat, cuda_e4m3_sat, 0x80, 0x7e, true);
  compare(t, SC_f32_to_e5m2, cuda_e5m2, 0x80, 0x7c, true);
  compare(t, SC_f32_to_e5m2_sat, cuda_e5m2_sat, 0x80, 0x7c, true);
  compare(t, SC_f32_to_e8m0, cuda_e8m0, 0, 0xfe, true);
  for (int f = 0; f < 3; f++)
    for (uint32_t code = 0; code < 0x100; code++) {
      uint32_t y = run1(t, widen[f], code), want = from[f](code);
      if (is_subnormal(want)) want = 0; /* 2^-127 */
      check_that(&t->checks, y == want || (is_nan(y) && is_nan(want)),
                 "%s of %02x is %08x, CUDA's %08x", t->scalars->prog[widen[f]].name, code, y, want);
    }
#else
  (void)t;
  printf("SKIPPED: cuda_fp8.h is not installed\n");
#endif
}

static void test_cuda_half(Test *t) {
#ifdef HAVE_CUDA_HALF
  compare(t, SC_f32_to_bf16, cuda_bf16, 0x8000, 0x7f80, false);
  compare(t, SC_f32_to_f16, cuda_f16, 0x8000, 0x7c00, true);
#else
  (void)t;
  printf("SKIPPED: cuda_bf16.h, cuda_fp16.h or a C++ compiler is not installed\n");
#endif
}

/* ---- ml_dtypes ------------------------------------------------------------------------------- */

static bool write_sweep(const Test *t, ScalarId id, size_t bytes) {
  uint8_t codes[2 * SWEEP_BLOCK];
  Sweep s = sweep(t, id);
  while (sweep_next(&s)) {
    for (uint32_t i = 0; i < s.n; i++)
      for (size_t k = 0; k < bytes; k++) codes[bytes * i + k] = (uint8_t)(s.y[i] >> 8 * k);
    if (fwrite(codes, bytes, s.n, stdout) != s.n) return false;
  }
  return true;
}

static int write_codes(const Test *t, const char *name) {
  static const ScalarId ids[] = {SC_f32_to_e4m3,     SC_f32_to_e4m3_sat, SC_f32_to_e5m2,
                                 SC_f32_to_e5m2_sat, SC_f32_to_bf16,     SC_f32_to_f16};
  for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
    if (!strcmp(t->scalars->prog[ids[i]].name, name)) return !write_sweep(t, ids[i], i < 4 ? 1 : 2);
  return 2;
}

int main(int argc, char **argv) {
  Arena arena = {0};
  Test t = {.scalars = scalars_parse(&arena), .stride = checks_long(argc, argv) ? 1 : STRIDE};
  if (argc > 3 && !strcmp(argv[1], "--codes")) {
    t.stride = (uint32_t)strtoul(argv[3], NULL, 10);
    return t.stride ? write_codes(&t, argv[2]) : 2;
  }
  test_cases(&t);
  for (int f = 0; f < 2; f++) {
    test_widen(&t, &fp8_formats[f]);
    test_narrow(&t, &fp8_formats[f], false);
    test_narrow(&t, &fp8_formats[f], true);
  }
  test_too_large(&t, &fp8_formats[0], SC_e4m3_too_large);
  test_too_large(&t, &fp8_formats[1], SC_e5m2_too_large);
  test_e8m0(&t);
  test_cuda_fp8(&t);
  test_cuda_half(&t);
  arena_free(&arena);
  return checks_end(&t.checks, "test_fp8");
}
