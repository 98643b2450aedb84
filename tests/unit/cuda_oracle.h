/* cuda_oracle.h: NVIDIA's own conversions, computed on the host by the headers of the CUDA toolkit,
 * where they are installed: cuda_fp8.h as C, cuda_bf16.h and cuda_fp16.h as C++.  Codes and f32 are
 * bits.  To be called in the processor's own float mode. */
#ifndef TESTS_CUDA_ORACLE_H
#define TESTS_CUDA_ORACLE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint32_t Conversion(uint32_t);
Conversion cuda_e4m3, cuda_e4m3_sat, cuda_e5m2, cuda_e5m2_sat, cuda_e8m0;
Conversion cuda_from_e4m3, cuda_from_e5m2, cuda_from_e8m0; /* to f32 */
Conversion cuda_bf16, cuda_f16;

#ifdef __cplusplus
}
#endif

#endif
