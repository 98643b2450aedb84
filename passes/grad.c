/* grad.c: reverse mode.  To every entry of kind step, or replay, it adds, for each parameter among
 * its arguments, the gradient of the sum of its losses as a result of role grad.
 *
 * A value is *reached* when a path of float values that some rule can differentiate leads to it
 * from a parameter.  Each loss starts with its seed (f32).  Nodes are visited from last to
 * first; a node whose result has a cotangent hands one on to each reached operand by its rule
 * (vjp.c), in operand order, and what arrives at a value is added to what was there: so the sum
 * over the uses of a value runs from its last use to its first, operands left to right within a
 * node.  That order is part of the meaning.  Only values on a path from a parameter to a loss get a
 * cotangent.
 *
 * Padding rows: the cotangent of a masked sum is masked where it starts (vjp_sum), every rule is
 * linear in it, and forward values of padding rows are finite where the data is, so they stay zero
 * and nothing further on needs a mask.
 */
#include "passes/pass.h"

#include <string.h>

bool grad_wants(const Grad *r, uint32_t i) { return r->reached[r->b.g->nodes.at[r->node].ops[i]]; }

/* What has no batch, a parameter say, cannot be told by rows: an elementwise op of the two has no
 * gradient, unless a broadcast along the batch stands between. */
static bool lies_along_batch(Grad *r, const Node *n, ValueId x, ValueId cot) {
  const Graph *g = r->b.g;
  if (value_type(g, cot).rows < 0 || value_type(g, x).rows >= 0) return false;
  diag_error(r->c->diag, n->loc,
             "`%s` has no gradient here: one operand's axis %d is the batch, the "
             "other's only has its size",
             op_name[n->op], value_type(g, cot).rows);
  return true;
}

/* The loss scales that x carries; a literal zero carries any. */
static unsigned scales_of(const Grad *r, ValueId x) {
  return unit_is_any(r->b.g, x) ? 0 : unit_scales(value_type(r->b.g, x).unit);
}

/* The cotangent x as one of the least scale of `set`; in f32, as another type may not hold the
 * ratio. */
static ValueId rescale(Grad *r, ValueId x, unsigned set) {
  unsigned own = scales_of(r, x);
  if (!own || own == set) return x;
  ValueId to = scaler_least(&r->b, r->entry, set);
  ValueId ratio = build2(&r->b, OP_div, to, scaler_least(&r->b, r->entry, own));
  Type t = value_type(r->b.g, x);
  ratio = build_splat(&r->b, ratio, type_with(t, DT_f32));
  return build_cast(&r->b, build2(&r->b, OP_rescale, build_cast(&r->b, x, DT_f32), ratio),
                    (DType)t.dtype);
}

void grad_meet(Grad *r, ValueId *x, ValueId *y) {
  unsigned set = scales_of(r, *x) | scales_of(r, *y);
  *x = rescale(r, *x, set);
  *y = rescale(r, *y, set);
}

static void add_to(Grad *r, ValueId x, ValueId cot) {
  ValueId sum = r->cot[x];
  if (sum != NO_ID) grad_meet(r, &sum, &cot);
  r->cot[x] = sum == NO_ID ? cot : build2(&r->b, OP_add, sum, cot);
}

void grad_give(Grad *r, uint32_t i, ValueId cot) {
  const Node *n = &r->b.g->nodes.at[r->node];
  ValueId x = n->ops[i];
  if (!lies_along_batch(r, n, x, cot)) add_to(r, x, cot);
}

void vjp_stop(Grad *r) {
  ice(r->b.g, r->node, "grad: a cotangent behind an op that stops gradients");
}

/* Each node is asked once, so each is reported once; its operands get nothing. */
void vjp_nondiff(Grad *r) {
  const Node *n = &r->b.g->nodes.at[r->node];
  diag_error(r->c->diag, n->loc,
             "`%s` has no gradient, and it lies between a parameter and the loss", op_name[n->op]);
}

static bool is_trained(const Graph *g, const Port *p) {
  if (p->role != ARG_state) return false;
  const State *s = graph_state(g, p->name);
  return s && s->kind == STATE_param && !s->frozen;
}

static bool *find_reached(const Graph *g, const Entry *e, Arena *scratch) {
  bool *reached = NEW_ARRAY(scratch, bool, g->values.len);
  const Block *body = &g->blocks.at[e->body];
  for (uint32_t i = 0; i < e->args.len; i++)
    if (is_trained(g, &e->args.at[i])) reached[body->args.at[i]] = true;
  for (uint32_t i = 0; i < body->nodes.len; i++) {
    const Node *n = &g->nodes.at[body->nodes.at[i]];
    bool any = false;
    for (uint32_t k = 0; k < n->nops; k++) any = any || reached[n->ops[k]];
    if (!any || vjp_rule[n->op] == vjp_stop) continue;
    for (uint32_t k = 0; k < n->nres; k++) reached[n->res + k] = value_is_float(g, n->res + k);
  }
  return reached;
}

/* What differs from example to example. */
static bool *find_fed(const Graph *g, const Entry *e, Arena *scratch) {
  bool *fed = NEW_ARRAY(scratch, bool, g->values.len);
  const Block *body = &g->blocks.at[e->body];
  for (uint32_t i = 0; i < e->args.len; i++)
    fed[body->args.at[i]] = e->args.at[i].role == ARG_input;
  for (uint32_t i = 0; i < body->nodes.len; i++) {
    const Node *n = &g->nodes.at[body->nodes.at[i]];
    bool any = op_flags[n->op] & F_RANDOM;
    for (uint32_t k = 0; k < n->nops; k++) any = any || fed[n->ops[k]];
    for (uint32_t k = 0; k < n->nres; k++) fed[n->res + k] = any;
  }
  return fed;
}

/* The weights of the losses, f32[] each. */
static ValueIds seed_weights(Grad *r) {
  Graph *g = r->b.g;
  uint32_t entry = r->entry;
  ValueIds ops = {0};
  for (uint32_t i = 0; i < g->entries.at[entry].results.len; i++) {
    Port p = g->entries.at[entry].results.at[i];
    if (p.role != RES_loss) continue;
    ValueId weight = graph_entry_result(g, entry, RES_weight, p.name);
    vec_push(r->c->arena, &ops, build_cast(&r->b, weight, DT_f32));
  }
  return ops;
}

/* Loss i starts with S·(N_r / N_i) (docs/precision.md, section 4), S of its own scaler: with 1
 * where it is the only one and there is none, and in a replay.  A scalar, which the rule of the
 * loss's sum broadcasts. */
static void seed_loss(Grad *r, ValueId loss, uint32_t index, const char *name, ValueIds weights) {
  unsigned scaler = graph_scaler_of(r->b.g, name);
  bool replay = r->b.g->entries.at[r->entry].kind == ENTRY_replay;
  ValueId scale = replay ? NO_ID : scaler_least(&r->b, r->entry, 1u << scaler);
  bool scaled = scale != NO_ID;
  ValueId *ops = NEW_ARRAY(r->c->arena, ValueId, weights.len + 1);
  memcpy(ops, weights.at, weights.len * sizeof *ops);
  ops[weights.len] = scale;
  Attr attrs[] = {attr_int(AT_index, index), attr_bool(AT_scaled, true)};
  ValueId seed = weights.len == 1 && !scaled
                     ? build_constant(&r->b, type_scalar(DT_f32), 1)
                     : build(&r->b, OP_loss_seed, weights.len + scaled, ops, 1 + scaled, attrs);
  add_to(r, loss, seed);
}

static uint32_t seed_losses(Grad *r) {
  Graph *g = r->b.g;
  uint32_t entry = r->entry, losses = 0;
  ValueIds weights = seed_weights(r);
  for (uint32_t i = 0; i < g->entries.at[entry].results.len; i++) {
    Port p = g->entries.at[entry].results.at[i];
    ValueId loss = g->blocks.at[g->entries.at[entry].body].results.at[i];
    if (p.role != RES_loss) continue;
    r->b.loc = p.loc;
    if (r->reached[loss]) seed_loss(r, loss, losses, p.name, weights);
    losses++;
  }
  return losses;
}

/* What was built from node `from` of the block on is part of a gradient. */
static void mark_backward(Graph *g, BlockId block, uint32_t from) {
  const NodeIds *nodes = &g->blocks.at[block].nodes;
  for (uint32_t i = from; i < nodes->len; i++) g->nodes.at[nodes->at[i]].loc.backward = true;
}

static void visit(Grad *r, NodeId id) {
  Graph *g = r->b.g;
  const Node *n = &g->nodes.at[id];
  bool asked = false;
  uint32_t before = g->blocks.at[r->b.block].nodes.len;
  for (uint32_t i = 0; i < n->nres; i++) asked = asked || r->cot[n->res + i] != NO_ID;
  if (!asked) return;
  r->node = id;
  r->dy = r->cot[n->res];
  builder_follow(&r->b, n);
  r->b.recompute = 0;
  vjp_rule[n->op](r);
  mark_backward(g, r->b.block, before);
}

/* Where the float path that starts at v ends: the first node, in program order, that takes a
 * reached value of v's and gives none. */
static const Node *find_dead_end(const Graph *g, const Block *body, uint32_t nodes, ValueId v,
                                 Arena *scratch) {
  bool *from_v = NEW_ARRAY(scratch, bool, g->values.len);
  from_v[v] = true;
  for (uint32_t i = 0; i < nodes; i++) {
    const Node *n = &g->nodes.at[body->nodes.at[i]];
    bool any = false;
    for (uint32_t k = 0; k < n->nops; k++) any = any || from_v[n->ops[k]];
    if (!any) continue;
    if (vjp_rule[n->op] == vjp_stop || !value_is_float(g, n->res)) return n;
    for (uint32_t k = 0; k < n->nres; k++) from_v[n->res + k] = true;
  }
  return NULL;
}

static void report_unreached(Grad *r, const Entry *e, uint32_t nodes, const char *path, ValueId v) {
  const Graph *g = r->b.g;
  const Node *end = find_dead_end(g, &g->blocks.at[e->body], nodes, v, r->c->arena);
  Loc loc = graph_state(g, path)->loc;
  if (!end) {
    diag_error(r->c->diag, loc, "no gradient reaches %s: the loss does not depend on it", path);
    return;
  }
  diag_error(r->c->diag, loc,
             "no gradient reaches %s: every way to the loss ends at an int or bool", path);
  diag_note(r->c->diag, end->loc, "here: `%s` has no gradient", op_name[end->op]);
}

static void add_results(Grad *r, uint32_t nodes) {
  Graph *g = r->b.g;
  uint32_t entry = r->entry;
  for (uint32_t i = 0; i < g->entries.at[entry].args.len; i++) {
    const Entry *e = &g->entries.at[entry];
    Port p = e->args.at[i];
    ValueId v = g->blocks.at[e->body].args.at[i];
    if (!is_trained(g, &p)) continue;
    if (r->cot[v] == NO_ID) {
      report_unreached(r, e, nodes, p.name, v);
      continue;
    }
    graph_add_entry_result(g, entry, RES_grad, p.name, r->cot[v], p.loc);
  }
}

/* Cotangents below 2^-24 would be zeros. */
static bool scale_is_given(const Graph *g, uint32_t entry, Diag *diag) {
  const Train *t = &g->train;
  bool given = true;
  if (!t->precision || strcmp(t->precision, "f16")) return true;
  for (uint32_t i = 0; i < g->entries.at[entry].results.len; i++) {
    Port p = g->entries.at[entry].results.at[i];
    given = given && (p.role != RES_loss || graph_scale(g, graph_scaler_of(g, p.name))->kind);
  }
  if (!given)
    diag_error(diag, t->precision_loc,
               "gradients do not survive f16 without a loss scale: `precision f16 scale(dynamic)`");
  return given;
}

static void differentiate(Graph *g, uint32_t entry, PassCtx *c) {
  const Entry *e = &g->entries.at[entry];
  Grad r = {.b = {.g = g, .block = e->body, .loc = e->loc}, .c = c, .entry = entry};
  r.reached = find_reached(g, e, c->arena);
  r.fed = find_fed(g, e, c->arena);
  r.cot = NEW_ARRAY(c->arena, ValueId, g->values.len);
  for (uint32_t i = 0; i < g->values.len; i++) r.cot[i] = NO_ID;
  uint32_t nodes = g->blocks.at[e->body].nodes.len;
  if (!seed_losses(&r)) {
    diag_error(c->diag, e->loc, "step `%s` has no loss to train for", e->name);
    return;
  }
  uint32_t errors = c->diag->errors;
  for (uint32_t i = nodes; i-- > 0;) visit(&r, g->blocks.at[e->body].nodes.at[i]);
  if (c->diag->errors == errors) add_results(&r, nodes);
  custom_grads_drop(g, g->entries.at[entry].body, c->arena);
}

bool pass_grad(Graph *g, PassCtx *c) {
  bool changed = false;
  for (uint32_t i = 0; i < g->entries.len; i++) {
    EntryKind kind = g->entries.at[i].kind;
    if (kind != ENTRY_step && kind != ENTRY_replay) continue;
    if (kind == ENTRY_replay && c->diag->errors) break; /* all has been said of its step */
    if (!scale_is_given(g, i, c->diag)) return false;
    if (kind == ENTRY_step && c->options->replay) replay_add(g, i, c);
    differentiate(g, i, c);
    changed = true;
  }
  return changed;
}
