/* sweep.h: a scalar program of one argument on a stride through all 2^32 patterns.
 *
 * The program runs under DAZ and FTZ, the oracles in the mode of libm, so a block of arguments is
 * run first and judged afterwards:
 *
 *     Sweep s = sweep_start(prog, stride);
 *     while (sweep_next(&s))
 *       for (uint32_t i = 0; i < s.n; i++) … s.x[i] … s.y[i] …
 */
#ifndef TESTS_UNIT_SWEEP_H
#define TESTS_UNIT_SWEEP_H

#include "ir/float_mode.h"
#include "ir/scalar.h"

enum { SWEEP_BLOCK = 4096 };

typedef struct Sweep {
  const SProg *prog;
  uint64_t next, stride;
  uint32_t n, x[SWEEP_BLOCK], y[SWEEP_BLOCK]; /* y[i] = prog(x[i]), i < n */
} Sweep;

static inline Sweep sweep_start(const SProg *prog, uint32_t stride) {
  return (Sweep){.prog = prog, .stride = stride};
}

/* The next block; false behind the last one. */
static inline bool sweep_next(Sweep *s) {
  for (s->n = 0; s->n < SWEEP_BLOCK && s->next <= UINT32_MAX; s->next += s->stride)
    s->x[s->n++] = (uint32_t)s->next;
  uint64_t saved = float_mode_set();
  scalar_run_many(s->prog, s->n, s->x, s->y);
  float_mode_restore(saved);
  return s->n > 0;
}

/* How many results are not the oracle's; *at: of such an argument. */
static inline uint32_t sweep_differences(const SProg *prog, uint32_t stride,
                                         uint32_t (*oracle)(uint32_t), uint32_t *at) {
  uint32_t wrong = 0;
  Sweep s = sweep_start(prog, stride);
  while (sweep_next(&s))
    for (uint32_t i = 0; i < s.n; i++)
      if (s.y[i] != oracle(s.x[i])) wrong++, *at = s.x[i];
  return wrong;
}

#endif
