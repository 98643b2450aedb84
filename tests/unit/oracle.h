/* oracle.h: what the elementary functions should be, in double, and how far a result is off.
 *
 * A distance is in units in the last place of the exact result.  Subnormal numbers do not exist:
 * such an argument stands for zero, such a result counts as zero, and where the exact result lies
 * within a few ulp of 2^-126 both 0 and 2^-126 are its neighbours.  Beyond the largest number
 * comes infinity, one ulp away.
 */
#ifndef TESTS_UNIT_ORACLE_H
#define TESTS_UNIT_ORACLE_H

#include "ir/scalar.h"
#include "tests/unit/check.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

static inline float float_of(uint32_t bits) {
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

static inline uint32_t bits_of(float f) {
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  return bits;
}

static inline bool is_nan(uint32_t bits) { return (bits & 0x7fffffff) > 0x7f800000; }

static inline bool is_subnormal(uint32_t bits) {
  return (bits & 0x7f800000) == 0 && (bits & 0x7fffffff);
}

static double oracle_rsqrt(double x) { return 1 / sqrt(x); }
static double oracle_sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double oracle_silu(double x) { return x < -700 ? 0 : x / (1 + exp(-x)); }
static double normal_cdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752440); }
static double normal_pdf(double x) { return exp(-0.5 * x * x) * 0.39894228040143267794; }
static double oracle_gelu(double x) { return x < -40 ? -0.0 : x * normal_cdf(x); }
static double oracle_gelu_grad(double x) {
  return fabs(x) > 40 ? x > 0 : normal_cdf(x) + x * normal_pdf(x);
}
static double gelu_tanh_exponent(double x) {
  return -1.5957691216057307117 * (x + 0.044715 * x * x * x);
}
static double oracle_gelu_tanh(double x) {
  return x < -40 ? -0.0 : x / (1 + exp(gelu_tanh_exponent(x)));
}
static double oracle_gelu_tanh_grad(double x) {
  if (fabs(x) > 15) return x > 0;
  double below = exp(gelu_tanh_exponent(x)), slope = 1.5957691216057307117 * (1 + 0.134145 * x * x);
  return (1 + x * slope * below / (1 + below)) / (1 + below);
}
static double oracle_softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }
static double oracle_reciprocal(double x) { return 1 / x; }

/* `limit` holds everywhere, also beside the zeros of sin and of the derivatives. */
typedef struct Oracle {
  ScalarId id;
  double (*exact)(double);
  double limit;
} Oracle;

static const Oracle ORACLES[] = {
    {SC_exp, exp, 2},
    {SC_expm1, expm1, 2},
    {SC_log, log, 2},
    {SC_log1p, log1p, 2},
    {SC_tanh, tanh, 2},
    {SC_sigmoid, oracle_sigmoid, 2},
    {SC_erf, erf, 2},
    {SC_rsqrt, oracle_rsqrt, 1.5},
    {SC_sqrt, sqrt, 0.5},
    {SC_reciprocal, oracle_reciprocal, 0.5},
    {SC_silu, oracle_silu, 2},
    {SC_gelu, oracle_gelu, 2},
    {SC_gelu_grad, oracle_gelu_grad, 2},
    {SC_gelu_tanh, oracle_gelu_tanh, 2},
    {SC_gelu_tanh_grad, oracle_gelu_tanh_grad, 2},
    {SC_softplus, oracle_softplus, 2},
    {SC_sin, sin, 2},
    {SC_cos, cos, 2},
    {SC_floor, floor, 0},
    {SC_rint, rint, 0},
};

enum { NORACLES = sizeof ORACLES / sizeof *ORACLES };

/* 2^e, for -1022 <= e <= 1023: ldexp would take most of the time of a sweep. */
static inline double power_of_two(int e) {
  uint64_t bits = (uint64_t)(1023 + e) << 52;
  double v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

static inline double ulp_of(double exact) {
  uint64_t bits;
  memcpy(&bits, &exact, sizeof bits);
  int e = (int)(bits >> 52 & 0x7ff) - 1023;
  return power_of_two((e < -126 ? -126 : e > 127 ? 127 : e) - 23);
}

/* Of f(x) = got; infinite where no rounding could explain it. */
static inline double ulp_error(const Oracle *o, uint32_t x, uint32_t got) {
  double exact = o->exact(is_subnormal(x) ? copysign(0, float_of(x)) : float_of(x));
  if (isnan(exact) || is_nan(got)) return isnan(exact) && is_nan(got) ? 0 : INFINITY;
  if (is_subnormal(got)) return INFINITY;
  double r = float_of(got);
  if (fabs(exact) >= 0x1p128) return r == copysign(INFINITY, exact) ? 0 : INFINITY;
  if (isinf(r)) r = copysign(0x1p128, r);
  if (r == 0 && fabs(exact) < 0x1.000004p-126) return 0;
  if (fabs(exact) < 0x1p-126 && fabs(exact) < 0x1.fffff8p-127) exact = 0;
  return fabs(r - exact) / ulp_of(exact);
}

/* f32 to bf16. In numbers, not bits: the nearer of two neighbours, found by comparing distances in
 * double. */
static inline uint32_t bf16_oracle(uint32_t x) {
  uint32_t down = x & 0xffff0000, up = down + 0x10000;
  if (is_nan(x)) return (x | 0x00400000) >> 16;
  if ((x & 0x7f800000) == 0) return (x & 0x80000000) >> 16;
  if ((x & 0x7fffffff) == 0x7f800000) return x >> 16;
  double v = fabs((double)float_of(x)), lo = fabs((double)float_of(down));
  double hi = (up & 0x7fffffff) == 0x7f800000 ? 0x1p128 : fabs((double)float_of(up));
  bool odd = down >> 16 & 1;
  return (v - lo < hi - v || (v - lo == hi - v && !odd) ? down : up) >> 16;
}

/* f16 to double: significand times a power of two; NaN stays. */
static inline double f16_value(uint32_t code) {
  int e = code >> 10 & 31, m = code & 0x3ff;
  double v = e == 31 ? (m ? NAN : INFINITY) : (e ? 1024 + m : m) * power_of_two((e ? e : 1) - 25);
  return code & 0x8000 ? -v : v;
}

/* f32 to f16, as bf16_oracle: the nearer of the two neighbours, found by bisection; 2^16 stands for
 * infinity. */
static inline uint32_t f16_oracle(uint32_t x) {
  uint32_t sign = x >> 16 & 0x8000, lo = 0, hi = 0x7c00;
  if (is_nan(x)) return sign | 0x7e00 | (x >> 13 & 0x3ff);
  if (is_subnormal(x)) return sign;
  double v = fabs((double)float_of(x));
  if (v >= 0x1p16) return sign | hi;
  while (hi - lo > 1) {
    uint32_t middle = (lo + hi) / 2;
    if (f16_value(middle) <= v) lo = middle;
    else hi = middle;
  }
  double below = v - f16_value(lo), above = (hi == 0x7c00 ? 0x1p16 : f16_value(hi)) - v;
  return sign | (below < above || (below == above && !(lo & 1)) ? lo : hi);
}

/* check() with a message of its own. */
__attribute__((format(printf, 3, 4))) static inline bool check_that(Checks *c, bool good,
                                                                    const char *what, ...) {
  char text[200];
  va_list ap;
  va_start(ap, what);
  vsnprintf(text, sizeof text, what, ap);
  va_end(ap);
  return check(c, good, text, "scalar.def", 0);
}

#endif
