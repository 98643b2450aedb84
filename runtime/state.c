/* state.c: tensors and hyperparameters by name.
 *
 * get shows the state itself, without a copy, but for parameters kept in parts; set copies in,
 * makes the values clean and rebuilds the derived copies of a parameter, so that a step never sees
 * a stale low copy.
 */
#include "runtime/rt.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

int mp_find_state(const mp_ctx *ctx, const char *path) {
  const mp_desc *d = ctx->model->desc;
  for (uint32_t i = 0; i < d->n_states; i++)
    if (!strcmp(d->states[i].tensor.name, path)) return (int)i;
  return -1;
}

void *mp_state_data(const mp_ctx *ctx, uint32_t state) {
  return ctx->state + ctx->model->state_at[state];
}

uint32_t mp_state_crc(const mp_ctx *ctx, uint32_t state) {
  uint64_t bytes = mp_tensor_bytes(&ctx->model->desc->states[state].tensor);
  return (uint32_t)crc32_z(0, mp_state_data(ctx, state), bytes);
}

int mp_find_hyper(const mp_ctx *ctx, const char *name) {
  const mp_desc *d = ctx->model->desc;
  for (uint32_t i = 0; i < d->n_hypers; i++)
    if (!strcmp(d->hypers[i].name, name)) return (int)i;
  return -1;
}

int64_t mp_counter(const mp_ctx *ctx, const char *name) {
  int i = mp_find_state(ctx, name);
  if (i < 0) return 0;
  const mp_tensor *t = &ctx->model->desc->states[i].tensor;
  const void *at = mp_state_data(ctx, (uint32_t)i);
  int64_t wide = 0;
  uint32_t word = 0;
  if (t->dtype == MP_I64) memcpy(&wide, at, sizeof wide);
  else if (t->dtype == MP_I32 || t->dtype == MP_U32) wide = (memcpy(&word, at, sizeof word), word);
  return wide;
}

int64_t mp_steps_done(const mp_ctx *ctx) {
  return mp_counter(ctx, mp_find_state(ctx, "attempt") >= 0 ? "attempt" : "step");
}

static int find_named(mp_ctx *ctx, const char *path) {
  const mp_desc *d = ctx->model->desc;
  int found = mp_find_state(ctx, path);
  if (found >= 0) return found;
  char hint[96];
  mp_near near = mp_near_to(path);
  for (uint32_t i = 0; i < d->n_states; i++) mp_near_try(&near, d->states[i].tensor.name);
  return mp_fail(&ctx->error, MP_E_ARG, "%s has no state '%s'%s", d->name, path,
                 mp_near_text(&near, hint, sizeof hint));
}

static int join(mp_ctx *ctx, uint32_t i, void **at) {
  const mp_tensor *t = &ctx->model->desc->states[i].tensor;
  if (!ctx->joined[i]) ctx->joined[i] = mp_alloc(&ctx->memory, mp_tensor_bytes(t));
  *at = ctx->joined[i];
  if (!*at) return mp_fail(&ctx->error, MP_E_MEMORY, "get '%s': no memory to join it", t->name);
  mp_parts_join(ctx->model, ctx->state, i, *at);
  return MP_OK;
}

int mp_get(mp_ctx *ctx, const char *path, mp_view *view) {
  int i = find_named(ctx, path);
  if (i < 0) return i;
  bool split = mp_is_split(ctx->model, (uint32_t)i);
  void *at = split ? NULL : mp_state_data(ctx, (uint32_t)i);
  int status = split ? join(ctx, (uint32_t)i, &at) : MP_OK;
  if (!status) mp_view_of(view, &ctx->model->desc->states[i].tensor, at);
  return status;
}

static bool is_compact(const mp_view *v) {
  int64_t stride = 1;
  for (int32_t i = v->ndim; v->strides && i-- > 0;) {
    if (v->shape[i] != 1 && v->strides[i] != stride) return false;
    stride *= v->shape[i];
  }
  return true;
}

static bool same_shape(const mp_view *v, const mp_tensor *t) {
  if (v->ndim != t->ndim) return false;
  for (int32_t i = 0; i < t->ndim; i++)
    if (v->shape[i] != t->dims[i]) return false;
  return true;
}

static bool has_type(const mp_view *v, int32_t dtype) {
  const mp_type *type = mp_type_of(dtype);
  return v->dtype.code == type->code && v->dtype.bits == type->bits;
}

static int check_view(mp_ctx *ctx, const mp_tensor *t, const mp_view *v) {
  const mp_type *type = mp_type_of(t->dtype);
  char want[128], found[128] = "[…]";
  if (v->device.device_type != 1)
    return mp_fail(&ctx->error, MP_E_ARG, "set '%s': the data is not in CPU memory", t->name);
  bool fits = has_type(v, t->dtype) || (mp_is_low(t->dtype) && has_type(v, MP_F32));
  if (!fits || v->dtype.lanes != 1)
    return mp_fail(&ctx->error, MP_E_ARG,
                   "set '%s': expected %s (DLPack %d, %d bits), found %d, %d", t->name, type->name,
                   type->code, type->bits, v->dtype.code, v->dtype.bits);
  if (v->ndim >= 0 && v->ndim <= MP_MAX_RANK) mp_dims_text(v->shape, v->ndim, found, sizeof found);
  if (!same_shape(v, t))
    return mp_fail(&ctx->error, MP_E_ARG, "set '%s': expected %s, found %s", t->name,
                   mp_dims_text(t->dims, t->ndim, want, sizeof want), found);
  if (!is_compact(v))
    return mp_fail(&ctx->error, MP_E_ARG, "set '%s': only compact row-major data", t->name);
  return MP_OK;
}

/* A parameter without a master is rounded to nearest here, a split one taken apart. */
static void put(mp_ctx *ctx, uint32_t i, const mp_view *view) {
  const mp_tensor *t = &ctx->model->desc->states[i].tensor;
  const char *from = (const char *)view->data + view->byte_offset;
  uint64_t bytes = mp_tensor_bytes(t);
  if (mp_is_split(ctx->model, i)) {
    mp_parts_split(ctx->model, ctx->state, i, from);
    return;
  }
  char *at = mp_state_data(ctx, i);
  if (mp_is_low(t->dtype) && has_type(view, MP_F32))
    for (uint64_t k = 0; k < bytes; k += 2) mp_narrow_f32(t->dtype, from + 2 * k, at + k);
  else memcpy(at, from, bytes);
  mp_clean_values(t->dtype, at, bytes);
}

int mp_set(mp_ctx *ctx, const char *path, const mp_view *view) {
  int i = find_named(ctx, path);
  if (i < 0) return i;
  const mp_state_desc *s = &ctx->model->desc->states[i];
  if (s->kind == MP_PART)
    return mp_fail(&ctx->error, MP_E_ARG, "'%s' is a part of its parameter: set that", path);
  if (s->kind == MP_DERIVED)
    return mp_fail(&ctx->error, MP_E_ARG, "'%s' is a copy that follows its parameter: set that",
                   path);
  int status = check_view(ctx, &s->tensor, view);
  if (status) return status;
  /* What a first half has handed on is the host's to change. */
  if (s->kind == MP_SHADOW) ctx->skipped_rows = 0;
  else mp_forget_run(ctx);
  put(ctx, (uint32_t)i, view);
  ctx->missing[i] = 0;
  /* Codes of fp8 weights follow the scale of their slot too, which is a counter. */
  if (s->kind == MP_PARAM || s->kind == MP_COUNTER) mp_derive(ctx);
  return MP_OK;
}
