/* states.c: states that passes add to a graph: counters of a step, its loss scale.
 *
 * Whoever needs one adds it, with its first value in the entry `init`; who comes second finds
 * it.  So neither frontend nor pass has to know which of them comes first. */
#include "passes/pass.h"

#include <string.h>

const char *states_name(Graph *g, const char *name) {
  return intern(g->strings, name, strlen(name));
}

void states_add(Graph *g, State s, double initial) {
  s.path = states_name(g, s.path);
  if (graph_state(g, s.path)) return;
  vec_push(g->arena, &g->states, s);
  int init = graph_entry_find(g, ENTRY_init);
  if (init < 0) return;
  Builder b = {.g = g, .block = g->entries.at[init].body, .loc = s.loc};
  ValueId v = build_constant(&b, s.type, initial);
  graph_add_entry_result(g, (uint32_t)init, RES_state, s.path, v, s.loc);
}

ValueId states_argument(Graph *g, uint32_t entry, const char *path, Loc loc) {
  const State *s = graph_state(g, path);
  ValueId v = graph_entry_arg(g, entry, ARG_state, s->path);
  return v != NO_ID ? v : graph_add_entry_arg(g, entry, ARG_state, s->path, s->type, loc);
}
