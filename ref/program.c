/* program.c: a Program on real bytes, to prove that its plan is right.
 *
 * Steps run in order, those of a loop as often as it says.  Each launch reads its operands from
 * where the plan put them, runs the kernel's block as the graph would, and writes the results to
 * where the plan wants them.  The arena starts as 0xFF bytes, which are NaN, and a range becomes so
 * again once the last step that reads it has read it (what a loop reads from outside: its close;
 * what its block's arguments show is the loop's).  So a value that is overwritten too early, read
 * from a wrong place or never written shows as a difference from eval_run.
 */
#include "ref/cells.h"

#include "ir/float_mode.h"

#include <string.h>

typedef struct Memory {
  const Program *p;
  const ProgramEntry *entry;
  unsigned char *at[SPACE_COUNT];
  uint64_t size[SPACE_COUNT];
  int64_t *index; /* by NodeId of a loop */
  uint32_t *last; /* by ValueId: the last step that reads its bytes; NEVER: none */
} Memory;

enum { POISON = 0xFF };
#define NEVER UINT32_MAX

static unsigned char *place(const Memory *m, const Eval *e, ValueId v) {
  const Buffer *b = &m->p->buffer[v];
  uint64_t at = b->at;
  if (b->space == SPACE_NONE || b->space == SPACE_INDEX) return NULL;
  for (const Move *move = b->moves; move; move = move->more)
    at += (uint64_t)m->index[move->loop] * move->stride;
  if (at > m->size[b->space] || tensor_bytes(&e->value[v]) > m->size[b->space] - at)
    ice(e->g, NO_ID, "evaluator: the buffer of value %u ends outside its space", (unsigned)v);
  return m->at[b->space] + at;
}

static void load(const Memory *m, Eval *e, ValueId v) {
  Tensor *t = eval_ensure(e, v);
  const unsigned char *from = place(m, e, v);
  const Buffer *b = &m->p->buffer[v];
  if (b->space == SPACE_INDEX) tensor_set(e->scalars, t, 0, (double)m->index[b->moves->loop]);
  if (from) memcpy(t->data, from, tensor_bytes(t));
}

static void store(const Memory *m, Eval *e, ValueId v) {
  const Tensor *t = &e->value[v];
  unsigned char *to = place(m, e, v);
  if (to) memcpy(to, t->data, tensor_bytes(t));
}

static unsigned char *poisoned(Eval *e, uint64_t bytes) {
  return memset(arena_alloc(&e->run, bytes + 1), POISON, bytes);
}

/* The bytes of state number i in the state. */
static Tensor state_bytes_of(const Memory *m, const Eval *e, uint32_t i) {
  Tensor t = {.type = e->g->states.at[i].type};
  uint64_t at = m->p->state_at[i], size = m->size[SPACE_STATE];
  if (at > size || tensor_bytes(&t) > size - at)
    ice(e->g, NO_ID, "evaluator: state \"%s\" ends outside the state", e->g->states.at[i].path);
  t.data = m->at[SPACE_STATE] + at;
  return t;
}

/* State: what was set by path; then the entry's other arguments go to their places. */
static void fill_memory(Memory *m, Eval *e, const Entry *en) {
  for (uint32_t i = 0; i < e->g->states.len; i++) {
    const Tensor *set = eval_arg(e, ARG_state, e->g->states.at[i].path);
    if (m->p->state_at[i] == NOWHERE) continue;
    Tensor t = state_bytes_of(m, e, i);
    if (set) tensor_convert(e->scalars, &t, set);
  }
  for (uint32_t i = 0; i < en->args.len; i++)
    if (en->args.at[i].role != ARG_state) store(m, e, e->g->blocks.at[en->body].args.at[i]);
}

/* A loop reads its operands until it closes. */
static uint32_t *last_reads(Eval *e, const ProgramEntry *pe, const Block *body) {
  uint32_t *last = NEW_ARRAY(&e->run, uint32_t, e->g->values.len);
  for (uint32_t v = 0; v < e->g->values.len; v++) last[v] = NEVER;
  for (uint32_t i = 0; i < pe->steps.len; i++) {
    const Node *n = &e->g->nodes.at[pe->steps.at[i].node];
    for (uint32_t k = 0; k < n->nops; k++) last[view_source(e->g, n->ops[k])] = i;
  }
  for (uint32_t i = 0; i < pe->steps.len; i++) {
    const Node *n = &e->g->nodes.at[pe->steps.at[i].node];
    if (n->op != OP_loop) continue;
    const Block *b = &e->g->blocks.at[n->blocks[0]];
    for (uint32_t k = 0; k < b->args.len; k++) last[b->args.at[k]] = NEVER;
    for (uint32_t k = 0; k < b->results.len; k++) last[view_source(e->g, b->results.at[k])] = NEVER;
    for (uint32_t k = 0; k < node_int(n, AT_carries, 0); k++)
      last[view_source(e->g, n->ops[k])] = NEVER;
  }
  for (uint32_t i = 0; i < body->results.len; i++)
    last[view_source(e->g, body->results.at[i])] = NEVER;
  return last;
}

static void poison_dead(const Memory *m, Eval *e, uint32_t step) {
  const Node *n = &e->g->nodes.at[m->entry->steps.at[step].node];
  for (uint32_t k = 0; k < n->nops; k++) {
    ValueId v = n->ops[k];
    if (m->p->buffer[v].space == SPACE_ARENA && m->last[view_source(e->g, v)] == step)
      memset(place(m, e, v), POISON, tensor_bytes(eval_ensure(e, v)));
  }
}

/* Poisoning comes between reading and writing: a result may lie where a dying operand lay. */
static void run_launch(const Memory *m, Eval *e, uint32_t step) {
  NodeId id = m->entry->steps.at[step].node;
  const Node *n = &e->g->nodes.at[id];
  for (uint32_t k = 0; k < n->nops; k++) load(m, e, n->ops[k]);
  poison_dead(m, e, step);
  eval_node(e, id);
  for (uint32_t k = 0; k < n->nres; k++) store(m, e, n->res + k);
}

static void run_steps(Memory *m, Eval *e, uint32_t from, uint32_t end);

static uint32_t run_loop(Memory *m, Eval *e, uint32_t open) {
  uint32_t close = program_close(m->entry, open);
  NodeId id = m->entry->steps.at[open].node;
  const Node *n = &e->g->nodes.at[id];
  int64_t trip = node_int(n, AT_trip, 0), rows = e->rows, batch = e->batch;
  e->batch = node_int(n, AT_rows, batch);
  for (int64_t turn = 0; turn < trip; turn++) {
    m->index[id] = eval_turn_index(n, turn);
    e->rows = eval_turn_rows(n, rows, m->index[id]);
    run_steps(m, e, open + 1, close);
  }
  e->rows = rows;
  e->batch = batch;
  poison_dead(m, e, close);
  return close;
}

static void run_steps(Memory *m, Eval *e, uint32_t from, uint32_t end) {
  for (uint32_t i = from; i < end; i++)
    if (m->entry->steps.at[i].kind == STEP_open) i = run_loop(m, e, i);
    else run_launch(m, e, i);
}

static void read_results(const Memory *m, Eval *e, const Entry *en) {
  const Block *body = &e->g->blocks.at[en->body];
  for (uint32_t i = 0; i < body->results.len; i++) {
    const Port *p = &en->results.at[i];
    ValueId v = body->results.at[i];
    load(m, e, v);
    if (p->role != RES_state) continue;
    uint32_t state = (uint32_t)(graph_state(e->g, p->name) - e->g->states.at);
    Tensor t = state_bytes_of(m, e, state);
    tensor_convert(e->scalars, &e->value[v], &t);
  }
}

void eval_run_program(Eval *e, const Program *p, uint32_t entry, int64_t rows) {
  if (e->mode != EVAL_EXACT) ice(e->g, NO_ID, "evaluator: a Program runs in exact mode only");
  eval_start(e, entry, rows);
  const Entry *en = &e->g->entries.at[entry];
  const ProgramEntry *pe = &p->entries[entry];
  Memory m = {.p = p, .size = {[SPACE_STATE] = p->state_bytes, [SPACE_ARENA] = p->arena_bytes}};
  m.at[SPACE_STATE] = poisoned(e, p->state_bytes);
  m.at[SPACE_ARENA] = poisoned(e, p->arena_bytes);
  m.entry = pe;
  m.index = NEW_ARRAY(&e->run, int64_t, e->g->nodes.len);
  m.last = last_reads(e, pe, &e->g->blocks.at[en->body]);
  fill_memory(&m, e, en);
  uint64_t saved = float_mode_set();
  run_steps(&m, e, 0, pe->steps.len);
  float_mode_restore(saved);
  read_results(&m, e, en);
}
