/* optimize.c: each step becomes a transaction.  This file is its order (docs/precision.md, section
 * 4); each idea has a file of its own:
 *
 *   step_scale.c    N, the divisor S·N of every gradient, the norm, the clip, k
 *   step_guard.c    ok: one pass over the gradients, and all else that must be finite
 *   step_update.c   what the optimizers make of the parameters, committed under ok
 *   step_round.c    of weights without a master: the random rounding of their new values
 *   step_count.c    step, attempt, skipped
 *   step_scaler.c   the loss scale, and how it moves; step_bound.c: how large it may get
 *   step_amax.c     histories and scales of fp8(delayed); calibrations
 *   step_meter.c    the share of the weights that did not change
 *   step_halves.c   the step in two entries, for hosts that reduce gradients themselves
 *   replay.c        the step in f32, up to its guard
 *
 * Results of role grad and entries of kind update give way to: state results, each a commit or
 * exempt by name; ok; for each parameter nonfinite; finite, one of each tensor the guard looked at;
 * the gauges grad_norm, scale, unchanged.
 */
#include "passes/pass.h"

/* ---- what the parts share ------------------------------------------------------------------ */

Port step_port(const Step *s, uint32_t i) { return s->b.g->entries.at[s->entry].results.at[i]; }

ValueId step_value(const Step *s, uint32_t i) {
  const Graph *g = s->b.g;
  return g->blocks.at[g->entries.at[s->entry].body].results.at[i];
}

ValueId step_state(Step *s, const char *path) {
  return states_argument(s->b.g, s->entry, path, s->b.loc);
}

void step_result(Step *s, ResRole role, const char *name, ValueId v) {
  graph_add_entry_result(s->b.g, s->entry, role, states_name(s->b.g, name), v, s->b.loc);
}

ValueId step_commit(Step *s, ValueId new, ValueId old) {
  return build(&s->b, OP_commit, 3, (ValueId[]){s->ok, new, old}, 0, NULL);
}

/* ---- the order ----------------------------------------------------------------------------- */

static uint32_t find_unit(Step *s, unsigned scales) {
  uint32_t i = 0;
  while (i < s->units.len && s->units.at[i].scales != scales) i++;
  if (i == s->units.len) vec_push(s->c->arena, &s->units, (StepUnit){.scales = scales});
  return i;
}

/* What the second half gets is unscaled; which losses reached it the whole step says. */
static void find_gradients(Step *s, uint32_t whole) {
  const Graph *g = s->b.g;
  for (uint32_t i = 0; i < s->results; i++) {
    Port p = step_port(s, i);
    if (p.role != RES_grad) continue;
    StepGrad grad = {.path = p.name, .value = step_value(s, i), .loc = p.loc};
    grad.scales = unit_scales(value_type(g, graph_entry_result(g, whole, RES_grad, p.name)).unit);
    grad.unit = find_unit(s, unit_scales(value_type(g, grad.value).unit));
    vec_push(s->c->arena, &s->grads, grad);
  }
  if (!s->units.len) find_unit(s, 0);
}

/* State that the forward pass wrote commits with the rest. */
static void commit_written(Step *s) {
  Graph *g = s->b.g;
  for (uint32_t i = 0; i < s->results; i++) {
    Port p = step_port(s, i);
    const Node *def = value_node(g, step_value(s, i));
    if (p.role != RES_state || (def && def->op == OP_commit)) continue;
    ValueId v = step_commit(s, step_value(s, i), step_state(s, p.name));
    g->blocks.at[g->entries.at[s->entry].body].results.at[i] = v;
  }
}

/* Gradients and what slots saw are used up.  Losses and weights of the second half are the first
 * one's results. */
static bool stays(const Entry *e, const Port *p) {
  if (p->role == RES_loss || p->role == RES_weight) return e->kind != ENTRY_apply;
  return p->role != RES_grad && p->role != RES_amax && p->role != RES_count;
}

void step_remove_used(Step *s) {
  const Entry *e = &s->b.g->entries.at[s->entry];
  for (uint32_t i = e->results.len; i-- > 0;)
    if (!stays(e, &e->results.at[i])) graph_drop_entry_result(s->b.g, s->entry, i);
}

static Step begin_step(Graph *g, uint32_t entry, uint32_t whole, PassCtx *c) {
  const Entry *e = &g->entries.at[entry];
  Step s = {.b = {.g = g, .block = e->body, .loc = e->loc}, .c = c, .entry = entry, .loc = e->loc};
  s.results = e->results.len;
  find_gradients(&s, whole);
  return s;
}

static void optimize_step(Graph *g, uint32_t entry, uint32_t whole, PassCtx *c) {
  step_add_counters(g, g->entries.at[entry].loc);
  Step s = begin_step(g, entry, whole, c);
  step_find_low(&s);
  step_weigh(&s);
  step_guard(&s);
  step_factor(&s);
  commit_written(&s);
  for (uint32_t i = 0; i < s.grads.len; i++) step_update(&s, &s.grads.at[i]);
  step_amax(&s);
  step_add_counts(&s);
  step_count(&s);
  scaler_update(&s);
  step_result(&s, RES_ok, "ok", s.ok);
  step_result(&s, RES_gauge, "grad_norm", s.norm);
  scaler_show(&s);
  step_show_meters(&s);
  step_remove_used(&s);
}

/* What the guard asks, and no more. */
static void optimize_replay(Graph *g, uint32_t entry, PassCtx *c) {
  Step s = begin_step(g, entry, entry, c);
  step_weigh(&s);
  step_guard(&s);
  replay_keep_questions(g, entry);
}

static bool remove_updates(Graph *g) {
  uint32_t kept = 0, before = g->entries.len;
  for (uint32_t i = 0; i < before; i++)
    if (g->entries.at[i].kind != ENTRY_update) g->entries.at[kept++] = g->entries.at[i];
  g->entries.len = kept;
  return kept < before;
}

bool pass_optimize(Graph *g, PassCtx *c) {
  bool changed = false;
  step_choose_rounded(g);
  for (uint32_t i = 0; i < g->entries.len; i++) {
    if (g->entries.at[i].kind == ENTRY_calibrate) step_calibrate(g, i, c);
    if (g->entries.at[i].kind == ENTRY_replay) optimize_replay(g, i, c);
    if (g->entries.at[i].kind != ENTRY_step) continue;
    if (c->options->halves) optimize_step(g, step_halves(g, i, c), i, c);
    optimize_step(g, i, i, c);
    changed = true;
  }
  return remove_updates(g) || changed;
}
