/* datafile.c: opens a data file of any format: maps or unpacks it and reads its header.
 *
 * The format is told by a strong magic (NPY, safetensors), then by the suffix, then by the weak
 * magic of IDX; what is nothing of these is raw: little-endian elements without a header.  A header
 * is never believed before the file can hold what it claims: deflate packs at most 1032 to 1.
 */
#define _DEFAULT_SOURCE
#include "runtime/data.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

enum { DEFLATE_RATIO = 1032, MAX_CHUNK = 1 << 28 };

int mp_array_bytes(mp_array *a, const char *path, mp_error *err) {
  a->bytes = a->size;
  bool fits = true;
  for (int32_t i = 0; i < a->ndim && fits; i++)
    fits = mp_mul(a->bytes, (uint64_t)a->dims[i], &a->bytes) && a->bytes <= INT64_MAX;
  if (fits) return MP_OK;
  return mp_fail(err, MP_E_FORMAT, "'%s': its header claims more bytes than can exist", path);
}

int mp_array_length(const mp_array *a, uint64_t found, const char *path, mp_error *err) {
  if (found < a->bytes)
    return mp_fail(err, MP_E_FORMAT, "'%s' is truncated: expected %llu bytes of data, found %llu",
                   path, (unsigned long long)a->bytes, (unsigned long long)found);
  if (found > a->bytes)
    return mp_fail(err, MP_E_FORMAT, "'%s' has %llu bytes after its data", path,
                   (unsigned long long)(found - a->bytes));
  return MP_OK;
}

/* ---- formats ---- */

static bool never(const uint8_t *at, uint64_t size) {
  (void)at, (void)size;
  return false;
}

static int read_raw(mp_file *f, mp_error *err) {
  (void)f, (void)err;
  return MP_OK;
}

static const char *const raw_suffixes[] = {".bin", ".raw", ".txt", NULL};
const mp_format mp_format_raw = {"raw", raw_suffixes, never, read_raw};

typedef struct Bytes {
  const uint8_t *at;
  uint64_t left;
} Bytes;

static int read_bytes(void *user, void *out, size_t n) {
  Bytes *b = user;
  if (b->left < n) return -1;
  memcpy(out, b->at, n);
  b->at += n;
  b->left -= n;
  return 0;
}

static uint64_t header_length(const uint8_t *at) {
  uint64_t n = 0;
  for (int i = 7; i >= 0; i--) n = n << 8 | at[i];
  return n;
}

static bool is_safetensors(const uint8_t *at, uint64_t size) {
  return size >= 10 && at[8] == '{' && header_length(at) <= size - 8;
}

static int read_safetensors(mp_file *f, mp_error *err) {
  Bytes b = {f->at, f->size};
  return mp_st_read_header(&f->st, read_bytes, &b, f->size, f->path, err);
}

static const char *const st_suffixes[] = {".safetensors", NULL};
const mp_format mp_format_safetensors = {"safetensors", st_suffixes, is_safetensors,
                                         read_safetensors};

static const mp_format *const formats[] = {&mp_format_npy, &mp_format_safetensors, &mp_format_csv,
                                           &mp_format_idx, &mp_format_raw};

static bool ends_with(const char *path, const char *end) {
  size_t n = strlen(path), m = strlen(end);
  return n >= m && !strcmp(path + n - m, end);
}

static const mp_format *format_of(const mp_file *f) {
  for (size_t i = 0; i < 2; i++) /* the two with a strong magic */
    if (formats[i]->is(f->at, f->size)) return formats[i];
  for (size_t i = 0; i < MP_LEN(formats); i++)
    for (const char *const *s = formats[i]->suffixes; *s; s++)
      if (ends_with(f->path, *s)) return formats[i];
  return mp_format_idx.is(f->at, f->size) ? &mp_format_idx : &mp_format_raw;
}

/* ---- plain files ---- */

static int open_plain(mp_file *f, int fd, uint64_t size, mp_error *err) {
  if (!size) return mp_fail(err, MP_E_FORMAT, "'%s' is empty", f->path);
  void *map = size > SIZE_MAX ? MAP_FAILED : mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (map == MAP_FAILED) return mp_fail(err, MP_E_IO, "cannot map '%s'", f->path);
  f->map = map;
  f->at = map;
  f->size = size;
  f->format = format_of(f);
  return f->format->read(f, err);
}

/* ---- compressed files: IDX alone ---- */

/* Up to n bytes; less at the end of the file; -1: damaged. */
static int64_t unpack(gzFile z, uint8_t *out, uint64_t n) {
  uint64_t have = 0;
  while (have < n) {
    uint64_t want = n - have < MAX_CHUNK ? n - have : MAX_CHUNK;
    int got = gzread(z, out + have, (unsigned)want);
    if (got < 0) return -1;
    if (!got) break;
    have += (uint64_t)got;
  }
  int number; /* gzread reports a file that ends inside a member only here */
  gzerror(z, &number);
  return number == Z_OK || number == Z_STREAM_END ? (int64_t)have : -1;
}

/* zlib puts its own name of the file, "<fd:4>: ", in front. */
static int gz_failed(gzFile z, const char *path, mp_error *err) {
  int number;
  const char *what = gzerror(z, &number), *behind = strstr(what, ">: ");
  if (behind) what = behind + 3;
  if (number == Z_BUF_ERROR) what = "it ends too early";
  return mp_fail(err, MP_E_FORMAT, "'%s' is damaged: %s", path, what);
}

/* IDX headers have a length that only their fourth byte tells. */
static int64_t unpack_header(gzFile z, uint8_t *head) {
  int64_t have = unpack(z, head, 4);
  if (have != 4) return have;
  int64_t more = unpack(z, head + 4, 4 * (uint64_t)head[3]);
  return more < 0 ? more : have + more;
}

static int unpack_rows(mp_file *f, gzFile z, uint64_t packed, mp_error *err) {
  mp_array *a = &f->array;
  if (a->bytes / DEFLATE_RATIO > packed)
    return mp_fail(err, MP_E_FORMAT, "'%s' is too short for the %llu bytes its header claims",
                   f->path, (unsigned long long)a->bytes);
  uint8_t *heap = malloc((size_t)a->bytes + 1); /* one more, to notice what follows */
  f->heap = heap;
  if (!heap) return mp_fail(err, MP_E_MEMORY, "no memory for the rows of '%s'", f->path);
  f->at = heap;
  f->size = a->bytes;
  a->begin = 0;
  int64_t have = unpack(z, heap, a->bytes + 1);
  if (have < 0) return gz_failed(z, f->path, err);
  if ((uint64_t)have > a->bytes)
    return mp_fail(err, MP_E_FORMAT, "'%s' has bytes after its data", f->path);
  return mp_array_length(a, (uint64_t)have, f->path, err);
}

static int open_packed(mp_file *f, int fd, uint64_t size, mp_error *err) {
  uint8_t head[MP_IDX_HEADER];
  int own = dup(fd); /* gzclose closes it */
  gzFile z = own < 0 ? NULL : gzdopen(own, "rb");
  if (!z && own >= 0) close(own);
  if (!z) return mp_fail(err, MP_E_MEMORY, "no memory to unpack '%s'", f->path);
  gzbuffer(z, 1 << 17);
  f->format = &mp_format_idx;
  f->one = true;
  int64_t have = unpack_header(z, head);
  int status = have < 0 ? gz_failed(z, f->path, err)
                        : mp_idx_parse(&f->array, head, (size_t)have, f->path, err);
  if (!status) status = unpack_rows(f, z, size, err);
  gzclose_r(z);
  return status;
}

/* ---- either ---- */

static bool is_packed(int fd) {
  unsigned char magic[2];
  return pread(fd, magic, 2, 0) == 2 && magic[0] == 0x1f && magic[1] == 0x8b;
}

int mp_file_open(mp_file *f, const char *path, mp_error *err) {
  mp_reader r;
  *f = (mp_file){.path = path};
  int status = mp_reader_open(&r, path, err);
  if (status) return status;
  status = is_packed(r.fd) ? open_packed(f, r.fd, r.size, err) : open_plain(f, r.fd, r.size, err);
  mp_reader_close(&r);
  if (status) mp_file_close(f);
  return status;
}

const char *mp_file_name(const mp_file *f, uint32_t i) {
  if (i < f->n_columns) return f->columns[i].name;
  return i < f->st.n_tensors ? f->st.by_name[i]->name : NULL;
}

bool mp_file_has(const mp_file *f, const char *name) {
  for (uint32_t i = 0; mp_file_name(f, i); i++)
    if (!strcmp(mp_file_name(f, i), name)) return true;
  return false;
}

void mp_file_close(mp_file *f) {
  mp_csv_close(f);
  mp_st_free(&f->st);
  if (f->map) munmap(f->map, (size_t)f->size);
  free(f->heap);
  *f = (mp_file){0};
}
