/* step_count.c: the counters of a step.
 *
 *   step     committed updates; commits with the rest
 *   attempt  batches tried: a skipped step goes on to fresh draws and fresh data, so it cannot
 * repeat for ever skipped  steps skipped in a row, which ends the run at last; a batch without
 * weight is nobody's fault and leaves it alone
 *   saturated:SLOT, underflow:SLOT   what casts to fp8 did, of skipped steps too; modulo 2^32
 */
#include "passes/pass.h"

#include <string.h>

void step_add_counters(Graph *g, Loc loc) {
  static const char *const names[] = {"step", "attempt", "skipped"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    states_add(
        g,
        (State){.path = names[i], .kind = STATE_counter, .type = type_scalar(DT_i32), .loc = loc},
        0);
}

/* Counts of `what`, each to its counter; what this step counted in all is a gauge. */
static void add_counts(Step *s, const char *what) {
  Builder *b = &s->b;
  ValueId total = NO_ID;
  for (uint32_t i = 0; i < s->results; i++) {
    Port p = step_port(s, i);
    if (p.role != RES_count || strncmp(p.name, what, strlen(what))) continue;
    ValueId count = step_value(s, i);
    State counter = {.path = p.name, .kind = STATE_counter, .loc = p.loc};
    counter.type = type_scalar(DT_i32);
    states_add(b->g, counter, 0);
    step_result(s, RES_state, p.name, build2(b, OP_add, step_state(s, p.name), count));
    total = total == NO_ID ? count : build2(b, OP_add, total, count);
  }
  if (total != NO_ID) step_result(s, RES_gauge, what, build_cast(b, total, DT_f32));
}

void step_add_counts(Step *s) {
  add_counts(s, "saturated");
  add_counts(s, "underflow");
}

void step_count(Step *s) {
  Builder *b = &s->b;
  ValueId step = step_state(s, "step"), attempt = step_state(s, "attempt");
  ValueId skipped = step_state(s, "skipped");
  ValueId one = build_constant(b, type_scalar(DT_i32), 1), zero = build_like(b, one, 0);
  ValueId more = build2(b, OP_add, skipped, one);
  skipped = build_select(b, s->idle, skipped, build_select(b, s->ok, zero, more));
  step_result(s, RES_state, "step", step_commit(s, build2(b, OP_add, step, one), step));
  step_result(s, RES_state, "attempt", build2(b, OP_add, attempt, one));
  step_result(s, RES_state, "skipped", skipped);
}
