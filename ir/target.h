/* target.h: what a pass may know of a device.
 *
 * Defined in codegen, handed in by the driver, so passes include nothing of codegen.  Facts alone:
 * lanes, types, limits; what follows from them is for the pass to decide. */
#ifndef IR_TARGET_H
#define IR_TARGET_H

typedef struct Target {
  const char *name;           /* "x86-64-v3", "native", "armv8-a" */
  const char *auto_precision; /* what `precision auto` means here: "bf16", "f16", "f32" */
  unsigned f32_lanes;         /* of a full vector register */
} Target;

#endif
