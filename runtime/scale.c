/* scale.c: the loss scales that are factors of a value, by its unit (Unit of ir/op.h: of each set
 * of scalers the least scale, to a power).  Scales are powers of two, so all of this is exact. */
#include "runtime/rt.h"

#include <math.h>
#include <string.h>

/* The scale of scaler i: a step shows them in the order of the scalers. */
static float nth_scale(const mp_entry_desc *step, int scaler, mp_scale_fn *scale_of,
                       const void *user) {
  for (uint32_t i = 0; i < step->n_outputs; i++) {
    const mp_output_desc *o = &step->outputs[i];
    if (o->role != MP_OUT_GAUGE || strncmp(o->tensor.name, "scale", 5) || scaler--) continue;
    return scale_of(user, o->tensor.name);
  }
  return 1;
}

float mp_unit_scale(const mp_entry_desc *step, uint64_t unit, mp_scale_fn *scale_of,
                    const void *user) {
  float all = 1;
  for (; unit; unit >>= 16) {
    int power = (int8_t)(unit >> 8 & 0xff);
    float least = INFINITY;
    for (int i = 0; i < 8; i++)
      if (unit >> i & 1) least = fminf(least, nth_scale(step, i, scale_of, user));
    for (; power > 0; power--) all *= least;
    for (; power < 0; power++) all /= least;
  }
  return all;
}
