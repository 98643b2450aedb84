/* idx.c: the header of an IDX file (MNIST and its kin): two zero bytes, a type, the number of dims,
 * the dims as big-endian u32, then big-endian elements, row-major.
 *
 * The file must fit the model's input exactly: same type, same dims but the first, which counts
 * rows.
 */
#include "runtime/rt.h"

#include <stdio.h>
#include <string.h>

typedef struct IdxType {
  uint8_t code;
  const char *name;
  int32_t dtype; /* -1: no such type in a model */
  uint32_t size;
} IdxType;

static const IdxType idx_types[] = {
    {0x08, "u8", MP_U8, 1},   {0x09, "i8", -1, 1},      {0x0b, "i16", -1, 2},
    {0x0c, "i32", MP_I32, 4}, {0x0d, "f32", MP_F32, 4}, {0x0e, "f64", -1, 8},
};

static const IdxType *find_type(uint8_t code) {
  for (size_t i = 0; i < MP_LEN(idx_types); i++)
    if (idx_types[i].code == code) return &idx_types[i];
  return NULL;
}

static uint32_t big_u32(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* "u8[60000, 28, 28]" of the file. */
static void found_text(const uint8_t *head, const IdxType *type, char *out, size_t size) {
  int64_t dims[MP_MAX_RANK];
  int32_t n = head[3] <= MP_MAX_RANK ? head[3] : MP_MAX_RANK;
  for (int32_t i = 0; i < n; i++) dims[i] = big_u32(head + 4 + 4 * i);
  size_t used = (size_t)snprintf(out, size, "%s", type->name);
  mp_dims_text(dims, n, out + used, size - used);
}

/* "u8[rows, 28, 28]" of the model. */
static void want_text(const mp_tensor *want, char *out, size_t size) {
  char rest[128];
  mp_dims_text(want->dims + 1, want->ndim - 1, rest, sizeof rest);
  snprintf(out, size, "%s[rows%s%s", mp_type_of(want->dtype)->name, want->ndim > 1 ? ", " : "",
           rest + 1);
}

static bool same_dims(const uint8_t *head, const mp_tensor *want) {
  if (head[3] != want->ndim) return false;
  for (int32_t i = 1; i < want->ndim; i++)
    if (big_u32(head + 4 + 4 * i) != want->dims[i]) return false;
  return true;
}

static int not_idx(const uint8_t *head, size_t have, const char *path, mp_error *err) {
  char bytes[16] = "";
  for (size_t i = 0; i < have && i < 4; i++) snprintf(bytes + 3 * i, 4, " %02x", head[i]);
  return mp_fail(err, MP_E_FORMAT,
                 "'%s' is not an IDX file (it begins with%s; expected 00 00, type, dims)", path,
                 have ? bytes : " nothing");
}

int mp_idx_parse(mp_layout *l, const uint8_t *head, size_t have, const mp_tensor *want,
                 const char *path, mp_error *err) {
  const IdxType *type = have >= 4 && !head[0] && !head[1] ? find_type(head[2]) : NULL;
  if (!type || !head[3]) return not_idx(head, have, path, err);
  l->header_bytes = 4 + 4 * (uint64_t)head[3];
  if (have < l->header_bytes) return mp_fail(err, MP_E_FORMAT, "'%s' ends inside its header", path);
  if (type->dtype != want->dtype || !same_dims(head, want)) {
    char w[160], f[160];
    want_text(want, w, sizeof w);
    found_text(head, type, f, sizeof f);
    return mp_fail(err, MP_E_FORMAT, "'%s' does not fit '%s': expected %s, found %s", path,
                   want->name, w, f);
  }
  l->rows = big_u32(head + 4);
  l->element = type->size;
  if (!l->rows) return mp_fail(err, MP_E_FORMAT, "'%s' holds no rows", path);
  if (!mp_mul((uint64_t)l->rows, mp_row_bytes(want), &l->data_bytes) || l->data_bytes > INT64_MAX)
    return mp_fail(err, MP_E_FORMAT, "'%s': its header claims more bytes than can exist", path);
  return MP_OK;
}
