/* tensors.c: tensors of two safetensors files, element by element.
 *
 * Differences are taken in double precision over all elements.  Where one is not finite and the
 * other is not the same, nothing else about the tensor means much: all three measures are
 * infinite. */
#include "tools/compare.h"

#include <string.h>

bool tensors_open(mp_file *f, const char *path) {
  mp_error err;
  int status = mp_file_open(f, path, &err);
  if (!status && f->format == &mp_format_safetensors) return true;
  fprintf(stderr, "mpcc: %s\n", status ? err.text : "what a run saved is no safetensors file");
  if (!status) mp_file_close(f);
  return false;
}

typedef struct Side {
  const char *at;
  int32_t dtype;
} Side;

static bool open_side(const mp_file *f, const mp_st_tensor *x, Side *s) {
  s->at = (const char *)f->at + f->size - f->st.data_bytes + x->begin;
  s->dtype = !strcmp(x->dtype, "BF16") ? MP_BF16 : !strcmp(x->dtype, "F16") ? MP_F16 : MP_F32;
  return s->dtype != MP_F32 || !strcmp(x->dtype, "F32");
}

bool tensors_differ(const mp_file *fx, const mp_st_tensor *x, const mp_file *fy,
                    const mp_st_tensor *y, Difference *out) {
  Side sx, sy;
  uint64_t n = 1;
  double most = 0, sum = 0, squares = 0, norm = 0;
  bool finite = true;
  if (x->ndim != y->ndim || !open_side(fx, x, &sx) || !open_side(fy, y, &sy)) return false;
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
