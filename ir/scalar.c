/* scalar.c: the meaning of scalar programs.
 *
 * prim is the definition of each primitive, one line each; scalar_run walks a program with it, and
 * scalar_run_many walks it once for many arguments.  All work on bit patterns, and no line depends
 * on what C leaves undefined.  The caller has set DAZ and FTZ (ir/float_mode.h), which every float
 * operation below then obeys.
 */
#include "ir/scalar.h"

#include <math.h>
#include <string.h>

#define ALWAYS_INLINE __attribute__((always_inline))

float scalar_float(uint32_t bits) {
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

uint32_t scalar_bits(float f) {
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  return bits;
}

/* The signed number with these bits, without the conversion C leaves to the implementation. */
static int64_t i32(uint32_t x) { return x < 0x80000000 ? (int64_t)x : (int64_t)x - 0x100000000; }

static uint32_t shift_arithmetic(uint32_t x, uint32_t y) {
  if (y > 31) y = 31;
  return x >> 31 ? ~(~x >> y) : x >> y;
}

static uint32_t to_int(float x) {
  if (x >= 0x1p31f) return 0x7fffffff;
  if (x < -0x1p31f) return 0x80000000;
  return x == x ? (uint32_t)(int32_t)x : 0; /* x is in range: only the NaN is left out */
}

ALWAYS_INLINE static inline uint32_t prim(SPrim p, uint32_t x, uint32_t y, uint32_t z) {
  switch (p) {
  case SP_add: return scalar_bits(scalar_float(x) + scalar_float(y));
  case SP_sub: return scalar_bits(scalar_float(x) - scalar_float(y));
  case SP_mul: return scalar_bits(scalar_float(x) * scalar_float(y));
  case SP_div: return scalar_bits(scalar_float(x) / scalar_float(y));
  case SP_fma: return scalar_bits(fmaf(scalar_float(x), scalar_float(y), scalar_float(z)));
  case SP_neg: return x ^ 0x80000000;
  case SP_abs: return x & 0x7fffffff;
  case SP_sqrt: return scalar_bits(sqrtf(scalar_float(x)));
  case SP_rint: return scalar_bits(rintf(scalar_float(x)));
  case SP_lt: return scalar_float(x) < scalar_float(y);
  case SP_le: return scalar_float(x) <= scalar_float(y);
  case SP_eq: return scalar_float(x) == scalar_float(y);
  case SP_iadd: return x + y;
  case SP_isub: return x - y;
  case SP_imul: return x * y;
  case SP_umulhi: return (uint32_t)((uint64_t)x * y >> 32);
  case SP_and: return x & y;
  case SP_or: return x | y;
  case SP_xor: return x ^ y;
  case SP_shl: return y < 32 ? x << y : 0;
  case SP_shr: return y < 32 ? x >> y : 0;
  case SP_sar: return shift_arithmetic(x, y);
  case SP_ilt: return i32(x) < i32(y);
  case SP_ult: return x < y;
  case SP_ieq: return x == y;
  case SP_band: return x & y;
  case SP_bor: return x | y;
  case SP_bnot: return !x;
  case SP_select: return x ? y : z;
  case SP_bits: return x;
  case SP_float: return x;
  case SP_itof: return scalar_bits((float)i32(x));
  case SP_utof: return scalar_bits((float)x);
  case SP_ftoi: return to_int(scalar_float(x));
  case SP_btoi: return x;
  case SP_ARG:
  case SP_CONST: break; /* not computed from operands */
  }
  return 0;
}

uint32_t scalar_prim(SPrim p, uint32_t x, uint32_t y, uint32_t z) { return prim(p, x, y, z); }

void scalar_run(const SProg *p, const uint32_t *args, uint32_t *results) {
  uint32_t v[SCALAR_INSTS];
  for (uint32_t i = 0; i < p->ninst; i++) {
    const SInst *s = &p->inst[i];
    if (s->prim == SP_ARG) v[i] = args[s->imm];
    else if (s->prim == SP_CONST) v[i] = s->imm;
    else v[i] = prim((SPrim)s->prim, v[s->x[0]], v[s->x[1]], v[s->x[2]]);
  }
  for (uint32_t r = 0; r < p->nres; r++) results[r] = v[p->res[r]];
}

/* ---- many at once ---------------------------------------------------------------------------- */

enum { LANES = 64 };

typedef uint32_t Lanes[LANES];

/* A loop for each primitive, which the compiler makes vectors of. */
ALWAYS_INLINE static inline void each_lane(SPrim p, const Lanes x, const Lanes y, const Lanes z,
                                           Lanes r) {
  switch (p) {
#define PRIM(name, operands, result, doc)                                                          \
  case SP_##name:                                                                                  \
    for (int i = 0; i < LANES; i++) r[i] = prim(SP_##name, x[i], y[i], z[i]);                      \
    return;
    SCALAR_PRIMS(PRIM)
#undef PRIM
  case SP_ARG:
  case SP_CONST: return;
  }
}

#ifdef __x86_64__
/* With instructions for fma and for shifts lane by lane: several times as fast, the same bits. */
__attribute__((target("avx2,fma"))) static void
each_lane_avx2(SPrim p, const Lanes x, const Lanes y, const Lanes z, Lanes r) {
  each_lane(p, x, y, z, r);
}

static bool has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

static void prim_lanes(SPrim p, const Lanes x, const Lanes y, const Lanes z, Lanes r) {
#ifdef __x86_64__
  if (has_avx2()) {
    each_lane_avx2(p, x, y, z, r);
    return;
  }
#endif
  each_lane(p, x, y, z, r);
}

/* Every instruction but the constants, which stand in v.  Argument k is the `count` patterns at
 * args + k * stride. */
static void run_lanes(const SProg *p, uint32_t count, const uint32_t *args, size_t stride,
                      Lanes *v) {
  for (uint32_t i = 0; i < p->ninst; i++) {
    const SInst *s = &p->inst[i];
    if (s->prim == SP_CONST) continue;
    if (s->prim == SP_ARG) memcpy(v[i], args + s->imm * stride, count * sizeof *args);
    else prim_lanes((SPrim)s->prim, v[s->x[0]], v[s->x[1]], v[s->x[2]], v[i]);
  }
}

void scalar_run_many(const SProg *p, uint32_t n, const uint32_t *args, uint32_t *results) {
  Lanes v[SCALAR_INSTS];
  for (uint32_t i = 0; i < p->ninst; i++)
    for (uint32_t lane = 0; lane < LANES; lane++)
      v[i][lane] = p->inst[i].prim == SP_CONST ? p->inst[i].imm : 0;
  for (uint32_t at = 0; at < n; at += LANES) {
    uint32_t count = n - at < LANES ? n - at : LANES;
    run_lanes(p, count, args + at, n, v);
    for (uint32_t r = 0; r < p->nres; r++)
      memcpy(results + (size_t)r * n + at, v[p->res[r]], count * sizeof *results);
  }
}
