/* cuda_half.cpp: the oracles cuda_bf16.h and cuda_fp16.h (cuda_oracle.h), which convert in C++
 * alone. */
#include "tests/unit/cuda_oracle.h"

#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

static float float_of(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

uint32_t cuda_bf16(uint32_t x) { return __nv_bfloat16_raw(__float2bfloat16_rn(float_of(x))).x; }
uint32_t cuda_f16(uint32_t x) { return __half_raw(__float2half_rn(float_of(x))).x; }
