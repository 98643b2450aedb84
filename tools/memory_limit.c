/* memory_limit.c: --memory-limit, once the plan stands: does a context fit, and if not, by how much
 * it does not and what lives in memory at the worst moment, line by line. */
#include "tools/tools.h"

enum { SHOWN = 6 };

static bool lives(const ProgramLife *l, uint32_t position) {
  return l->from <= position && position <= l->until;
}

/* What is at its most is so from some value's beginning on: the index of that one's life. */
static uint32_t peak_of(const ProgramEntry *e) {
  uint64_t most = 0;
  uint32_t peak = 0;
  for (uint32_t i = 0; i < e->lives.len; i++) {
    uint64_t bytes = 0;
    for (uint32_t k = 0; k < e->lives.len; k++)
      if (lives(&e->lives.at[k], e->lives.at[i].from))
        bytes += e->lives.at[k].end - e->lives.at[k].at;
    if (bytes > most) most = bytes, peak = i;
  }
  return peak;
}

static Loc loc_of(const Graph *g, ValueId v) {
  const Node *n = value_node(g, v);
  return n ? n->loc : (Loc){0};
}

static void note_largest(const Program *p, const ProgramEntry *e, uint32_t position, Diag *diag) {
  Arena scratch = {0};
  bool *told = NEW_ARRAY(&scratch, bool, e->lives.len);
  for (uint32_t shown = 0; shown < SHOWN; shown++) {
    uint32_t most = NO_ID;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < e->lives.len; i++)
      if (!told[i] && lives(&e->lives.at[i], position) &&
          value_bytes(p->g, e->lives.at[i].value) > bytes)
        bytes = value_bytes(p->g, e->lives.at[most = i].value);
    if (most == NO_ID) break;
    ValueId v = e->lives.at[most].value;
    Text type = {.arena = &scratch};
    char text[32];
    type_print(&type, value_type(p->g, v));
    diag_note(diag, loc_of(p->g, v), "%s of it is this %s", human_bytes(text, sizeof text, bytes),
              type.at);
    told[most] = true;
  }
  arena_free(&scratch);
}

bool memory_fits(const Program *p, uint64_t limit, Diag *diag) {
  uint64_t bytes = p->state_bytes + p->arena_bytes;
  char all[32], state[32], arena[32], over[32];
  if (!limit || bytes <= limit) return true;
  uint32_t entry = program_largest_entry(p);
  const ProgramEntry *e = &p->entries[entry];
  ProgramLife peak = e->lives.len ? e->lives.at[peak_of(e)] : (ProgramLife){.value = NO_ID};
  diag_error(diag, peak.value == NO_ID ? (Loc){0} : loc_of(p->g, peak.value),
             "--memory-limit: a context holds %s (state %s, arena %s), %s too much, %s; %llu is "
             "the least; the most at once in %s, here",
             human_bytes(all, sizeof all, bytes), human_bytes(state, sizeof state, p->state_bytes),
             human_bytes(arena, sizeof arena, p->arena_bytes),
             human_bytes(over, sizeof over, bytes - limit),
             p->values.len ? "as --with-values keeps all of it" : "whatever is computed again",
             (unsigned long long)bytes, p->g->entries.at[entry].name);
  note_largest(p, e, peak.from, diag);
  return false;
}
