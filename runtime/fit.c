/* fit.c: which tensor of a file goes into which state, and how.
 *
 * A whole checkpoint must have every state and nothing else.  A partial load takes the parameters
 * and module states that a glob covers, each under its own path or under the one a rename gives it
 * (pairs `to`, `from`; the last that matches wins; `from` may end in " transpose" for a matrix that
 * the file holds the other way round).  Other frameworks keep weights in f16 or bf16: both become
 * f32 exactly.
 */
#include "runtime/rt.h"

#include <stdio.h>
#include <string.h>

/* ---- types and shapes ---- */

static bool is_type(const mp_st_tensor *t, int32_t dtype) {
  return !strcmp(t->dtype, mp_type_of(dtype)->safetensors);
}

/* Weights from elsewhere are rounded where they are kept low; a run that goes on loses nothing. */
static bool type_fits(const mp_st_tensor *t, const mp_tensor *want, bool rounds) {
  bool low = is_type(t, MP_F16) || is_type(t, MP_BF16);
  return is_type(t, want->dtype) || (want->dtype == MP_F32 && low) ||
         (rounds && mp_is_low(want->dtype) && (low || is_type(t, MP_F32)));
}

static bool shape_fits(const mp_st_tensor *t, const mp_tensor *want, bool transpose) {
  if (t->ndim != want->ndim || (transpose && t->ndim != 2)) return false;
  for (int32_t i = 0; i < t->ndim; i++)
    if (t->dims[i] != want->dims[transpose ? 1 - i : i]) return false;
  return true;
}

static int check_fit(const mp_want *w, const mp_tensor *want, bool rounds, const char *where,
                     mp_error *err) {
  const mp_st_tensor *t = w->from;
  if (type_fits(t, want, rounds) && shape_fits(t, want, w->transpose)) return MP_OK;
  bool renamed = strcmp(t->name, want->name) != 0;
  char a[128], b[128];
  return mp_fail(
      err, MP_E_FORMAT, "%s: '%.80s'%s%.80s%s: expected %s%s%s, found %.20s%s", where, want->name,
      renamed ? " from '" : "", renamed ? t->name : "", renamed ? "'" : "",
      mp_type_of(want->dtype)->safetensors, mp_dims_text(want->dims, want->ndim, a, sizeof a),
      w->transpose ? " transposed" : "", t->dtype, mp_dims_text(t->dims, t->ndim, b, sizeof b));
}

/* ---- whole ---- */

static int check_known(const mp_ctx *ctx, const mp_st *st, int parts, const char *where,
                       mp_error *err) {
  const mp_desc *d = ctx->model->desc;
  for (uint32_t i = 0; i < st->n_tensors; i++) {
    int s = mp_find_state(ctx, st->tensors[i].name);
    if (s < 0 || !(mp_part_of(&d->states[s]) & parts))
      return mp_fail(err, MP_E_FORMAT, "%s: %s has no '%.80s'", where, d->name,
                     st->tensors[i].name);
  }
  return MP_OK;
}

int mp_fit_whole(const mp_ctx *ctx, const mp_st *st, int parts, mp_want *want, const char *where,
                 mp_error *err) {
  const mp_desc *d = ctx->model->desc;
  uint32_t known = 0;
  for (uint32_t i = 0; i < d->n_states; i++) {
    const mp_tensor *t = &d->states[i].tensor;
    if (!(mp_part_of(&d->states[i]) & parts)) continue;
    want[i].from = mp_st_find(st, t->name);
    if (!want[i].from) return mp_fail(err, MP_E_FORMAT, "%s: '%.80s' is missing", where, t->name);
    int status = check_fit(&want[i], t, false, where, err);
    if (status) return status;
    known++;
  }
  return known == st->n_tensors ? MP_OK : check_known(ctx, st, parts, where, err);
}

/* ---- in part ---- */

static const char transpose_word[] = " transpose";

/* The `from` of the last pair whose `to` matches; NULL: its own path. */
static const char *rename_of(const mp_load *how, const char *path, mp_glob_parts *parts) {
  const char *from = NULL;
  for (const char *const *pair = how->map; pair && pair[0] && pair[1]; pair += 2) {
    mp_glob_parts tried;
    if (!mp_glob_match(pair[0], path, &tried)) continue;
    *parts = tried;
    from = pair[1];
  }
  return from;
}

/* The key of the file that `path` is to be read from, and whether the other way round. */
static int key_of(const mp_load *how, const char *path, mp_text *key, bool *transpose,
                  mp_error *err) {
  mp_glob_parts parts;
  const char *from = rename_of(how, path, &parts);
  mp_text pattern = {0};
  *transpose = false;
  if (!from) {
    mp_text_add(key, "%s", path);
    return key->failed ? mp_no_memory(err) : MP_OK;
  }
  size_t n = strlen(from), m = strlen(transpose_word);
  if (n > m && !strcmp(from + n - m, transpose_word)) *transpose = true, n -= m;
  mp_text_add(&pattern, "%.*s", (int)n, from);
  bool filled = !pattern.failed && mp_glob_fill(pattern.at, &parts, key);
  int status = pattern.failed || key->failed ? mp_no_memory(err) : MP_OK;
  if (!status && !filled)
    status = mp_fail(err, MP_E_ARG, "load: '%s' for '%s' has not as many wildcards as its pattern",
                     pattern.at, path);
  mp_text_free(&pattern);
  return status;
}

static int not_there(const mp_st *st, const char *path, const char *key, const char *where,
                     mp_error *err) {
  char hint[96];
  mp_near near = mp_near_to(key);
  for (uint32_t i = 0; i < st->n_tensors; i++) mp_near_try(&near, st->tensors[i].name);
  mp_near_text(&near, hint, sizeof hint);
  if (!strcmp(path, key))
    return mp_fail(err, MP_E_FORMAT, "%s: '%.80s' is missing%s", where, path, hint);
  return mp_fail(err, MP_E_FORMAT, "%s: '%.80s', which is to become '%.80s', is missing%s", where,
                 key, path, hint);
}

static int fit_one(const mp_ctx *ctx, const mp_st *st, const mp_load *how, uint32_t state,
                   mp_want *want, const char *where, mp_error *err) {
  const mp_tensor *t = &ctx->model->desc->states[state].tensor;
  mp_text key = {0};
  int status = key_of(how, t->name, &key, &want->transpose, err);
  if (!status) want->from = mp_st_find(st, key.at);
  if (!status && !want->from) status = not_there(st, t->name, key.at, where, err);
  mp_text_free(&key);
  return status ? status : check_fit(want, t, true, where, err);
}

static bool is_chosen(const mp_state_desc *s, const char *glob) {
  mp_glob_parts parts;
  if (s->kind != MP_PARAM && s->kind != MP_STATE) return false;
  return !glob || mp_glob_match(glob, s->tensor.name, &parts);
}

static int nothing_chosen(const mp_desc *d, const char *glob, mp_error *err) {
  char hint[96];
  mp_near near = mp_near_to(glob);
  for (uint32_t i = 0; i < d->n_states; i++) mp_near_try(&near, d->states[i].tensor.name);
  return mp_fail(err, MP_E_ARG, "load: no parameter of %s matches '%s'%s", d->name, glob,
                 mp_near_text(&near, hint, sizeof hint));
}

int mp_fit_some(const mp_ctx *ctx, const mp_st *st, const mp_load *how, mp_want *want,
                const char *where, mp_error *err) {
  const mp_desc *d = ctx->model->desc;
  uint32_t chosen = 0;
  for (uint32_t i = 0; i < d->n_states; i++) {
    if (!is_chosen(&d->states[i], how->glob)) continue;
    int status = fit_one(ctx, st, how, i, &want[i], where, err);
    if (status) return status;
    chosen++;
  }
  return chosen ? MP_OK : nothing_chosen(d, how->glob ? how->glob : "**", err);
}

/* ---- copying ---- */

static void copy_element(const mp_tensor *t, const mp_want *w, const char *from, char *to) {
  uint32_t size = mp_type_of(t->dtype)->size, wide;
  uint16_t half;
  if (is_type(w->from, t->dtype)) {
    memcpy(to, from, size);
    return;
  }
  memcpy(&half, from, sizeof half);
  wide = is_type(w->from, MP_BF16) ? (uint32_t)half << 16 : mp_f32_of_f16(half);
  if (is_type(w->from, MP_F32)) memcpy(&wide, from, sizeof wide);
  if (t->dtype == MP_F32) memcpy(to, &wide, sizeof wide);
  else mp_narrow_f32(t->dtype, &wide, to);
}

void mp_fit_copy(const mp_tensor *t, const mp_want *w, const void *bytes, void *out) {
  uint64_t to_size = mp_type_of(t->dtype)->size, n = mp_tensor_bytes(t) / to_size;
  uint64_t from_size = n ? (w->from->end - w->from->begin) / n : 0;
  uint64_t columns = w->transpose ? (uint64_t)t->dims[1] : 1, rows = n / (columns ? columns : 1);
  if (!w->transpose && is_type(w->from, t->dtype)) {
    memcpy(out, bytes, n * to_size);
    return;
  }
  for (uint64_t i = 0; i < n; i++) { /* element i of the file is … of the state */
    uint64_t at = w->transpose ? i % rows * columns + i / rows : i;
    copy_element(t, w, (const char *)bytes + i * from_size, (char *)out + at * to_size);
  }
}
