/* maxflow.h: exact maximum flow, and the minimum cut that goes with it. */
#ifndef PASSES_MAXFLOW_H
#define PASSES_MAXFLOW_H

#include "base/base.h"

typedef struct FlowEdge {
  uint32_t to, next; /* of those that leave the same node */
  int64_t left;      /* capacity not used; the edge back is the one at index ^ 1 */
} FlowEdge;

typedef struct Flow {
  Arena *arena;
  uint32_t nodes;
  VEC(FlowEdge) edges;
  uint32_t *first, *at; /* by node: its edges; how far the search has come in them */
  uint32_t *level;      /* distance from the source in what is left, FLOW_FAR: none */
} Flow;

#define FLOW_FAR UINT32_MAX
/* More than any cut that matters; two of them still add up. */
#define FLOW_INFINITE (INT64_MAX / 4)

Flow flow_new(Arena *arena, uint32_t nodes);
void flow_edge(Flow *f, uint32_t from, uint32_t to, int64_t capacity);
int64_t flow_solve(Flow *f, uint32_t source, uint32_t sink);
/* Of the solved flow: v is on the source's side of the cut with the fewest nodes there. */
static inline bool flow_reaches(const Flow *f, uint32_t v) { return f->level[v] != FLOW_FAR; }

#endif
