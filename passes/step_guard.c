/* step_guard.c: may the step commit?  (docs/precision.md, section 4.)
 *
 *   clean   every element of every gradient is finite
 *   ok      clean, and the norm, every loss, hyperparameter and float state that the step wrote
 * before the update are finite, the weights are sound and not all 0, no index was out of range
 *
 * The norm is infinite where Σ (c·g)² is, and NaN where S·N is infinite, which would make k 0.
 *
 * One pass over each gradient finds both its flag, from the elements, and its part of the norm.
 * Both come from x = c·g, which is finite exactly where g is, as c is a power of two of moderate
 * size: what reads one value becomes one kernel.  Rows first, each by one thread, then the row of
 * rows. The parts are added in the order of the paths.
 *
 * What was tested is a result of its own, `finite`: "loss:NAME", "state:PATH", "hyper:NAME",
 * "amax:SLOT", then "grad:PATH" in the order of the backward pass, "grad_norm".  A run that does
 * not get on can say which tensor was the first.
 */
#include "passes/pass.h"

#include <string.h>

static ValueId both(Step *s, ValueId x, ValueId y) {
  return x == NO_ID ? y : build2(&s->b, OP_and, x, y);
}

ValueId step_all_true(Builder *b, ValueId v) { return build_reduce_rows(b, OP_reduce_and, v); }

/* Is v finite?  The answer is a result of the step. */
static ValueId test(Step *s, const char *kind, const char *name, ValueId v) {
  char *text = arena_printf(s->c->arena, "%s%s%s", kind, name ? ":" : "", name ? name : "");
  ValueId finite = step_all_true(&s->b, build1(&s->b, OP_isfinite, v));
  step_result(s, RES_finite, text, finite);
  return finite;
}

/* ---- gradients ----------------------------------------------------------------------------- */

/* The part whose path comes next behind `last`; NULL is before all. */
static const StepGrad *next_path(const Step *s, const StepGrad *last) {
  const StepGrad *next = NULL;
  for (uint32_t i = 0; i < s->grads.len; i++) {
    const StepGrad *g = &s->grads.at[i];
    if (last && strcmp(g->path, last->path) <= 0) continue;
    if (!next || strcmp(g->path, next->path) < 0) next = g;
  }
  return next;
}

/* The last parameter of the forward pass is the first of the backward pass. */
static void guard_gradients(Step *s) {
  s->clean = NO_ID;
  for (uint32_t i = s->grads.len; i-- > 0;) {
    StepGrad *g = &s->grads.at[i];
    s->b.loc = g->loc;
    ValueId c = s->units.at[g->unit].exact;
    ValueId exact = build_splat(&s->b, c, value_type(s->b.g, g->value));
    ValueId x = build2(&s->b, OP_mul, exact, g->value);
    g->finite = test(s, "grad", g->path, x);
    s->clean = both(s, s->clean, g->finite);
    g->squares = build_reduce_rows(&s->b, OP_sum, build2(&s->b, OP_mul, x, x));
  }
  s->b.loc = s->loc;
  ValueId squares = NO_ID;
  for (const StepGrad *g = NULL; (g = next_path(s, g));)
    squares = squares == NO_ID ? g->squares : build2(&s->b, OP_add, squares, g->squares);
  if (squares == NO_ID) squares = build_constant(&s->b, type_scalar(DT_f32), 0);
  if (s->clean != NO_ID) s->ok = both(s, s->ok, s->clean);
  step_norm(s, squares);
  s->ok = both(s, s->ok, test(s, "grad_norm", NULL, s->norm));
}

/* ---- everything else ----------------------------------------------------------------------- */

/* What the guard asks of a result that was there before, or NO_ID. */
static ValueId result_guard(Step *s, const Port *p, ValueId v) {
  bool is_float = value_is_float(s->b.g, v);
  s->b.loc = p->loc;
  switch ((ResRole)p->role) {
  case RES_loss: return is_float ? test(s, "loss", p->name, v) : NO_ID;
  case RES_state: return is_float ? test(s, "state", p->name, v) : NO_ID;
  case RES_hyper: return test(s, "hyper", p->name, v);
  case RES_amax: return test(s, "amax", p->name, v);
  case RES_fault: return build1(&s->b, OP_not, v);
  default: return NO_ID;
  }
}

void step_guard_results(Step *s) {
  for (uint32_t i = 0; i < s->results; i++) {
    Port p = step_port(s, i);
    ValueId good = result_guard(s, &p, step_value(s, i));
    if (good != NO_ID) s->ok = both(s, s->ok, good);
  }
}

void step_guard(Step *s) {
  s->ok = s->weighs;
  step_guard_results(s);
  guard_gradients(s);
}
