/* step_halves.c: a step in two entries, for hosts that bring their own reduction of gradients.
 *
 *   NAME.grads  forward and backward: losses, metrics and weights as results, the rest to shadows
 *   NAME.apply  guard, clip, update, commit, from the shadows; nothing of the batch
 *
 * Shadows are states that are never saved; the host reads and writes them between the halves:
 *
 *   grad:PATH    the gradient, f32, divided by its S: a sum over the rows, not a mean
 *   weight:NAME  the weight of loss NAME; of several losses the sum over all machines, which the
 *                host gives with the call of NAME.grads, for the losses' seeds depend on it
 *   loss:NAME    the sum of loss NAME, which the guard looks at: NaN where an index was out of
 *                range, so that no machine commits what one could not compute
 *   amax:SLOT    the largest |x| of a slot of fp8(delayed); of several machines the largest counts
 *   count:NAME   what slots of fp8 count; of several machines the sum
 *   next:PATH    what the forward pass wrote to state PATH, not committed yet
 *
 * Hyperparameters are computed in NAME.apply, where their schedules stand as they did.
 */
#include "passes/pass.h"

#include <math.h>
#include <string.h>

typedef struct Halves {
  Graph *g;
  PassCtx *c;
  uint32_t step, half; /* entries: the whole, the one being written */
  Builder b;           /* at the end of the latter */
  uint32_t losses;
  ValueId *map;
} Halves;

static Port port(const Halves *h, uint32_t i) { return h->g->entries.at[h->step].results.at[i]; }

static ValueId value(const Halves *h, uint32_t i) {
  return h->g->blocks.at[h->g->entries.at[h->step].body].results.at[i];
}

static const char *shadow_path(Halves *h, const char *kind, const char *name) {
  return states_name(h->g, arena_printf(h->c->arena, "%s:%s", kind, name));
}

static void begin_half(Halves *h, const char *suffix, EntryKind kind, int64_t batch) {
  Graph *g = h->g;
  Entry step = g->entries.at[h->step];
  const char *name = states_name(g, arena_printf(h->c->arena, "%s.%s", step.name, suffix));
  h->half = graph_add_entry(g, name, kind, batch, step.loc);
  h->b = (Builder){.g = g, .block = g->entries.at[h->half].body, .loc = step.loc};
  h->map = NEW_ARRAY(h->c->arena, ValueId, g->values.len);
  for (uint32_t i = 0; i < g->values.len; i++) h->map[i] = NO_ID;
}

/* ---- NAME.grads ---------------------------------------------------------------------------- */

static void shadow(Halves *h, const char *kind, const Port *p, ValueId v) {
  const char *path = shadow_path(h, kind, p->name);
  State s = {.path = path, .kind = STATE_shadow, .type = value_type(h->g, v), .loc = p->loc};
  if (!graph_state(h->g, path)) vec_push(h->g->arena, &h->g->states, s);
  graph_add_entry_result(h->g, h->half, RES_state, path, v, p->loc);
}

static ValueId unscaled(Halves *h, ValueId grad) {
  Type t = value_type(h->g, grad);
  ValueId scale = scaler_least(&h->b, h->half, unit_scales(t.unit));
  if (scale == NO_ID) return grad;
  ValueId one = build_constant(&h->b, type_scalar(DT_f32), 1);
  return build2(&h->b, OP_mul, build_splat(&h->b, build2(&h->b, OP_div, one, scale), t), grad);
}

static bool is_loss(const Halves *h, const char *name) {
  return graph_entry_result(h->g, h->step, RES_loss, name) != NO_ID;
}

static ValueId sound_loss(Halves *h, ValueId v) {
  const Entry *step = &h->g->entries.at[h->step];
  v = build_cast(&h->b, v, DT_f32);
  for (uint32_t i = 0; i < step->results.len; i++)
    if (step->results.at[i].role == RES_fault)
      v = build_select(&h->b, h->map[value(h, i)], build_like(&h->b, v, NAN), v);
  return v;
}

static void give(Halves *h, const Port *p, ValueId v) {
  bool handed = p->role == RES_weight && is_loss(h, p->name) && h->losses == 1;
  h->b.loc = p->loc;
  if (p->role == RES_grad) shadow(h, "grad", p, unscaled(h, v));
  if (p->role == RES_state) shadow(h, "next", p, v);
  if (p->role == RES_amax) shadow(h, "amax", p, v);
  if (p->role == RES_count) shadow(h, "count", p, v);
  if (p->role == RES_loss) shadow(h, "loss", p, sound_loss(h, v));
  if (handed) shadow(h, "weight", p, build_cast(&h->b, v, DT_f32));
  if (p->role != RES_grad && p->role != RES_state && p->role != RES_hyper && p->role != RES_amax &&
      p->role != RES_count)
    graph_add_entry_result(h->g, h->half, (ResRole)p->role, p->name, v, p->loc);
}

/* Seeds of several losses take the weights of all machines. */
static void reseed(Halves *h, BlockId block, const ValueIds *weights) {
  for (uint32_t i = 0; i < h->g->blocks.at[block].nodes.len; i++) {
    Node *n = &h->g->nodes.at[h->g->blocks.at[block].nodes.at[i]];
    for (uint32_t k = 0; n->op == OP_loss_seed && k < weights->len; k++) n->ops[k] = weights->at[k];
    for (uint32_t k = 0; k < n->nblocks; k++) reseed(h, n->blocks[k], weights);
  }
}

static ValueId shadow_argument(Halves *h, const char *kind, const Port *p) {
  return states_argument(h->g, h->half, shadow_path(h, kind, p->name), p->loc);
}

static void take_weights(Halves *h) {
  ValueIds weights = {0};
  for (uint32_t i = 0; h->losses > 1 && i < h->g->entries.at[h->step].results.len; i++) {
    Port p = port(h, i);
    if (p.role != RES_loss) continue;
    State s = {.path = shadow_path(h, "weight", p.name),
               .kind = STATE_shadow,
               .type = type_scalar(DT_f32),
               .loc = p.loc};
    if (!graph_state(h->g, s.path)) vec_push(h->g->arena, &h->g->states, s);
    vec_push(h->c->arena, &weights, shadow_argument(h, "weight", &p));
  }
  reseed(h, h->b.block, &weights);
}

static void build_grads(Halves *h) {
  Graph *g = h->g;
  Entry step = g->entries.at[h->step];
  begin_half(h, "grads", ENTRY_grads, step.batch);
  g->entries.at[h->half].full = step.full;
  for (uint32_t i = 0; i < step.args.len; i++) {
    Port p = step.args.at[i];
    ValueId v = g->blocks.at[step.body].args.at[i];
    h->map[v] = graph_add_entry_arg(g, h->half, (ArgRole)p.role, p.name, value_type(g, v), p.loc);
  }
  for (uint32_t i = 0; i < g->blocks.at[step.body].nodes.len; i++)
    graph_copy_node(g, g->blocks.at[step.body].nodes.at[i], h->b.block, h->map);
  take_weights(h);
  for (uint32_t i = 0; i < step.results.len; i++) {
    Port p = port(h, i);
    give(h, &p, h->map[value(h, i)]);
  }
}

/* ---- NAME.apply ---------------------------------------------------------------------------- */

/* v of the step with all that it is computed from. */
static ValueId copy_value(Halves *h, ValueId v) {
  Graph *g = h->g;
  Value x = g->values.at[v];
  if (h->map[v] != NO_ID) return h->map[v];
  if (x.node == NO_ID) {
    Port p = g->entries.at[h->step].args.at[x.index];
    ValueId known = graph_entry_arg(g, h->half, (ArgRole)p.role, p.name);
    if (known == NO_ID)
      known = graph_add_entry_arg(g, h->half, (ArgRole)p.role, p.name, x.type, p.loc);
    return h->map[v] = known;
  }
  for (uint32_t i = 0; i < g->nodes.at[x.node].nops; i++) copy_value(h, g->nodes.at[x.node].ops[i]);
  graph_copy_node(g, x.node, h->b.block, h->map);
  return h->map[v];
}

static ValueId taken(Halves *h, const Port *p, ValueId v) {
  switch ((ResRole)p->role) {
  case RES_grad: return shadow_argument(h, "grad", p);
  case RES_state: return shadow_argument(h, "next", p);
  case RES_amax: return shadow_argument(h, "amax", p);
  case RES_count: return shadow_argument(h, "count", p);
  case RES_loss: return shadow_argument(h, "loss", p);
  case RES_weight: return is_loss(h, p->name) ? shadow_argument(h, "weight", p) : NO_ID;
  case RES_hyper: return copy_value(h, v);
  default: return NO_ID;
  }
}

static void build_apply(Halves *h) {
  begin_half(h, "apply", ENTRY_apply, 0);
  for (uint32_t i = 0; i < h->g->entries.at[h->step].results.len; i++) {
    Port p = port(h, i);
    ValueId v = taken(h, &p, value(h, i));
    if (v != NO_ID) graph_add_entry_result(h->g, h->half, (ResRole)p.role, p.name, v, p.loc);
  }
}

uint32_t step_halves(Graph *g, uint32_t step, PassCtx *c) {
  Halves h = {.g = g, .c = c, .step = step};
  for (uint32_t i = 0; i < g->entries.at[step].results.len; i++)
    h.losses += port(&h, i).role == RES_loss;
  build_grads(&h);
  build_apply(&h);
  return h.half;
}
