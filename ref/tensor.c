/* tensor.c: elements of tensors: how they are stored, read and rounded.
 *
 * Rounding to a narrow float goes through f32 and its scalar program, also for constants: a
 * constant of type bf16 is the cast of the f32 constant.  Subnormal f32 numbers do not exist inside
 * an entry, so a number that would become one becomes zero.
 */
#include "ref/eval.h"

#include <math.h>
#include <string.h>

static bool is_float(const Tensor *t) { return type_is_float(t->type); }
static bool is_wide(const Tensor *t) { return t->wide && is_float(t); }

size_t tensor_elem_bytes(const Tensor *t) {
  return is_wide(t) ? sizeof(double) : dtype_bytes[t->type.dtype];
}

size_t tensor_bytes(const Tensor *t) { return (size_t)type_count(t->type) * tensor_elem_bytes(t); }

Tensor tensor_new(Arena *a, Type type, bool wide) {
  Tensor t = {.type = type, .wide = wide};
  t.data = arena_array(a, (size_t)type_count(type), tensor_elem_bytes(&t));
  return t;
}

static _Noreturn void refuse_dtype(const Tensor *t) {
  ice(NULL, NO_ID, "evaluator: elements of type %s are not supported", dtype_name[t->type.dtype]);
}

static uint64_t get_raw(const Tensor *t, int64_t i) {
  switch (dtype_bytes[t->type.dtype]) {
  case 1: return ((const uint8_t *)t->data)[i];
  case 2: return ((const uint16_t *)t->data)[i];
  case 4: return ((const uint32_t *)t->data)[i];
  default: return ((const uint64_t *)t->data)[i];
  }
}

static void set_raw(Tensor *t, int64_t i, uint64_t raw) {
  switch (dtype_bytes[t->type.dtype]) {
  case 1: ((uint8_t *)t->data)[i] = (uint8_t)raw; return;
  case 2: ((uint16_t *)t->data)[i] = (uint16_t)raw; return;
  case 4: ((uint32_t *)t->data)[i] = (uint32_t)raw; return;
  default: ((uint64_t *)t->data)[i] = raw;
  }
}

/* Independent of the mode that the processor happens to be in. */
static uint32_t round_f32(double v) {
  return scalar_bits(fabs(v) < 0x1p-126 ? copysignf(0, signbit(v) ? -1 : 1) : (float)v);
}

static uint32_t widen_bf16(uint32_t code) {
  uint32_t bits = code << 16;
  return bits & 0x7f800000 ? bits : bits & 0x80000000;
}

/* As scalar.def's f16_to_f32, without running it element by element. */
static uint32_t widen_f16(uint32_t code) {
  uint32_t h = code & 0x7fff, sign = (code & 0x8000) << 16;
  if (h < 0x400) return sign | scalar_bits((float)h * 0x1p-24f);
  if (h < 0x7c00) return sign | ((h << 13) + 0x38000000);
  return sign | 0x7f800000 | h << 13 | (h > 0x7c00 ? 0x400000 : 0);
}

/* As scalar.def's e4m3_to_f32, e5m2_to_f32 and e8m0_to_f32: m bits of mantissa, codes from `top` on
 * are no numbers. */
static uint32_t widen_f8(uint32_t code, int m, uint32_t top) {
  uint32_t h = code & 0x7f, sign = (code & 0x80) << 24;
  int bias = (1 << (6 - m)) - 1;
  if (h >= top) return sign | (m == 2 && h == top ? 0x7f800000 : 0x7fc00000);
  if (h >> m) return sign | ((h << (23 - m)) + ((127u - (uint32_t)bias) << 23));
  return sign | scalar_bits(ldexpf((float)h, 1 - bias - m));
}

static uint32_t widen_e8m0(uint32_t code) { return code == 0xff ? 0x7fc00000 : code << 23; }

static double get_signed(const Tensor *t, int64_t i) {
  if (t->type.dtype == DT_i32) return ((const int32_t *)t->data)[i];
  return (double)((const int64_t *)t->data)[i];
}

double tensor_get(const Tensor *t, int64_t i) {
  if (is_wide(t)) return ((const double *)t->data)[i];
  if (is_float(t)) return scalar_float(tensor_get_bits(t, i));
  if (t->type.dtype == DT_i32 || t->type.dtype == DT_i64) return get_signed(t, i);
  return (double)get_raw(t, i);
}

/* Toward zero, into [low, high]; both are exact as doubles but for INT64_MAX, which has its own
 * test. */
static uint64_t saturate(double v, double low, double high) {
  if (isnan(v)) return 0;
  if (v <= low) return (uint64_t)(int64_t)low;
  if (v < high) return (uint64_t)(int64_t)v;
  return high < 0x1p63 ? (uint64_t)(int64_t)high : INT64_MAX;
}

void tensor_set(const Scalars *s, Tensor *t, int64_t i, double v) {
  if (is_wide(t)) ((double *)t->data)[i] = v;
  else if (is_float(t)) tensor_set_bits(s, t, i, S_F32, round_f32(v));
  else if (t->type.dtype == DT_i1) set_raw(t, i, v != 0);
  else if (t->type.dtype == DT_i64) set_raw(t, i, saturate(v, -0x1p63, 0x1p63));
  else if (t->type.dtype == DT_i32) set_raw(t, i, saturate(v, INT32_MIN, INT32_MAX));
  else set_raw(t, i, saturate(v, 0, ldexp(1, 8 * dtype_bytes[t->type.dtype]) - 1));
}

uint32_t tensor_get_bits(const Tensor *t, int64_t i) {
  if (is_wide(t)) return round_f32(((const double *)t->data)[i]);
  if (t->type.dtype == DT_bf16) return widen_bf16((uint32_t)get_raw(t, i));
  if (t->type.dtype == DT_f16) return widen_f16((uint32_t)get_raw(t, i));
  if (t->type.dtype == DT_f8e4m3fn) return widen_f8((uint32_t)get_raw(t, i), 3, 0x7f);
  if (t->type.dtype == DT_f8e5m2) return widen_f8((uint32_t)get_raw(t, i), 2, 0x7c);
  if (t->type.dtype == DT_f8e8m0) return widen_e8m0((uint32_t)get_raw(t, i));
  if (t->type.dtype == DT_i64) refuse_dtype(t);
  return (uint32_t)get_raw(t, i);
}

static void set_float_bits(const Scalars *s, Tensor *t, int64_t i, uint32_t bits) {
  uint32_t code = bits;
  unsigned narrow = dtype_narrow((DType)t->type.dtype);
  if (narrow != SC_none) scalar_run(&s->prog[narrow], &bits, &code);
  set_raw(t, i, code);
}

void tensor_set_bits(const Scalars *s, Tensor *t, int64_t i, SType is, uint32_t bits) {
  if ((is == S_F32) != is_float(t)) refuse_dtype(t);
  if (is_wide(t)) ((double *)t->data)[i] = scalar_float(bits);
  else if (is_float(t)) set_float_bits(s, t, i, bits);
  else set_raw(t, i, bits);
}

void tensor_convert(const Scalars *s, Tensor *to, const Tensor *from) {
  int64_t n = type_count(to->type);
  if (to->type.dtype == from->type.dtype && is_wide(to) == is_wide(from)) {
    if (n) memcpy(to->data, from->data, tensor_bytes(to));
    return;
  }
  for (int64_t i = 0; i < n; i++) tensor_set(s, to, i, tensor_get(from, i));
}

/* SplitMix64: every element is a hash of its index. */
static uint64_t hash_index(uint64_t seed, int64_t i) {
  uint64_t z = seed + 0x9e3779b97f4a7c15u * ((uint64_t)i + 1);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

void tensor_fill_random(const Scalars *s, Tensor *t, uint64_t seed) {
  for (int64_t i = 0; i < type_count(t->type); i++) {
    uint64_t h = hash_index(seed, i) >> 41; /* 23 bits: exact in f32 */
    if (is_float(t)) tensor_set(s, t, i, ldexp((double)(2 * h + 1), -23) - 1);
    else set_raw(t, i, h & (t->type.dtype == DT_i1 ? 1 : 7));
  }
}

bool tensor_same(const Tensor *x, const Tensor *y, int64_t *at) {
  *at = 0;
  if (x->type.dtype != y->type.dtype || x->wide != y->wide || !type_same_dims(x->type, y->type))
    return false;
  size_t size = tensor_elem_bytes(x);
  for (; *at < type_count(x->type); ++*at) {
    const char *p = (const char *)x->data + (size_t)*at * size;
    const char *q = (const char *)y->data + (size_t)*at * size;
    if (!memcmp(p, q, size)) continue;
    if (!is_float(x) || !isnan(tensor_get(x, *at)) || !isnan(tensor_get(y, *at))) return false;
  }
  return true;
}
