/* compare.h: what the files of `mpcc compare` share. */
#ifndef TOOLS_COMPARE_H
#define TOOLS_COMPARE_H

#include "runtime/data.h"
#include "tools/trial.h"

/* ---- tensors.c: safetensors files --------------------------------------------------------- */

bool tensors_open(mp_file *f, const char *path); /* false: it is no such file, which was said */
/* How the elements of y differ from those of x. */
typedef struct Difference {
  double most, relative, mean; /* max |y - x|; L2 of y - x over that of x; mean of y - x */
  bool finite;                 /* both are, wherever either is; else all three are infinite */
} Difference;
/* false: other dims, or no floats. */
bool tensors_differ(const mp_file *fx, const mp_st_tensor *x, const mp_file *fy,
                    const mp_st_tensor *y, Difference *out);

/* ---- compare_match.c: what belongs together -------------------------------------------------- */

typedef enum Phase { PHASE_forward, PHASE_backward, PHASE_gradient, PHASE_weight } Phase;
enum { PHASES = PHASE_weight + 1, SIDES = 2 };
extern const char *const phase_name[PHASES];

typedef struct Pair { /* a value of one side and the same of the other */
  Phase phase;
  const char *path, *op, *place, *number; /* place: "mlp.mp:9"; of weights "-" */
  const char *stored[SIDES];              /* element types in memory */
  Difference d;
  double grown; /* relative L2 over the largest of what went into it, or over a rounding's */
} Pair;

typedef struct Comparison {
  Arena *arena;
  const char *model, *words[SIDES]; /* the second is what the first is compared with */
  VEC(Pair) pairs;                  /* by phase, then in the order they are computed */
  uint32_t alone[SIDES];            /* values of one side only */
  const char *step;                 /* whose values they are */
  TrialLog log[SIDES];              /* of the runs */
  const Pair *part;                 /* where the two part; NULL: nowhere in particular */
  bool same;                        /* all pairs are equal */
} Comparison;

/* Fills in pairs of what a step computed, and `part`. */
void compare_values(Comparison *c, const mp_file *x, const mp_file *y);
void compare_weights(Comparison *c, const mp_file *x, const mp_file *y);

/* ---- compare_print.c ------------------------------------------------------------------------- */

void compare_text(const Comparison *c, Text *out);
void compare_json(const Comparison *c, Text *out);

#endif
