/* optimizers.c: optimizers that the compiler knows by name (optim_*.c), for parameters that have no
 * entry of kind `update`.  Adds for each parameter PATH its moments PATH:m, PATH:v, and the
 * hyperparameters lr and steps.
 */
#include "passes/pass.h"

#include <math.h>
#include <string.h>

static const Optimizer *const optimizers[] = {&optim_sgd, &optim_adam, &optim_adamw};

double train_setting(const Train *t, AttrKey key, double otherwise) {
  for (uint32_t i = 0; i < t->settings.len; i++)
    if (t->settings.at[i].key == key) return t->settings.at[i].f;
  return otherwise;
}

static bool has_setting(const Train *t, AttrKey key) { return !isnan(train_setting(t, key, NAN)); }

ValueId update_constant(Update *u, double value) { return build_like(&u->b, u->p, value); }

ValueId update_splat(Update *u, ValueId scalar) {
  return build_splat(&u->b, scalar, value_type(u->b.g, u->p));
}

static const Optimizer *find_optimizer(const char *name) {
  for (size_t i = 0; i < sizeof optimizers / sizeof *optimizers; i++)
    if (!strcmp(optimizers[i]->name, name)) return optimizers[i];
  return NULL;
}

static bool keeps_moment(const Graph *g, const Optimizer *o, int i) {
  return o->moment[i] && (!o->keeps || o->keeps(&g->train, i));
}

static const char *moment_path(Graph *g, const char *param, const char *suffix) {
  return states_name(g, arena_printf(g->arena, "%s:%s", param, suffix));
}

void optimizer_add_moments(Step *s) {
  Graph *g = s->b.g;
  const Optimizer *o = s->optimizer;
  for (int m = 0; o && m < 2; m++) {
    if (!keeps_moment(g, o, m)) continue;
    for (uint32_t i = 0; i < s->grads.len; i++) {
      const State *p = graph_state(g, s->grads.at[i].path);
      State moment = {.path = moment_path(g, p->path, o->moment[m]),
                      .kind = STATE_moment,
                      .type = p->type,
                      .loc = p->loc,
                      .master = p->path};
      states_add(g, moment, 0);
    }
  }
}

/* lr + (lr_to - lr) · min(s / n, 1), s the steps done; a host's lr that is not NaN wins. */
static ValueId linear_schedule(Step *s, ValueId override, ValueId n) {
  const Train *t = &s->b.g->train;
  Builder *b = &s->b;
  Type f32 = type_scalar(DT_f32);
  ValueId from = build_constant(b, f32, train_setting(t, AT_lr, 0));
  ValueId to = build_constant(b, f32, train_setting(t, AT_lr_to, 0));
  ValueId done = build2(b, OP_div, build_cast(b, step_state(s, "step"), DT_f32), n);
  done = build2(b, OP_min, done, build_constant(b, f32, 1));
  ValueId rise = build2(b, OP_mul, build2(b, OP_sub, to, from), done);
  ValueId lr = build2(b, OP_add, from, rise);
  return build_select(b, build2(b, OP_ne, override, override), lr, override);
}

static ValueId hyper_argument(Step *s, const char *name) {
  Graph *g = s->b.g;
  return graph_add_entry_arg(g, s->entry, ARG_hyper, states_name(g, name), type_scalar(DT_f32),
                             s->b.loc);
}

/* The learning rate of this step, a result that the guard looks at. */
void optimizer_add_hypers(Step *s) {
  if (!s->optimizer) return;
  ValueId lr = hyper_argument(s, "lr");
  if (has_setting(&s->b.g->train, AT_lr_to))
    lr = linear_schedule(s, lr, hyper_argument(s, "steps"));
  step_result(s, RES_hyper, "lr", lr);
}

void optimizer_update(Step *s, const char *path, ValueId mean, ValueIds *made) {
  Graph *g = s->b.g;
  State p = *graph_state(g, path);
  Builder *b = &s->b;
  ValueId one = build_constant(b, type_scalar(DT_i32), 1);
  ValueId t = build2(b, OP_add, step_state(s, "step"), one);
  Update u = {.b = *b, .train = &g->train, .decay = !p.no_decay, .g = mean};
  u.t = build_cast(b, t, DT_f32);
  u.lr = graph_entry_result(g, s->entry, RES_hyper, "lr");
  u.p = step_state(s, path);
  for (int m = 0; m < 2; m++)
    u.old[m] = keeps_moment(g, s->optimizer, m)
                   ? step_state(s, moment_path(g, path, s->optimizer->moment[m]))
                   : NO_ID;
  u.new[0] = u.new[1] = NO_ID;
  s->optimizer->update(&u);
  step_result(s, RES_state, path, step_commit(s, u.new_p, u.p));
  vec_push(s->c->arena, made, u.new_p);
  for (int m = 0; m < 2; m++) {
    if (u.new[m] == NO_ID) continue;
    step_result(s, RES_state, moment_path(g, path, s->optimizer->moment[m]),
                step_commit(s, u.new[m], u.old[m]));
    vec_push(s->c->arena, made, u.new[m]);
  }
}

static void declare_hypers(Graph *g) {
  const Train *t = &g->train;
  for (uint32_t i = 0; i < g->hypers.len; i++)
    if (!strcmp(g->hypers.at[i].name, "lr")) return;
  double lr = train_setting(t, AT_lr, 0);
  bool scheduled = has_setting(t, AT_lr_to);
  Text steps = {.arena = g->arena}, shown = {.arena = g->arena};
  if (t->steps) text_printf(&steps, "%lld", (long long)t->steps);
  else if (t->epochs)
    text_printf(&steps, "%lld epoch%s", (long long)t->epochs, &"s"[t->epochs == 1]);
  else text_add(&steps, "not given");
  text_add(&shown, scheduled ? "linear(" : "");
  text_double(&shown, lr);
  if (scheduled) text_add(&shown, ", to: "), text_double(&shown, train_setting(t, AT_lr_to, 0));
  text_add(&shown, scheduled ? ")" : "");
  vec_push(g->arena, &g->hypers,
           (Hyper){.name = states_name(g, "steps"), .value = (double)t->steps, .shown = steps.at});
  vec_push(g->arena, &g->hypers,
           (Hyper){.name = states_name(g, "lr"), .value = scheduled ? NAN : lr, .shown = shown.at});
}

/* NULL: every parameter has its own update, or an error was reported. */
const Optimizer *optimizer_chosen(Graph *g, Loc step, PassCtx *c) {
  const Train *t = &g->train;
  for (uint32_t i = 0; i < g->entries.len; i++)
    if (g->entries.at[i].kind == ENTRY_update) return NULL;
  if (!t->optimizer) {
    diag_error(c->diag, step, "nothing updates the parameters: train has no optimizer");
    return NULL;
  }
  const Optimizer *o = find_optimizer(t->optimizer);
  if (!o) diag_error(c->diag, t->optimizer_loc, "unknown optimizer `%s`", t->optimizer);
  else if (!has_setting(t, AT_lr))
    diag_error(c->diag, t->optimizer_loc, "optimizer `%s` has no learning rate `lr`", t->optimizer);
  if (!o || !has_setting(t, AT_lr)) return NULL;
  declare_hypers(g);
  return o;
}
