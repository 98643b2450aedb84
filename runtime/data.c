/* data.c: opens a data file and hands out its rows.
 *
 * A plain file is mapped; a compressed one is unpacked once.  The file is validated whole (header,
 * dims against the model, exact length) before the first step.  A header is never believed before
 * the file can hold what it claims: deflate packs at most 1032 to 1.
 */
#define _DEFAULT_SOURCE
#include "runtime/rt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { DEFLATE_RATIO = 1032, MAX_CHUNK = 1 << 28 };

static int check_length(const char *path, const mp_layout *l, uint64_t found, mp_error *err) {
  if (found < l->data_bytes)
    return mp_fail(err, MP_E_FORMAT, "'%s' is truncated: expected %llu bytes of data, found %llu",
                   path, (unsigned long long)l->data_bytes, (unsigned long long)found);
  if (found > l->data_bytes)
    return mp_fail(err, MP_E_FORMAT, "'%s' has %llu bytes after its data", path,
                   (unsigned long long)(found - l->data_bytes));
  return MP_OK;
}

/* ---- plain files ---- */

static int open_plain(mp_source *s, int fd, uint64_t size, const char *path, const mp_tensor *want,
                      mp_layout *l, mp_error *err) {
  if (!size) return mp_fail(err, MP_E_FORMAT, "'%s' is empty", path);
  void *map = size > SIZE_MAX ? MAP_FAILED : mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (map == MAP_FAILED) return mp_fail(err, MP_E_IO, "cannot map '%s'", path);
  s->map = map;
  s->map_bytes = (size_t)size;
  size_t have = size < MP_IDX_HEADER ? (size_t)size : MP_IDX_HEADER;
  int status = mp_idx_parse(l, map, have, want, path, err);
  if (status) return status;
  s->at = (const uint8_t *)map + l->header_bytes;
  return check_length(path, l, size - l->header_bytes, err);
}

/* ---- compressed files ---- */

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

static int unpack_rows(mp_source *s, gzFile z, uint64_t packed, const char *path, mp_layout *l,
                       mp_error *err) {
  if (l->data_bytes / DEFLATE_RATIO > packed)
    return mp_fail(err, MP_E_FORMAT, "'%s' is too short for the %llu bytes its header claims", path,
                   (unsigned long long)l->data_bytes);
  uint8_t *heap = malloc((size_t)l->data_bytes + 1); /* one more, to notice what follows */
  s->heap = heap;
  if (!heap) return mp_fail(err, MP_E_MEMORY, "no memory for the rows of '%s'", path);
  s->at = heap;
  int64_t have = unpack(z, heap, l->data_bytes + 1);
  if (have < 0) return gz_failed(z, path, err);
  if ((uint64_t)have > l->data_bytes)
    return mp_fail(err, MP_E_FORMAT, "'%s' has bytes after its data", path);
  return check_length(path, l, (uint64_t)have, err);
}

static int open_packed(mp_source *s, int fd, uint64_t size, const char *path, const mp_tensor *want,
                       mp_layout *l, mp_error *err) {
  uint8_t head[MP_IDX_HEADER];
  int own = dup(fd); /* gzclose closes it */
  gzFile z = own < 0 ? NULL : gzdopen(own, "rb");
  if (!z && own >= 0) close(own);
  if (!z) return mp_fail(err, MP_E_MEMORY, "no memory to unpack '%s'", path);
  gzbuffer(z, 1 << 17);
  int64_t have = unpack_header(z, head);
  int status =
      have < 0 ? gz_failed(z, path, err) : mp_idx_parse(l, head, (size_t)have, want, path, err);
  if (!status) status = unpack_rows(s, z, size, path, l, err);
  gzclose_r(z);
  return status;
}

/* ---- either ---- */

static bool is_packed(int fd) {
  unsigned char magic[2];
  return pread(fd, magic, 2, 0) == 2 && magic[0] == 0x1f && magic[1] == 0x8b;
}

int mp_source_open(mp_source *s, const char *path, const mp_tensor *want, mp_error *err) {
  mp_reader r;
  mp_layout l = {0};
  *s = (mp_source){0};
  int status = mp_reader_open(&r, path, err);
  if (status) return status;
  status = is_packed(r.fd) ? open_packed(s, r.fd, r.size, path, want, &l, err)
                           : open_plain(s, r.fd, r.size, path, want, &l, err);
  mp_reader_close(&r);
  s->rows = l.rows;
  s->row_bytes = mp_row_bytes(want);
  s->swap = l.element;
  if (status) mp_source_close(s);
  return status;
}

static bool is_little_endian(void) {
  const uint16_t one = 1;
  uint8_t first;
  memcpy(&first, &one, 1);
  return first == 1;
}

void mp_source_row(const mp_source *s, int64_t row, void *out) {
  const uint8_t *from = s->at + (uint64_t)row * s->row_bytes;
  uint8_t *to = out;
  if (s->swap == 1 || !is_little_endian()) {
    memcpy(to, from, s->row_bytes);
    return;
  }
  for (uint64_t i = 0; i < s->row_bytes; i += s->swap)
    for (uint32_t b = 0; b < s->swap; b++) to[i + b] = from[i + s->swap - 1 - b];
}

void mp_source_close(mp_source *s) {
  if (s->map) munmap(s->map, s->map_bytes);
  free(s->heap);
  *s = (mp_source){0};
}
