/* step_scale.c: how large a gradient is, and by what it is multiplied before the optimizer sees it
 * (docs/precision.md, section 4).
 *
 *   N     the least weight > 0 of the losses; 1 where all are 0, so that nothing divides by 0
 *   S     the loss scale of the gradient, 1 without a scaler; D, c and k are of each that occurs
 *   D     S·N: the backward pass leaves g = D·ĝ, ĝ the gradient of the sum of the mean losses
 *   c     2^-⌊log2 D⌋: exact, so that c·g rounds nothing, and as large as ĝ to a factor of two, so
 *         that its square overflows only where ĝ's does
 *   norm  sqrt(Σ (c·g)²) / (c·D) = ‖ĝ‖
 *   k     min(1, clip / norm) / D: k·g is what the optimizer sees
 *
 * With S a power of two neither norm nor k·g depend on it, to the last bit: c·D is the significand
 * of N, whatever S is.
 */
#include "passes/pass.h"

static ValueId number(Step *s, double v) { return build_constant(&s->b, type_scalar(DT_f32), v); }

/* Weight `name` of the loss, f32[]: is it finite and not below 0?  Is it 0? */
static void weigh(Step *s, const char *name, ValueId n) {
  ValueId zero = number(s, 0), none = build2(&s->b, OP_eq, n, zero);
  ValueId finite = build1(&s->b, OP_isfinite, n), positive = build2(&s->b, OP_ge, n, zero);
  ValueId sound = build2(&s->b, OP_and, finite, positive);
  step_result(s, RES_finite, arena_printf(s->c->arena, "weight:%s", name), sound);
  s->weighs = s->weighs == NO_ID ? sound : build2(&s->b, OP_and, s->weighs, sound);
  s->idle = s->idle == NO_ID ? none : build2(&s->b, OP_and, s->idle, none);
}

static ValueIds weigh_losses(Step *s) {
  Graph *g = s->b.g;
  ValueIds weights = {0};
  s->idle = s->weighs = NO_ID;
  for (uint32_t i = 0; i < s->results; i++) {
    Port p = step_port(s, i);
    if (p.role != RES_loss) continue;
    ValueId w = graph_entry_result(g, s->entry, RES_weight, p.name);
    if (w == NO_ID) ice(g, NO_ID, "optimize: loss %s has no weight", p.name);
    s->b.loc = p.loc;
    w = build_cast(&s->b, w, DT_f32);
    vec_push(s->c->arena, &weights, w);
    weigh(s, p.name, w);
  }
  s->b.loc = s->loc;
  s->weighs = build2(&s->b, OP_and, s->weighs, build1(&s->b, OP_not, s->idle));
  return weights;
}

void step_weigh(Step *s) {
  ValueIds weights = weigh_losses(s);
  ValueId least = build_least_positive(&s->b, weights.len, weights.at);
  least = build_select(&s->b, s->idle, number(s, 1), least);
  for (uint32_t i = 0; i < s->units.len; i++) {
    StepUnit *u = &s->units.at[i];
    ValueId scale = scaler_least(&s->b, s->entry, u->scales);
    u->divisor = scale == NO_ID ? least : build2(&s->b, OP_mul, scale, least);
    ValueId power = build1(&s->b, OP_floor_pow2, u->divisor);
    u->exact = build2(&s->b, OP_div, number(s, 1), power);
  }
}

void step_norm(Step *s, ValueId squares) {
  ValueId root = build1(&s->b, OP_sqrt, squares);
  const StepUnit *u = &s->units.at[0];
  s->norm = build2(&s->b, OP_div, root, build2(&s->b, OP_mul, u->exact, u->divisor));
}

void step_factor(Step *s) {
  double clip = s->b.g->train.clip;
  ValueId most = number(s, 1);
  if (clip > 0) {
    ValueId fits = build2(&s->b, OP_div, number(s, clip), s->norm);
    most = build2(&s->b, OP_min, most, fits);
  }
  for (uint32_t i = 0; i < s->units.len; i++)
    s->units.at[i].factor = build2(&s->b, OP_div, most, s->units.at[i].divisor);
}
