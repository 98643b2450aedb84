/* scaler.c: the loss scalers of a graph.
 *
 * Number 0 is the program's own, written behind its precision; each loss that asks for one of its
 * own, `loss aux = e scale(dynamic)`, is the next.  A dynamic one keeps its state in counters
 * "scale", "clean" and "hysteresis", those of a loss in "scale:LOSS" and so on.
 */
#include "ir/ir.h"

#include <string.h>

uint32_t graph_scalers(const Graph *g) { return 1 + g->scales.len; }

bool graph_is_scaled(const Graph *g) { return g->train.scale.kind || g->scales.len; }

const Scale *graph_scale(const Graph *g, uint32_t scaler) {
  return scaler ? &g->scales.at[scaler - 1].scale : &g->train.scale;
}

Loc graph_scale_loc(const Graph *g, uint32_t scaler) {
  return scaler ? g->scales.at[scaler - 1].loc : g->train.scale_loc;
}

uint32_t graph_scaler_of(const Graph *g, const char *loss) {
  for (uint32_t i = 0; i < g->scales.len; i++)
    if (!strcmp(g->scales.at[i].loss, loss)) return i + 1;
  return 0;
}

const char *scaler_counter(const Graph *g, const char *what, uint32_t scaler) {
  if (!scaler) return what;
  return arena_printf(g->arena, "%s:%s", what, g->scales.at[scaler - 1].loss);
}

bool scaler_counts(const Graph *g, const State *s, const char *what, uint32_t *scaler) {
  size_t n = strlen(what);
  if (s->kind != STATE_counter || strncmp(s->path, what, n)) return false;
  *scaler = s->path[n] == ':' ? graph_scaler_of(g, s->path + n + 1) : 0;
  return !s->path[n] || *scaler;
}

bool state_is_scale(const Graph *g, const State *s) {
  Type t = type_scalar(DT_f32);
  uint32_t scaler;
  if (!scaler_counts(g, s, "scale", &scaler)) return false;
  t.unit = unit_of_scales(1u << scaler, 1);
  return type_equal(s->type, t);
}

/* ---- which values are scales ----------------------------------------------------------------- */

static bool argument_is_scale(const Graph *g, Value x) {
  for (uint32_t i = 0; i < g->entries.len; i++) {
    const Entry *e = &g->entries.at[i];
    if (e->body != x.block || x.index >= e->args.len || e->args.at[x.index].role != ARG_state)
      continue;
    const State *s = graph_state(g, e->args.at[x.index].name);
    return s && state_is_scale(g, s);
  }
  return false;
}

bool value_is_scale(const Graph *g, ValueId v) {
  v = value_source(g, v, false);
  const Node *n = value_node(g, v);
  if (!unit_scales(value_type(g, v).unit)) return false;
  if (!n) return argument_is_scale(g, g->values.at[v]);
  return n->op == OP_constant || n->op == OP_scale_min;
}
