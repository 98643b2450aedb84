/* step_update.c: new values of a parameter and its moments, and their commits.
 *
 * What they are says the parameter's entry of kind `update`, which the frontend made of the
 * optimizer: pure, on the unscaled mean gradient.  It is copied into the step with its arguments
 * bound to the step's own values; what it gives commits under `ok`.
 *
 * A step may be good and its update not finite, an infinite second moment, say, behind a finite
 * parameter.  That is past repair, for old and new value share their place in memory: `nonfinite`
 * tells the runtime, which refuses to go on or to save.
 */
#include "passes/pass.h"

#include <string.h>

static int find_update(const Graph *g, const char *path) {
  for (uint32_t i = 0; i < g->entries.len; i++) {
    const Entry *e = &g->entries.at[i];
    if (e->kind == ENTRY_update && graph_entry_arg(g, i, ARG_grad, path) != NO_ID) return (int)i;
  }
  return -1;
}

static ValueId hyper_value(Step *s, const Port *p) {
  ValueId v = graph_entry_result(s->b.g, s->entry, RES_hyper, p->name);
  if (v == NO_ID)
    diag_error(s->c->diag, p->loc, "the step does not say what the hyperparameter `%s` is",
               p->name);
  return v;
}

/* The value of the step that an argument of an update stands for; NO_ID: an error. */
static ValueId bound_value(Step *s, const Port *p, ValueId mean) {
  switch ((ArgRole)p->role) {
  case ARG_state: return step_state(s, p->name);
  case ARG_grad: return mean;
  case ARG_hyper: return hyper_value(s, p);
  default: break;
  }
  diag_error(s->c->diag, p->loc, "an update cannot read the %s `%s`", arg_role_name[p->role],
             p->name);
  return NO_ID;
}

/* By value of the graph: what the update's arguments and nodes are in the step.  NULL: an error. */
static const ValueId *copy_update(Step *s, uint32_t update, ValueId mean) {
  Graph *g = s->b.g;
  uint32_t errors = s->c->diag->errors;
  ValueId *map = NEW_ARRAY(s->c->arena, ValueId, g->values.len);
  BlockId body = g->entries.at[update].body;
  for (uint32_t i = 0; i < g->values.len; i++) map[i] = NO_ID;
  for (uint32_t i = 0; i < g->entries.at[update].args.len; i++) {
    Port p = g->entries.at[update].args.at[i];
    ValueId argument = g->blocks.at[body].args.at[i];
    map[argument] = bound_value(s, &p, mean);
  }
  if (s->c->diag->errors != errors) return NULL;
  for (uint32_t i = 0; i < g->blocks.at[body].nodes.len; i++)
    graph_copy_node(g, g->blocks.at[body].nodes.at[i], s->b.block, map);
  return map;
}

static ValueId mean_gradient(Step *s, const StepGrad *grad) {
  ValueId factor = s->units.at[grad->unit].factor;
  ValueId k = build_splat(&s->b, factor, value_type(s->b.g, grad->value));
  return build2(&s->b, OP_mul, k, grad->value);
}

/* One test for all that the update makes; what has other dims than the parameter is tested alone.
 */
static void report_nonfinite(Step *s, const char *path, const ValueIds *made) {
  ValueId finite = NO_ID, all = NO_ID;
  Type dims = graph_state(s->b.g, path)->type;
  for (uint32_t i = 0; i < made->len; i++) {
    ValueId v = build1(&s->b, OP_isfinite, made->at[i]);
    ValueId *to = type_same_dims(value_type(s->b.g, v), dims) ? &finite : &all;
    if (to == &all) v = step_all_true(&s->b, v);
    *to = *to == NO_ID ? v : build2(&s->b, OP_and, *to, v);
  }
  if (finite != NO_ID) finite = step_all_true(&s->b, finite);
  if (finite == NO_ID || all == NO_ID) finite = finite == NO_ID ? all : finite;
  else finite = build2(&s->b, OP_and, finite, all);
  if (finite == NO_ID) return;
  ValueId bad = build1(&s->b, OP_not, finite);
  step_result(s, RES_nonfinite, path, build2(&s->b, OP_and, s->ok, bad));
}

static void commit_update(Step *s, uint32_t update, const char *path, const ValueId *map) {
  Graph *g = s->b.g;
  ValueIds made = {0};
  ValueId weight = NO_ID;
  for (uint32_t i = 0; i < g->entries.at[update].results.len; i++) {
    Port p = g->entries.at[update].results.at[i];
    ValueId new = map[g->blocks.at[g->entries.at[update].body].results.at[i]];
    if (p.role != RES_state) continue;
    new = step_round(s, p.name, new);
    step_result(s, RES_state, p.name, step_commit(s, new, step_state(s, p.name)));
    if (graph_state(g, p.name)->kind == STATE_param) weight = new;
    if (value_is_float(g, new)) vec_push(s->c->arena, &made, new);
  }
  report_nonfinite(s, path, &made);
  if (weight != NO_ID) step_meter(s, weight, step_state(s, path));
}

void step_update(Step *s, const StepGrad *grad) {
  int update = find_update(s->b.g, grad->path);
  s->b.loc = graph_state(s->b.g, grad->path)->loc;
  if (update < 0) {
    diag_error(s->c->diag, s->b.loc, "nothing updates %s: no optimizer is given for it",
               grad->path);
    return;
  }
  const ValueId *map = copy_update(s, (uint32_t)update, mean_gradient(s, grad));
  if (map) commit_update(s, (uint32_t)update, grad->path, map);
  s->b.loc = s->loc;
}
