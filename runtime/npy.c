/* npy.c: the header of an NPY file: a magic string, a version, the length of what follows and a
 * Python dictionary {'descr': '<f4', 'fortran_order': False, 'shape': (60000, 28), }, read as
 * strictly as NumPy writes it.
 */
#include "runtime/data.h"

#include <stdio.h>
#include <string.h>

typedef struct NpyType {
  const char *code, *name;
  int32_t dtype; /* -1: no such type in a model */
  uint32_t size;
} NpyType;

static const NpyType npy_types[] = {
    {"f4", "f32", MP_F32, 4}, {"f2", "f16", MP_F16, 2}, {"f8", "f64", -1, 8},
    {"u1", "u8", MP_U8, 1},   {"u2", "u16", MP_U16, 2}, {"u4", "u32", MP_U32, 4},
    {"u8", "u64", -1, 8},     {"i1", "i8", -1, 1},      {"i2", "i16", -1, 2},
    {"i4", "i32", MP_I32, 4}, {"i8", "i64", MP_I64, 8}, {"b1", "i1", MP_I1, 1},
};

static const char magic[] = "\x93NUMPY";
enum { MAGIC = sizeof magic - 1 };

static bool is_npy(const uint8_t *at, uint64_t size) {
  return size >= MAGIC && !memcmp(at, magic, MAGIC);
}

/* ---- the dictionary ---- */

typedef struct Reader {
  const char *at, *end;
} Reader;

static bool take(Reader *r, const char *word) {
  size_t n = strlen(word);
  while (r->at < r->end && (*r->at == ' ' || *r->at == '\n')) r->at++;
  if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n)) return false;
  r->at += n;
  return true;
}

static bool read_type(Reader *r, mp_array *a) {
  if (!take(r, "'") || r->end - r->at < 4) return false;
  char order = *r->at++;
  if (!strchr("<>|=", order)) return false;
  for (size_t i = 0; i < MP_LEN(npy_types); i++) {
    const NpyType *t = &npy_types[i];
    if (!take(r, t->code)) continue;
    a->type = t->name, a->dtype = t->dtype, a->size = t->size;
    a->big_endian = order == '>';
    return take(r, "'");
  }
  return false;
}

static bool read_dim(Reader *r, int64_t *out) {
  int64_t n = 0;
  const char *start = r->at;
  for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
    if (n > INT64_MAX / 10 - 1) return false;
    n = n * 10 + (*r->at - '0');
  }
  *out = n;
  return r->at > start;
}

static bool read_shape(Reader *r, mp_array *a) {
  if (!take(r, "(")) return false;
  while (!take(r, ")")) {
    if (a->ndim == MP_MAX_RANK || !read_dim(r, &a->dims[a->ndim++])) return false;
    if (take(r, ",")) take(r, ""); /* the blanks behind it */
    else return take(r, ")");
  }
  return true;
}

typedef struct Found {
  bool type, order, shape, fortran;
} Found;

static bool read_entry(Reader *r, mp_array *a, Found *f) {
  if (take(r, "'descr':")) return !f->type && (f->type = read_type(r, a));
  if (take(r, "'shape':")) return !f->shape && (f->shape = read_shape(r, a));
  if (!take(r, "'fortran_order':") || f->order) return false;
  f->fortran = take(r, "True");
  return f->order = f->fortran || take(r, "False");
}

static bool read_dictionary(Reader *r, mp_array *a, Found *f) {
  if (!take(r, "{")) return false;
  while (!take(r, "}")) {
    if (!read_entry(r, a, f)) return false;
    if (!take(r, ",")) return take(r, "}");
  }
  return true;
}

/* ---- the file ---- */

/* Length of the dictionary: u16 in version 1, u32 in 2 and 3; false: not such a file. */
static bool read_length(const mp_file *f, uint64_t *begin, uint64_t *n) {
  if (!is_npy(f->at, f->size) || f->size < MAGIC + 6) return false;
  uint8_t version = f->at[MAGIC];
  const uint8_t *p = f->at + MAGIC + 2;
  int bytes = version == 1 ? 2 : 4;
  if (version < 1 || version > 3) return false;
  *n = 0;
  for (int i = bytes; i-- > 0;) *n = *n << 8 | p[i];
  *begin = MAGIC + 2 + (uint64_t)bytes;
  return true;
}

static int read_npy(mp_file *f, mp_error *err) {
  uint64_t begin, n;
  Found found = {0};
  f->one = true;
  if (!read_length(f, &begin, &n))
    return mp_fail(err, MP_E_FORMAT, "'%s' is not an NPY file of version 1, 2 or 3", f->path);
  if (n > f->size - begin) return mp_fail(err, MP_E_FORMAT, "'%s' ends inside its header", f->path);
  Reader r = {(const char *)f->at + begin, (const char *)f->at + begin + n};
  if (!read_dictionary(&r, &f->array, &found) || !found.type || !found.order || !found.shape)
    return mp_fail(err, MP_E_FORMAT,
                   "'%s': not a header of a plain array near '%.*s' (numbers of 1 to 8 bytes, at "
                   "most %d dims)",
                   f->path, (int)(r.end - r.at < 20 ? r.end - r.at : 20), r.at, MP_MAX_RANK);
  if (found.fortran)
    return mp_fail(err, MP_E_FORMAT,
                   "'%s' is in Fortran order: save np.ascontiguousarray(x) instead", f->path);
  f->array.begin = begin + n;
  return mp_array_bytes(&f->array, f->path, err);
}

static const char *const suffixes[] = {".npy", NULL};
const mp_format mp_format_npy = {"NPY", suffixes, is_npy, read_npy};
