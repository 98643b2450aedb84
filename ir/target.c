/* target.c: families of targets: what passes need of them before there is any code. */
#include "ir/target.h"

#include <string.h>

const Costs costs_cpu = {.byte = 100000,
                         .widen = 15000,
                         .narrow = 60000,
                         .launch = 2000000000,
                         .mac32 = 17000,
                         .mac_low = 17000};

/* Of GPUs with matrix units, after an A100: 1.5 TB/s, 19.5 TFLOP/s in f32, 312 in low types. */
static const Costs costs_gpu = {
    .byte = 650, .widen = 0, .narrow = 0, .launch = 3000000000, .mac32 = 100, .mac_low = 7};

/* The oldest first.  bf16 from sm_80 on, where matrix units take it; before, f16 with a dynamic
 * loss scale. */
static const Target gpus[] = {
#define GPU(arch, type)                                                                            \
  { arch, type, 1, &costs_gpu }
    GPU("sm_70", "f16"),   GPU("sm_72", "f16"),   GPU("sm_75", "f16"),   GPU("sm_80", "bf16"),
    GPU("sm_86", "bf16"),  GPU("sm_87", "bf16"),  GPU("sm_89", "bf16"),  GPU("sm_90", "bf16"),
    GPU("sm_100", "bf16"), GPU("sm_103", "bf16"), GPU("sm_110", "bf16"), GPU("sm_120", "bf16"),
    GPU("sm_121", "bf16"),
#undef GPU
};

const Target *gpu_target(const char *arch) {
  for (unsigned i = 0; i < sizeof gpus / sizeof *gpus; i++)
    if (!strcmp(gpus[i].name, arch)) return &gpus[i];
  return NULL;
}

bool gpu_is_older(const Target *a, const Target *b) { return a < b; }
