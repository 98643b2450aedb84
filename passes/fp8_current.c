/* fp8_current.c: fp8(current): a tensor's scale comes from its own amax, FMAX / amax, at most
 * FLT_MAX; 1 where all is 0.
 */
#include "passes/fp8.h"
#include "ref/expand.h"

#include <float.h>

ValueId fp8_own_scale(Builder *b, ValueId amax, DType to) {
  Type plain = value_type(b->g, amax);
  plain.unit = 0;
  ValueId most = build_constant(b, plain, fp8_largest(to));
  ValueId scale = build2(b, OP_div, most, amax);
  scale = build2(b, OP_min, scale, build_like(b, scale, FLT_MAX));
  ValueId zero = build2(b, OP_eq, amax, build_like(b, amax, 0));
  return build_select(b, zero, build_like(b, scale, 1), scale);
}

static ValueId quantize(Fp8 *s, const Builder *b, ValueId x) {
  x = fp8_source(s, x);
  if (s->quantized[x] != NO_ID) return s->quantized[x];
  Builder at = fp8_builder(s, b, x);
  return fp8_quantize(s, &at, x, fp8_own_scale(&at, build_amax(&at, x, NULL), fp8_type(s, x)));
}

ValueId product_fp8_current(Fp8 *s, Builder *b, const Node *n) {
  ValueId x = quantize(s, b, n->ops[0]), y = quantize(s, b, n->ops[1]);
  return fp8_multiply(b, n, x, y);
}
