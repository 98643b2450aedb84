/* output.c: tensors for people and other tools: as text, as NPY, as safetensors.
 *
 * Files are either whole or not there: written under a temporary name, synced and renamed.  NPY
 * knows no bf16: such a result goes to safetensors. */
#include "runtime/cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- whole files ---- */

int cli_write_file(const CliArgs *a, const char *path, mp_fill_fn *fill, void *user) {
  mp_text temp = {0};
  mp_error err = {"no memory"};
  mp_text_add(&temp, "%s.tmp-%ld", path, (long)getpid());
  int status = temp.failed ? MP_E_MEMORY : MP_OK;
  if (!status) unlink(temp.at); /* of a process with our number that was killed */
  if (!status) status = mp_write_synced(temp.at, fill, user, &err);
  if (!status) status = mp_swap_in(temp.at, path, &err);
  if (status && !temp.failed) unlink(temp.at);
  mp_text_free(&temp);
  return status ? cli_error(a, CLI_FAILED, "%s", err.text) : CLI_OK;
}

/* ---- text ---- */

static uint32_t bits_of(const char *at, size_t size) {
  uint32_t u = 0;
  uint16_t half;
  if (size == 4) memcpy(&u, at, 4);
  else memcpy(&half, at, 2), u = half;
  return u;
}

int64_t cli_int_at(int32_t dtype, const void *data, uint64_t i) {
  const char *at = (const char *)data + i * mp_type_of(dtype)->size;
  int64_t wide;
  switch (dtype) {
  case MP_I64: memcpy(&wide, at, sizeof wide); return wide;
  case MP_I32: return (int32_t)bits_of(at, 4);
  case MP_U32: return bits_of(at, 4);
  case MP_U16: return bits_of(at, 2);
  default: return *(const uint8_t *)at;
  }
}

static void print_element(const mp_tensor *t, const char *data, uint64_t i) {
  int digits = t->dtype == MP_F32 ? 9 : t->dtype == MP_BF16 ? 4 : 5;
  if (t->dtype == MP_F32 || mp_is_low(t->dtype))
    printf("%.*g", digits, (double)mp_float_at(t->dtype, data, i));
  else printf("%lld", (long long)cli_int_at(t->dtype, data, i));
}

/* A line for each row of the last axis; of a vector one for each number. */
void cli_print_tensor(const mp_tensor *t, const void *data) {
  uint64_t n = mp_tensor_bytes(t) / mp_type_of(t->dtype)->size;
  uint64_t line = t->ndim > 1 ? (uint64_t)t->dims[t->ndim - 1] : 1;
  char text[160];
  printf("%s %s\n", t->name, mp_tensor_text(t, text, sizeof text));
  for (uint64_t i = 0; i < n; i++) {
    print_element(t, data, i);
    putchar((i + 1) % line ? ' ' : '\n');
  }
}

/* ---- NPY ---- */

static const struct {
  int32_t dtype;
  const char *descr;
} npy_types[] = {{MP_F32, "<f4"}, {MP_F16, "<f2"}, {MP_I64, "<i8"}, {MP_I32, "<i4"},
                 {MP_U32, "<u4"}, {MP_U16, "<u2"}, {MP_U8, "|u1"},  {MP_I1, "|b1"}};

static const char *npy_type(int32_t dtype) {
  for (size_t i = 0; i < MP_LEN(npy_types); i++)
    if (npy_types[i].dtype == dtype) return npy_types[i].descr;
  return NULL;
}

/* Magic, version 1.0, length, dictionary, padded with blanks to 64. */
static void npy_header(mp_text *t, const mp_tensor *of) {
  mp_text_add(t, "\x93NUMPY\x01%c??{'descr': '%s', 'fortran_order': False, 'shape': (", '?',
              npy_type(of->dtype));
  for (int32_t i = 0; i < of->ndim; i++) mp_text_add(t, "%lld, ", (long long)of->dims[i]);
  mp_text_add(t, "), }");
  while (!t->failed && t->len % 64 != 63) mp_text_add(t, " ");
  mp_text_add(t, "\n");
  if (t->failed) return;
  t->at[7] = 0;
  t->at[8] = (char)((t->len - 10) & 0xff);
  t->at[9] = (char)((t->len - 10) >> 8);
}

static int fill_npy(void *user, mp_write_fn write, void *sink, mp_error *err) {
  const mp_st_item *item = user;
  mp_text head = {0};
  npy_header(&head, item->tensor);
  int status = head.failed ? mp_fail(err, MP_E_MEMORY, "no memory") : MP_OK;
  if (!status &&
      (write(sink, head.at, head.len) || write(sink, item->data, mp_tensor_bytes(item->tensor))))
    status = MP_E_IO;
  mp_text_free(&head);
  return status;
}

/* ---- safetensors ---- */

typedef struct Items {
  const mp_st_item *at;
  uint32_t len;
} Items;

static int fill_safetensors(void *user, mp_write_fn write, void *sink, mp_error *err) {
  const Items *items = user;
  return mp_st_write(items->at, items->len, NULL, 0, write, sink, err);
}

static bool ends_with(const char *path, const char *end) {
  size_t n = strlen(path), m = strlen(end);
  return n > m && !strcmp(path + n - m, end);
}

int cli_write_tensors(const CliArgs *a, const char *path, const mp_st_item *items, uint32_t n) {
  Items all = {items, n};
  if (ends_with(path, ".safetensors")) return cli_write_file(a, path, fill_safetensors, &all);
  if (!ends_with(path, ".npy"))
    return cli_error(a, CLI_USAGE, "--output %s: FILE.npy or FILE.safetensors", path);
  if (n != 1)
    return cli_error(a, CLI_USAGE,
                     "--output %s: an NPY file holds one of %u results: give "
                     "NAME=FILE.npy, or FILE.safetensors",
                     path, n);
  if (!npy_type(items->tensor->dtype))
    return cli_error(a, CLI_USAGE, "--output %s: NPY has no %s: write FILE.safetensors", path,
                     mp_type_of(items->tensor->dtype)->name);
  return cli_write_file(a, path, fill_npy, (void *)items);
}
