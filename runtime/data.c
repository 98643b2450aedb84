/* data.c: sources: an array of a file, checked against an input of the model, and its rows.
 *
 * Everything is checked before the first step: type, dims, length.  Nothing is converted but the
 * order of bytes: a file of another type than the model's is refused.
 */
#include "runtime/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is expected and found, as text ---- */

/* "u8[60000, 28, 28]" of the file. */
static void found_text(const mp_array *a, char *out, size_t size) {
  size_t used = (size_t)snprintf(out, size, "%s", a->type);
  mp_dims_text(a->dims, a->ndim, out + used, size - used);
}

/* "u8[rows, 28, 28]" of the model, "u8[n]" of windows. */
static void want_text(const mp_tensor *want, bool rows, char *out, size_t size) {
  const char *type = mp_type_of(want->dtype)->name;
  char rest[128];
  mp_dims_text(want->dims + 1, want->ndim - 1, rest, sizeof rest);
  if (rows) snprintf(out, size, "%s[rows%s%s", type, want->ndim > 1 ? ", " : "", rest + 1);
  else snprintf(out, size, "%s[n]", type);
}

/* ---- finding the array ---- */

static int not_in_file(const mp_file *f, const char *name, mp_error *err) {
  char hint[96];
  mp_near near = mp_near_to(name);
  for (uint32_t i = 0; mp_file_name(f, i); i++) mp_near_try(&near, mp_file_name(f, i));
  return mp_fail(err, MP_E_FORMAT, "'%s' has no %s '%s'%s", f->path,
                 f->format == &mp_format_csv ? "column" : "tensor", name,
                 mp_near_text(&near, hint, sizeof hint));
}

static int array_in_safetensors(const mp_file *f, const char *name, mp_array *a, mp_error *err) {
  const mp_st_tensor *t = mp_st_find(&f->st, name);
  if (!t) return not_in_file(f, name, err);
  *a = (mp_array){.type = t->dtype, .dtype = -1, .size = 1, .ndim = t->ndim};
  memcpy(a->dims, t->dims, sizeof a->dims);
  for (int32_t d = MP_F32; d <= MP_I1; d++)
    if (!strcmp(mp_type_of(d)->safetensors, t->dtype))
      a->type = mp_type_of(d)->name, a->dtype = d, a->size = mp_type_of(d)->size;
  a->begin = f->size - f->st.data_bytes + t->begin;
  a->bytes = t->end - t->begin;
  return MP_OK;
}

/* A raw file is whatever the model wants, as long as it divides evenly. */
static int raw_array(const mp_file *f, const mp_tensor *want, bool rows, mp_array *a,
                     mp_error *err) {
  const mp_type *type = mp_type_of(want->dtype);
  uint64_t row = rows ? mp_row_bytes(want) : type->size;
  char text[160];
  want_text(want, rows, text, sizeof text);
  if (!row || f->size % row)
    return mp_fail(err, MP_E_FORMAT,
                   "'%s' does not fit '%s': it has no header that is known, and its %llu bytes are "
                   "not whole %s of %llu (%s)",
                   f->path, want->name, (unsigned long long)f->size, rows ? "rows" : "elements",
                   (unsigned long long)row, text);
  *a = (mp_array){type->name, want->dtype, type->size, .ndim = rows ? want->ndim : 1};
  memcpy(a->dims, want->dims, sizeof a->dims);
  a->dims[0] = (int64_t)(f->size / row);
  a->bytes = f->size;
  return MP_OK;
}

static int find_array(const mp_file *f, const mp_tensor *want, bool rows, mp_array *a,
                      mp_error *err) {
  *a = f->array;
  if (f->one) return MP_OK;
  if (f->format == &mp_format_safetensors) return array_in_safetensors(f, want->name, a, err);
  return raw_array(f, want, rows, a, err);
}

/* ---- opening ---- */

static bool fits(const mp_array *a, const mp_tensor *want, bool rows) {
  if (a->dtype != want->dtype || a->ndim != (rows ? want->ndim : 1)) return false;
  for (int32_t i = 1; i < a->ndim; i++)
    if (a->dims[i] != want->dims[i]) return false;
  return true;
}

static int check_fit(const mp_file *f, const mp_array *a, const mp_tensor *want, bool rows,
                     mp_error *err) {
  char expected[160], found[160];
  if (fits(a, want, rows)) return MP_OK;
  want_text(want, rows, expected, sizeof expected);
  found_text(a, found, sizeof found);
  return mp_fail(err, MP_E_FORMAT, "'%s' does not fit '%s': expected %s, found %s", f->path,
                 want->name, expected, found);
}

/* Window i is elements i·T … i·T + T. */
static int set_windows(mp_source *s, const mp_file *f, const mp_array *a, int64_t length,
                       mp_error *err) {
  s->rows = (a->dims[0] - 1) / length;
  s->stride = (uint64_t)length * a->size;
  if (s->rows > 0) return MP_OK;
  return mp_fail(err, MP_E_FORMAT, "'%s' has %lld elements; a window of %lld needs %lld", f->path,
                 (long long)a->dims[0], (long long)length, (long long)length + 1);
}

static int open_array(mp_source *s, const mp_file *f, const mp_source_desc *d,
                      const mp_tensor *want, mp_error *err) {
  mp_array a;
  bool rows = d->kind == MP_ROWS;
  int status = find_array(f, want, rows, &a, err);
  if (!status) status = check_fit(f, &a, want, rows, err);
  if (status) return status;
  if (!a.dims[0]) return mp_fail(err, MP_E_FORMAT, "'%s' holds no rows", f->path);
  if (f->one) status = mp_array_length(&a, f->size - a.begin, f->path, err);
  if (status) return status;
  s->at = f->at + a.begin;
  s->rows = a.dims[0];
  s->swap = a.big_endian ? a.size : 1;
  return rows ? MP_OK : set_windows(s, f, &a, d->length, err);
}

static int open_column(mp_source *s, const mp_file *f, const mp_source_desc *d,
                       const mp_tensor *want, const mp_source *like, mp_error *err) {
  char text[160];
  want_text(want, true, text, sizeof text);
  if (!mp_file_has(f, want->name)) return not_in_file(f, want->name, err);
  if (d->kind != MP_ROWS || want->ndim != 1)
    return mp_fail(err, MP_E_FORMAT,
                   "'%s' does not fit '%s': expected %s, found a column of one number a row",
                   f->path, want->name, text);
  s->swap = 1;
  int status = mp_csv_column(s, f, d, want->dtype, like, err);
  s->at = s->heap;
  return status;
}

int mp_source_open(mp_source *s, const mp_file *f, const mp_source_desc *d, const mp_tensor *want,
                   const mp_source *like, mp_error *err) {
  *s = (mp_source){.row_bytes = mp_row_bytes(want), .stride = mp_row_bytes(want)};
  int status = f->format == &mp_format_csv ? open_column(s, f, d, want, like, err)
                                           : open_array(s, f, d, want, err);
  if (status) mp_source_close(s);
  return status;
}

/* ---- rows ---- */

static bool is_little_endian(void) {
  const uint16_t one = 1;
  uint8_t first;
  memcpy(&first, &one, 1);
  return first == 1;
}

void mp_source_row(const mp_source *s, int64_t row, void *out) {
  const uint8_t *from = s->at + (uint64_t)row * s->stride;
  uint8_t *to = out;
  if (s->swap == 1 || !is_little_endian()) {
    memcpy(to, from, s->row_bytes);
    return;
  }
  for (uint64_t i = 0; i < s->row_bytes; i += s->swap)
    for (uint32_t b = 0; b < s->swap; b++) to[i + b] = from[i + s->swap - 1 - b];
}

void mp_source_close(mp_source *s) {
  for (uint32_t i = 0; i < s->names.len; i++) free(s->names.at[i]);
  free(s->names.at);
  free(s->heap);
  *s = (mp_source){0};
}
