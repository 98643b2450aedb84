/* save.c: writes what a run needs to go on exactly where it was.
 *
 * A checkpoint is written as .tmp-NAME-PID beside its place, every file synced, then the directory,
 * then renamed, then the parent synced.  An older checkpoint of the same name is exchanged, not
 * removed first.  save_to sends the same as one safetensors stream with both parts.
 */
#define _DEFAULT_SOURCE
#include "runtime/rt.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- metadata ---- */

typedef struct Notes {
  mp_st_note *at;
  uint32_t len;
  bool failed;
} Notes;

static char *join(Notes *n, const char *a, const char *b) {
  mp_text t = {0};
  mp_text_add(&t, "%s%s", a, b);
  n->failed |= t.failed;
  return t.at;
}

static void note_text(Notes *n, const char *prefix, const char *name, const char *value) {
  n->at[n->len++] = (mp_st_note){join(n, prefix, name), join(n, value ? value : "", "")};
}

static void note_number(Notes *n, const char *key, uint64_t value) {
  char text[24];
  snprintf(text, sizeof text, "%llu", (unsigned long long)value);
  note_text(n, "", key, text);
}

/* The bits, not digits: exact, and no locale can change the point to a comma. */
static void note_hyper(Notes *n, const char *name, double value) {
  uint64_t bits;
  char text[24];
  memcpy(&bits, &value, sizeof bits);
  snprintf(text, sizeof text, "%016llx", (unsigned long long)bits);
  note_text(n, "hyper:", name, text);
}

static void note_state(Notes *n, const mp_ctx *ctx) {
  const mp_desc *d = ctx->model->desc;
  note_number(n, "seed", ctx->seed);
  note_number(n, "epoch", (uint64_t)ctx->cursor.epoch);
  note_number(n, "row", (uint64_t)ctx->cursor.row);
  note_number(n, "data_rows", (uint64_t)ctx->cursor.data_rows);
  note_number(n, "total_steps", (uint64_t)ctx->cursor.total_steps);
  for (uint32_t i = 0; i < d->n_hypers; i++)
    if (!isnan(ctx->hypers[i])) note_hyper(n, d->hypers[i].name, ctx->hypers[i]);
}

static void note_unsaved(Notes *n, const mp_ctx *ctx) {
  const mp_desc *d = ctx->model->desc;
  for (uint32_t i = 0; i < d->n_states; i++) {
    char text[16];
    if (!(d->states[i].flags & MP_STATE_UNSAVED)) continue;
    snprintf(text, sizeof text, "%08lx", (unsigned long)mp_state_crc(ctx, i));
    note_text(n, MP_UNSAVED_NOTE, d->states[i].tensor.name, text);
  }
}

static Notes make_notes(const mp_ctx *ctx, int parts) {
  const mp_desc *d = ctx->model->desc;
  size_t most = 12 + (size_t)d->n_hypers + d->n_states; /* twelve: those below with a fixed name */
  Notes n = {.at = calloc(most, sizeof *n.at)};
  if (!n.at) return (Notes){.failed = true};
  note_text(&n, "", "part", mp_part_names[parts]);
  note_text(&n, "", "model", d->name);
  note_text(&n, "", "source_hash", d->source_hash);
  note_text(&n, "", "compiler", d->compiler);
  note_text(&n, "", "precision", d->precision);
  note_text(&n, "", "policy", d->policy);
  if (parts & MP_PART_MODEL) note_unsaved(&n, ctx);
  if (parts & MP_PART_STATE) note_text(&n, "", "manifest", d->manifest);
  if (parts & MP_PART_STATE) note_state(&n, ctx);
  return n;
}

static void free_notes(Notes *n) {
  for (uint32_t i = 0; i < n->len; i++) {
    free(n->at[i].key);
    free(n->at[i].value);
  }
  free(n->at);
}

/* ---- saving ---- */

/* Widest elements first, as the format wants it: so every tensor is aligned in a mapped file. */
static uint32_t list_items(const mp_ctx *ctx, int parts, void *room, mp_st_item *items) {
  const mp_desc *d = ctx->model->desc;
  uint32_t n = 0;
  for (int size = 8; size; size /= 2)
    for (uint32_t i = 0; i < d->n_states; i++) {
      const mp_state_desc *s = &d->states[i];
      if (!(mp_part_of(s) & parts) || mp_type_of(s->tensor.dtype)->size != size) continue;
      if (mp_is_split(ctx->model, i)) items[n++] = (mp_st_item){&s->tensor, room, ctx, i};
      else items[n++] = (mp_st_item){.tensor = &s->tensor, .data = mp_state_data(ctx, i)};
    }
  return n;
}

/* For the largest parameter that is joined to be written. */
static uint64_t room_bytes(const mp_ctx *ctx) {
  uint64_t most = 0;
  for (uint32_t i = 0; i < ctx->model->desc->n_states; i++) {
    uint64_t bytes = mp_tensor_bytes(&ctx->model->desc->states[i].tensor);
    if (mp_is_split(ctx->model, i) && bytes > most) most = bytes;
  }
  return most;
}

static int write_parts(const mp_ctx *ctx, int parts, mp_write_fn write, void *sink, mp_error *err) {
  mp_st_item *items = malloc((ctx->model->desc->n_states + 1) * sizeof *items);
  void *room = malloc(room_bytes(ctx) + 1);
  Notes notes = make_notes(ctx, parts);
  int status = MP_OK;
  if (!items || !room || notes.failed) status = mp_no_memory(err);
  else
    status = mp_st_write(items, list_items(ctx, parts, room, items), notes.at, notes.len, write,
                         sink, err);
  free_notes(&notes);
  free(room);
  free(items);
  return status;
}

typedef struct PartOf {
  const mp_ctx *ctx;
  int part;
} PartOf;

static int fill_part(void *user, mp_write_fn write, void *sink, mp_error *err) {
  const PartOf *p = user;
  return write_parts(p->ctx, p->part, write, sink, err);
}

static int write_file(const mp_ctx *ctx, const char *dir, int part, mp_error *err) {
  PartOf user = {ctx, part};
  char *path = mp_path(dir, mp_part_files[part]);
  int status = path ? mp_write_synced(path, fill_part, &user, err) : mp_no_memory(err);
  free(path);
  return status;
}

static int fill_dir(const mp_ctx *ctx, const char *temp, mp_error *err) {
  mp_checkpoint_remove(temp); /* of a process with our number that was killed */
  if (mkdir(temp, 0777))
    return mp_fail(err, MP_E_IO, "cannot make '%s': %s", temp, strerror(errno));
  int status = write_file(ctx, temp, MP_PART_MODEL, err);
  if (!status) status = write_file(ctx, temp, MP_PART_STATE, err);
  return status ? status : mp_sync_dir(temp, err);
}

static int save_as(const mp_ctx *ctx, const char *parent, const char *temp, const char *path,
                   mp_error *err) {
  int status = mp_make_dirs(parent, err);
  if (!status) status = fill_dir(ctx, temp, err);
  if (!status) status = mp_swap_in(temp, path, err);
  mp_checkpoint_remove(temp); /* half of ours, or the one that we replaced */
  return status ? status : mp_sync_dir(parent, err);
}

static int check_save(mp_ctx *ctx) {
  if (!ctx->ready)
    return mp_fail(&ctx->error, MP_E_ARG, "save: no state yet: call init or load first");
  return mp_check_poison(ctx);
}

int mp_save(mp_ctx *ctx, const char *path) {
  int status = check_save(ctx);
  if (status) return status;
  if (mp_is_file(path) || (mp_is_dir(path) && !mp_checkpoint_only(path)))
    return mp_fail(&ctx->error, MP_E_IO, "'%s' exists and is not a checkpoint", path);
  char *parent = mp_parent(path), *temp = parent ? mp_checkpoint_temp(parent, path) : NULL;
  status = temp ? save_as(ctx, parent, temp, path, &ctx->error) : mp_no_memory(&ctx->error);
  free(parent);
  free(temp);
  return status;
}

int mp_save_to(mp_ctx *ctx, mp_write_fn write, void *user) {
  int status = check_save(ctx);
  if (status) return status;
  status = write_parts(ctx, MP_PART_ALL, write, user, &ctx->error);
  return status == MP_E_IO ? mp_fail(&ctx->error, MP_E_IO, "save_to: writing failed") : status;
}
