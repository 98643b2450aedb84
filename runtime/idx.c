/* idx.c: the header of an IDX file (MNIST and its kin): two zero bytes, a type, the number of
 * dims, the dims as big-endian u32, then big-endian elements, row-major.
 *
 * The size of the file must be what the header says, to the byte; dims whose product overflows are
 * refused before anything is read.  Types that no model takes are known by name, for the message.
 */
#include "runtime/data.h"

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

static bool is_idx(const uint8_t *at, uint64_t size) {
  return size >= 4 && !at[0] && !at[1] && find_type(at[2]) && at[3] && at[3] <= MP_MAX_RANK;
}

static int not_idx(const uint8_t *head, size_t have, const char *path, mp_error *err) {
  char bytes[16] = "";
  for (size_t i = 0; i < have && i < 4; i++) snprintf(bytes + 3 * i, 4, " %02x", head[i]);
  return mp_fail(err, MP_E_FORMAT,
                 "'%s' is not an IDX file (it begins with%s; expected 00 00, type, dims)", path,
                 have ? bytes : " nothing");
}

int mp_idx_parse(mp_array *a, const uint8_t *head, size_t have, const char *path, mp_error *err) {
  const IdxType *type = have >= 4 && !head[0] && !head[1] ? find_type(head[2]) : NULL;
  if (!type || !head[3]) return not_idx(head, have, path, err);
  *a = (mp_array){type->name, type->dtype, type->size, .big_endian = true, .ndim = head[3]};
  a->begin = 4 + 4 * (uint64_t)head[3];
  if (have < a->begin) return mp_fail(err, MP_E_FORMAT, "'%s' ends inside its header", path);
  if (a->ndim > MP_MAX_RANK)
    return mp_fail(err, MP_E_FORMAT, "'%s' has %d dims, more than %d", path, a->ndim, MP_MAX_RANK);
  for (int32_t i = 0; i < a->ndim; i++) a->dims[i] = big_u32(head + 4 + 4 * i);
  return mp_array_bytes(a, path, err);
}

static int read_idx(mp_file *f, mp_error *err) {
  size_t have = f->size < MP_IDX_HEADER ? (size_t)f->size : MP_IDX_HEADER;
  f->one = true;
  return mp_idx_parse(&f->array, f->at, have, f->path, err);
}

static const char *const suffixes[] = {".idx", NULL};
const mp_format mp_format_idx = {"IDX", suffixes, is_idx, read_idx};
