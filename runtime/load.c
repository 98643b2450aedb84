/* load.c: reads a checkpoint, a directory of them, a single file or a stream.
 *
 * Loading is a transaction: everything is read and checked in a staging copy first, and an error
 * leaves the context as it was.  Nothing is allocated by a size that only the file claims: tensors
 * must fit the model before their data is read.
 */
#include "runtime/rt.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

typedef struct Loading {
  mp_ctx *ctx;
  char *staging; /* laid out as the state */
  double *hypers;
  uint64_t seed;
  mp_cursor cursor;
  int parts; /* read so far */
} Loading;

static int check_fit(const mp_st_tensor *t, const mp_tensor *want, const char *where,
                     mp_error *err) {
  bool same = t->ndim == want->ndim && !strcmp(t->dtype, mp_type_of(want->dtype)->safetensors);
  for (int32_t i = 0; same && i < t->ndim; i++) same = t->dims[i] == want->dims[i];
  if (same) return MP_OK;
  char a[128], b[128];
  return mp_fail(err, MP_E_FORMAT, "%s: '%.80s': expected %s%s, found %.20s%s", where, want->name,
                 mp_type_of(want->dtype)->safetensors,
                 mp_dims_text(want->dims, want->ndim, a, sizeof a), t->dtype,
                 mp_dims_text(t->dims, t->ndim, b, sizeof b));
}

static int check_tensors(const mp_ctx *ctx, const mp_st *st, int parts, const char *where,
                         mp_error *err) {
  const mp_desc *d = ctx->model->desc;
  uint32_t known = 0;
  for (uint32_t i = 0; i < d->n_states; i++) {
    const mp_tensor *want = &d->states[i].tensor;
    if (!(mp_part_of(d->states[i].kind) & parts)) continue;
    const mp_st_tensor *t = mp_st_find(st, want->name);
    if (!t) return mp_fail(err, MP_E_FORMAT, "%s: '%.80s' is missing", where, want->name);
    int status = check_fit(t, want, where, err);
    if (status) return status;
    known++;
  }
  if (known == st->n_tensors) return MP_OK;
  for (uint32_t i = 0; i < st->n_tensors; i++) {
    int s = mp_find_state(ctx, st->tensors[i].name);
    if (s < 0 || !(mp_part_of(d->states[s].kind) & parts))
      return mp_fail(err, MP_E_FORMAT, "%s: %s has no '%.80s'", where, d->name,
                     st->tensors[i].name);
  }
  return MP_OK;
}

static int read_tensors(Loading *l, const mp_st *st, mp_read_fn read, void *user, const char *where,
                        mp_error *err) {
  for (uint32_t i = 0; i < st->n_tensors; i++) {
    const mp_st_tensor *t = &st->tensors[i];
    uint32_t s = (uint32_t)mp_find_state(l->ctx, t->name);
    char *at = l->staging + l->ctx->model->state_at[s];
    uint64_t bytes = t->end - t->begin;
    if (read(user, at, bytes))
      return mp_fail(err, MP_E_IO, "%s: '%.80s' cannot be read", where, t->name);
    uint32_t crc = (uint32_t)crc32_z(0, (unsigned char *)at, bytes);
    int status = mp_st_check_crc(st, t, crc, where, err);
    if (status) return status;
    mp_clean_values(l->ctx->model->desc->states[s].tensor.dtype, at, bytes);
  }
  return MP_OK;
}

static bool read_number(const mp_st *st, const char *key, int base, uint64_t *out) {
  const char *s = mp_st_note_of(st, key);
  char *end;
  if (!s || !strchr("0123456789abcdef", *s) || !*s) return false;
  errno = 0;
  *out = strtoull(s, &end, base);
  return !*end && !errno;
}

static bool read_count(const mp_st *st, const char *key, int64_t *out) {
  uint64_t n;
  if (!read_number(st, key, 10, &n) || n > INT64_MAX) return false;
  *out = (int64_t)n;
  return true;
}

static bool read_hyper(const mp_st *st, const char *name, double *out) {
  mp_text key = {0};
  uint64_t bits;
  mp_text_add(&key, "hyper:%s", name);
  bool found = !key.failed && read_number(st, key.at, 16, &bits);
  if (found) memcpy(out, &bits, sizeof bits);
  mp_text_free(&key);
  return found;
}

static int read_state_notes(Loading *l, const mp_st *st, const char *where, mp_error *err) {
  const mp_desc *d = l->ctx->model->desc;
  mp_cursor *c = &l->cursor;
  bool good = read_number(st, "seed", 10, &l->seed) && read_count(st, "epoch", &c->epoch) &&
              read_count(st, "row", &c->row) && read_count(st, "data_rows", &c->data_rows) &&
              read_count(st, "total_steps", &c->total_steps) && c->row <= c->data_rows;
  if (!good)
    return mp_fail(err, MP_E_FORMAT, "%s: metadata of the run is missing or damaged", where);
  for (uint32_t i = 0; i < d->n_hypers; i++) {
    l->hypers[i] = NAN;
    read_hyper(st, d->hypers[i].name, &l->hypers[i]);
  }
  return MP_OK;
}

static void note_origin(const mp_ctx *ctx, const mp_st *st, const char *where) {
  const char *hash = mp_st_note_of(st, "source_hash"), *own = ctx->model->desc->source_hash;
  if (!st->has_crc) mp_note(ctx, "note: %s has no checksums", where);
  else if (hash && own && strcmp(hash, own))
    mp_note(ctx, "note: %s was written by another version of the model", where);
}

/* Parts of a file on its own: what it says, or as much of the model as other tools write. */
static int parts_of(const mp_st *st) {
  const char *part = mp_st_note_of(st, "part");
  for (int i = MP_PART_MODEL; part && i <= MP_PART_ALL; i++)
    if (!strcmp(part, mp_part_names[i])) return i;
  return MP_PART_MODEL;
}

static int read_parts(Loading *l, int parts, mp_read_fn read, void *user, uint64_t size,
                      const char *where) {
  mp_error *err = &l->ctx->error;
  mp_st st;
  int status = mp_st_read_header(&st, read, user, size, where, err);
  if (status) return status;
  if (!parts) parts = parts_of(&st);
  status = check_tensors(l->ctx, &st, parts, where, err);
  if (!status) status = read_tensors(l, &st, read, user, where, err);
  if (!status && parts & MP_PART_STATE) status = read_state_notes(l, &st, where, err);
  if (!status) note_origin(l->ctx, &st, where);
  l->parts |= parts;
  mp_st_free(&st);
  return status;
}

static int read_file(Loading *l, int parts, const char *path) {
  mp_reader r;
  int status = mp_reader_open(&r, path, &l->ctx->error);
  if (status) return status;
  status = read_parts(l, parts, mp_reader_read, &r, r.size, path);
  mp_reader_close(&r);
  return status;
}

static int read_part_file(Loading *l, const char *dir, int part) {
  char *path = mp_path(dir, mp_part_files[part]);
  int status = path ? read_file(l, part, path) : mp_no_memory(&l->ctx->error);
  free(path);
  return status;
}

static int read_dir(Loading *l, const char *dir) {
  if (mp_checkpoint_whole(dir)) {
    int status = read_part_file(l, dir, MP_PART_MODEL);
    return status ? status : read_part_file(l, dir, MP_PART_STATE);
  }
  int64_t newest = mp_checkpoint_newest(dir);
  if (newest < 0) return mp_fail(&l->ctx->error, MP_E_IO, "no checkpoint in '%s'", dir);
  char *path = mp_checkpoint_path(dir, newest);
  int status = path ? read_dir(l, path) : mp_no_memory(&l->ctx->error);
  free(path);
  return status;
}

static int finish(Loading *l) {
  mp_ctx *ctx = l->ctx;
  const mp_desc *d = ctx->model->desc;
  if (l->parts == MP_PART_STATE)
    return mp_fail(&ctx->error, MP_E_FORMAT, "a state file without its model file");
  if (l->parts == MP_PART_MODEL && !ctx->ready)
    return mp_fail(&ctx->error, MP_E_ARG, "only parameters in this file: call init first");
  for (uint32_t i = 0; i < d->n_states; i++)
    if (mp_part_of(d->states[i].kind) & l->parts)
      memcpy(mp_state_data(ctx, i), l->staging + ctx->model->state_at[i],
             mp_tensor_bytes(&d->states[i].tensor));
  if (l->parts == MP_PART_ALL) {
    memcpy(ctx->hypers, l->hypers, d->n_hypers * sizeof *l->hypers);
    ctx->seed = l->seed;
    ctx->cursor = l->cursor;
    ctx->poison = NULL;
    ctx->ready = true;
  }
  mp_derive(ctx);
  return MP_OK;
}

static int begin(Loading *l, mp_ctx *ctx) {
  const mp_desc *d = ctx->model->desc;
  *l = (Loading){.ctx = ctx};
  l->staging = mp_alloc(&ctx->memory, d->state_bytes);
  l->hypers = mp_alloc(&ctx->memory, d->n_hypers * sizeof *l->hypers);
  return l->staging && l->hypers ? MP_OK : mp_no_memory(&ctx->error);
}

static int end(Loading *l, int status) {
  if (!status) status = finish(l);
  mp_free(&l->ctx->memory, l->staging);
  mp_free(&l->ctx->memory, l->hypers);
  return status;
}

int mp_load_path(mp_ctx *ctx, const char *path, const mp_load *how) {
  if (how && (how->glob || how->map))
    return mp_fail(&ctx->error, MP_E_ARG, "load: this version loads whole checkpoints only");
  Loading l;
  int status = begin(&l, ctx);
  if (!status) status = mp_is_dir(path) ? read_dir(&l, path) : read_file(&l, 0, path);
  return end(&l, status);
}

int mp_load_from(mp_ctx *ctx, mp_read_fn read, void *user) {
  Loading l;
  int status = begin(&l, ctx);
  if (!status) status = read_parts(&l, 0, read, user, UINT64_MAX, "stream");
  return end(&l, status);
}
