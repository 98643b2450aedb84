/* inspect.c: info CKPT: what a checkpoint holds, every checksum computed anew.
 *
 * It reads like a stranger: without a context and without the model, in pieces of a fixed size, so
 * a checkpoint of any size can be looked at, and one of another model too. */
#include "runtime/cli.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { CHUNK = 1 << 20 };

static int tensor_crc(mp_reader *r, const mp_st_tensor *t, char *chunk, uint32_t *out) {
  uLong crc = crc32_z(0, NULL, 0);
  for (uint64_t left = t->end - t->begin, n; left; left -= n) {
    n = left < CHUNK ? left : CHUNK;
    if (mp_reader_read(r, chunk, n)) return -1;
    crc = crc32_z(crc, (unsigned char *)chunk, n);
  }
  *out = (uint32_t)crc;
  return 0;
}

static int print_tensor(const CliArgs *a, const mp_st *st, const mp_st_tensor *t, mp_reader *r,
                        char *chunk, const char *path) {
  char dims[128];
  uint32_t crc;
  mp_error err;
  if (tensor_crc(r, t, chunk, &crc))
    return cli_error(a, CLI_FAILED, "%s: '%.80s' cannot be read", path, t->name);
  if (mp_st_check_crc(st, t, crc, path, &err)) return cli_error(a, CLI_FAILED, "%s", err.text);
  printf("  %s  %s%s", t->name, t->dtype, mp_dims_text(t->dims, t->ndim, dims, sizeof dims));
  if (st->has_crc) printf("  crc32 %08lx\n", (unsigned long)crc);
  else printf("  no checksum\n");
  return CLI_OK;
}

/* Hyperparameters are kept as their bits. */
static void print_note(const mp_st_note *n) {
  char *end;
  uint64_t bits = strtoull(n->value, &end, 16);
  double value;
  memcpy(&value, &bits, sizeof value);
  if (!strncmp(n->key, "hyper:", 6) && !*end) printf("  %s  %.17g\n", n->key, value);
  else printf("  %s  %s\n", n->key, n->value);
}

/* Checksums of tensors stand beside the tensors. */
static void print_notes(const mp_st *st) {
  for (uint32_t i = 0; i < st->n_notes; i++)
    if (strncmp(st->notes[i].key, "crc32:", 6)) print_note(&st->notes[i]);
}

static int print_open(const CliArgs *a, mp_reader *r, const char *path) {
  mp_st st;
  mp_error err;
  if (mp_st_read_header(&st, mp_reader_read, r, r->size, path, &err))
    return cli_error(a, CLI_FAILED, "%s", err.text);
  char *chunk = malloc(CHUNK);
  int status = chunk ? CLI_OK : cli_error(a, CLI_FAILED, "no memory");
  printf("\n%s\n", path);
  print_notes(&st);
  for (uint32_t i = 0; i < st.n_tensors && !status; i++)
    status = print_tensor(a, &st, &st.tensors[i], r, chunk, path);
  free(chunk);
  mp_st_free(&st);
  return status;
}

static int print_file(const CliArgs *a, const char *path) {
  mp_reader r;
  mp_error err;
  if (mp_reader_open(&r, path, &err)) return cli_error(a, CLI_FAILED, "%s", err.text);
  int status = print_open(a, &r, path);
  mp_reader_close(&r);
  return status;
}

static int print_dir(const CliArgs *a, const char *dir) {
  int status = CLI_OK;
  for (int part = MP_PART_MODEL; part <= MP_PART_STATE && !status; part++) {
    char *path = mp_path(dir, mp_part_files[part]);
    status = path ? print_file(a, path) : cli_error(a, CLI_FAILED, "no memory");
    free(path);
  }
  return status;
}

int cli_inspect(const CliArgs *a) {
  const char *path = a->entry;
  if (!mp_is_dir(path)) return print_file(a, path);
  if (mp_checkpoint_whole(path)) return print_dir(a, path);
  int64_t newest = mp_checkpoint_newest(path);
  if (newest < 0) return cli_error(a, CLI_FAILED, "no checkpoint in '%s'", path);
  char *whole = mp_checkpoint_path(path, newest);
  int status = whole ? print_dir(a, whole) : cli_error(a, CLI_FAILED, "no memory");
  free(whole);
  return status;
}
