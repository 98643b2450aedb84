/* step_amax.c: the slots of fp8(delayed): what a step does with the largest |x| it saw
 * (docs/precision.md, fp8), once, behind all micro-batches and iterations.
 *
 *   staged = max(h[0], amax)            m = max(staged, h[1 …])
 *   nobody ran it (staged = 0):         everything stays
 *   else h rolls:                       h[i] = h[i+1], h[L-1] = staged, h[0] = 0
 *   scale = 2^-margin · FMAX / m        at most FLT_MAX
 *
 * Both states commit under the step's `ok`, which an amax that is not finite clears: one such step
 * freezes one step.  (Transformer Engine's DelayedScaling lets it into the history, where it
 * freezes the scale for L.)  Histories hold values without the loss scale, so that it may change.
 *
 * A calibration is an entry of its own, which the runtime runs before the first step: it does the
 * same with the amax of a batch, and counts itself in the state `calibrated`.
 */
#include "passes/pass.h"

#include <float.h>
#include <math.h>
#include <string.h>

static const char *slot_path(Graph *g, const char *slot, const char *what) {
  return states_name(g, arena_printf(g->arena, "%s.%s", slot, what));
}

void step_add_slot(Graph *g, const char *name, DType type, Loc loc) {
  int64_t length = (int64_t)g->train.delayed.history;
  if (graph_slot(g, name)) return;
  vec_push(g->arena, &g->slots, (Fp8Slot){name, type, loc});
  State s = {.path = slot_path(g, name, "history"), .kind = STATE_counter, .loc = loc};
  s.type = type_make(DT_f32, 1, &length);
  states_add(g, s, 0);
  s.path = slot_path(g, name, "scale");
  s.type = type_scalar(DT_f32);
  states_add(g, s, 1);
}

ValueId step_slot_state(Graph *g, uint32_t entry, const char *slot, const char *what, Loc loc) {
  return states_argument(g, entry, slot_path(g, slot, what), loc);
}

/* ---- update ---------------------------------------------------------------------------------- */

/* h[first …] of `size` places. */
static ValueId places(Builder *b, ValueId h, int64_t first, int64_t size) {
  return build_part(b, h, 0, first, size);
}

static ValueId roll(Builder *b, ValueId h, ValueId staged) {
  Type t = value_type(b->g, h), one = t;
  one.dim[0] = 1;
  if (t.dim[0] == 1) return build_like(b, h, 0);
  ValueId zero = build_constant(b, one, 0), last = build_reshape(b, staged, one);
  if (t.dim[0] == 2) return build_concat(b, 2, (ValueId[]){zero, last}, 0);
  ValueId kept = places(b, h, 2, t.dim[0] - 2);
  return build_concat(b, 3, (ValueId[]){zero, kept, last}, 0);
}

static ValueId fitting(Builder *b, const Fp8Slot *slot, ValueId m) {
  double most = ldexp(fp8_largest(slot->type), -(int)b->g->train.delayed.margin);
  ValueId scale = build2(b, OP_div, build_like(b, m, most), m);
  return build2(b, OP_min, scale, build_like(b, m, FLT_MAX));
}

static void update_slot(Step *s, const char *name, ValueId amax) {
  Builder *b = &s->b;
  const Fp8Slot slot = *graph_slot(b->g, name);
  b->loc = slot.loc;
  ValueId h = step_slot_state(b->g, s->entry, name, "history", b->loc);
  ValueId scale = step_slot_state(b->g, s->entry, name, "scale", b->loc);
  ValueId first = build_reshape(b, places(b, h, 0, 1), type_scalar(DT_f32));
  ValueId staged = build2(b, OP_max, first, amax);
  ValueId m = build2(b, OP_max, staged, build_reduce_all(b, OP_reduce_max, h));
  ValueId ran = build2(b, OP_gt, staged, build_like(b, staged, 0));
  ValueId rolled = build_select(b, build_splat(b, ran, value_type(b->g, h)), roll(b, h, staged), h);
  ValueId fits = build_select(b, ran, fitting(b, &slot, m), scale);
  step_result(s, RES_state, slot_path(b->g, name, "history"), step_commit(s, rolled, h));
  step_result(s, RES_state, slot_path(b->g, name, "scale"), step_commit(s, fits, scale));
  b->loc = s->loc;
}

void step_amax(Step *s) {
  for (uint32_t i = 0; i < s->results; i++) {
    Port p = step_port(s, i);
    if (p.role == RES_amax) update_slot(s, p.name, step_value(s, i));
  }
}

/* ---- calibration ----------------------------------------------------------------------------- */

void step_calibrate(Graph *g, uint32_t entry, PassCtx *c) {
  const Entry *e = &g->entries.at[entry];
  Step s = {.b = {.g = g, .block = e->body, .loc = e->loc}, .c = c, .entry = entry, .loc = e->loc};
  State counter = {.path = "calibrated", .kind = STATE_counter, .loc = s.loc};
  counter.type = type_scalar(DT_i32);
  states_add(g, counter, 0);
  s.results = e->results.len;
  s.ok = build_constant(&s.b, type_scalar(DT_i1), 1);
  step_guard_results(&s);
  step_amax(&s);
  ValueId done = step_state(&s, "calibrated");
  ValueId more = build2(&s.b, OP_add, done, build_like(&s.b, done, 1));
  step_result(&s, RES_state, "calibrated", step_commit(&s, more, done));
  step_result(&s, RES_ok, "ok", s.ok);
  step_remove_used(&s);
}
