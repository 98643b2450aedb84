/* scalar.c: the meaning of scalar programs.
 *
 * scalar_prim is the definition of each primitive, one line each; scalar_run walks a program with
 * it.  Both work on bit patterns, and no line depends on what C leaves undefined.  The caller has
 * set DAZ and FTZ (ir/float_mode.h), which every float operation below then obeys.
 */
#include "ir/scalar.h"

#include <assert.h>
#include <math.h>
#include <string.h>

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

uint32_t scalar_prim(SPrim prim, uint32_t x, uint32_t y, uint32_t z) {
  switch (prim) {
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

void scalar_run(const SProg *p, const uint32_t *args, uint32_t *results) {
  uint32_t v[1024]; /* scalar_parse.c writes no longer program */
  assert(p->ninst <= sizeof v / sizeof *v);
  for (uint32_t i = 0; i < p->ninst; i++) {
    const SInst *s = &p->inst[i];
    if (s->prim == SP_ARG) v[i] = args[s->imm];
    else if (s->prim == SP_CONST) v[i] = s->imm;
    else v[i] = scalar_prim((SPrim)s->prim, v[s->x[0]], v[s->x[1]], v[s->x[2]]);
  }
  for (uint32_t r = 0; r < p->nres; r++) results[r] = v[p->res[r]];
}
