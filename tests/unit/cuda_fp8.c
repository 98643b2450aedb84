/* cuda_fp8.c: the oracle cuda_fp8.h (cuda_oracle.h). */
#include "tests/unit/cuda_oracle.h"

#include <cuda_fp8.h>
#include <string.h>

static float float_of(uint32_t bits) {
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

uint32_t cuda_e4m3(uint32_t x) { return __nv_cvt_float_to_fp8(float_of(x), __NV_NOSAT, __NV_E4M3); }
uint32_t cuda_e5m2(uint32_t x) { return __nv_cvt_float_to_fp8(float_of(x), __NV_NOSAT, __NV_E5M2); }
uint32_t cuda_e4m3_sat(uint32_t x) {
  return __nv_cvt_float_to_fp8(float_of(x), __NV_SATFINITE, __NV_E4M3);
}
uint32_t cuda_e5m2_sat(uint32_t x) {
  return __nv_cvt_float_to_fp8(float_of(x), __NV_SATFINITE, __NV_E5M2);
}
uint32_t cuda_e8m0(uint32_t x) {
  return __nv_cvt_float_to_e8m0(float_of(x), __NV_NOSAT, cudaRoundZero);
}

/* By way of f16, which holds every number of both; widened here, by value. */
static uint32_t widened(uint32_t half) {
  uint32_t e = half >> 10 & 31, m = half & 0x3ff, sign = (half & 0x8000) << 16, bits;
  float f = (float)m * 0x1p-24f;
  memcpy(&bits, &f, sizeof bits);
  if (e == 31) return sign | 0x7f800000 | m << 13;
  return sign | (e ? (e + 112) << 23 | m << 13 : bits);
}

uint32_t cuda_from_e4m3(uint32_t code) {
  return widened(__nv_cvt_fp8_to_halfraw((__nv_fp8_storage_t)code, __NV_E4M3).x);
}
uint32_t cuda_from_e5m2(uint32_t code) {
  return widened(__nv_cvt_fp8_to_halfraw((__nv_fp8_storage_t)code, __NV_E5M2).x);
}
uint32_t cuda_from_e8m0(uint32_t code) {
  return (uint32_t)__nv_cvt_e8m0_to_bf16raw((__nv_fp8_storage_t)code).x << 16;
}
