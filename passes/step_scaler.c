/* step_scaler.c: the loss scale S (docs/precision.md, section 3), a power of two.
 *
 * A static one is a constant.  A dynamic one is a state, in these counters:
 *
 *   scale       S
 *   clean       steps in a row that committed since S last changed
 *   hysteresis  steps in a row whose gradients were not finite
 *
 * S grows after `interval` clean steps, up to the cap.  From the `hysteresis`-th step in a row with
 * a non-finite gradient on, each shrinks it, down to the floor.  A step that was skipped for
 * another reason (no weight, an infinite learning rate, an index out of range) says nothing about S
 * and leaves all three alone.  None of them is committed: a skipped step must change S.
 */
#include "passes/pass.h"

#include <math.h>
#include <string.h>

static Type scale_type(void) {
  Type t = type_scalar(DT_f32);
  t.unit = UNIT_S;
  return t;
}

/* The largest S under which the first cotangent that is stored in f16 is known to be finite.  That
 * of cross_entropy's logits is at most the seed; of other losses nothing is known. */
static double known_bound(const Graph *g) {
  const char *word = g->train.precision;
  bool known = word && !strcmp(word, "f16");
  for (uint32_t i = 0; known && i < g->nodes.len; i++)
    if (g->nodes.at[i].op == OP_cross_entropy) return 0x1p15;
  return INFINITY;
}

static double least(double x, double y) { return x < y ? x : y; }

static void add_counter(Graph *g, const char *name, Type t, double initial) {
  State s = {.path = name, .kind = STATE_counter, .type = t, .loc = g->train.scale_loc};
  states_add(g, s, initial);
}

ValueId scaler_scale(Builder *b, uint32_t entry) {
  Graph *g = b->g;
  const Scale *s = &g->train.scale;
  if (s->kind == SCALE_none) return NO_ID;
  if (s->kind == SCALE_static) return build_constant(b, scale_type(), s->init);
  add_counter(g, "scale", scale_type(), fmax(least(s->init, known_bound(g)), s->floor));
  add_counter(g, "clean", type_scalar(DT_i32), 0);
  add_counter(g, "hysteresis", type_scalar(DT_i32), 0);
  return states_argument(g, entry, "scale", b->loc);
}

ValueId scaler_inverse(Builder *b, uint32_t entry, Unit unit) {
  if (!unit_scales(unit)) return NO_ID;
  ValueId one = build_constant(b, type_scalar(DT_f32), 1);
  return build2(b, OP_div, one, scaler_scale(b, entry));
}

static ValueId times(Builder *b, ValueId scale, double factor) {
  return build2(b, OP_mul, scale, build_constant(b, type_scalar(DT_f32), factor));
}

static ValueId count(Builder *b, double n) { return build_constant(b, type_scalar(DT_i32), n); }

void scaler_update(Step *s) {
  Builder *b = &s->b;
  const Scale scale = b->g->train.scale;
  if (scale.kind != SCALE_dynamic) return;
  ValueId old = step_state(s, "scale"), clean = step_state(s, "clean");
  ValueId late = step_state(s, "hysteresis"), zero = count(b, 0);
  ValueId bad = build2(b, OP_and, s->weighs, build1(b, OP_not, s->clean));

  ValueId more = build2(b, OP_add, clean, count(b, 1));
  ValueId ripe = build2(b, OP_ge, more, count(b, scale.interval));
  ripe = build2(b, OP_and, s->ok, ripe);
  ValueId cap = build_constant(b, scale_type(), least(scale.cap, known_bound(b->g)));
  ValueId grown = build2(b, OP_min, times(b, old, scale.growth), cap);

  ValueId row = build2(b, OP_add, late, count(b, 1));
  row = build2(b, OP_min, row, count(b, scale.hysteresis));
  ValueId tired = build2(b, OP_ge, row, count(b, scale.hysteresis));
  tired = build2(b, OP_and, bad, tired);
  ValueId floor = build_constant(b, scale_type(), scale.floor);
  ValueId shrunk = build2(b, OP_max, times(b, old, scale.backoff), floor);

  ValueId kept = build_select(b, s->ok, more, clean);
  ValueId ended = build2(b, OP_or, ripe, bad);
  ValueId new = build_select(b, tired, shrunk, build_select(b, ripe, grown, old));
  step_result(s, RES_state, "scale", new);
  step_result(s, RES_state, "clean", build_select(b, ended, zero, kept));
  late = build_select(b, s->ok, zero, build_select(b, bad, row, late));
  step_result(s, RES_state, "hysteresis", late);
}

/* S as a number to look at, without its unit. */
void scaler_show(Step *s) {
  ValueId scale = scaler_scale(&s->b, s->entry);
  if (scale == NO_ID) return;
  Type per_scale = scale_type();
  per_scale.unit = unit_of_scales(1, -1);
  ValueId one = build_constant(&s->b, per_scale, 1);
  step_result(s, RES_gauge, "scale", build2(&s->b, OP_mul, scale, one));
}
