/* test_scalar.c: the scalar programs against independent statements of what they mean.
 *
 *     test_scalar [--long]
 *
 * Elementary functions and the conversions to bf16 and f16 are tried on a stride through all 2^32
 * patterns, with --long or MPCC_LONG=1 on all of them.
 */
#include "tests/unit/oracle.h"
#include "tests/unit/sweep.h"

#include <float.h>
#include <stdlib.h>

enum { STRIDE = SANITIZED ? 60013 : 6007 };

typedef struct Test {
  const Scalars *scalars;
  Checks checks;
  uint32_t stride;
} Test;

static void run(const SProg *p, const uint32_t *args, uint32_t *results) {
  uint64_t saved = float_mode_set();
  scalar_run(p, args, results);
  float_mode_restore(saved);
}

static uint32_t run1(const Test *t, ScalarId id, uint32_t x) {
  uint32_t y[SCALAR_RESULTS];
  run(&t->scalars->prog[id], &x, y);
  return y[0];
}

static uint32_t run2(const Test *t, ScalarId id, uint32_t x, uint32_t y) {
  uint32_t r[SCALAR_RESULTS];
  run(&t->scalars->prog[id], (uint32_t[]){x, y}, r);
  return r[0];
}

/* ---- elementary functions -------------------------------------------------------------------- */

static void test_accuracy(Test *t, const Oracle *o) {
  const char *name = t->scalars->prog[o->id].name;
  double worst = 0;
  uint32_t at = 0;
  Sweep s = sweep_start(&t->scalars->prog[o->id], t->stride);
  while (sweep_next(&s))
    for (uint32_t i = 0; i < s.n; i++) {
      double e = ulp_error(o, s.x[i], s.y[i]);
      if (!(e <= worst)) worst = e, at = s.x[i];
    }
  printf("%-12s %.3f ulp at %a\n", name, worst, (double)float_of(at));
  check_that(&t->checks, worst <= o->limit, "%s(%a) is off by %g ulp", name, (double)float_of(at),
             worst);
}

static bool same_float(uint32_t a, uint32_t b) { return a == b || (is_nan(a) && is_nan(b)); }

static void test_values(Test *t) {
  static const struct {
    ScalarId id;
    float x, y;
  } CASES[] = {
      {SC_exp, -INFINITY, 0},
      {SC_exp, INFINITY, INFINITY},
      {SC_exp, 0, 1},
      {SC_exp, -0.0f, 1},
      {SC_exp, 88.8f, INFINITY},
      {SC_exp, -103.9f, 0},
      {SC_exp, NAN, NAN},
      {SC_exp, 1e-40f, 1},
      {SC_expm1, -0.0f, -0.0f},
      {SC_expm1, 0, 0},
      {SC_expm1, -INFINITY, -1},
      {SC_expm1, INFINITY, INFINITY},
      {SC_expm1, NAN, NAN},
      {SC_expm1, -1e-40f, -0.0f},
      {SC_expm1, 1e-30f, 1e-30f},
      {SC_log, 0, -INFINITY},
      {SC_log, -0.0f, -INFINITY},
      {SC_log, 1e-40f, -INFINITY},
      {SC_log, -1, NAN},
      {SC_log, -INFINITY, NAN},
      {SC_log, INFINITY, INFINITY},
      {SC_log, NAN, NAN},
      {SC_log, 1, 0},
      {SC_log1p, -0.0f, -0.0f},
      {SC_log1p, 0, 0},
      {SC_log1p, -1, -INFINITY},
      {SC_log1p, -1.5f, NAN},
      {SC_log1p, -INFINITY, NAN},
      {SC_log1p, INFINITY, INFINITY},
      {SC_log1p, NAN, NAN},
      {SC_tanh, -0.0f, -0.0f},
      {SC_tanh, INFINITY, 1},
      {SC_tanh, -INFINITY, -1},
      {SC_tanh, NAN, NAN},
      {SC_sigmoid, -INFINITY, 0},
      {SC_sigmoid, INFINITY, 1},
      {SC_sigmoid, 0, 0.5f},
      {SC_sigmoid, NAN, NAN},
      {SC_erf, -0.0f, -0.0f},
      {SC_erf, INFINITY, 1},
      {SC_erf, -INFINITY, -1},
      {SC_erf, NAN, NAN},
      {SC_rsqrt, 0, INFINITY},
      {SC_rsqrt, -0.0f, -INFINITY},
      {SC_rsqrt, INFINITY, 0},
      {SC_rsqrt, -1, NAN},
      {SC_rsqrt, 4, 0.5f},
      {SC_silu, -INFINITY, -0.0f},
      {SC_silu, INFINITY, INFINITY},
      {SC_silu, FLT_MAX, FLT_MAX},
      {SC_silu, -0.0f, -0.0f},
      {SC_silu, NAN, NAN},
      {SC_gelu, -INFINITY, -0.0f},
      {SC_gelu, INFINITY, INFINITY},
      {SC_gelu, -0.0f, -0.0f},
      {SC_gelu, NAN, NAN},
      {SC_gelu_grad, -INFINITY, -0.0f},
      {SC_gelu_grad, INFINITY, 1},
      {SC_gelu_grad, 0, 0.5f},
      {SC_gelu_grad, NAN, NAN},
      {SC_gelu_tanh, -INFINITY, -0.0f},
      {SC_gelu_tanh, INFINITY, INFINITY},
      {SC_gelu_tanh, NAN, NAN},
      {SC_gelu_tanh_grad, -INFINITY, -0.0f},
      {SC_gelu_tanh_grad, INFINITY, 1},
      {SC_gelu_tanh_grad, 0, 0.5f},
      {SC_gelu_tanh_grad, NAN, NAN},
      {SC_relu, NAN, NAN},
      {SC_relu, -0.0f, 0},
      {SC_relu, -1, 0},
      {SC_relu, 1e-40f, 0},
      {SC_relu, INFINITY, INFINITY},
      {SC_sign, -3, -1},
      {SC_sign, -0.0f, -0.0f},
      {SC_sign, 1e-40f, 0},
      {SC_sign, NAN, NAN},
      {SC_rint, 2.5f, 2},
      {SC_rint, -0.4f, -0.0f},
      {SC_neg, 1e-40f, -1e-40f},
      {SC_abs, -1e-40f, 1e-40f},
      {SC_flush, -1e-40f, -0.0f},
      {SC_sqrt, -1, NAN},
      {SC_sqrt, -0.0f, -0.0f},
      {SC_reciprocal, -0.0f, -INFINITY},
  };
  for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
    uint32_t y = run1(t, CASES[i].id, bits_of(CASES[i].x));
    check_that(&t->checks, same_float(y, bits_of(CASES[i].y)), "%s(%a) = %a, not %a",
               t->scalars->prog[CASES[i].id].name, (double)CASES[i].x, (double)float_of(y),
               (double)CASES[i].y);
  }
}

/* x from everywhere, and often near 1; y such that x^y is often a number. */
static void test_pow(Test *t) {
  static const float SPECIAL[] = {0,     -0.0f,    1,         -1,  2,    -2,       3,     0.5f,
                                  1e30f, INFINITY, -INFINITY, NAN, 1e9f, 16777215, -2.5f, 1e-40f};
  enum { N = sizeof SPECIAL / sizeof *SPECIAL };
  uint64_t state = 1;
  double worst = 0;
  for (int i = 0; i < N * N; i++) {
    float x = SPECIAL[i / N], y = SPECIAL[i % N];
    float got = float_of(run2(t, SC_pow, bits_of(x), bits_of(y)));
    float want = powf(fabsf(x) < 1e-38f ? copysignf(0, x) : x, fabsf(y) < 1e-38f ? 0 : y);
    check_that(&t->checks,
               same_float(bits_of(got), bits_of(want)) || fabsf(got - want) < 1.3e-7f * fabsf(want),
               "pow(%a, %a) = %a, not %a", (double)x, (double)y, (double)got, (double)want);
  }
  for (int i = 0; i < (t->stride == 1 ? 40000000 : 300000); i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    uint32_t bits = (uint32_t)(state >> 33), spread = (uint32_t)(state >> 17) & 0xffffff;
    float x = float_of(i & 1 ? bits & 0x7fffffff : 0x3f000000 + (bits & 0x00ffffff));
    float y = (float)(((double)spread / 0x1p23 - 1) * 80 / fmax(fabs(log((double)x)), 1e-6));
    if (!(x >= 0x1p-126f) || isinf(x)) continue;
    double exact = pow((double)x, (double)y);
    if (exact < 0x1p-125 || exact > 0x1p127) continue;
    double e =
        fabs((double)float_of(run2(t, SC_pow, bits_of(x), bits_of(y))) - exact) / ulp_of(exact);
    if (!(e <= worst)) worst = e;
  }
  printf("pow          %.3f ulp\n", worst);
  check_that(&t->checks, worst <= 2, "pow is off by %g ulp", worst);
}

static void test_max_min(Test *t) {
  static const struct {
    float x, y, max, min;
  } CASES[] = {
      {1, 2, 2, 1},
      {-0.0f, 0, 0, -0.0f},
      {0, -0.0f, 0, -0.0f},
      {NAN, 1, NAN, NAN},
      {1, NAN, NAN, NAN},
      {-0.0f, -0.0f, -0.0f, -0.0f},
      {-INFINITY, 3, 3, -INFINITY},
      {INFINITY, NAN, NAN, NAN},
      {-2, -2, -2, -2},
  };
  for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
    uint32_t x = bits_of(CASES[i].x), y = bits_of(CASES[i].y);
    check_that(&t->checks, same_float(run2(t, SC_max, x, y), bits_of(CASES[i].max)), "max case %zu",
               i);
    check_that(&t->checks, same_float(run2(t, SC_min, x, y), bits_of(CASES[i].min)), "min case %zu",
               i);
  }
}

/* ---- primitives ------------------------------------------------------------------------------ */

static void test_prims(Test *t) {
  static const struct {
    SPrim prim;
    uint32_t x, y, result;
  } CASES[] = {
      {SP_shl, 1, 31, 0x80000000},          {SP_shl, 1, 32, 0},
      {SP_shr, 0x80000000, 31, 1},          {SP_shr, 1, 0xffffffff, 0},
      {SP_sar, 0x80000000, 4, 0xf8000000},  {SP_sar, 0x80000000, 99, 0xffffffff},
      {SP_sar, 0x7fffffff, 99, 0},          {SP_iadd, 0x7fffffff, 1, 0x80000000},
      {SP_imul, 0x80000001, 3, 0x80000003}, {SP_umulhi, 0xffffffff, 0xffffffff, 0xfffffffe},
      {SP_ilt, 0x80000000, 0, 1},           {SP_ult, 0x80000000, 0, 0},
      {SP_ftoi, 0x7fc00000, 0, 0},          {SP_ftoi, 0x4f000000, 0, 0x7fffffff},
      {SP_ftoi, 0xcf000000, 0, 0x80000000}, {SP_ftoi, 0xff800000, 0, 0x80000000},
      {SP_ftoi, 0xbfffffff, 0, 0xffffffff}, {SP_itof, 0xffffffff, 0, 0xbf800000},
      {SP_utof, 0xffffffff, 0, 0x4f800000}, {SP_itof, 16777217, 0, 0x4b800000},
      {SP_eq, 0x00000001, 0x80000000, 1},   {SP_lt, 0, 0x007fffff, 0},
      {SP_mul, 0x00800000, 0x3f000000, 0},  {SP_mul, 0x00400000, 0x7f000000, 0},
      {SP_add, 0x007fffff, 0x00000001, 0},  {SP_add, 0x80000001, 0x80000001, 0x80000000},
      {SP_neg, 0x7fc00001, 0, 0xffc00001},  {SP_abs, 0xffc00001, 0, 0x7fc00001},
  };
  for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
    uint64_t saved = float_mode_set();
    uint32_t r = scalar_prim(CASES[i].prim, CASES[i].x, CASES[i].y, 0);
    float_mode_restore(saved);
    check_that(&t->checks, r == CASES[i].result, "primitive case %zu: %08x, not %08x", i, r,
               CASES[i].result);
  }
}

/* ---- many at once ---------------------------------------------------------------------------- */

/* scalar_run_many = scalar_run, in whole and in broken vectors; what lies behind stays. */
static void test_many(Test *t, const SProg *p, uint32_t n) {
  enum { MOST = 130 };
  uint32_t args[SCALAR_ARGS * MOST], results[SCALAR_RESULTS * MOST + 1], wrong = 0, seed = n;
  for (uint32_t i = 0; i < p->nargs * n; i++) {
    seed = seed * 1664525u + 1013904223u;
    args[i] = p->arg[i / n] == S_I1 ? seed >> 31 : seed ^ seed >> 16;
  }
  results[p->nres * n] = 0xdeadbeef;
  uint64_t saved = float_mode_set();
  scalar_run_many(p, n, args, results);
  for (uint32_t i = 0; i < n; i++) {
    uint32_t x[SCALAR_ARGS], y[SCALAR_RESULTS];
    for (uint32_t k = 0; k < p->nargs; k++) x[k] = args[k * n + i];
    scalar_run(p, x, y);
    for (uint32_t r = 0; r < p->nres; r++)
      wrong += p->res_type[r] == S_F32 ? !same_float(y[r], results[r * n + i])
                                       : y[r] != results[r * n + i];
  }
  float_mode_restore(saved);
  check_that(&t->checks, !wrong && results[p->nres * n] == 0xdeadbeef, "%u of %u of %s differ",
             wrong, n, p->name);
}

static void test_all_many(Test *t) {
  static const uint32_t N[] = {1, 63, 64, 65, 130};
  for (int id = 0; id < SC_COUNT; id++)
    for (size_t i = 0; i < sizeof N / sizeof *N; i++) test_many(t, &t->scalars->prog[id], N[i]);
}

/* ---- bf16 ------------------------------------------------------------------------------------ */

static void test_to_bf16(Test *t) {
  uint32_t at = 0;
  uint32_t wrong =
      sweep_differences(&t->scalars->prog[SC_f32_to_bf16], t->stride, bf16_oracle, &at);
  check_that(&t->checks, !wrong, "f32_to_bf16: %u wrong, such as %08x", wrong, at);
}

static void test_from_bf16(Test *t) {
  uint32_t wrong = 0;
  for (uint32_t x = 0; x < 0x10000; x++) {
    bool tiny = (x & 0x7f80) == 0;
    wrong += run1(t, SC_bf16_to_f32, x | 0xabc0000) != (tiny ? x & 0x8000 : x) * 0x10000;
    wrong += run1(t, SC_f32_to_bf16, x << 16) != (tiny              ? x & 0x8000
                                                  : is_nan(x << 16) ? x | 0x40
                                                                    : x);
  }
  check_that(&t->checks, !wrong, "bf16_to_f32 and back: %u wrong", wrong);
  static const uint32_t CASES[][2] = {
      {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, {0x7f7fffff, 0x7f80},
      {0x007fffff, 0x0000}, {0x807fffff, 0x8000}, {0x7f800001, 0x7fc0}, {0xffffffff, 0xffff}};
  for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
    check_that(&t->checks, run1(t, SC_f32_to_bf16, CASES[i][0]) == CASES[i][1], "bf16 case %zu", i);
}

/* ---- f16 ------------------------------------------------------------------------------------- */

static void test_to_f16(Test *t) {
  uint32_t at = 0;
  uint32_t wrong = sweep_differences(&t->scalars->prog[SC_f32_to_f16], t->stride, f16_oracle, &at);
  check_that(&t->checks, !wrong, "f32_to_f16: %u wrong, such as %08x", wrong, at);
}

/* Every code is widened exactly and comes back; so does what lies halfway between two, to the even
 * one, and what lies just beside the middle to the nearer. */
static void test_from_f16(Test *t) {
  uint32_t wrong = 0;
  for (uint32_t x = 0; x < 0x10000; x++) {
    uint32_t y = run1(t, SC_f16_to_f32, x | 0xabc0000), back = run1(t, SC_f32_to_f16, y);
    bool nan = isnan(f16_value(x));
    wrong += nan ? !is_nan(y) || !(y & 0x400000) : (double)float_of(y) != f16_value(x);
    wrong += y >> 31 != x >> 15 || back != (nan ? x | 0x200 : x);
    if ((x & 0x7fff) >= 0x7c00) continue;
    double next = (x & 0x7fff) == 0x7bff ? 0x1p16 : fabs(f16_value(x + 1));
    uint32_t middle = bits_of((float)copysign((fabs(f16_value(x)) + next) / 2, f16_value(x)));
    wrong += run1(t, SC_f32_to_f16, middle) != x + (x & 1);
    wrong += run1(t, SC_f32_to_f16, middle - 1) != x;
    wrong += run1(t, SC_f32_to_f16, middle + 1) != x + 1;
  }
  check_that(&t->checks, !wrong, "f16_to_f32 and back: %u wrong", wrong);
  static const uint32_t CASES[][2] = {
      {0x477fefff, 0x7bff}, {0x477ff000, 0x7c00}, {0x33000000, 0x0000}, {0x33000001, 0x0001},
      {0xb3000001, 0x8001}, {0x38800000, 0x0400}, {0x387fffff, 0x0400}, {0x387fc000, 0x03ff},
      {0x007fffff, 0x0000}, {0x80000001, 0x8000}, {0x7f7fffff, 0x7c00}, {0x7f800001, 0x7e00},
      {0xffffffff, 0xffff}, {0x3f800000, 0x3c00}, {0x3f801000, 0x3c00}, {0x3f803000, 0x3c02}};
  for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
    check_that(&t->checks, run1(t, SC_f32_to_f16, CASES[i][0]) == CASES[i][1], "f16 case %zu", i);
}

/* ---- random numbers -------------------------------------------------------------------------- */

static void test_philox(Test *t) {
  static const uint32_t CASES[][2][6] = {
      /* the known answers that come with the paper */
      {{0, 0, 0, 0, 0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{~0u, ~0u, ~0u, ~0u, ~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
    uint32_t y[SCALAR_RESULTS];
    run(&t->scalars->prog[SC_philox], CASES[i][0], y);
    check_that(&t->checks, !memcmp(y, CASES[i][1], sizeof y),
               "philox case %zu: %08x %08x %08x %08x", i, y[0], y[1], y[2], y[3]);
  }
}

typedef struct Normal {
  double worst, largest;
  uint32_t asymmetric, infinite;
} Normal;

/* Phi(normal(u)) is where u stands among its like, (|u| + 1/2) / 2^32 from either end. */
static void add_normal(Normal *all, uint64_t u, float z, float mirrored) {
  double tail = ((double)u + 0.5) * 0x1p-32;
  double slope = fmax((double)z, 0.5) * tail; /* about -d Phi / dz, so this is an error of z */
  double e = fabs(0.5 * erfc((double)z * 0.70710678118654752440) - tail) / fmax(slope, 1e-300);
  if (!(e <= all->worst)) all->worst = e;
  if (z > all->largest) all->largest = z;
  all->asymmetric += mirrored != -z;
  all->infinite += !isfinite(z);
}

/* u from u on, the first hundred thousand and then by strides; the next one. */
static uint64_t add_normals(const Test *t, Normal *all, uint64_t u) {
  const SProg *p = &t->scalars->prog[SC_normal_from_u32];
  uint32_t n = 0, x[2][SWEEP_BLOCK], y[2][SWEEP_BLOCK], at[SWEEP_BLOCK];
  for (; n < SWEEP_BLOCK && u < 0x80000000; n++, u += u < 100000 ? 1 : t->stride) {
    at[n] = (uint32_t)u;
    x[0][n] = (uint32_t)(0x7fffffff - u);
    x[1][n] = (uint32_t)(0x80000000 + u);
  }
  uint64_t saved = float_mode_set();
  for (int side = 0; side < 2; side++) scalar_run_many(p, n, x[side], y[side]);
  float_mode_restore(saved);
  for (uint32_t i = 0; i < n; i++) add_normal(all, at[i], float_of(y[0][i]), float_of(y[1][i]));
  return u;
}

static void test_normal(Test *t) {
  Normal all = {0};
  for (uint64_t u = 0; u < 0x80000000;) u = add_normals(t, &all, u);
  printf("normal       error %.2e, largest %.4f\n", all.worst, all.largest);
  check_that(&t->checks, !all.asymmetric && !all.infinite,
             "normal_from_u32 is symmetric and finite");
  check_that(&t->checks, all.worst < 4e-6, "normal_from_u32 is off by %g", all.worst);
}

static void test_uniform(Test *t) {
  check_that(&t->checks, run1(t, SC_uniform01, 0xff) == 0, "uniform01 starts at 0");
  check_that(&t->checks, run1(t, SC_uniform01, ~0u) == bits_of(0x1.fffffep-1f),
             "uniform01 ends at 1-");
}

int main(int argc, char **argv) {
  Arena arena = {0};
  Test t = {.scalars = scalars_parse(&arena), .stride = checks_long(argc, argv) ? 1 : STRIDE};
  test_prims(&t);
  test_all_many(&t);
  test_values(&t);
  test_max_min(&t);
  test_pow(&t);
  test_philox(&t);
  test_uniform(&t);
  test_normal(&t);
  test_from_bf16(&t);
  test_to_bf16(&t);
  test_from_f16(&t);
  test_to_f16(&t);
  for (size_t i = 0; i < NORACLES; i++) test_accuracy(&t, &ORACLES[i]);
  arena_free(&arena);
  return checks_end(&t.checks, "test_scalar");
}
