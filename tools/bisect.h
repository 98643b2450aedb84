/* bisect.h: what the files of --bisect-precision share. */
#ifndef TOOLS_BISECT_H
#define TOOLS_BISECT_H

#include "tools/demotions.h"
#include "tools/trial.h"

typedef struct Trial {
  double loss;   /* infinite: the run did not end well */
  int64_t bytes; /* that a step moves */
  bool known;    /* it was not run again */
} Trial;

typedef struct Tried {
  const bool *kept; /* by site */
  Trial trial;
} Tried;

typedef struct Remembered { /* a program's bytes and arguments, and what the run gave */
  uint64_t key;
  double loss;
} Remembered;

typedef struct Bisect {
  Trials t;
  double budget;   /* share of the reference's loss */
  Trial reference; /* f32 */
  Demotions d;     /* sites, those that cost most first */
  bool *kept;      /* by site: it is in f32 */
  Trial best;      /* of those */
  double *harm;    /* by site that is kept: percent above the reference without it */
  VEC(Tried) tried;
  VEC(Remembered) memory;
} Bisect;

bool bisect_holds(const Bisect *b, double loss);
const char *bisect_flag(Arena *a, const Site *s); /* "net.0@mlp.mp:9" */

/* ---- bisect_memory.c: losses of programs that ran, in a file if the user wants ---- */

bool memory_open(Bisect *b); /* false: said why */
uint64_t memory_key(const Bisect *b, const char *program);
bool memory_find(const Bisect *b, uint64_t key, double *loss);
int memory_add(Bisect *b, uint64_t key, double loss);

/* ---- bisect_print.c ---- */

void bisect_print(const Bisect *b, const Trial *low);

#endif
