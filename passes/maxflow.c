/* maxflow.c: Dinic's algorithm: breadth-first levels, then a blocking flow along them, until the
 * sink is out of reach.  What the source still reaches then is the source's side of a minimum cut,
 * and of all minimum cuts the one with the least such side: the result does not depend on the order
 * in which paths are found.
 *
 * The blocking flow is found with a stack of its own, since paths are as long as a model is deep.
 *
 * E. A. Dinic, Algorithm for solution of a problem of maximum flow in networks with power
 * estimation, 1970.
 */
#include "passes/maxflow.h"

Flow flow_new(Arena *arena, uint32_t nodes) {
  Flow f = {.arena = arena, .nodes = nodes};
  f.first = NEW_ARRAY(arena, uint32_t, nodes);
  f.at = NEW_ARRAY(arena, uint32_t, nodes);
  f.level = NEW_ARRAY(arena, uint32_t, nodes);
  for (uint32_t i = 0; i < nodes; i++) f.first[i] = FLOW_FAR;
  return f;
}

static void add_edge(Flow *f, uint32_t from, uint32_t to, int64_t capacity) {
  FlowEdge e = {.to = to, .next = f->first[from], .left = capacity};
  f->first[from] = f->edges.len;
  vec_push(f->arena, &f->edges, e);
}

void flow_edge(Flow *f, uint32_t from, uint32_t to, int64_t capacity) {
  add_edge(f, from, to, capacity);
  add_edge(f, to, from, 0);
}

static void find_levels(Flow *f, uint32_t source, uint32_t *queue) {
  uint32_t end = 0;
  for (uint32_t i = 0; i < f->nodes; i++) f->level[i] = FLOW_FAR;
  f->level[source] = 0;
  queue[end++] = source;
  for (uint32_t i = 0; i < end; i++) {
    uint32_t v = queue[i];
    f->at[v] = f->first[v];
    for (uint32_t e = f->first[v]; e != FLOW_FAR; e = f->edges.at[e].next) {
      const FlowEdge *edge = &f->edges.at[e];
      if (!edge->left || f->level[edge->to] != FLOW_FAR) continue;
      f->level[edge->to] = f->level[v] + 1;
      queue[end++] = edge->to;
    }
  }
}

/* The next edge of v that goes one level on, FLOW_FAR: none is left. */
static uint32_t edge_onward(Flow *f, uint32_t v) {
  uint32_t e = f->at[v];
  for (; e != FLOW_FAR; e = f->edges.at[e].next) {
    const FlowEdge *edge = &f->edges.at[e];
    if (edge->left && f->level[edge->to] == f->level[v] + 1) break;
  }
  return f->at[v] = e;
}

/* As much as the path takes is sent along it. */
static int64_t send(Flow *f, const uint32_t *path, uint32_t n) {
  int64_t most = INT64_MAX;
  for (uint32_t i = 0; i < n; i++)
    if (f->edges.at[path[i]].left < most) most = f->edges.at[path[i]].left;
  for (uint32_t i = 0; i < n; i++) {
    f->edges.at[path[i]].left -= most;
    f->edges.at[path[i] ^ 1].left += most;
  }
  return most;
}

/* From dead ends back, from the sink all over. */
static int64_t blocking_flow(Flow *f, uint32_t source, uint32_t sink, uint32_t *path) {
  int64_t sent = 0;
  uint32_t n = 0, v = source;
  for (;;) {
    if (v == sink) {
      sent += send(f, path, n);
      n = 0;
      v = source;
    }
    uint32_t e = edge_onward(f, v);
    if (e != FLOW_FAR) {
      path[n++] = e;
      v = f->edges.at[e].to;
    } else if (n) {
      v = f->edges.at[path[--n] ^ 1].to;
      f->at[v] = f->edges.at[f->at[v]].next;
    } else return sent;
  }
}

int64_t flow_solve(Flow *f, uint32_t source, uint32_t sink) {
  uint32_t *room = NEW_ARRAY(f->arena, uint32_t, f->nodes);
  int64_t flow = 0;
  for (;;) {
    find_levels(f, source, room);
    if (!flow_reaches(f, sink)) return flow;
    flow += blocking_flow(f, source, sink, room);
  }
}
