/* demotions.h: which places of a program work in low precision, and what that saves. */
#ifndef TOOLS_DEMOTIONS_H
#define TOOLS_DEMOTIONS_H

#include "tools/tools.h"

typedef struct Site { /* a line of the program in one instance of a module */
  const char *module; /* path of the instance; "": the model itself */
  const char *file;   /* without folders */
  const char *ops;    /* of the forward pass that stand there: "matmul add" */
  uint32_t line;
  bool low;      /* something of it is read or stored low */
  int64_t bytes; /* that a step moves more with this site alone in f32 */
} Site;

struct Demotions {
  Arena *arena;
  VEC(Site) sites;
  int64_t bytes;   /* that a step moves, by the cut's own account */
  bool count_only; /* nothing is compiled: bytes are what is asked for */
};

void demotions_sites(Demotions *d, const Graph *g,
                     const Diag *sources); /* as the frontend made g */
void demotions_measure(Demotions *d, const Graph *g, const PrecisionReport *r,
                       const Diag *sources); /* as pass `precision` left it */

#endif
