/* load.c: reads a checkpoint, a directory of them, a single file or a stream.
 *
 * Loading is a transaction: everything is read and checked in a staging copy first, and an error
 * leaves the context as it was.  Nothing is allocated by a size that only the file claims: tensors
 * must fit the model (fit.c) before their data is read.
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
  const mp_load *how; /* NULL: whole */
  char *staging;      /* laid out as the state */
  mp_want *want;      /* of each state, from the file being read */
  uint8_t *have;      /* of each state: it is in the staging copy */
  double *hypers;
  uint64_t seed;
  mp_cursor cursor;
  int parts; /* read so far */
} Loading;

/* ---- tensors ---- */

enum { SKIP_CHUNK = 1 << 16 };

/* The bytes of the tensor, or of as much of it as is skipped at once; their CRC. */
static int read_bytes(mp_read_fn read, void *user, const mp_st_tensor *t, char *bytes, bool keep,
                      uint32_t *crc, const char *where, mp_error *err) {
  uint64_t left = t->end - t->begin;
  uLong sum = crc32_z(0, NULL, 0);
  for (uint64_t n; left; left -= n) {
    n = keep || left < SKIP_CHUNK ? left : SKIP_CHUNK;
    if (read(user, bytes, n))
      return mp_fail(err, MP_E_IO, "%s: '%.80s' cannot be read", where, t->name);
    sum = crc32_z(sum, (unsigned char *)bytes, n);
  }
  *crc = (uint32_t)sum;
  return MP_OK;
}

static bool is_wanted(const Loading *l, const mp_st_tensor *t) {
  for (uint32_t s = 0; s < l->ctx->model->desc->n_states; s++)
    if (l->want[s].from == t) return true;
  return false;
}

static int place_split(Loading *l, uint32_t s, const char *bytes, mp_error *err) {
  const mp_model *m = l->ctx->model;
  const mp_tensor *to = &m->desc->states[s].tensor;
  void *whole = mp_alloc(&l->ctx->memory, mp_tensor_bytes(to));
  if (!whole) return mp_no_memory(err);
  mp_fit_copy(to, &l->want[s], bytes, whole);
  mp_parts_split(m, l->staging, s, whole);
  mp_free(&l->ctx->memory, whole);
  return MP_OK;
}

static int place(Loading *l, const mp_st_tensor *t, const char *bytes, mp_error *err) {
  const mp_model *m = l->ctx->model;
  int status = MP_OK;
  for (uint32_t s = 0; s < m->desc->n_states && !status; s++) {
    const mp_tensor *to = &m->desc->states[s].tensor;
    if (l->want[s].from != t) continue;
    l->have[s] = 1;
    if (mp_is_split(m, s)) {
      status = place_split(l, s, bytes, err);
      continue;
    }
    char *at = l->staging + m->state_at[s];
    mp_fit_copy(to, &l->want[s], bytes, at);
    mp_clean_values(to->dtype, at, mp_tensor_bytes(to));
  }
  return status;
}

/* A tensor that is wanted fits the model, so its size is no claim of the file's alone. */
static int read_tensor(Loading *l, const mp_st *st, const mp_st_tensor *t, mp_read_fn read,
                       void *user, const char *where, mp_error *err) {
  bool wanted = is_wanted(l, t);
  uint64_t room = wanted ? t->end - t->begin : SKIP_CHUNK;
  char *bytes = mp_alloc(&l->ctx->memory, room);
  uint32_t crc = 0;
  int status =
      bytes ? read_bytes(read, user, t, bytes, wanted, &crc, where, err) : mp_no_memory(err);
  if (!status) status = mp_st_check_crc(st, t, crc, where, err);
  if (!status && wanted) status = place(l, t, bytes, err);
  mp_free(&l->ctx->memory, bytes);
  return status;
}

static int read_tensors(Loading *l, const mp_st *st, mp_read_fn read, void *user, const char *where,
                        mp_error *err) {
  int status = MP_OK;
  for (uint32_t i = 0; i < st->n_tensors && !status; i++)
    status = read_tensor(l, st, &st->tensors[i], read, user, where, err);
  return status;
}

/* ---- metadata ---- */

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

/* What checkpoints do not hold must be what it was when they were written. */
static int check_unsaved(const Loading *l, const mp_st *st, const char *where, mp_error *err) {
  const mp_desc *d = l->ctx->model->desc;
  for (uint32_t i = 0; i < d->n_states; i++) {
    mp_text key = {0};
    uint64_t saved;
    if (!(d->states[i].flags & MP_STATE_UNSAVED)) continue;
    mp_text_add(&key, MP_UNSAVED_NOTE "%s", d->states[i].tensor.name);
    bool found = !key.failed && read_number(st, key.at, 16, &saved);
    mp_text_free(&key);
    if (found && saved == mp_state_crc(l->ctx, i)) continue;
    return mp_fail(err, MP_E_FORMAT,
                   "%s: '%.80s' is not what it was when this was saved: load the same file first",
                   where, d->states[i].tensor.name);
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
  if (!parts) parts = l->how ? MP_PART_MODEL : parts_of(&st);
  memset(l->want, 0, l->ctx->model->desc->n_states * sizeof *l->want);
  status = l->how ? mp_fit_some(l->ctx, &st, l->how, l->want, where, err)
                  : mp_fit_whole(l->ctx, &st, parts, l->want, where, err);
  if (!status) status = read_tensors(l, &st, read, user, where, err);
  if (!status && !l->how && mp_st_note_of(&st, "part") && parts & MP_PART_MODEL)
    status = check_unsaved(l, &st, where, err);
  if (!status && parts & MP_PART_STATE) status = read_state_notes(l, &st, where, err);
  if (!status) note_origin(l->ctx, &st, where);
  if (!status && !l->how && parts & MP_PART_STATE) mp_note_policy(l->ctx, &st, where);
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
    return status || l->how ? status : read_part_file(l, dir, MP_PART_STATE);
  }
  int64_t newest = mp_checkpoint_newest(dir);
  if (newest < 0) return mp_fail(&l->ctx->error, MP_E_IO, "no checkpoint in '%s'", dir);
  char *path = mp_checkpoint_path(dir, newest);
  int status = path ? read_dir(l, path) : mp_no_memory(&l->ctx->error);
  free(path);
  return status;
}

/* The state of a file that state i comes with: of a part, its parameter. */
static uint32_t kept_as(const mp_desc *d, uint32_t i) {
  return d->states[i].kind == MP_PART ? (uint32_t)d->states[i].master : i;
}

static int finish(Loading *l) {
  mp_ctx *ctx = l->ctx;
  const mp_desc *d = ctx->model->desc;
  if (l->parts == MP_PART_STATE)
    return mp_fail(&ctx->error, MP_E_FORMAT, "a state file without its model file");
  if (l->parts == MP_PART_MODEL && !ctx->ready)
    return mp_fail(&ctx->error, MP_E_ARG, "only parameters in this file: call init first");
  for (uint32_t i = 0; i < d->n_states; i++) {
    if (!l->have[kept_as(d, i)]) continue;
    ctx->missing[i] = 0;
    if (mp_is_split(ctx->model, i)) continue;
    memcpy(mp_state_data(ctx, i), l->staging + ctx->model->state_at[i],
           mp_tensor_bytes(&d->states[i].tensor));
  }
  if (l->parts == MP_PART_ALL) {
    memcpy(ctx->hypers, l->hypers, d->n_hypers * sizeof *l->hypers);
    ctx->seed = l->seed;
    ctx->cursor = l->cursor;
    ctx->poison = NULL;
    mp_forget_run(ctx);
    ctx->ready = true;
  }
  mp_derive(ctx);
  return MP_OK;
}

static int begin(Loading *l, mp_ctx *ctx, const mp_load *how) {
  const mp_desc *d = ctx->model->desc;
  *l = (Loading){.ctx = ctx};
  l->how = how;
  l->staging = mp_alloc(&ctx->memory, d->state_bytes);
  l->want = mp_alloc(&ctx->memory, d->n_states * sizeof *l->want);
  l->have = mp_alloc(&ctx->memory, d->n_states);
  l->hypers = mp_alloc(&ctx->memory, d->n_hypers * sizeof *l->hypers);
  return l->staging && l->want && l->have && l->hypers ? MP_OK : mp_no_memory(&ctx->error);
}

static int end(Loading *l, int status) {
  if (!status) status = finish(l);
  void *blocks[] = {l->staging, l->want, l->have, l->hypers};
  for (size_t i = 0; i < MP_LEN(blocks); i++) mp_free(&l->ctx->memory, blocks[i]);
  return status;
}

int mp_load_path(mp_ctx *ctx, const char *path, const mp_load *how) {
  mp_load some = {0};
  if (how) memcpy(&some, how, how->struct_size < sizeof some ? how->struct_size : sizeof some);
  Loading l;
  int status = begin(&l, ctx, some.glob || some.map ? &some : NULL);
  if (!status) status = mp_is_dir(path) ? read_dir(&l, path) : read_file(&l, 0, path);
  return end(&l, status);
}

int mp_load_from(mp_ctx *ctx, mp_read_fn read, void *user) {
  Loading l;
  int status = begin(&l, ctx, NULL);
  if (!status) status = read_parts(&l, 0, read, user, UINT64_MAX, "stream");
  return end(&l, status);
}
