/* plan.c: offsets and barriers; what is left is a Program.
 *
 * States lie in one memory, a region for each kind in declaration order, every tensor padded to 64
 * elements.  An entry's temporaries share one arena: first fit by live range, launch by launch.
 * Inputs, hyperparameters and results live from start to end.  A result that replaces a state lies
 * where the state lies (pass order saw to it that its last reader came before).
 *
 * A barrier stands before a launch that touches bytes which another thread may still be using: read
 * or written since the last barrier by a launch that was shared out, or that is shared out now.
 */
#include "passes/pass.h"

#include <string.h>

typedef struct Range {
  uint8_t space;
  uint64_t at, end;
  bool write, alone; /* alone: one thread did it */
} Range;

typedef struct Live {
  uint64_t at, end;
  uint32_t until; /* last launch that uses it */
} Live;

typedef struct Planning {
  Graph *g;
  Arena *arena;
  Program *p;
  uint32_t entry;
  BlockId block;
  uint32_t *last; /* by value: position of the last node that uses it */
  VEC(Live) live;
  VEC(Range) since; /* the last barrier */
  uint64_t top;
} Planning;

static uint64_t align_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

static uint64_t bytes_of(Type t) {
  uint64_t n = 0;
  type_bytes(t, &n);
  return n;
}

/* ---- states ---------------------------------------------------------------------------------- */

static void place_states(Planning *s) {
  Graph *g = s->g;
  uint64_t at = 0;
  s->p->state_at = NEW_ARRAY(g->arena, uint64_t, g->states.len);
  for (int kind = STATE_param; kind <= STATE_derived; kind++)
    for (uint32_t i = 0; i < g->states.len; i++) {
      if (g->states.at[i].kind != (StateKind)kind) continue;
      s->p->state_at[i] = at;
      uint64_t element = dtype_bytes[g->states.at[i].type.dtype];
      at = align_up(at + align_up(bytes_of(g->states.at[i].type), 64 * element), BUFFER_ALIGN);
    }
  s->p->state_bytes = at + BUFFER_SLACK;
}

static void put_state(Planning *s, ValueId v, const char *path) {
  const State *state = graph_state(s->g, path);
  if (!state) ice(s->g, NO_ID, "plan: no state %s", path);
  s->p->buffer[v] = (Buffer){SPACE_STATE, s->p->state_at[state - s->g->states.at]};
}

/* ---- the arena ------------------------------------------------------------------------------- */

/* First fit among what is live at launch `now`. */
static uint64_t find_room(Planning *s, uint64_t bytes, uint32_t now, uint32_t until) {
  uint64_t at = 0;
  for (bool moved = true; moved;) {
    moved = false;
    for (uint32_t i = 0; i < s->live.len; i++) {
      Live l = s->live.at[i];
      if (l.until < now || l.end <= at || l.at >= at + bytes) continue;
      at = l.end;
      moved = true;
    }
  }
  vec_push(s->arena, &s->live, (Live){at, at + bytes, until});
  if (at + bytes > s->top) s->top = at + bytes;
  return at;
}

static void put_arena(Planning *s, ValueId v, uint32_t now, uint32_t until) {
  uint64_t bytes = align_up(bytes_of(value_type(s->g, v)) + BUFFER_SLACK, BUFFER_ALIGN);
  s->p->buffer[v] = (Buffer){SPACE_ARENA, find_room(s, bytes, now, until)};
}

static void put_arguments(Planning *s) {
  Graph *g = s->g;
  const Entry *e = &g->entries.at[s->entry];
  const Block *b = &g->blocks.at[s->block];
  Buffer seed = {0};
  for (uint32_t i = 0; i < e->args.len; i++) {
    ValueId v = b->args.at[i];
    Port port = e->args.at[i];
    if (port.role == ARG_state) put_state(s, v, port.name);
    else if (port.role == ARG_seed && seed.space) { /* the two words of the seed lie side by side */
      s->p->buffer[v] = seed;
      s->p->buffer[v].at += !strcmp(port.name, "hi") ? 4 : -(uint64_t)4;
    } else {
      put_arena(s, v, 0, UINT32_MAX);
      if (port.role == ARG_seed) {
        if (!strcmp(port.name, "hi")) s->p->buffer[v].at += 4;
        seed = s->p->buffer[v];
      }
    }
  }
}

/* ---- live ranges ----------------------------------------------------------------------------- */

static void find_last_uses(Planning *s) {
  const Graph *g = s->g;
  const Block *b = &g->blocks.at[s->block];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    for (uint32_t k = 0; k < n->nops; k++) s->last[view_source(g, n->ops[k])] = i;
  }
  for (uint32_t i = 0; i < b->results.len; i++)
    s->last[view_source(g, b->results.at[i])] = UINT32_MAX;
}

/* The state that result v of the entry replaces, or NULL. */
static const char *state_written(const Planning *s, ValueId v) {
  const Entry *e = &s->g->entries.at[s->entry];
  const Block *b = &s->g->blocks.at[s->block];
  for (uint32_t i = 0; i < b->results.len; i++)
    if (e->results.at[i].role == RES_state && view_source(s->g, b->results.at[i]) == v)
      return e->results.at[i].name;
  return NULL;
}

static void put_results(Planning *s, NodeId id, uint32_t now) {
  Node n = s->g->nodes.at[id];
  if (n.op == OP_reshape) {
    s->p->buffer[n.res] = s->p->buffer[n.ops[0]];
    return;
  }
  for (uint32_t i = 0; i < n.nres; i++) {
    ValueId v = n.res + i;
    const char *path = state_written(s, v);
    uint32_t until = s->last[v] > now ? s->last[v] : now;
    if (path) put_state(s, v, path);
    else put_arena(s, v, now, until);
  }
}

/* ---- barriers -------------------------------------------------------------------------------- */

static Range range_of(const Planning *s, ValueId v, bool write, bool alone) {
  Buffer b = s->p->buffer[v];
  return (Range){b.space, b.at, b.at + bytes_of(value_type(s->g, v)), write, alone};
}

static bool conflict(const Planning *s, Range r) {
  for (uint32_t i = 0; i < s->since.len; i++) {
    Range o = s->since.at[i];
    bool overlap = o.space == r.space && o.at < r.end && r.at < o.end;
    if (overlap && (o.write || r.write) && !(o.alone && r.alone)) return true;
  }
  return false;
}

static void add_launch(Planning *s, NodeId id) {
  const Node *n = &s->g->nodes.at[id];
  bool alone = node_int(n, AT_part, 0) < 0, barrier = false;
  VEC(Range) touched = {0};
  for (uint32_t i = 0; i < n->nops; i++)
    vec_push(s->arena, &touched, range_of(s, n->ops[i], false, alone));
  for (uint32_t i = 0; i < n->nres; i++)
    vec_push(s->arena, &touched, range_of(s, n->res + i, true, alone));
  for (uint32_t i = 0; i < touched.len; i++) barrier = barrier || conflict(s, touched.at[i]);
  if (barrier) s->since.len = 0;
  for (uint32_t i = 0; i < touched.len; i++) vec_push(s->arena, &s->since, touched.at[i]);
  vec_push(s->g->arena, &s->p->entries[s->entry].launches, (Launch){id, barrier});
}

static void plan_entry(Planning *s) {
  s->block = s->g->entries.at[s->entry].body;
  s->live.len = s->since.len = 0;
  s->top = 0;
  put_arguments(s);
  find_last_uses(s);
  const NodeIds *nodes = &s->g->blocks.at[s->block].nodes;
  for (uint32_t i = 0; i < nodes->len; i++) {
    put_results(s, nodes->at[i], i);
    if (s->g->nodes.at[nodes->at[i]].op == OP_kernel) add_launch(s, nodes->at[i]);
  }
  s->p->entries[s->entry].arena_bytes = s->top + BUFFER_SLACK;
  if (s->p->arena_bytes < s->top + BUFFER_SLACK) s->p->arena_bytes = s->top + BUFFER_SLACK;
}

Program *plan_make(Graph *g, PassCtx *ctx) {
  Program *p = NEW(g->arena, Program);
  p->g = g;
  p->buffer = NEW_ARRAY(g->arena, Buffer, g->values.len);
  p->entries = NEW_ARRAY(g->arena, ProgramEntry, g->entries.len);
  Planning s = {.g = g, .arena = ctx->arena, .p = p};
  s.last = NEW_ARRAY(ctx->arena, uint32_t, g->values.len);
  place_states(&s);
  for (s.entry = 0; s.entry < g->entries.len; s.entry++) {
    memset(s.last, 0, g->values.len * sizeof *s.last);
    plan_entry(&s);
  }
  return p;
}

/* ---- --emit=plan ----------------------------------------------------------------------------- */

static void print_buffer(const Program *p, ValueId v, Text *out) {
  Buffer b = p->buffer[v];
  text_printf(out, " %s+%llu:", b.space == SPACE_STATE ? "state" : "arena",
              (unsigned long long)b.at);
  type_print(out, value_type(p->g, v));
}

static void print_launch(const Program *p, Launch l, Text *out) {
  const Node *n = &p->g->nodes.at[l.kernel];
  if (l.barrier) text_add(out, "  barrier\n");
  text_printf(out, "  %s%s", node_text(n, AT_form, "?"),
              node_int(n, AT_part, 0) < 0 ? " alone" : "");
  for (uint32_t i = 0; i < n->nops; i++) print_buffer(p, n->ops[i], out);
  text_add(out, " ->");
  for (uint32_t i = 0; i < n->nres; i++) print_buffer(p, n->res + i, out);
  text_printf(out, "  line %u\n", (unsigned)n->loc.line);
}

void plan_print(const Program *p, Text *out) {
  const Graph *g = p->g;
  text_printf(out, "program %s: state %llu bytes, arena %llu bytes\n", g->name,
              (unsigned long long)p->state_bytes, (unsigned long long)p->arena_bytes);
  for (uint32_t i = 0; i < g->states.len; i++) {
    text_printf(out, "state %s \"%s\" at %llu : ", state_kind_name[g->states.at[i].kind],
                g->states.at[i].path, (unsigned long long)p->state_at[i]);
    type_print(out, g->states.at[i].type);
    text_add(out, "\n");
  }
  for (uint32_t e = 0; e < g->entries.len; e++) {
    text_printf(out, "entry @%s: %u launches, arena %llu bytes\n", g->entries.at[e].name,
                (unsigned)p->entries[e].launches.len,
                (unsigned long long)p->entries[e].arena_bytes);
    for (uint32_t i = 0; i < p->entries[e].launches.len; i++)
      print_launch(p, p->entries[e].launches.at[i], out);
  }
}
