/* memory_limit.c: --memory-limit, once the plan stands: does a context fit, and if not, by how much
 * it does not and what lives in memory at the worst moment, line by line. */
#include "tools/tools.h"

#include <stdlib.h>

enum { SHOWN = 6 };

typedef struct Lives {
  const Program *p;
  const ProgramEntry *e;
  uint32_t *from, *to; /* by value: steps; NO_ID: it is not in the arena, or inside another value */
  VEC(uint32_t) open;  /* loops, outermost first */
} Lives;

static uint64_t bytes_of(const Graph *g, ValueId v) {
  uint64_t n = 0;
  type_bytes(value_type(g, v), &n);
  return n;
}

/* The value whose memory v is read from: through views and into loops. */
static ValueId source_of(const Graph *g, ValueId v) {
  for (;;) {
    const Node *n = value_node(g, v);
    if (n && n->op != OP_reshape) return v;
    NodeId owner = n ? NO_ID : g->blocks.at[g->values.at[v].block].owner;
    if (n) v = n->ops[0];
    else if (owner == NO_ID || !g->values.at[v].index) return v;
    else {
      const Node *loop = &g->nodes.at[owner];
      uint32_t k = g->values.at[v].index - 1;
      v = k < node_int(loop, AT_carries, 0) ? loop->res + k : loop->ops[k];
    }
  }
}

static void begin(Lives *l, ValueId v, uint32_t step) {
  Buffer b = l->p->buffer[v];
  if (b.space == SPACE_ARENA && !b.moves) l->from[v] = l->to[v] = step;
}

/* What comes from outside of a loop lives to its end. */
static void use(Lives *l, ValueId v, uint32_t step) {
  v = source_of(l->p->g, v);
  for (uint32_t i = 0; i < l->open.len; i++)
    if (l->open.at[i] > l->from[v]) {
      step = program_close(l->e, l->open.at[i]);
      break;
    }
  if (l->from[v] != NO_ID && step > l->to[v]) l->to[v] = step;
}

static void find_lives(Lives *l, uint32_t entry, Arena *a) {
  const Graph *g = l->p->g;
  const Block *body = &g->blocks.at[g->entries.at[entry].body];
  for (ValueId v = 0; v < g->values.len; v++) l->from[v] = NO_ID;
  for (uint32_t i = 0; i < body->args.len; i++) begin(l, body->args.at[i], 0);
  for (uint32_t i = 0; i < body->args.len; i++) l->to[body->args.at[i]] = l->e->steps.len;
  for (uint32_t i = 0; i < l->e->steps.len; i++) {
    ProgramStep s = l->e->steps.at[i];
    const Node *n = &g->nodes.at[s.node];
    for (uint32_t k = 0; s.kind != STEP_close && k < n->nops; k++) use(l, n->ops[k], i);
    for (uint32_t k = 0; s.kind != STEP_close && k < n->nres; k++) begin(l, n->res + k, i);
    if (s.kind == STEP_open) vec_push(a, &l->open, i);
    if (s.kind == STEP_close) l->open.len--;
  }
  for (uint32_t i = 0; i < body->results.len; i++) use(l, body->results.at[i], l->e->steps.len);
}

static bool lives(const Lives *l, ValueId v, uint32_t step) {
  return l->from[v] != NO_ID && l->from[v] <= step && step <= l->to[v];
}

static uint32_t peak_of(const Lives *l) {
  uint64_t most = 0;
  uint32_t peak = 0;
  for (uint32_t i = 0; i < l->e->steps.len; i++) {
    uint64_t bytes = 0;
    for (ValueId v = 0; v < l->p->g->values.len; v++)
      if (lives(l, v, i)) bytes += bytes_of(l->p->g, v);
    if (bytes > most) most = bytes, peak = i;
  }
  return peak;
}

static void note_largest(const Lives *l, uint32_t peak, Diag *diag, Arena *a) {
  const Graph *g = l->p->g;
  for (uint32_t shown = 0; shown < SHOWN; shown++) {
    ValueId most = NO_ID;
    for (ValueId v = 0; v < g->values.len; v++)
      if (lives(l, v, peak) && (most == NO_ID || bytes_of(g, v) > bytes_of(g, most))) most = v;
    if (most == NO_ID) return;
    const Node *n = value_node(g, most);
    Text type = {.arena = a};
    char text[32];
    type_print(&type, value_type(g, most));
    diag_note(diag, n ? n->loc : (Loc){0}, "%s of it is this %s",
              human_bytes(text, sizeof text, bytes_of(g, most)), type.at);
    l->from[most] = NO_ID;
  }
}

static uint32_t largest_entry(const Program *p) {
  uint32_t most = 0;
  for (uint32_t i = 1; i < p->g->entries.len; i++)
    if (p->entries[i].arena_bytes > p->entries[most].arena_bytes) most = i;
  return most;
}

bool memory_fits(const Program *p, uint64_t limit, Diag *diag) {
  uint64_t bytes = p->state_bytes + p->arena_bytes;
  char all[32], state[32], arena[32], over[32];
  if (!limit || bytes <= limit) return true;
  uint32_t entry = largest_entry(p);
  Arena a = {0};
  Lives l = {.p = p, .e = &p->entries[entry]};
  l.from = NEW_ARRAY(&a, uint32_t, p->g->values.len);
  l.to = NEW_ARRAY(&a, uint32_t, p->g->values.len);
  find_lives(&l, entry, &a);
  uint32_t peak = peak_of(&l);
  const Node *n = l.e->steps.len ? &p->g->nodes.at[l.e->steps.at[peak].node] : NULL;
  diag_error(diag, n ? n->loc : (Loc){0},
             "--memory-limit: a context holds %s (state %s, arena %s), %s too much, whatever is "
             "computed again; %llu is the least; the most at once in %s, here",
             human_bytes(all, sizeof all, bytes), human_bytes(state, sizeof state, p->state_bytes),
             human_bytes(arena, sizeof arena, p->arena_bytes),
             human_bytes(over, sizeof over, bytes - limit), (unsigned long long)bytes,
             p->g->entries.at[entry].name);
  note_largest(&l, peak, diag, &a);
  arena_free(&a);
  return false;
}
