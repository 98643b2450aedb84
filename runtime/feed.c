/* feed.c: the data files of an entry, and its batches.
 *
 * Every input of the entry that is a source is read from one file; one file may serve several (a
 * CSV by its columns, safetensors by its keys).  All must hold the same number of rows.  A batch is
 * gathered row by row into one buffer an input, which stays bound.
 */
#include "runtime/cli.h"

#include <stdlib.h>
#include <string.h>

static const char fresh_suffix[] = ".fresh";

/* ---- inputs and sources ---- */

static int find_input(const CliFeed *f, const char *name) {
  for (uint32_t i = 0; i < f->n; i++)
    if (f->inputs[i].kind != CLI_FRESH && !strcmp(f->inputs[i].desc.name, name)) return (int)i;
  return -1;
}

static const mp_source_desc *find_source(const mp_desc *d, const char *name) {
  for (uint32_t i = 0; i < d->n_sources; i++)
    if (!strcmp(d->sources[i].name, name)) return &d->sources[i];
  return NULL;
}

static bool is_fresh(const mp_desc *d, const char *name) {
  for (uint32_t i = 0; i < d->n_sources; i++) {
    size_t n = strlen(d->sources[i].name);
    if (d->sources[i].kind == MP_LANES && !strncmp(name, d->sources[i].name, n) &&
        !strcmp(name + n, fresh_suffix))
      return true;
  }
  return false;
}

/* A model without a table of sources reads every input by rows. */
static int describe_input(CliFeed *f, const CliArgs *a, const mp_desc *d, uint32_t i) {
  const mp_tensor *t = &f->entry->inputs[i];
  const mp_source_desc *s = find_source(d, t->name);
  CliInput *in = &f->inputs[i];
  in->desc = s ? *s : (mp_source_desc){t->name, MP_ROWS, t->dtype, 0, 0};
  in->kind = is_fresh(d, t->name) ? CLI_FRESH : CLI_SOURCE;
  if (!s && d->n_sources && in->kind == CLI_SOURCE)
    return cli_error(a, CLI_FAILED, "'%s' is fed by the host: drive %s from C", t->name,
                     f->entry->name);
  in->batch = malloc(mp_tensor_bytes(t) + 1);
  return in->batch ? CLI_OK : cli_error(a, CLI_FAILED, "no memory");
}

/* ---- files ---- */

static int unknown_input(const CliFeed *f, const CliArgs *a, const char *flag, const char *name) {
  char hint[96];
  mp_near near = mp_near_to(name);
  for (uint32_t i = 0; i < f->n; i++) mp_near_try(&near, f->entry->inputs[i].name);
  return cli_error(a, CLI_USAGE, "%s: %s has no input '%s'%s", flag, f->entry->name, name,
                   mp_near_text(&near, hint, sizeof hint));
}

static int open_source(CliFeed *f, const CliArgs *a, const char *flag, uint32_t i,
                       const mp_file *file) {
  CliInput *in = &f->inputs[i];
  const mp_source *like =
      f->like ? &f->like->inputs[find_input(f->like, in->desc.name)].source : NULL;
  mp_error err;
  if (in->source.at) return cli_error(a, CLI_USAGE, "%s: '%s' is given twice", flag, in->desc.name);
  if (mp_source_open(&in->source, file, &in->desc, &f->entry->inputs[i], like, &err))
    return cli_error(a, CLI_FAILED, "%s", err.text);
  return CLI_OK;
}

/* Without a name: what the file itself names, or the only source there is. */
static int open_unnamed(CliFeed *f, const CliArgs *a, const char *flag, const mp_file *file) {
  uint32_t found = 0, sources = 0, only = 0;
  int status = CLI_OK;
  for (uint32_t i = 0; i < f->n && !status; i++) {
    if (f->inputs[i].kind != CLI_SOURCE) continue;
    sources++, only = i;
    if (!mp_file_has(file, f->inputs[i].desc.name)) continue;
    found++;
    status = open_source(f, a, flag, i, file);
  }
  if (status || found) return status;
  if (sources == 1) return open_source(f, a, flag, only, file);
  if (mp_file_name(file, 0))
    return cli_error(a, CLI_USAGE, "%s %s: it holds none of the inputs of %s, but '%s', …", flag,
                     file->path, f->entry->name, mp_file_name(file, 0));
  return cli_error(a, CLI_USAGE, "%s %s: which input? %s has %u: give NAME=FILE", flag, file->path,
                   f->entry->name, sources);
}

static int open_file(CliFeed *f, const CliArgs *a, const char *flag, const mp_desc *d,
                     const char *name, const char *path) {
  int i = *name ? find_input(f, name) : -1;
  mp_error err;
  if (*name && i < 0 && !find_source(d, name)) return unknown_input(f, a, flag, name);
  if (*name && i < 0) return CLI_OK; /* a source that this entry does not need */
  mp_file *file = &f->files[f->n_files];
  if (mp_file_open(file, path, &err)) return cli_error(a, CLI_FAILED, "%s", err.text);
  f->n_files++;
  return *name ? open_source(f, a, flag, (uint32_t)i, file) : open_unnamed(f, a, flag, file);
}

/* ---- rows ---- */

static int check_rows(CliFeed *f, const CliArgs *a, const char *flag) {
  const CliInput *first = NULL;
  for (uint32_t i = 0; i < f->n; i++) {
    const CliInput *in = &f->inputs[i];
    if (in->kind != CLI_SOURCE) continue;
    if (!in->source.at)
      return cli_error(a, CLI_USAGE, "no data for '%s': %s %s=FILE", in->desc.name, flag,
                       in->desc.name);
    if (!first) first = in;
    if (in->source.rows != first->source.rows)
      return cli_error(a, CLI_FAILED, "%s: '%s' has %lld rows, '%s' has %lld", flag,
                       first->desc.name, (long long)first->source.rows, in->desc.name,
                       (long long)in->source.rows);
  }
  f->part.all = first ? first->source.rows : 0;
  return CLI_OK;
}

static bool has_lanes(const CliFeed *f) {
  bool lanes = false;
  for (uint32_t i = 0; i < f->n; i++) lanes |= f->inputs[i].desc.kind == MP_LANES;
  return lanes;
}

static int choose_part(CliFeed *f, const CliArgs *a, const mp_desc *d, bool split, bool held_out) {
  int64_t all = f->part.all;
  f->part = mp_part_split(all, split ? d->split : MP_SPLIT_NONE, d->split_fraction, held_out);
  if (has_lanes(f)) {
    if (f->part.random)
      return cli_error(a, CLI_FAILED, "split random tears lanes: give --eval-data");
    mp_part_make_lanes(&f->part, f->entry->batch);
  }
  f->rows = f->part.rows;
  if (cli_feed_batches(f)) return CLI_OK;
  return cli_error(a, CLI_FAILED, "%lld rows of data: no batch is left for %s (of %lld rows)",
                   (long long)all, f->entry->name, (long long)f->entry->batch);
}

int cli_open_feed(CliFeed *f, const CliArgs *a, const CliData *data, const mp_desc *d, int entry) {
  const mp_entry_desc *e = &d->entries[entry];
  *f = (CliFeed){.entry = e, .index = (uint32_t)entry, .like = data->like};
  f->inputs = calloc(e->n_inputs + 1, sizeof *f->inputs);
  f->files = calloc(data->files->len + 1, sizeof *f->files);
  if (!f->inputs || !f->files) return cli_error(a, CLI_FAILED, "no memory");
  f->n = e->n_inputs;
  int status = CLI_OK;
  for (uint32_t i = 0; i < f->n && !status; i++) status = describe_input(f, a, d, i);
  for (uint32_t i = 0; i < data->files->len && !status; i++)
    status = open_file(f, a, data->flag, d, data->files->at[i].name, data->files->at[i].value);
  if (!status) status = check_rows(f, a, data->flag);
  return status ? status : choose_part(f, a, d, data->split, data->held_out);
}

/* ---- batches ---- */

/* Of one pass; with tail(drop) a short last one is none. */
int64_t cli_feed_batches(const CliFeed *f) {
  int64_t batch = f->entry->batch;
  return (f->entry->flags & MP_ENTRY_FULL ? f->rows : f->rows + batch - 1) / batch;
}

void cli_feed_row(const CliFeed *f, int64_t position, int64_t slot) {
  int64_t row = mp_part_row(&f->part, position);
  for (uint32_t i = 0; i < f->n; i++) {
    const CliInput *in = &f->inputs[i];
    if (in->kind == CLI_FRESH) in->batch[slot] = position < f->part.lanes;
    else mp_source_row(&in->source, row, in->batch + (uint64_t)slot * in->source.row_bytes);
  }
}

int cli_bind_feed(const CliFeed *f, const mp_api *api, mp_ctx *ctx, int64_t rows) {
  for (uint32_t i = 0; i < f->n; i++) {
    size_t bytes = (size_t)(mp_row_bytes(&f->entry->inputs[i]) * (uint64_t)rows);
    int status = api->bind(ctx, f->index, i, f->inputs[i].batch, bytes);
    if (status) return status;
  }
  return MP_OK;
}

void cli_close_feed(CliFeed *f) {
  for (uint32_t i = 0; i < f->n; i++) {
    mp_source_close(&f->inputs[i].source);
    free(f->inputs[i].batch);
  }
  for (uint32_t i = 0; i < f->n_files; i++) mp_file_close(&f->files[i]);
  free(f->inputs);
  free(f->files);
  *f = (CliFeed){0};
}
