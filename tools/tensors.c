/* tensors.c: tensors of two safetensors files, element by element.
 *
 * Differences are taken in double precision over all elements.  Where one is not finite and the
 * other is not the same, nothing else about the tensor means much: all three measures are
 * infinite. */
#define _POSIX_C_SOURCE 200809L
#include "tools/compare.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool map_file(Tensors *t, const char *path) {
  struct stat st;
  int fd = open(path, O_RDONLY);
  void *map = MAP_FAILED;
  if (fd >= 0 && !fstat(fd, &st) && st.st_size > 8)
    map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (map == MAP_FAILED)
    fprintf(stderr, "mpcc: cannot read %s: %s\n", path, errno ? strerror(errno) : "it is empty");
  if (fd >= 0) close(fd);
  if (map == MAP_FAILED) return false;
  t->map = map;
  t->size = (size_t)st.st_size;
  return true;
}

bool tensors_open(Tensors *t, const char *path) {
  mp_reader r;
  mp_error err;
  uint64_t header;
  *t = (Tensors){0};
  if (!map_file(t, path)) return false;
  bool ok = !mp_reader_open(&r, path, &err);
  if (ok) {
    ok = !mp_st_read_header(&t->st, mp_reader_read, &r, r.size, path, &err);
    mp_reader_close(&r);
  }
  if (!ok) fprintf(stderr, "mpcc: %s\n", err.text);
  memcpy(&header, t->map, sizeof header);
  t->data = t->map + 8 + header;
  if (!ok) tensors_close(t);
  return ok;
}

void tensors_close(Tensors *t) {
  if (t->map) munmap((void *)t->map, t->size);
  mp_st_free(&t->st);
  *t = (Tensors){0};
}

typedef struct Side {
  const char *at;
  int32_t dtype;
} Side;

static bool open_side(const Tensors *t, const mp_st_tensor *x, Side *s) {
  s->at = t->data + x->begin;
  s->dtype = !strcmp(x->dtype, "BF16") ? MP_BF16 : !strcmp(x->dtype, "F16") ? MP_F16 : MP_F32;
  return s->dtype != MP_F32 || !strcmp(x->dtype, "F32");
}

bool tensors_differ(const Tensors *tx, const mp_st_tensor *x, const Tensors *ty,
                    const mp_st_tensor *y, Difference *out) {
  Side sx, sy;
  uint64_t n = 1;
  double most = 0, sum = 0, squares = 0, norm = 0;
  bool finite = true;
  if (x->ndim != y->ndim || !open_side(tx, x, &sx) || !open_side(ty, y, &sy)) return false;
  for (int32_t i = 0; i < x->ndim; i++) {
    if (x->dims[i] != y->dims[i]) return false;
    n *= (uint64_t)x->dims[i];
  }
  for (uint64_t i = 0; i < n; i++) {
    double a = (double)mp_float_at(sx.dtype, sx.at, i), b = (double)mp_float_at(sy.dtype, sy.at, i);
    bool equal = a == b || (isnan(a) && isnan(b)); /* inf - inf is no difference */
    double d = equal ? 0 : b - a;
    if (!isfinite(d)) finite = false;
    most = fmax(most, fabs(d));
    sum += d;
    squares += d * d;
    norm += isfinite(a) ? a * a : 0;
  }
  *out =
      (Difference){most, squares == 0 ? 0 : sqrt(squares / norm), n ? sum / (double)n : 0, finite};
  if (!finite) out->most = out->relative = INFINITY, out->mean = NAN;
  return true;
}
