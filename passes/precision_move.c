/* precision_move.c: kernels that take a part of a weight, or turn it, for a product to read:
 * `x @ w[:, :8]`, a concat of several.
 *
 * Such a kernel computes nothing, so cast(move(w)) = move(cast(w)), bit for bit: it reads the
 * parameter's low copy, and its nodes work in the low type, with no cast at all.  That holds where
 * all that the nodes move can be had low (parameters, what is stored low, constants) and all that
 * they move it to leaves the kernel in that type alone, or goes on to such kernels and to nobody
 * else.  Otherwise the kernel reads the master and rounds what it stores low.
 *
 * Found from above: everything that is moved is taken to be low until something is in the way.
 */
#include "passes/precision.h"

typedef struct Moves {
  Precision *s;
  Low low;
  NodeId kernel; /* at hand */
  bool *can;     /* value in it: it can be low, as far as is known */
  bool *between; /* value outside: a part of a weight that other kernels move on, and can be low */
} Moves;

bool moves_operand(const Graph *g, const Node *n, uint32_t j) {
  switch (n->op) {
  case OP_select: return j > 0;
  case OP_pad:
  case OP_mask_rows:
  case OP_untag_rows:
  case OP_gather: return j == 0;
  /* What stands in memory it loads low by itself. */
  case OP_embedding: return j == 0 && value_node(g, n->ops[0]);
  default: return op_flags[n->op] & F_VIEW;
  }
}

static bool is_f32(const Graph *g, ValueId v) { return value_type(g, v).dtype == DT_f32; }

bool moves_low(const Graph *g, const Node *n, uint32_t operand, DType low) {
  return moves_operand(g, n, operand) && value_type(g, n->res).dtype == low;
}

/* ---- which values can be low ----------------------------------------------------------------- */

static const Block *body_of(const Moves *m) {
  const Graph *g = m->s->g;
  return &g->blocks.at[g->nodes.at[m->kernel].blocks[0]];
}

static const Node *body_node(const Moves *m, uint32_t i) {
  return &m->s->g->nodes.at[body_of(m)->nodes.at[i]];
}

static ValueId operand(const Moves *m, uint32_t i) { return m->s->g->nodes.at[m->kernel].ops[i]; }

/* The kernel reads it low already, whoever else in it wants it in f32. */
static bool is_given_low(const Moves *m, uint32_t i) {
  ValueId from = precision_origin(m->s, operand(m, i)).value;
  return m->s->alone[from] == 1 << m->low || *read_choice(m->s, m->kernel, i) >> m->low & 1;
}

static bool is_parameter(const Moves *m, uint32_t i) {
  Origin o = precision_origin(m->s, operand(m, i));
  return !o.sliced && copied_parameter(m->s, o.value, m->low);
}

static bool is_between(const Moves *m, uint32_t i) {
  return m->between[precision_origin(m->s, operand(m, i)).value];
}

static void start(Moves *m) {
  const Graph *g = m->s->g;
  const Block *b = body_of(m);
  for (uint32_t i = 0; i < b->args.len; i++)
    m->can[b->args.at[i]] =
        is_f32(g, b->args.at[i]) && (is_given_low(m, i) || is_between(m, i) || is_parameter(m, i));
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = body_node(m, i);
    bool moves = n->op == OP_constant;
    for (uint32_t j = 0; j < n->nops; j++) moves |= moves_operand(g, n, j);
    for (uint32_t r = 0; r < n->nres; r++) m->can[n->res + r] = moves && is_f32(g, n->res + r);
  }
}

static bool refuse(Moves *m, ValueId v) {
  bool could = m->can[v];
  m->can[v] = false;
  return could;
}

/* Somebody wants v in f32. */
static bool refuse_operand(Moves *m, ValueId v) {
  Value at = m->s->g->values.at[v];
  return (at.node != NO_ID || !is_given_low(m, at.index)) && refuse(m, v);
}

/* What a node moves is low on both sides or on neither. */
static bool settle_node(Moves *m, const Node *n) {
  bool changed = false;
  for (uint32_t j = 0; j < n->nops; j++) {
    bool moved = moves_operand(m->s->g, n, j);
    if (moved && !m->can[n->ops[j]]) changed |= refuse(m, n->res);
    if (!moved || !m->can[n->res]) changed |= refuse_operand(m, n->ops[j]);
  }
  return changed;
}

static bool settle(Moves *m) {
  const Block *b = body_of(m);
  ValueId first = m->s->g->nodes.at[m->kernel].res;
  bool changed = false;
  for (uint32_t i = 0; i < b->nodes.len; i++) changed |= settle_node(m, body_node(m, i));
  for (uint32_t i = 0; i < b->results.len; i++)
    if (m->s->alone[first + i] != 1 << m->low && !m->between[first + i])
      changed |= refuse_operand(m, b->results.at[i]);
  return changed;
}

static void look_at(Moves *m, NodeId kernel) {
  m->kernel = kernel;
  start(m);
  while (settle(m)) continue;
}

/* ---- from kernel to kernel ------------------------------------------------------------------- */

typedef bool Visit(Moves *m, NodeId n); /* a kernel or loop; true: it changed something */

static bool visit(Moves *m, BlockId block, Visit *what) {
  const NodeIds *nodes = &m->s->g->blocks.at[block].nodes;
  bool changed = false;
  for (uint32_t i = 0; i < nodes->len; i++) {
    const Node *n = &m->s->g->nodes.at[nodes->at[i]];
    if (n->op == OP_loop) changed |= visit(m, n->blocks[0], what);
    if (n->op == OP_loop || n->op == OP_kernel) changed |= what(m, nodes->at[i]);
  }
  return changed;
}

static bool may_be_between(Moves *m, NodeId id) {
  const Graph *g = m->s->g;
  const Node *n = &g->nodes.at[id];
  bool moved = false;
  m->kernel = id;
  for (uint32_t i = 0; n->op == OP_kernel && i < n->nops; i++)
    moved |= is_between(m, i) || is_parameter(m, i);
  for (uint32_t i = 0; i < n->nres; i++)
    m->between[n->res + i] =
        moved && is_f32(g, n->res + i) && !m->s->alone[n->res + i] && made_by(g, n->res + i);
  return moved;
}

static bool refuse_between(Moves *m, ValueId v) {
  v = precision_origin(m->s, v).value;
  bool could = m->between[v];
  m->between[v] = false;
  return could;
}

static bool refuse_results(Moves *m, BlockId block) {
  const ValueIds *results = &m->s->g->blocks.at[block].results;
  bool changed = false;
  for (uint32_t i = 0; i < results->len; i++) changed |= refuse_between(m, results->at[i]);
  return changed;
}

/* What a loop carries or gives is f32. */
static bool settle_between(Moves *m, NodeId id) {
  const Node *n = &m->s->g->nodes.at[id];
  bool changed = false;
  if (n->op == OP_loop) {
    for (uint32_t i = 0; i < node_int(n, AT_carries, 0); i++)
      changed |= refuse_between(m, n->ops[i]);
    return refuse_results(m, n->blocks[0]) || changed;
  }
  look_at(m, id);
  const Block *b = body_of(m);
  for (uint32_t i = 0; i < n->nops; i++)
    if (!m->can[b->args.at[i]]) changed |= refuse_between(m, n->ops[i]);
  for (uint32_t i = 0; i < n->nres; i++)
    if (!m->can[b->results.at[i]]) changed |= refuse_between(m, n->res + i);
  return changed;
}

/* ---- what follows ---------------------------------------------------------------------------- */

static bool is_read(const Moves *m, ValueId arg) {
  for (uint32_t i = 0; i < body_of(m)->nodes.len; i++)
    for (uint32_t j = 0; j < body_node(m, i)->nops; j++)
      if (body_node(m, i)->ops[j] == arg) return true;
  return false;
}

/* A parameter's argument can be low: the kernel reads the copy. */
static bool choose_copies(Moves *m, NodeId id) {
  bool any = false;
  if (m->s->g->nodes.at[id].op == OP_loop) return false;
  look_at(m, id);
  for (uint32_t i = 0; i < body_of(m)->args.len; i++) {
    ValueId arg = body_of(m)->args.at[i];
    if (!m->can[arg] || is_given_low(m, i) || !is_read(m, arg)) continue;
    if (!is_between(m, i)) *read_choice(m->s, id, i) |= (uint8_t)(1 << m->low);
    any = true;
  }
  if (any) vec_push(m->s->arena, &m->s->moving, ((Moving){id, m->low}));
  return any;
}

void choose_moves(Precision *s, Low low) {
  Moves m = {.s = s, .low = low};
  BlockId body = s->g->entries.at[s->entry].body;
  m.can = NEW_ARRAY(s->arena, bool, s->values);
  m.between = NEW_ARRAY(s->arena, bool, s->values);
  visit(&m, body, may_be_between);
  refuse_results(&m, body);
  while (visit(&m, body, settle_between)) continue;
  visit(&m, body, choose_copies);
  for (ValueId v = 0; v < s->values; v++) {
    if (!m.between[v]) continue;
    s->alone[v] = (uint8_t)(1 << low);
    s->why[v] = "rule: part of a weight";
  }
}

static void work_low(Moves *m) {
  for (uint32_t i = 0; i < body_of(m)->nodes.len; i++) {
    ValueId v = body_node(m, i)->res;
    if (m->can[v]) m->s->g->values.at[v].type.dtype = (uint8_t)low_type[m->low];
  }
}

void work_moves(Precision *s) {
  Moves m = {.s = s};
  m.can = NEW_ARRAY(s->arena, bool, s->values);
  m.between = NEW_ARRAY(s->arena, bool, s->values); /* those are `alone` by now */
  for (uint32_t i = 0; i < s->moving.len; i++) {
    m.low = s->moving.at[i].low;
    look_at(&m, s->moving.at[i].kernel);
    work_low(&m);
  }
}
