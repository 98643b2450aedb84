/* feed.c: the data files of an entry, and its batches.
 *
 * Every input of the entry takes one file; all files must hold the same number of rows.  A batch is
 * gathered row by row into one buffer an input, which stays bound.
 */
#include "runtime/cli.h"

#include <stdlib.h>
#include <string.h>

static int find_input(const mp_entry_desc *e, const char *name) {
  for (uint32_t i = 0; i < e->n_inputs; i++)
    if (!strcmp(e->inputs[i].name, name)) return (int)i;
  return -1;
}

static int unknown_input(const CliArgs *a, const char *flag, const mp_entry_desc *e,
                         const char *name) {
  char hint[96];
  mp_near near = mp_near_to(name);
  for (uint32_t i = 0; i < e->n_inputs; i++) mp_near_try(&near, e->inputs[i].name);
  return cli_error(a, CLI_USAGE, "%s: %s has no input '%s'%s", flag, e->name, name,
                   mp_near_text(&near, hint, sizeof hint));
}

static int open_one(CliFeed *f, const CliArgs *a, const char *flag, const char *name,
                    const char *path) {
  const mp_entry_desc *e = f->entry;
  mp_error err;
  int i = !*name && e->n_inputs == 1 ? 0 : find_input(e, name);
  if (!*name && i < 0)
    return cli_error(a, CLI_USAGE, "%s %s: which input? %s has %u: give NAME=FILE", flag, path,
                     e->name, e->n_inputs);
  if (i < 0) return unknown_input(a, flag, e, name);
  if (f->sources[i].at)
    return cli_error(a, CLI_USAGE, "%s: '%s' is given twice", flag, e->inputs[i].name);
  if (mp_source_open(&f->sources[i], path, &e->inputs[i], &err))
    return cli_error(a, CLI_FAILED, "%s", err.text);
  return CLI_OK;
}

static int check_rows(CliFeed *f, const CliArgs *a, const char *flag) {
  const mp_entry_desc *e = f->entry;
  for (uint32_t i = 0; i < e->n_inputs; i++) {
    if (!f->sources[i].at)
      return cli_error(a, CLI_USAGE, "no data for '%s': %s %s=FILE", e->inputs[i].name, flag,
                       e->inputs[i].name);
    if (f->sources[i].rows != f->sources[0].rows)
      return cli_error(a, CLI_FAILED, "%s: '%s' has %lld rows, '%s' has %lld", flag,
                       e->inputs[0].name, (long long)f->sources[0].rows, e->inputs[i].name,
                       (long long)f->sources[i].rows);
  }
  f->rows = e->n_inputs ? f->sources[0].rows : 0;
  return CLI_OK;
}

static bool alloc_batch(CliFeed *f) {
  for (uint32_t i = 0; i < f->n; i++) {
    f->batch[i] = malloc(mp_tensor_bytes(&f->entry->inputs[i]) + 1);
    if (!f->batch[i]) return false;
  }
  return true;
}

int cli_open_feed(CliFeed *f, const CliArgs *a, const char *flag, const CliPairs *files,
                  const mp_desc *d, int entry) {
  const mp_entry_desc *e = &d->entries[entry];
  *f = (CliFeed){.entry = e, .index = (uint32_t)entry, .n = e->n_inputs};
  f->sources = calloc(f->n + 1, sizeof *f->sources);
  f->batch = calloc(f->n + 1, sizeof *f->batch);
  if (!f->sources || !f->batch || !alloc_batch(f)) return cli_error(a, CLI_FAILED, "no memory");
  int status = CLI_OK;
  for (uint32_t i = 0; i < files->len && !status; i++)
    status = open_one(f, a, flag, files->at[i].name, files->at[i].value);
  return status ? status : check_rows(f, a, flag);
}

void cli_feed_row(const CliFeed *f, int64_t row, int64_t slot) {
  for (uint32_t i = 0; i < f->n; i++)
    mp_source_row(&f->sources[i], row, f->batch[i] + (uint64_t)slot * f->sources[i].row_bytes);
}

int cli_bind_feed(const CliFeed *f, const mp_api *api, mp_ctx *ctx, int64_t rows) {
  for (uint32_t i = 0; i < f->n; i++) {
    size_t bytes = (size_t)(f->sources[i].row_bytes * (uint64_t)rows);
    int status = api->bind(ctx, f->index, i, f->batch[i], bytes);
    if (status) return status;
  }
  return MP_OK;
}

void cli_close_feed(CliFeed *f) {
  for (uint32_t i = 0; i < f->n; i++) {
    if (f->sources) mp_source_close(&f->sources[i]);
    if (f->batch) free(f->batch[i]);
  }
  free(f->sources);
  free(f->batch);
  *f = (CliFeed){0};
}
