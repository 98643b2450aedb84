/* fp8_current.c: fp8(current): a tensor's scale comes from its own amax, FMAX / amax, at most
 * FLT_MAX; 1 where all is 0.  An infinite or NaN element makes the whole product NaN (scale 0 or
 * NaN, its inverse inf or NaN), so saturation hides nothing from the guard.  A value that several
 * products read is quantized once.
 */
#include "passes/fp8.h"

#include <float.h>

/* As quantize's own amax, so that they are computed once. */
static ValueId largest(Builder *b, ValueId x) {
  ValueId a = build1(b, OP_abs, build_cast(b, x, DT_f32));
  if (value_type(b->g, a).rank > 1) a = build_reduce_last(b, OP_reduce_max, a);
  return build_reduce_all(b, OP_reduce_max, a);
}

static ValueId own_scale(Builder *b, ValueId x, DType to) {
  ValueId amax = largest(b, x);
  ValueId most = build_constant(b, type_scalar(DT_f32), to == DT_f8e5m2 ? 57344 : 448);
  ValueId scale = build2(b, OP_div, most, amax);
  scale = build2(b, OP_min, scale, build_like(b, scale, FLT_MAX));
  ValueId zero = build2(b, OP_eq, amax, build_like(b, amax, 0));
  return build_select(b, zero, build_like(b, scale, 1), scale);
}

static ValueId quantize(Fp8 *s, Builder *b, ValueId x) {
  if (s->quantized[x] != NO_ID) return s->quantized[x];
  return fp8_quantize(s, b, x, own_scale(b, x, fp8_type(s, x)));
}

ValueId product_fp8_current(Fp8 *s, Builder *b, const Node *n) {
  ValueId x = quantize(s, b, n->ops[0]), y = quantize(s, b, n->ops[1]);
  return build(b, OP_matmul_scaled, 4, (ValueId[]){x, y, x + 1, y + 1}, n->nattrs, n->attrs);
}
