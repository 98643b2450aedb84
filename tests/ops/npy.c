/* npy.c: arrays as files that NumPy reads and writes: a magic of ten bytes, a Python dictionary as
 * text, the elements.
 *
 * Only what NumPy itself writes is read.  It shares nothing with runtime/npy.c on purpose: a
 * mistake there must not hide in the tests. */
#include "tests/ops/npy.h"

#include <stdlib.h>
#include <string.h>

static const struct {
  const char *descr;
  DType dtype;
  bool wide;
} KINDS[] = {{"<f8", DT_f32, true},  {"<f4", DT_f32, false}, {"<i8", DT_i64, false},
             {"<i4", DT_i32, false}, {"<u4", DT_u32, false}, {"<u2", DT_u16, false},
             {"|u1", DT_u8, false},  {"|b1", DT_i1, false}};
enum { NKINDS = sizeof KINDS / sizeof *KINDS };

static bool read_kind(const char *header, Tensor *t) {
  const char *at = strstr(header, "'descr': '");
  for (int i = 0; at && i < NKINDS; i++) {
    if (strncmp(at + 10, KINDS[i].descr, 3) || at[13] != '\'') continue;
    t->type = type_scalar(KINDS[i].dtype);
    t->wide = KINDS[i].wide;
    return true;
  }
  return false;
}

/* (), (3,), (3, 4) */
static bool read_shape(const char *header, Type *t) {
  const char *at = strstr(header, "'shape': (");
  if (!at) return false;
  for (at += 10; *at && *at != ')';) {
    char *end;
    long long n = strtoll(at, &end, 10);
    if (end == at || n < 0 || t->rank == MAX_RANK) return false;
    t->dim[t->rank++] = n;
    for (at = end; *at == ',' || *at == ' ';) at++;
  }
  return *at == ')';
}

const char *npy_read(Arena *a, const char *path, Tensor *t) {
  const char *why;
  size_t size;
  uint64_t bytes;
  char *file = read_file(a, path, &size, &why);
  if (!file) return why;
  if (size < 10 || memcmp(file, "\x93NUMPY\x01", 7)) return "not a NumPy file of format 1";
  size_t start = 10 + (size_t)(unsigned char)file[8] + 256 * (size_t)(unsigned char)file[9];
  if (start > size) return "the header is cut off";
  const char *header = arena_text(a, file + 10, start - 10);
  *t = (Tensor){0};
  if (!read_kind(header, t)) return "elements of a type that is not supported";
  if (strstr(header, "'fortran_order': True")) return "elements in Fortran order";
  if (!read_shape(header, &t->type) || !type_bytes(t->type, &bytes)) return "no sound shape";
  if (size - start != tensor_bytes(t)) return "the size does not fit the shape";
  t->data = arena_alloc(a, tensor_bytes(t)); /* a copy: the file's bytes may not be aligned */
  if (size > start) memcpy(t->data, file + start, size - start);
  return NULL;
}

static const char *descr_of(const Tensor *t) {
  for (int i = 0; i < NKINDS; i++)
    if (KINDS[i].dtype == t->type.dtype && (KINDS[i].wide == t->wide || t->type.dtype != DT_f32))
      return KINDS[i].descr;
  return type_is_float(t->type) ? t->wide ? "<f8" : "<f4" : NULL;
}

/* A multiple of 64 bytes before the elements, as the format asks for. */
static void write_header(FILE *f, const Tensor *t) {
  char text[512];
  int n = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                   descr_of(t));
  for (int i = 0; i < t->type.rank; i++)
    n += snprintf(text + n, sizeof text - (size_t)n, "%lld,", (long long)t->type.dim[i]);
  n += snprintf(text + n, sizeof text - (size_t)n, "), }");
  while ((n + 11) % 64) text[n++] = ' ';
  text[n++] = '\n';
  fwrite("\x93NUMPY\x01\0", 1, 8, f);
  fputc(n & 255, f);
  fputc(n >> 8, f);
  fwrite(text, 1, (size_t)n, f);
}

static void write_elements(FILE *f, const Tensor *t) {
  bool narrow = !t->wide && type_is_float(t->type) && t->type.dtype != DT_f32;
  if (!narrow) fwrite(t->data, 1, tensor_bytes(t), f);
  for (int64_t i = 0; narrow && i < type_count(t->type); i++) {
    float x = (float)tensor_get(t, i);
    fwrite(&x, sizeof x, 1, f);
  }
}

const char *npy_write(const char *path, const Tensor *t) {
  FILE *f = fopen(path, "wb");
  if (!f) return "cannot be opened";
  write_header(f, t);
  write_elements(f, t);
  bool bad = ferror(f);
  return fclose(f) || bad ? "cannot be written" : NULL;
}
