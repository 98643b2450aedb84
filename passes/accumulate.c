/* accumulate.c: `accumulate k` in train: a step sees k micro-batches of the batch B it was written
 * for, one behind the other, and updates once.
 *
 * The step's inputs become k·B rows, and what depends on them, on the states it writes or on the
 * number of the draw goes into a `loop` over the micro-batches: iteration j sees rows j·B … of the
 * inputs, of which clamp(rows - j·B, 0, B) are real.  The loop carries sums of losses, metrics,
 * weights and gradients from zero, states from their values, faults by `or`, the largest of amax.
 * A gradient that is one matmul adds up in its accumulator, which is the order of additions of one
 * matmul over all rows; others by an addition.  Draws are those of number attempt·k + j
 * (docs/language.md, random draws).
 *
 * A state with a dim of the batch (phased) has a slot for each micro-batch, [k, …]: iteration j
 * reads and writes slot j, as a slice and a stacked result.
 *
 * Several losses are seeded with N_r / N_i over all micro-batches (docs/precision.md, section 4),
 * so their weights are summed by a loop of their own before, and may depend on the inputs alone.
 */
#include "passes/pass.h"

#include <string.h>

/* How an argument reaches the micro-batches: as it is; by rows that are cut apart; by slots. */
typedef enum Cut { WHOLE, ROWS, SLOT } Cut;

typedef struct Accumulate {
  Graph *g;
  PassCtx *c;
  uint32_t entry;
  BlockId body, inner; /* of the entry; of the loop */
  int64_t times;
  bool *inside;   /* by value: each micro-batch has its own */
  uint32_t front; /* first nodes of the body: they have gone over all micro-batches */
  uint8_t *cut;   /* Cut, by argument */
  Loc loc;
} Accumulate;

typedef struct Operands { /* of a loop: what it carries, or cuts; its block's arguments */
  ValueIds outer, inner;
} Operands;

static Entry *entry_of(const Accumulate *s) { return &s->g->entries.at[s->entry]; }
static Block *body_of(const Accumulate *s) { return &s->g->blocks.at[s->body]; }
static ValueId attempt_of(const Accumulate *s) {
  return graph_entry_arg(s->g, s->entry, ARG_state, "attempt");
}

/* ---- what goes inside ------------------------------------------------------------------------ */

/* The result that gives the state of argument i anew, or NO_ID: where it is not written. */
static ValueId written(const Accumulate *s, uint32_t i) {
  const Port *p = &entry_of(s)->args.at[i];
  ValueId v = p->role == ARG_state ? graph_entry_result(s->g, s->entry, RES_state, p->name) : NO_ID;
  return v == body_of(s)->args.at[i] ? NO_ID : v;
}

/* Where every batch is full, rows are not tagged. */
static bool holds_rows(const Accumulate *s, uint32_t i) {
  const Entry *e = entry_of(s);
  Type t = value_type(s->g, body_of(s)->args.at[i]);
  bool full = e->full && t.rank && t.dim[0] == e->batch;
  return e->args.at[i].role == ARG_input && (t.rows == 0 || full);
}

/* A state that each micro-batch has its own of. */
static State *slots_of(const Accumulate *s, const char *path) {
  State *st = graph_state(s->g, path);
  return st && st->phased ? st : NULL;
}

static void find_cut(Accumulate *s) {
  uint32_t n = entry_of(s)->args.len;
  s->cut = NEW_ARRAY(s->c->arena, uint8_t, n);
  for (uint32_t i = 0; i < n; i++) {
    const Port *p = &entry_of(s)->args.at[i];
    bool slots = p->role == ARG_state && slots_of(s, p->name);
    s->cut[i] = slots ? SLOT : holds_rows(s, i) ? ROWS : WHOLE;
  }
}

static Cut cut_of(const Accumulate *s, uint32_t i) { return (Cut)s->cut[i]; }

static bool check_inputs(const Accumulate *s) {
  uint32_t errors = s->c->diag->errors;
  for (uint32_t i = 0; i < entry_of(s)->args.len; i++)
    if (holds_rows(s, i) && value_type(s->g, body_of(s)->args.at[i]).rank == MAX_RANK)
      diag_error(s->c->diag, entry_of(s)->args.at[i].loc,
                 "accumulate: input `%s` has as many axes as there may be",
                 entry_of(s)->args.at[i].name);
  for (uint32_t i = 0; i < s->g->states.len; i++)
    if (s->g->states.at[i].phased && s->g->states.at[i].type.rank == MAX_RANK)
      diag_error(s->c->diag, s->g->states.at[i].loc,
                 "accumulate: state `%s` has as many axes as there may be",
                 s->g->states.at[i].path);
  for (uint32_t i = 0; i < entry_of(s)->args.len; i++)
    if (value_type(s->g, body_of(s)->args.at[i]).rows > 0)
      diag_error(s->c->diag, entry_of(s)->args.at[i].loc,
                 "accumulate: the batch must be the first axis of input `%s`",
                 entry_of(s)->args.at[i].name);
  return s->c->diag->errors == errors;
}

static bool reads_inside(const Accumulate *s, const Node *n) {
  for (uint32_t i = 0; i < n->nops; i++)
    if (s->inside[n->ops[i]]) return true;
  for (uint32_t b = 0; b < n->nblocks; b++) {
    const Block *block = &s->g->blocks.at[n->blocks[b]];
    for (uint32_t i = 0; i < block->nodes.len; i++)
      if (reads_inside(s, &s->g->nodes.at[block->nodes.at[i]])) return true;
    for (uint32_t i = 0; i < block->results.len; i++)
      if (s->inside[block->results.at[i]]) return true;
  }
  return false;
}

/* What has rows has those of one micro-batch, whatever it depends on. */
static bool has_rows(const Accumulate *s, const Node *n) {
  for (uint32_t i = 0; i < n->nres; i++)
    if (value_type(s->g, n->res + i).rows >= 0) return true;
  return false;
}

static void find_inside(Accumulate *s) {
  ValueId attempt = attempt_of(s);
  s->inside = NEW_ARRAY(s->c->arena, bool, s->g->values.len);
  for (uint32_t i = 0; i < body_of(s)->args.len; i++)
    s->inside[body_of(s)->args.at[i]] = cut_of(s, i) != WHOLE || written(s, i) != NO_ID;
  if (attempt != NO_ID) s->inside[attempt] = true;
  for (uint32_t i = 0; i < body_of(s)->nodes.len; i++) {
    const Node *n = &s->g->nodes.at[body_of(s)->nodes.at[i]];
    bool in = i >= s->front && (reads_inside(s, n) || has_rows(s, n));
    for (uint32_t k = 0; k < n->nres; k++) s->inside[n->res + k] = in;
  }
}

static void move_inside(Accumulate *s) {
  Graph *g = s->g;
  NodeIds old = body_of(s)->nodes;
  body_of(s)->nodes = (NodeIds){0};
  for (uint32_t i = 0; i < old.len; i++) {
    Node *n = &g->nodes.at[old.at[i]];
    BlockId to = n->nres && s->inside[n->res] ? s->inner : s->body;
    n->block = to;
    for (uint32_t k = 0; k < n->nres; k++) g->values.at[n->res + k].block = to;
    vec_push(g->arena, &g->blocks.at[to].nodes, old.at[i]);
  }
}

/* ---- loops ----------------------------------------------------------------------------------- */

static ValueId begin_block(Accumulate *s, BlockId *block) {
  *block = graph_add_block(s->g, NO_ID);
  return graph_add_arg(s->g, *block, type_scalar(DT_i32));
}

static ValueId add_operand(Accumulate *s, Operands *o, BlockId block, ValueId outer, Type inner) {
  ValueId arg = graph_add_arg(s->g, block, inner);
  vec_push(s->c->arena, &o->outer, outer);
  vec_push(s->c->arena, &o->inner, arg);
  return arg;
}

/* A loop cuts tagged rows apart; untagged ones, as [k, B, …], are elements of its first axis. */
static ValueId by_batches(Accumulate *s, ValueId v, Type t) {
  Builder b = {.g = s->g, .block = s->body, .loc = s->loc};
  if (t.rows == 0) return v;
  int64_t dims[MAX_RANK] = {s->times};
  memcpy(dims + 1, t.dim, t.rank * sizeof *t.dim);
  return build_reshape(&b, v, type_make((DType)t.dtype, t.rank + 1, dims));
}

static Type of_one_slot(Type t) {
  memmove(t.dim, t.dim + 1, --t.rank * sizeof *t.dim);
  return t;
}

/* map[argument]: the micro-batch's rows or slot of it. */
static void cut_inputs(Accumulate *s, Operands *o, BlockId block, ValueId *map) {
  for (uint32_t i = 0; i < entry_of(s)->args.len; i++) {
    ValueId v = body_of(s)->args.at[i];
    Type t = value_type(s->g, v);
    if (cut_of(s, i) == SLOT) map[v] = add_operand(s, o, block, v, of_one_slot(t));
    if (cut_of(s, i) != ROWS) continue;
    t.dim[0] /= s->times;
    map[v] = add_operand(s, o, block, by_batches(s, v, t), t);
  }
}

static ValueId draw_number(Accumulate *s, BlockId block, ValueId index) {
  Builder b = {.g = s->g, .block = block, .loc = s->loc};
  ValueId k = build_constant(&b, type_scalar(DT_i32), (double)s->times);
  return build2(&b, OP_add, build2(&b, OP_mul, attempt_of(s), k), index);
}

static Type with_slots(const Accumulate *s, Type t) {
  memmove(t.dim + 1, t.dim, t.rank++ * sizeof *t.dim);
  t.dim[0] = s->times;
  return t;
}

/* Results of the block behind the carries are stacked. */
static NodeId end_loop(Accumulate *s, BlockId block, const Operands *carries,
                       const Operands *slices) {
  Graph *g = s->g;
  ValueIds ops = {0};
  const ValueIds *results = &g->blocks.at[block].results;
  Type *types = NEW_ARRAY(s->c->arena, Type, results->len);
  for (uint32_t i = carries->outer.len; i < results->len; i++)
    types[i] = with_slots(s, value_type(g, results->at[i]));
  for (uint32_t i = 0; i < carries->outer.len; i++) {
    vec_push(s->c->arena, &ops, carries->outer.at[i]);
    types[i] = value_type(g, carries->outer.at[i]);
  }
  for (uint32_t i = 0; i < slices->outer.len; i++) vec_push(s->c->arena, &ops, slices->outer.at[i]);
  const Attr attrs[] = {attr_int(AT_trip, s->times), attr_int(AT_carries, carries->outer.len),
                        attr_int(AT_slices, slices->outer.len),
                        attr_int(AT_rows, entry_of(s)->batch / s->times)};
  NodeId loop =
      graph_add_node(g, s->body, OP_loop, s->loc, ops.len, ops.at, results->len, types, 4, attrs);
  g->nodes.at[loop].nblocks = 1;
  g->nodes.at[loop].blocks = arena_copy(g->arena, &block, sizeof block);
  g->blocks.at[block].owner = loop;
  return loop;
}

static ValueId zero_like(Accumulate *s, ValueId v) {
  Builder b = {.g = s->g, .block = s->body, .loc = s->loc};
  return build_like(&b, v, 0);
}

/* ---- weights of several losses --------------------------------------------------------------- */

static const Port *port_of_weight(const Accumulate *s, ValueId w) {
  const Block *b = body_of(s);
  const Node *n = value_node(s->g, w);
  if (n && n->op == OP_cast) w = n->ops[0];
  for (uint32_t i = 0; i < b->results.len; i++)
    if (entry_of(s)->results.at[i].role == RES_weight && b->results.at[i] == w)
      return &entry_of(s)->results.at[i];
  return NULL;
}

/* Copies into the loop what weight v is computed from.  False: a state is among it. */
static bool copy_weight(Accumulate *s, BlockId block, ValueId v, ValueId *map) {
  Graph *g = s->g;
  const Value *x = &g->values.at[v];
  if (map[v] != NO_ID) return true;
  if (x->node == NO_ID) return entry_of(s)->args.at[x->index].role != ARG_state;
  NodeId id = x->node;
  if (g->nodes.at[id].nblocks) return false;
  for (uint32_t i = 0; i < g->nodes.at[id].nops; i++)
    if (!copy_weight(s, block, g->nodes.at[id].ops[i], map)) return false;
  graph_copy_node(g, id, block, map);
  return true;
}

static ValueId *new_map(Accumulate *s) {
  ValueId *map = NEW_ARRAY(s->c->arena, ValueId, s->g->values.len);
  for (ValueId v = 0; v < s->g->values.len; v++) map[v] = NO_ID;
  return map;
}

/* The weights are the first n operands of every loss_seed. */
static NodeId find_seed(const Accumulate *s) {
  for (uint32_t i = 0; i < body_of(s)->nodes.len; i++)
    if (s->g->nodes.at[body_of(s)->nodes.at[i]].op == OP_loss_seed) return body_of(s)->nodes.at[i];
  return NO_ID;
}

static void add_weight(Accumulate *s, BlockId block, ValueId sum, ValueId w, ValueId *map) {
  Builder b = {.g = s->g, .block = block, .loc = s->loc};
  const Port *p = port_of_weight(s, w);
  if (!copy_weight(s, block, w, map)) {
    diag_error(s->c->diag, p ? p->loc : s->loc,
               "loss `%s`: with several losses and accumulation, a weight may depend on the data "
               "alone: its total must be known before the backward pass",
               p ? p->name : "?");
    return;
  }
  sum = build2(&b, OP_add, sum, map[w]);
  vec_push(s->g->arena, &s->g->blocks.at[block].results, sum);
}

static void use_totals(Accumulate *s, const Operands *carries, const ValueId *weight, NodeId loop) {
  for (uint32_t i = 0; i < body_of(s)->nodes.len; i++) {
    Node *n = &s->g->nodes.at[body_of(s)->nodes.at[i]];
    for (uint32_t k = 0; n->op == OP_loss_seed && k < n->nops; k++)
      for (uint32_t w = 0; w < carries->outer.len; w++)
        if (n->ops[k] == weight[w]) n->ops[k] = s->g->nodes.at[loop].res + w;
  }
}

/* A loop that does nothing but sum the weights, in front of everything. */
static bool total_weights(Accumulate *s) {
  Graph *g = s->g;
  NodeId seed = find_seed(s);
  if (seed == NO_ID) return true;
  uint32_t count = g->nodes.at[seed].nops - node_bool(&g->nodes.at[seed], AT_scaled);
  if (count < 2) return true; /* one loss has no ratio */
  const ValueId *weight = arena_copy(s->c->arena, g->nodes.at[seed].ops, count * sizeof *weight);
  uint32_t errors = s->c->diag->errors, before = body_of(s)->nodes.len;
  Operands carries = {0}, slices = {0};
  BlockId block;
  begin_block(s, &block);
  for (uint32_t i = 0; i < count; i++)
    add_operand(s, &carries, block, zero_like(s, weight[i]), value_type(g, weight[i]));
  ValueId *map = new_map(s);
  cut_inputs(s, &slices, block, map);
  for (uint32_t i = 0; i < count; i++) add_weight(s, block, carries.inner.at[i], weight[i], map);
  if (s->c->diag->errors != errors) return false;
  use_totals(s, &carries, weight, end_loop(s, block, &carries, &slices));
  graph_move_nodes(g, s->body, before, 0);
  s->front = body_of(s)->nodes.len - before;
  return true;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static uint32_t count_uses(const Accumulate *s, ValueId v) {
  uint32_t uses = 0;
  const Block *b = &s->g->blocks.at[s->inner];
  for (uint32_t i = 0; i < b->nodes.len; i++)
    for (uint32_t k = 0; k < s->g->nodes.at[b->nodes.at[i]].nops; k++)
      uses += s->g->nodes.at[b->nodes.at[i]].ops[k] == v;
  for (uint32_t i = 0; i < body_of(s)->results.len; i++) uses += body_of(s)->results.at[i] == v;
  return uses;
}

/* v + sum, where v may be the matmul that has the sum as its accumulator instead. */
static ValueId add_to(Accumulate *s, ValueId sum, ValueId v) {
  Builder b = {.g = s->g, .block = s->inner, .loc = s->loc};
  const Node *n = value_node(s->g, v);
  bool product = n && (n->op == OP_matmul || n->op == OP_matmul_scaled);
  uint32_t operands = product ? matmul_accumulator(n->op) : 0;
  if (!product || n->nops != operands || !s->inside[v] || count_uses(s, v) != 1)
    return build2(&b, OP_add, sum, v);
  ValueId ops[5];
  memcpy(ops, n->ops, operands * sizeof *ops);
  ops[operands] = sum;
  b.loc = n->loc;
  return build_typed(&b, n->op, value_type(s->g, v), operands + 1, ops, n->nattrs, n->attrs);
}

static ValueId with(Accumulate *s, Op op, ValueId carry, ValueId v) {
  Builder b = {.g = s->g, .block = s->inner, .loc = s->loc};
  return build2(&b, op, carry, v);
}

/* Carries result i: what the loop begins with, and what an iteration makes of it. */
static void carry_result(Accumulate *s, Operands *o, uint32_t i) {
  Graph *g = s->g;
  Port p = entry_of(s)->results.at[i];
  ValueId v = body_of(s)->results.at[i], next = v;
  bool state = p.role == RES_state;
  ValueId first = state ? graph_entry_arg(g, s->entry, ARG_state, p.name) : zero_like(s, v);
  if (first == NO_ID) first = zero_like(s, v); /* written, never read */
  ValueId carry = add_operand(s, o, s->inner, first, value_type(g, v));
  if (p.role == RES_fault) next = with(s, OP_or, carry, v);
  else if (p.role == RES_amax) next = with(s, OP_max, carry, v);
  else if (!state) next = add_to(s, carry, v);
  vec_push(g->arena, &g->blocks.at[s->inner].results, next);
}

static bool is_stacked(const Accumulate *s, uint32_t i) {
  const Port *p = &entry_of(s)->results.at[i];
  return p->role == RES_state && slots_of(s, p->name);
}

static bool is_carried(const Accumulate *s, uint32_t i) {
  const Port *p = &entry_of(s)->results.at[i];
  ValueId v = body_of(s)->results.at[i];
  switch ((ResRole)p->role) {
  case RES_loss:
  case RES_metric:
  case RES_weight:
  case RES_grad: return true;
  case RES_amax:
  case RES_count:
  case RES_fault: return s->inside[v];
  case RES_state:
    return !is_stacked(s, i) && v != graph_entry_arg(s->g, s->entry, ARG_state, p->name);
  default:
    if (s->inside[v])
      ice(s->g, s->g->values.at[v].node, "accumulate: result \"%s\" differs between micro-batches",
          p->name);
    return false;
  }
}

static void replace_inside(Accumulate *s, ValueId from, ValueId to) {
  graph_replace_uses(s->g, s->inner, from, to);
}

/* Inside, a written state is what the last iteration left, an input the micro-batch's rows. */
static void replace_arguments(Accumulate *s, const Operands *carries, const ValueId *cut,
                              ValueId index) {
  ValueId attempt = attempt_of(s);
  for (uint32_t i = 0; i < entry_of(s)->args.len; i++)
    if (cut_of(s, i) != WHOLE)
      replace_inside(s, body_of(s)->args.at[i], cut[body_of(s)->args.at[i]]);
  for (uint32_t i = 0; i < carries->outer.len; i++)
    if (!value_node(s->g, carries->outer.at[i]))
      replace_inside(s, carries->outer.at[i], carries->inner.at[i]);
  if (attempt == NO_ID) return;
  uint32_t before = s->g->blocks.at[s->inner].nodes.len;
  ValueId draw = draw_number(s, s->inner, index);
  NodeId product = s->g->nodes.at[s->g->values.at[draw].node].ops[0];
  replace_inside(s, attempt, draw);
  s->g->nodes.at[s->g->values.at[product].node].ops[0] = attempt;
  graph_move_nodes(s->g, s->inner, before, 0);
}

static void build_loop(Accumulate *s) {
  Graph *g = s->g;
  Operands carries = {0}, slices = {0};
  ValueId index = begin_block(s, &s->inner);
  find_inside(s);
  move_inside(s);
  uint32_t n = entry_of(s)->results.len;
  uint32_t *carry = NEW_ARRAY(s->c->arena, uint32_t, n);
  for (uint32_t i = 0; i < n; i++) {
    carry[i] = is_carried(s, i) ? carries.outer.len : NO_ID;
    if (carry[i] != NO_ID) carry_result(s, &carries, i);
  }
  for (uint32_t i = 0; i < n; i++) {
    if (!is_stacked(s, i)) continue;
    ValueIds *results = &g->blocks.at[s->inner].results;
    carry[i] = results->len;
    vec_push(g->arena, results, body_of(s)->results.at[i]);
  }
  ValueId *map = new_map(s);
  cut_inputs(s, &slices, s->inner, map);
  replace_arguments(s, &carries, map, index);
  NodeId loop = end_loop(s, s->inner, &carries, &slices);
  for (uint32_t i = 0; i < n; i++)
    if (carry[i] != NO_ID) body_of(s)->results.at[i] = g->nodes.at[loop].res + carry[i];
}

/* All slots start as the one state would. */
static void widen_states(Accumulate *s) {
  int at = graph_entry_find(s->g, ENTRY_init);
  for (uint32_t i = 0; i < s->g->states.len; i++) {
    State *st = &s->g->states.at[i];
    if (!st->phased) continue;
    int64_t axes[MAX_RANK] = {1, 2, 3, 4, 5, 6, 7};
    st->type = with_slots(s, st->type);
    ValueId v = at < 0 ? NO_ID : graph_entry_result(s->g, (uint32_t)at, RES_state, st->path);
    if (v == NO_ID) continue;
    Entry *init = &s->g->entries.at[at];
    Builder b = {.g = s->g, .block = init->body, .loc = st->loc};
    ValueId all = build_broadcast(&b, v, st->type, axes);
    for (uint32_t k = 0; k < init->results.len; k++)
      if (!strcmp(init->results.at[k].name, st->path))
        s->g->blocks.at[init->body].results.at[k] = all;
  }
}

static void widen_inputs(Accumulate *s) {
  find_cut(s);
  entry_of(s)->batch *= s->times;
  for (uint32_t i = 0; i < body_of(s)->args.len; i++) {
    Type *t = &s->g->values.at[body_of(s)->args.at[i]].type;
    if (cut_of(s, i) == ROWS) t->dim[0] *= s->times;
    if (cut_of(s, i) == SLOT) *t = with_slots(s, *t);
  }
  if (entry_of(s)->kind == ENTRY_step) widen_states(s);
}

bool pass_accumulate(Graph *g, PassCtx *c) {
  bool changed = false;
  for (uint32_t i = 0; g->train.accumulate > 1 && i < g->entries.len; i++) {
    const Entry *e = &g->entries.at[i];
    Accumulate s = {.g = g, .c = c, .entry = i, .body = e->body, .loc = e->loc};
    s.times = g->train.accumulate;
    bool cuts = e->kind == ENTRY_step || e->kind == ENTRY_calibrate || e->kind == ENTRY_replay;
    if (!cuts || !check_inputs(&s)) continue;
    widen_inputs(&s);
    if (!total_weights(&s)) return changed;
    build_loop(&s);
    changed = true;
  }
  return changed;
}
