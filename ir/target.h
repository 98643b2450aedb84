/* target.h: what a pass may know of a device.
 *
 * Defined in codegen, handed in by the driver, so passes include nothing of codegen.  Facts alone:
 * lanes, types, limits; what follows from them is for the pass to decide. */
#ifndef IR_TARGET_H
#define IR_TARGET_H

#include <stdbool.h>
#include <stdint.h>

/* What storing a value in f32 or in a low type costs, in femtoseconds of one worker.  One table a
 * family of targets, never of the machine at hand, so that a build is the same everywhere; it
 * weighs choices against each other and foretells no time. */
typedef struct Costs {
  int64_t byte;           /* moving one to or from memory */
  int64_t widen, narrow;  /* converting an element on load, on store */
  int64_t launch;         /* a kernel more */
  int64_t mac32, mac_low; /* a multiply-add of a product of f32, of low operands */
} Costs;

typedef struct Target {
  const char *name;           /* "x86-64-v3", "native", "armv8-a", "sm_80" */
  const char *auto_precision; /* what `precision auto` means here: "bf16", "f16" */
  unsigned f32_lanes;         /* of a full vector register */
  const Costs *costs;
} Target;

/* Of CPUs: 10 GB/s and 60 G multiply-adds/s a core.  Products of low operands run at the same rate:
 * they are widened on the way into registers, and few machines multiply bf16. */
extern const Costs costs_cpu;

/* `precision auto` and the costs by architecture, "sm_80"; NULL: no such. */
const Target *gpu_target(const char *arch);
bool gpu_is_older(const Target *a, const Target *b); /* both of gpu_target */

#endif
