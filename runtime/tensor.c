/* tensor.c: element types, shapes as text, DLPack views, and the values an entry may rely on.
 *
 * Inside an entry no f32 is subnormal and an i1 is 0 or 1.  Data from outside is made so on its
 * way in, by integer tests: a compare of floats would depend on the caller's own mode.
 */
#include "runtime/rt.h"

#include <stdio.h>
#include <string.h>

static const mp_type types[] = {
    [MP_F32] = {"f32", "F32", 4, 2, 32},
    [MP_BF16] = {"bf16", "BF16", 2, 4, 16},
    [MP_F16] = {"f16", "F16", 2, 2, 16},
    [MP_F8E4M3FN] = {"f8e4m3fn", "F8_E4M3", 1, 10, 8},
    [MP_F8E5M2] = {"f8e5m2", "F8_E5M2", 1, 12, 8},
    [MP_F8E8M0] = {"f8e8m0", "F8_E8M0", 1, 14, 8},
    [MP_I64] = {"i64", "I64", 8, 0, 64},
    [MP_I32] = {"i32", "I32", 4, 0, 32},
    [MP_U32] = {"u32", "U32", 4, 1, 32},
    [MP_U16] = {"u16", "U16", 2, 1, 16},
    [MP_U8] = {"u8", "U8", 1, 1, 8},
    [MP_I1] = {"i1", "BOOL", 1, 6, 8},
};

const mp_type *mp_type_of(int32_t dtype) { return &types[dtype]; }

static uint64_t product(const mp_tensor *t, int32_t from) {
  uint64_t n = mp_type_of(t->dtype)->size;
  for (int32_t i = from; i < t->ndim; i++) n *= (uint64_t)t->dims[i];
  return n;
}

uint64_t mp_tensor_bytes(const mp_tensor *t) { return product(t, 0); }
uint64_t mp_row_bytes(const mp_tensor *t) { return product(t, 1); }

uint64_t mp_input_bytes(const mp_tensor *t, int64_t rows) {
  return t->rows ? mp_tensor_bytes(t) : mp_row_bytes(t) * (uint64_t)rows;
}

char *mp_dims_text(const int64_t *dims, int32_t ndim, char *out, size_t size) {
  size_t n = (size_t)snprintf(out, size, "[");
  for (int32_t i = 0; i < ndim && n < size; i++)
    n += (size_t)snprintf(out + n, size - n, i ? ", %lld" : "%lld", (long long)dims[i]);
  if (n < size) snprintf(out + n, size - n, "]");
  return out;
}

char *mp_tensor_text(const mp_tensor *t, char *out, size_t size) {
  size_t n = (size_t)snprintf(out, size, "%s", mp_type_of(t->dtype)->name);
  mp_dims_text(t->dims, t->ndim, out + n, size - n);
  return out;
}

void mp_view_of(mp_view *v, const mp_tensor *t, void *data) {
  const mp_type *type = mp_type_of(t->dtype);
  *v = (mp_view){.data = data, .device = {1, 0}, .ndim = t->ndim};
  v->dtype.code = type->code;
  v->dtype.bits = type->bits;
  v->dtype.lanes = 1;
  v->shape = (int64_t *)t->dims; /* DLPack has no const; nobody writes through it */
}

uint32_t mp_f32_of_f16(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3ff;
  if (e == 31) return sign | 0x7f800000 | m << 13;
  if (e) return sign | (e + 112) << 23 | m << 13;
  if (!m) return sign;
  for (e = 113; !(m & 0x400); e--) m <<= 1; /* subnormal in f16, normal in f32 */
  return sign | e << 23 | (m & 0x3ff) << 13;
}

float mp_float_at(int32_t dtype, const void *data, uint64_t i) {
  uint32_t bits;
  uint16_t half;
  float v;
  if (dtype == MP_F32) memcpy(&bits, (const char *)data + 4 * i, sizeof bits);
  else {
    memcpy(&half, (const char *)data + 2 * i, sizeof half);
    bits = dtype == MP_BF16 ? (uint32_t)half << 16 : mp_f32_of_f16(half);
  }
  memcpy(&v, &bits, sizeof v);
  return v;
}

uint16_t mp_bf16_of_f32(uint32_t u) {
  uint32_t high = u >> 16;
  if (!(u & 0x7f800000)) return (uint16_t)(high & 0x8000);
  if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(high | 0x40);
  return (uint16_t)((u + 0x7fff + (high & 1)) >> 16);
}

/* Below 2^-14 the sum with 1/2 rounds at the last place of a subnormal f16. */
uint16_t mp_f16_of_f32(uint32_t u) {
  uint32_t a = u & 0x7fffffff, y = ((a + 0xfff + (a >> 13 & 1)) >> 13) - 0x1c000;
  float small;
  memcpy(&small, &a, sizeof small);
  small += 0.5f;
  if (a >= 0x477ff000) y = a > 0x7f800000 ? 0x7e00 : 0x7c00;
  if (a < 0x38800000) memcpy(&y, &small, sizeof y), y -= 0x3f000000;
  return (uint16_t)(y | (u >> 16 & 0x8000));
}

bool mp_is_low(int32_t dtype) { return dtype == MP_BF16 || dtype == MP_F16; }

void mp_narrow_f32(int32_t dtype, const void *f32, void *low) {
  uint32_t u;
  memcpy(&u, f32, sizeof u);
  uint16_t half = dtype == MP_BF16 ? mp_bf16_of_f32(u) : mp_f16_of_f32(u);
  memcpy(low, &half, sizeof half);
}

void mp_flush_f32(void *data, uint64_t bytes) {
  char *p = data;
  for (uint64_t i = 0; i + 4 <= bytes; i += 4) {
    uint32_t u;
    memcpy(&u, p + i, 4);
    u = (u & 0x7f800000u) ? u : u & 0x80000000u;
    memcpy(p + i, &u, 4);
  }
}

void mp_clean_values(int32_t dtype, void *data, uint64_t bytes) {
  uint8_t *p = data;
  if (dtype == MP_F32) mp_flush_f32(data, bytes);
  if (dtype == MP_I1)
    for (uint64_t i = 0; i < bytes; i++) p[i] = p[i] != 0;
}
