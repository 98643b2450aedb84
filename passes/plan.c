/* plan.c: offsets and barriers; what is left is a Program.
 *
 * States lie in one memory, a region for each kind in declaration order, every tensor padded to 64
 * elements.  An entry's temporaries share one arena: first fit by live range, launch by launch.
 * Inputs, hyperparameters and results live from start to end.  A result that replaces a state lies
 * where the state lies (pass order saw to it that its last reader came before).
 *
 * A loop's nodes are planned once, in the range of the loop.  What comes from outside lives to its
 * end; a slice is a view into what it is cut from, moved by the index.  A carry has one place, that
 * of the loop's result: its first value, the block's argument and the block's result lie there.  A
 * stacked result's iterations write into it.
 *
 * A barrier stands before a launch that touches bytes which another thread may still be using: read
 * or written since the last barrier by a launch that was shared out, or that is shared out now.
 * Slices count as the whole they are cut from.  A loop is walked twice, the second time from what
 * its end left, so the way back is covered too.
 */
#include "passes/pass.h"

#include <string.h>

typedef struct Range {
  uint8_t space;
  uint64_t at, end;
  bool write, alone; /* alone: one thread did it */
} Range;

/* Where a value lies because another does. */
typedef struct Home {
  ValueId of;  /* NO_ID: nowhere yet */
  NodeId loop; /* iteration i in the i-th slice of it; NO_ID: at its very place */
} Home;

typedef struct Planning {
  Graph *g;
  Arena *arena;
  Program *p;
  bool keep; /* values of steps stay to the end */
  uint32_t entry;
  BlockId block;    /* of the entry */
  uint32_t *ends;   /* by node: its position; of a loop, that of its end */
  uint32_t *last;   /* by value: position of the last node that uses it */
  Home *home;       /* by value */
  uint32_t now;     /* position */
  VEC(Range) since; /* the last barrier */
  uint64_t top;
} Planning;

static uint64_t align_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

/* ---- states ---------------------------------------------------------------------------------- */

static void place_states(Planning *s) {
  Graph *g = s->g;
  uint64_t at = 0;
  s->p->state_at = NEW_ARRAY(g->arena, uint64_t, g->states.len);
  for (int kind = STATE_param; kind < STATE_KINDS; kind++)
    for (uint32_t i = 0; i < g->states.len; i++) {
      if (g->states.at[i].kind != (StateKind)kind) continue;
      if (g->states.at[i].store == STORE_split) {
        s->p->state_at[i] = NOWHERE; /* its parts have places */
        continue;
      }
      s->p->state_at[i] = at;
      uint64_t element = dtype_bytes[g->states.at[i].type.dtype];
      at = align_up(at + align_up(type_size(g->states.at[i].type), 64 * element), BUFFER_ALIGN);
    }
  s->p->state_bytes = at + BUFFER_SLACK;
}

static void put_state(Planning *s, ValueId v, const char *path) {
  const State *state = graph_state(s->g, path);
  if (!state) ice(s->g, NO_ID, "plan: no state %s", path);
  s->p->buffer[v] = (Buffer){.space = SPACE_STATE, .at = s->p->state_at[state - s->g->states.at]};
}

/* ---- the arena ------------------------------------------------------------------------------- */

/* First fit among what is live at position `now`. */
static uint64_t find_room(const Planning *s, uint64_t bytes, uint32_t now) {
  const ProgramEntry *e = &s->p->entries[s->entry];
  uint64_t at = 0;
  for (bool moved = true; moved;) {
    moved = false;
    for (uint32_t i = 0; i < e->lives.len; i++) {
      ProgramLife l = e->lives.at[i];
      if (l.until < now || l.end <= at || l.at >= at + bytes) continue;
      at = l.end;
      moved = true;
    }
  }
  return at;
}

static void put_arena(Planning *s, ValueId v, uint32_t now, uint32_t until) {
  uint64_t bytes = align_up(value_bytes(s->g, v) + BUFFER_SLACK, BUFFER_ALIGN);
  uint64_t at = find_room(s, bytes, now);
  ProgramLife life = {v, now, until, at, at + bytes};
  vec_push(s->g->arena, &s->p->entries[s->entry].lives, life);
  if (life.end > s->top) s->top = life.end;
  s->p->buffer[v] = (Buffer){.space = SPACE_ARENA, .at = at};
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

static bool is_loop(const Node *n) { return n->op == OP_loop; }

static void use(Planning *s, ValueId v, uint32_t at) {
  v = view_source(s->g, v);
  if (s->last[v] < at) s->last[v] = at;
}

/* Positions are counted through the blocks of loops, from `at` on; the next one. */
static uint32_t find_last_uses(Planning *s, BlockId block, uint32_t at) {
  const Block *b = &s->g->blocks.at[block];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    NodeId id = b->nodes.at[i];
    const Node *n = &s->g->nodes.at[id];
    uint32_t first = at++;
    if (is_loop(n)) at = find_last_uses(s, n->blocks[0], at);
    s->ends[id] = is_loop(n) ? at - 1 : first;
    for (uint32_t k = 0; k < n->nops; k++) use(s, n->ops[k], s->ends[id]);
    for (uint32_t k = 0; k < n->nres; k++) use(s, n->res + k, s->ends[id]);
  }
  for (uint32_t i = 0; i < b->results.len; i++)
    use(s, b->results.at[i], block == s->block ? UINT32_MAX : at);
  return at;
}

/* ---- places ---------------------------------------------------------------------------------- */

/* The state that result v of the entry replaces, or NULL. */
static const char *state_written(const Planning *s, ValueId v) {
  const Entry *e = &s->g->entries.at[s->entry];
  const Block *b = &s->g->blocks.at[s->block];
  for (uint32_t i = 0; i < b->results.len; i++)
    if (e->results.at[i].role == RES_state && view_source(s->g, b->results.at[i]) == v)
      return e->results.at[i].name;
  return NULL;
}

static bool is_placed(const Planning *s, ValueId v) { return s->p->buffer[v].space != SPACE_NONE; }

static Buffer moved(Planning *s, Buffer b, NodeId loop, ValueId slice) {
  Move *m = NEW(s->g->arena, Move);
  *m = (Move){loop, value_bytes(s->g, slice), b.moves};
  b.moves = m;
  return b;
}

static bool stays(const Planning *s) {
  return s->keep && s->g->entries.at[s->entry].kind == ENTRY_step;
}

static void put(Planning *s, ValueId v) {
  Home h = s->home[v];
  if (is_placed(s, v)) return;
  if (h.of != NO_ID) {
    put(s, h.of);
    Buffer b = s->p->buffer[h.of];
    s->p->buffer[v] = h.loop == NO_ID ? b : moved(s, b, h.loop, v);
    return;
  }
  const char *path = state_written(s, v);
  if (path) put_state(s, v, path);
  else put_arena(s, v, s->now, stays(s) ? UINT32_MAX : s->last[v]);
}

/* The first values of the carries lie where the loop's results will. */
static void join_carries(Planning *s, NodeId loop) {
  const Node *n = &s->g->nodes.at[loop];
  for (uint32_t k = 0; k < node_int(n, AT_carries, 0); k++) {
    if (!value_node(s->g, n->ops[k])) ice(s->g, loop, "plan: carry %u has no place of its own", k);
    s->home[n->ops[k]] = (Home){n->res + k, NO_ID};
  }
}

static void put_loop_arguments(Planning *s, NodeId loop) {
  const Node *n = &s->g->nodes.at[loop];
  const Block *b = &s->g->blocks.at[n->blocks[0]];
  uint32_t carries = (uint32_t)node_int(n, AT_carries, 0);
  uint32_t slices = carries + (uint32_t)node_int(n, AT_slices, 0);
  s->p->buffer[b->args.at[0]] = moved(s, (Buffer){.space = SPACE_INDEX}, loop, b->args.at[0]);
  for (uint32_t k = 0; k < n->nops; k++) {
    ValueId arg = b->args.at[k + 1];
    Buffer from = s->p->buffer[k < carries ? n->res + k : n->ops[k]];
    bool slice = k >= carries && k < slices;
    s->p->buffer[arg] = slice ? moved(s, from, loop, arg) : from;
  }
}

static void join_results(Planning *s, NodeId loop) {
  const Node *n = &s->g->nodes.at[loop];
  const Block *b = &s->g->blocks.at[n->blocks[0]];
  for (uint32_t k = 0; k < n->nres; k++) {
    ValueId v = view_source(s->g, b->results.at[k]);
    bool carry = k < node_int(n, AT_carries, 0);
    if (carry && v == b->args.at[k + 1]) continue; /* unchanged */
    if (!value_node(s->g, v)) ice(s->g, loop, "plan: result %u has no place of its own", k);
    s->home[v] = (Home){n->res + k, carry ? NO_ID : loop};
  }
}

static void add_step(Planning *s, NodeId id, StepKind kind) {
  vec_push(s->g->arena, &s->p->entries[s->entry].steps,
           (ProgramStep){.node = id, .kind = (uint8_t)kind});
}

static void put_block(Planning *s, BlockId block);

static void put_node(Planning *s, NodeId id) {
  Node n = s->g->nodes.at[id];
  if (n.op == OP_reshape) {
    s->p->buffer[n.res] = s->p->buffer[n.ops[0]];
    return;
  }
  for (uint32_t i = 0; i < n.nres; i++) put(s, n.res + i);
  if (!is_loop(&n)) add_step(s, id, STEP_kernel);
  else if (node_int(&n, AT_trip, 0)) {
    put_loop_arguments(s, id);
    join_results(s, id);
    add_step(s, id, STEP_open);
    put_block(s, n.blocks[0]);
    add_step(s, id, STEP_close);
  }
}

static void put_block(Planning *s, BlockId block) {
  const NodeIds *nodes = &s->g->blocks.at[block].nodes;
  uint32_t first = s->now;
  for (uint32_t i = 0; i < nodes->len; i++)
    if (is_loop(&s->g->nodes.at[nodes->at[i]])) join_carries(s, nodes->at[i]);
  for (uint32_t i = 0; i < nodes->len; i++) {
    s->now = i ? s->ends[nodes->at[i - 1]] + 1 : first;
    bool loop = is_loop(&s->g->nodes.at[nodes->at[i]]);
    if (loop) s->now++; /* its block's first position */
    put_node(s, nodes->at[i]);
  }
}

/* ---- barriers -------------------------------------------------------------------------------- */

static Range range_of(const Planning *s, ValueId v, bool write, bool alone) {
  Buffer b = s->p->buffer[v];
  return (Range){b.space, b.at, buffer_end(s->p, v), write, alone};
}

static bool conflict(const Planning *s, Range r) {
  for (uint32_t i = 0; i < s->since.len; i++) {
    Range o = s->since.at[i];
    bool overlap = o.space == r.space && o.at < r.end && r.at < o.end;
    if (overlap && (o.write || r.write) && !(o.alone && r.alone)) return true;
  }
  return false;
}

static void meet_before(Planning *s, ProgramStep *step) {
  const Node *n = &s->g->nodes.at[step->node];
  bool alone = node_int(n, AT_part, 0) < 0;
  VEC(Range) touched = {0};
  for (uint32_t i = 0; i < n->nops; i++)
    vec_push(s->arena, &touched, range_of(s, n->ops[i], false, alone));
  for (uint32_t i = 0; i < n->nres; i++)
    vec_push(s->arena, &touched, range_of(s, n->res + i, true, alone));
  for (uint32_t i = 0; i < touched.len; i++)
    step->barrier = step->barrier || conflict(s, touched.at[i]);
  if (step->barrier) s->since.len = 0;
  for (uint32_t i = 0; i < touched.len; i++) vec_push(s->arena, &s->since, touched.at[i]);
}

/* A barrier that stands stays: so what the second walk leaves is no more than what it began with.
 */
static void place_barriers(Planning *s, uint32_t from, uint32_t end) {
  ProgramEntry *e = &s->p->entries[s->entry];
  for (uint32_t i = from; i < end; i++) {
    if (e->steps.at[i].kind == STEP_kernel) meet_before(s, &e->steps.at[i]);
    if (e->steps.at[i].kind != STEP_open) continue;
    uint32_t close = program_close(e, i);
    place_barriers(s, i + 1, close);
    place_barriers(s, i + 1, close);
    i = close;
  }
}

static void plan_entry(Planning *s) {
  s->block = s->g->entries.at[s->entry].body;
  s->since.len = 0;
  s->top = s->now = 0;
  put_arguments(s);
  find_last_uses(s, s->block, 0);
  put_block(s, s->block);
  place_barriers(s, 0, s->p->entries[s->entry].steps.len);
  s->p->entries[s->entry].arena_bytes = s->top + BUFFER_SLACK;
  if (s->p->arena_bytes < s->top + BUFFER_SLACK) s->p->arena_bytes = s->top + BUFFER_SLACK;
}

Program *plan_make(Graph *g, PassCtx *ctx) {
  Program *p = NEW(g->arena, Program);
  if (!g->ordered) ice(g, NO_ID, "plan: the graph is not ordered");
  p->g = g;
  p->buffer = NEW_ARRAY(g->arena, Buffer, g->values.len);
  p->entries = NEW_ARRAY(g->arena, ProgramEntry, g->entries.len);
  Planning s = {.g = g, .arena = ctx->arena, .p = p, .keep = ctx->options->keep_values};
  s.ends = NEW_ARRAY(ctx->arena, uint32_t, g->nodes.len);
  s.last = NEW_ARRAY(ctx->arena, uint32_t, g->values.len);
  s.home = NEW_ARRAY(ctx->arena, Home, g->values.len);
  for (ValueId v = 0; v < g->values.len; v++) s.home[v] = (Home){NO_ID, NO_ID};
  place_states(&s);
  for (s.entry = 0; s.entry < g->entries.len; s.entry++) plan_entry(&s);
  if (s.keep) program_name_values(p, ctx);
  Text why = {.arena = ctx->arena};
  if (!program_check(p, &why)) ice(g, NO_ID, "plan: %s", why.at);
  return p;
}

/* ---- --emit=plan ----------------------------------------------------------------------------- */

static void print_buffer(const Program *p, ValueId v, Text *out) {
  static const char *const space[SPACE_COUNT] = {"nowhere", "state", "arena", "index"};
  Buffer b = p->buffer[v];
  text_printf(out, " %s+%llu", space[b.space], (unsigned long long)b.at);
  for (const Move *m = b.moves; m; m = m->more)
    if (b.space != SPACE_INDEX) text_printf(out, "+i*%llu", (unsigned long long)m->stride);
  text_add(out, ":");
  type_print(out, value_type(p->g, v));
}

static void print_indent(Text *out, int depth) {
  for (int i = 0; i <= depth; i++) text_add(out, "  ");
}

static void print_launch(const Program *p, ProgramStep l, int depth, Text *out) {
  const Node *n = &p->g->nodes.at[l.node];
  if (l.barrier) print_indent(out, depth), text_add(out, "barrier\n");
  print_indent(out, depth);
  text_printf(out, "%s%s", node_text(n, AT_form, "?"), node_int(n, AT_part, 0) < 0 ? " alone" : "");
  for (uint32_t i = 0; i < n->nops; i++) print_buffer(p, n->ops[i], out);
  text_add(out, " ->");
  for (uint32_t i = 0; i < n->nres; i++) print_buffer(p, n->res + i, out);
  text_printf(out, "  line %u\n", (unsigned)n->loc.line);
}

static void print_steps(const Program *p, const ProgramEntry *e, Text *out) {
  int depth = 0;
  for (uint32_t i = 0; i < e->steps.len; i++) {
    ProgramStep s = e->steps.at[i];
    if (s.kind == STEP_kernel) {
      print_launch(p, s, depth, out);
      continue;
    }
    if (s.kind == STEP_close) depth--;
    print_indent(out, depth);
    if (s.kind == STEP_close) text_add(out, "}\n");
    else
      text_printf(out, "loop %lld {\n", (long long)node_int(&p->g->nodes.at[s.node], AT_trip, 0));
    if (s.kind == STEP_open) depth++;
  }
}

static uint32_t count_launches(const ProgramEntry *e) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < e->steps.len; i++) n += e->steps.at[i].kind == STEP_kernel;
  return n;
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
                (unsigned)count_launches(&p->entries[e]),
                (unsigned long long)p->entries[e].arena_bytes);
    print_steps(p, &p->entries[e], out);
  }
}
