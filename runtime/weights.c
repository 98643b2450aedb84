/* weights.c: the weights of a step's losses over all machines, which a host gives to its first
 * half.
 *
 * With several losses each is seeded by the ratio of the weights (docs/precision.md), so they must
 * be known before the backward pass, and no machine knows the others'.  They are written to the
 * shadows "weight:LOSS", where both halves read them.  With one loss there is no ratio, and its
 * weight is a result of the first half. */
#include "runtime/rt.h"

#include <stdio.h>
#include <string.h>

/* The shadow of the weight of output i, where that is a loss; else -1. */
static int shadow_of(const mp_ctx *ctx, const mp_entry_desc *d, uint32_t i) {
  char path[512];
  if (d->outputs[i].role != MP_OUT_SUM) return -1;
  snprintf(path, sizeof path, "weight:%s", d->outputs[i].tensor.name);
  int state = mp_find_state(ctx, path);
  return state >= 0 && ctx->model->desc->states[state].kind == MP_SHADOW ? state : -1;
}

/* The losses whose weights the entry wants; none where it is one or no first half. */
static uint32_t count_wanted(const mp_ctx *ctx, const mp_entry_desc *d) {
  uint32_t n = 0;
  for (uint32_t i = 0; d->kind == MP_GRADS && i < d->n_outputs; i++) n += shadow_of(ctx, d, i) >= 0;
  return n > 1 ? n : 0;
}

int mp_check_weights(mp_ctx *ctx, const mp_entry_desc *d, const mp_run *run) {
  uint32_t wanted = count_wanted(ctx, d), given = run->weights ? run->n_weights : 0;
  if (given == wanted) return MP_OK;
  if (!wanted)
    return mp_fail(&ctx->error, MP_E_ARG,
                   "%s takes no weights: the first half of a step with several losses does",
                   d->name);
  mp_text names = {0};
  for (uint32_t i = 0; i < d->n_outputs; i++)
    if (shadow_of(ctx, d, i) >= 0)
      mp_text_add(&names, "%s%s", names.len ? ", " : "", d->outputs[i].tensor.name);
  int status = mp_fail(&ctx->error, MP_E_ARG,
                       "%s: mp_run.weights must hold %u numbers, the weights of %s over all "
                       "machines; it holds %u",
                       d->name, wanted, names.failed ? "its losses" : names.at, given);
  mp_text_free(&names);
  return status;
}

void mp_place_weights(mp_ctx *ctx, const mp_entry_desc *d, const mp_run *run) {
  const double *next = run->weights;
  uint32_t left = count_wanted(ctx, d);
  for (uint32_t i = 0; left && i < d->n_outputs; i++) {
    int state = shadow_of(ctx, d, i);
    if (state < 0) continue;
    left--;
    float value = (float)*next++;
    mp_flush_f32(&value, sizeof value);
    memcpy(mp_state_data(ctx, (uint32_t)state), &value, sizeof value);
  }
}
