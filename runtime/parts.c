/* parts.c: parameters that are kept in parts, under `precision bf16 master(split)`: the f32 of such
 * a one is nowhere, get and save join it, set and load take it apart (passes/precision_master.c
 * says what the parts are).  Both ways are exact. */
#include "runtime/rt.h"

#include <string.h>

typedef struct Parts {
  uint16_t *high, *rest;
  uint8_t *up; /* a bit an element, in planes of up_bytes */
  uint64_t n, up_bytes;
} Parts;

static Parts parts_of(const mp_model *m, char *state, uint32_t param) {
  const mp_desc *d = m->desc;
  Parts p = {.n = mp_tensor_bytes(&d->states[param].tensor) / sizeof(uint32_t)};
  for (uint32_t i = 0; i < d->n_states; i++) {
    const mp_state_desc *s = &d->states[i];
    if (s->kind != MP_PART || s->master != (int32_t)param) continue;
    void *at = state + m->state_at[i];
    if (s->tensor.dtype == MP_BF16) p.high = at;
    if (s->tensor.dtype == MP_U16) p.rest = at;
    if (s->tensor.dtype == MP_U8) p.up = at, p.up_bytes = mp_tensor_bytes(&s->tensor);
  }
  return p;
}

bool mp_is_split(const mp_model *m, uint32_t state) {
  return m->desc->states[state].flags & MP_STATE_SPLIT;
}

/* What rounded up is one more in its upper half than the bits were. */
void mp_parts_join(const mp_model *m, const char *state, uint32_t param, void *f32) {
  Parts p = parts_of(m, (char *)state, param);
  for (uint64_t i = 0; i < p.n; i++) {
    uint32_t rest = p.rest[i], tie_up = p.up[i % p.up_bytes] >> i / p.up_bytes & 1;
    uint32_t above = rest > 0x8000 || (rest == 0x8000 && tie_up);
    uint32_t bits = ((uint32_t)p.high[i] << 16 | rest) - (above << 16);
    memcpy((char *)f32 + i * sizeof bits, &bits, sizeof bits);
  }
}

void mp_parts_split(const mp_model *m, char *state, uint32_t param, const void *f32) {
  Parts p = parts_of(m, state, param);
  memset(p.up, 0, p.up_bytes);
  for (uint64_t i = 0; i < p.n; i++) {
    uint32_t bits;
    memcpy(&bits, (const char *)f32 + i * sizeof bits, sizeof bits);
    if (!(bits & 0x7f800000)) bits &= 0x80000000;
    p.high[i] = mp_bf16_of_f32(bits);
    p.rest[i] = (uint16_t)bits;
    bool tie_up = p.rest[i] == 0x8000 && p.high[i] != bits >> 16;
    if (tie_up) p.up[i % p.up_bytes] |= (uint8_t)(1u << i / p.up_bytes);
  }
}
