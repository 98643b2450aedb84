/* step_scaler.c: the loss scales S (docs/precision.md, section 3), powers of two.
 *
 * A static one is a constant.  A dynamic one is a state, in these counters (of a loss's own scaler,
 * with :LOSS behind them):
 *
 *   scale       S
 *   clean       steps in a row that committed since S last changed
 *   hysteresis  steps in a row in which a gradient that it reaches was not finite
 *
 * S grows after `interval` clean steps, up to the cap, or what is known to fit (step_bound.c). From
 * the `hysteresis`-th step in a row with a non-finite gradient on, each shrinks it, down to the
 * floor.  A step that was skipped for another reason (no weight, an infinite learning rate, an
 * index out of range, a gradient that another scaler alone reaches) says nothing about S and leaves
 * all three alone.  None of them is committed: a skipped step must change S.
 *
 * Where gradients of several scalers add up the sum carries the least of their scales.
 */
#include "passes/pass.h"

#include <math.h>
#include <string.h>

static Type scale_type(uint32_t scaler) {
  Type t = type_scalar(DT_f32);
  t.unit = unit_of_scales(1u << scaler, 1);
  return t;
}

static double least(double x, double y) { return x < y ? x : y; }

/* ---- S --------------------------------------------------------------------------------------- */

static void add_counter(Graph *g, uint32_t scaler, const char *what, Type t, double initial) {
  State s = {.path = scaler_counter(g, what, scaler),
             .kind = STATE_counter,
             .type = t,
             .loc = graph_scale_loc(g, scaler)};
  states_add(g, s, initial);
}

/* A loss without a scaler beside others that have one is scaled by 1. */
static ValueId own_scale(Builder *b, uint32_t entry, uint32_t scaler) {
  Graph *g = b->g;
  const Scale s = *graph_scale(g, scaler);
  if (s.kind != SCALE_dynamic)
    return build_constant(b, scale_type(scaler), s.kind == SCALE_static ? s.init : 1);
  const char *path = scaler_counter(g, "scale", scaler);
  if (!graph_state(g, path)) {
    double start = fmax(least(s.init, scaler_bound(g, scaler)), s.floor);
    add_counter(g, scaler, "scale", scale_type(scaler), start);
    add_counter(g, scaler, "clean", type_scalar(DT_i32), 0);
    add_counter(g, scaler, "hysteresis", type_scalar(DT_i32), 0);
  }
  return states_argument(g, entry, path, b->loc);
}

ValueId scaler_least(Builder *b, uint32_t entry, unsigned set) {
  ValueId v = NO_ID;
  for (uint32_t i = 0; i < MAX_SCALERS && graph_is_scaled(b->g); i++) {
    if (!(set >> i & 1)) continue;
    ValueId own = own_scale(b, entry, i);
    v = v == NO_ID ? own : build2(b, OP_scale_min, v, own);
  }
  return v;
}

ValueId scaler_inverse(Builder *b, uint32_t entry, Unit unit) {
  if (!unit_scales(unit)) return NO_ID;
  ValueId one = build_constant(b, type_scalar(DT_f32), 1);
  return build2(b, OP_div, one, scaler_least(b, entry, unit_scales(unit)));
}

/* ---- how it moves ---------------------------------------------------------------------------- */

static ValueId times(Builder *b, ValueId scale, double factor) {
  return build2(b, OP_mul, scale, build_constant(b, type_scalar(DT_f32), factor));
}

static ValueId count(Builder *b, double n) { return build_constant(b, type_scalar(DT_i32), n); }

/* Whether every gradient that the scaler reaches is finite. */
static ValueId is_clean(Step *s, uint32_t scaler) {
  ValueId clean = NO_ID;
  bool all = true;
  for (uint32_t i = 0; i < s->grads.len; i++) all = all && s->grads.at[i].scales >> scaler & 1;
  if (all) return s->clean;
  for (uint32_t i = s->grads.len; i-- > 0;) {
    const StepGrad *g = &s->grads.at[i];
    if (!(g->scales >> scaler & 1)) continue;
    clean = clean == NO_ID ? g->finite : build2(&s->b, OP_and, clean, g->finite);
  }
  return clean == NO_ID ? build_constant(&s->b, type_scalar(DT_i1), 1) : clean;
}

static void update(Step *s, uint32_t scaler) {
  Builder *b = &s->b;
  const Scale scale = *graph_scale(b->g, scaler);
  const char *path[] = {scaler_counter(b->g, "scale", scaler),
                        scaler_counter(b->g, "clean", scaler),
                        scaler_counter(b->g, "hysteresis", scaler)};
  if (scale.kind != SCALE_dynamic || !graph_state(b->g, path[0])) return;
  ValueId old = step_state(s, path[0]), clean = step_state(s, path[1]);
  ValueId late = step_state(s, path[2]), zero = count(b, 0);
  ValueId bad = build2(b, OP_and, s->weighs, build1(b, OP_not, is_clean(s, scaler)));

  ValueId more = build2(b, OP_add, clean, count(b, 1));
  ValueId ripe = build2(b, OP_ge, more, count(b, scale.interval));
  ripe = build2(b, OP_and, s->ok, ripe);
  double most = least(scale.cap, scaler_bound(b->g, scaler));
  ValueId cap = build_constant(b, scale_type(scaler), most);
  ValueId grown = build2(b, OP_min, times(b, old, scale.growth), cap);

  ValueId row = build2(b, OP_add, late, count(b, 1));
  row = build2(b, OP_min, row, count(b, scale.hysteresis));
  ValueId tired = build2(b, OP_ge, row, count(b, scale.hysteresis));
  tired = build2(b, OP_and, bad, tired);
  ValueId floor = build_constant(b, scale_type(scaler), scale.floor);
  ValueId shrunk = build2(b, OP_max, times(b, old, scale.backoff), floor);

  ValueId kept = build_select(b, s->ok, more, clean);
  ValueId ended = build2(b, OP_or, ripe, bad);
  ValueId new = build_select(b, tired, shrunk, build_select(b, ripe, grown, old));
  step_result(s, RES_state, path[0], new);
  step_result(s, RES_state, path[1], build_select(b, ended, zero, kept));
  late = build_select(b, s->ok, zero, build_select(b, bad, row, late));
  step_result(s, RES_state, path[2], late);
}

void scaler_update(Step *s) {
  for (uint32_t i = 0; i < graph_scalers(s->b.g); i++) update(s, i);
}

/* Whether a loss has it. */
static bool is_used(Step *s, uint32_t scaler) {
  bool used = false;
  for (uint32_t i = 0; i < s->results; i++) {
    Port p = step_port(s, i);
    used = used || (p.role == RES_loss && graph_scaler_of(s->b.g, p.name) == scaler);
  }
  return used && graph_scale(s->b.g, scaler)->kind;
}

/* S as a number to look at, without its unit. */
void scaler_show(Step *s) {
  for (uint32_t i = 0; i < graph_scalers(s->b.g); i++) {
    if (!is_used(s, i)) continue;
    Type per_scale = type_scalar(DT_f32);
    per_scale.unit = unit_of_scales(1u << i, -1);
    ValueId scale = scaler_least(&s->b, s->entry, 1u << i);
    ValueId one = build_constant(&s->b, per_scale, 1);
    step_result(s, RES_gauge, scaler_counter(s->b.g, "scale", i),
                build2(&s->b, OP_mul, scale, one));
  }
}
