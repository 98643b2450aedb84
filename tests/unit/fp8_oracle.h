/* fp8_oracle.h: two independent statements of how f32 becomes fp8: the integer formula of
 * docs/precision.md, and the nearer of two neighbours found in numbers. */
#ifndef TESTS_UNIT_FP8_ORACLE_H
#define TESTS_UNIT_FP8_ORACLE_H

#include "tests/unit/oracle.h"

typedef struct Fp8Format {
  const char *name;
  ScalarId narrow, narrow_sat, widen;
  int m, bias;
  uint32_t largest, beyond; /* codes of the largest number and of what is too large */
} Fp8Format;

static const Fp8Format fp8_formats[] = {
    {"e4m3", SC_f32_to_e4m3, SC_f32_to_e4m3_sat, SC_e4m3_to_f32, 3, 7, 0x7e, 0x7f},
    {"e5m2", SC_f32_to_e5m2, SC_f32_to_e5m2_sat, SC_e5m2_to_f32, 2, 15, 0x7b, 0x7c},
};

/* The steps of docs/precision.md, integers alone. */
static inline uint32_t fp8_by_formula(const Fp8Format *f, uint32_t x, bool sat) {
  uint32_t a = x & 0x7fffffff, s = x >> 24 & 0x80, code, e = a >> 23 ? a >> 23 : 1;
  uint32_t shift = (uint32_t)(23 - f->m) + (uint32_t)(128 - f->bias) - e;
  uint32_t beyond = s | (sat ? f->largest : f->beyond);
  if (a > 0x7f800000) return 0x7f;
  if (a == 0x7f800000) return beyond;
  if (a >= (uint32_t)(128 - f->bias) << 23) {
    uint32_t r = a + (1u << (22 - f->m)) - 1 + (a >> (23 - f->m) & 1);
    code = (r >> (23 - f->m)) - ((uint32_t)(127 - f->bias) << f->m);
    return code > f->largest ? beyond : s | code;
  }
  if (shift > 25) return s;
  uint32_t whole = (a & 0x7fffff) | (a >> 23 ? 0x800000u : 0);
  uint32_t rest = whole & ((1u << shift) - 1), half = 1u << (shift - 1);
  code = whole >> shift;
  return s | (code + (rest > half || (rest == half && (code & 1))));
}

static inline double fp8_value(const Fp8Format *f, uint32_t code) {
  int e = (int)(code & 0x7f) >> f->m, m = (int)code & ((1 << f->m) - 1);
  double v = (e ? m + (1 << f->m) : m) * power_of_two((e ? e : 1) - f->bias - f->m);
  return code & 0x80 ? -v : v;
}

/* The nearer of two neighbours, in numbers; the code behind the largest would be the next of them.
 */
static inline uint32_t fp8_by_value(const Fp8Format *f, uint32_t x, bool sat) {
  uint32_t sign = x >> 24 & 0x80, lo = 0, hi = f->largest + 1;
  if (is_nan(x)) return 0x7f;
  double v = fabs((double)float_of(x));
  while (hi - lo > 1) {
    uint32_t middle = (lo + hi) / 2;
    if (fp8_value(f, middle) <= v) lo = middle;
    else hi = middle;
  }
  double below = v - fp8_value(f, lo), above = fp8_value(f, hi) - v;
  uint32_t near = below < above || (below == above && !(lo & 1)) ? lo : hi;
  if (near > f->largest) near = sat ? f->largest : f->beyond;
  return sign | near;
}

static inline uint32_t e4m3_oracle(uint32_t x) { return fp8_by_formula(&fp8_formats[0], x, false); }
static inline uint32_t e4m3_sat_oracle(uint32_t x) {
  return fp8_by_formula(&fp8_formats[0], x, true);
}
static inline uint32_t e5m2_oracle(uint32_t x) { return fp8_by_formula(&fp8_formats[1], x, false); }
static inline uint32_t e5m2_sat_oracle(uint32_t x) {
  return fp8_by_formula(&fp8_formats[1], x, true);
}

#endif
