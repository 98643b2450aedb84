/* optimize.c: each step becomes a transaction (docs/precision.md, section 4).
 *
 *   N    total weight of the loss
 *   ok   every element of every gradient finite, and so the loss, the learning rate and every float
 *        state that was written before; no index out of range; N > 0
 *   g    k · gradient, with k = 1 / N computed once
 *   new  the optimizer's formula (optim_*.c)
 *   state result = commit(ok, new, old); `attempt` and `skipped` are exempt: a skipped step goes on
 *
 * N = 0 (a batch without weight) skips the step, but is nobody's fault: `skipped`, which counts
 * steps skipped in a row and ends the run at last, does not move.
 *
 * Adds states: for each parameter PATH its moments PATH:m, PATH:v (all of one suffix in a row: each
 * kind is one region of memory), then the counters step, attempt, skipped; their zeros to init.
 * Results grad give way to: state results, ok, and for each parameter nonfinite: the step was good,
 * yet what it made of the parameter or its moments is not finite.
 *
 * One loss and S = 1 for now; N_r and S enter in total_weight and build_scale.
 */
#include "passes/pass.h"

#include <math.h>
#include <string.h>

typedef struct Step {
  Builder b;
  PassCtx *c;
  uint32_t entry;
  const Optimizer *optimizer;
  ValueId ok, weight;             /* i1[], f32[]: N */
  ValueId lr, t, k;               /* f32[]: learning rate, number of the step from 1, 1 / N */
  ValueId step, attempt, skipped; /* i32[] arguments */
} Step;

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
  Text t = {.arena = g->arena};
  text_printf(&t, "%s:%s", param, suffix);
  return intern(g->strings, t.at, t.len);
}

static const char *name_of(Graph *g, const char *s) { return intern(g->strings, s, strlen(s)); }

/* ---- states -------------------------------------------------------------------------------- */

static void add_state(Graph *g, State s) {
  if (graph_state(g, s.path)) return;
  vec_push(g->arena, &g->states, s);
  int init = graph_entry_find(g, ENTRY_init);
  if (init < 0) return;
  Builder b = {.g = g, .block = g->entries.at[init].body, .loc = s.loc};
  graph_add_entry_result(g, (uint32_t)init, RES_state, s.path, build_constant(&b, s.type, 0),
                         s.loc);
}

static void add_moments(Graph *g, const Entry *e, const Optimizer *o) {
  for (int m = 0; m < 2; m++) {
    if (!keeps_moment(g, o, m)) continue;
    for (uint32_t i = 0; i < e->results.len; i++) {
      if (e->results.at[i].role != RES_grad) continue;
      const State *p = graph_state(g, e->results.at[i].name);
      add_state(g, (State){.path = moment_path(g, p->path, o->moment[m]),
                           .kind = STATE_moment,
                           .type = p->type,
                           .loc = p->loc,
                           .master = p->path});
    }
  }
}

static void add_counters(Graph *g, Loc loc) {
  static const char *const names[] = {"step", "attempt", "skipped"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    add_state(g, (State){.path = name_of(g, names[i]),
                         .kind = STATE_counter,
                         .type = type_scalar(DT_i32),
                         .loc = loc});
}

static ValueId argument(Step *s, ArgRole role, const char *name, Type t) {
  Graph *g = s->b.g;
  ValueId v = graph_entry_arg(g, s->entry, role, name);
  return v != NO_ID ? v : graph_add_entry_arg(g, s->entry, role, name_of(g, name), t, s->b.loc);
}

static ValueId state_argument(Step *s, const char *path) {
  return argument(s, ARG_state, path, graph_state(s->b.g, path)->type);
}

/* ---- the guard ----------------------------------------------------------------------------- */

static ValueId both(Step *s, ValueId x, ValueId y) { return build2(&s->b, OP_and, x, y); }

/* Rows first, each by one thread, then the row of rows. */
static ValueId all_true(Builder *b, ValueId v) {
  if (value_type(b->g, v).rank > 1) v = build_reduce_last(b, OP_reduce_and, v);
  return build_reduce_all(b, OP_reduce_and, v);
}

static ValueId all_finite(Builder *b, ValueId v) { return all_true(b, build1(b, OP_isfinite, v)); }

/* What the guard asks of one result that was there before, or NO_ID. */
static ValueId result_guard(Step *s, const Port *p, ValueId v) {
  bool is_float = dtype_kind[value_type(s->b.g, v).dtype] == 'f';
  switch ((ResRole)p->role) {
  case RES_grad:
  case RES_loss:
  case RES_state: return is_float ? all_finite(&s->b, v) : NO_ID;
  case RES_fault: return build1(&s->b, OP_not, v);
  default: return NO_ID;
  }
}

static ValueId result_at(const Step *s, uint32_t i) {
  const Graph *g = s->b.g;
  return g->blocks.at[g->entries.at[s->entry].body].results.at[i];
}

static Port port_at(const Step *s, uint32_t i) {
  return s->b.g->entries.at[s->entry].results.at[i];
}

static void build_guard(Step *s) {
  ValueId zero = build_constant(&s->b, type_scalar(DT_f32), 0);
  ValueId weighs = build2(&s->b, OP_gt, s->weight, zero);
  s->ok = both(s, weighs, all_finite(&s->b, s->lr));
  uint32_t n = s->b.g->entries.at[s->entry].results.len;
  for (uint32_t i = 0; i < n; i++) {
    Port p = port_at(s, i);
    ValueId good = result_guard(s, &p, result_at(s, i));
    if (good != NO_ID) s->ok = both(s, s->ok, good);
  }
}

/* ---- weight, learning rate, counters ------------------------------------------------------- */

static bool total_weight(Step *s) {
  Graph *g = s->b.g;
  s->weight = NO_ID;
  for (uint32_t i = 0; i < g->entries.at[s->entry].results.len; i++) {
    Port p = port_at(s, i);
    if (p.role != RES_loss) continue;
    if (s->weight != NO_ID) {
      diag_error(s->c->diag, p.loc, "a second loss in one step is not supported yet");
      return false;
    }
    ValueId w = graph_entry_result(g, s->entry, RES_weight, p.name);
    if (w == NO_ID) ice(g, NO_ID, "optimize: loss %s has no weight", p.name);
    s->weight = build_cast(&s->b, w, DT_f32);
  }
  return true;
}

/* k = 1 / N */
static void build_scale(Step *s) {
  ValueId one = build_constant(&s->b, type_scalar(DT_f32), 1);
  s->k = build2(&s->b, OP_div, one, s->weight);
}

static ValueId f32_constant(Step *s, double v) {
  return build_constant(&s->b, type_scalar(DT_f32), v);
}

/* lr + (lr_to - lr) · min(s / n, 1), s the steps done; a host's lr that is not NaN wins. */
static ValueId linear_schedule(Step *s, ValueId override) {
  const Train *t = &s->b.g->train;
  ValueId from = f32_constant(s, train_setting(t, AT_lr, 0));
  ValueId to = f32_constant(s, train_setting(t, AT_lr_to, 0));
  ValueId n = argument(s, ARG_hyper, "steps", type_scalar(DT_f32));
  ValueId done = build2(&s->b, OP_div, build_cast(&s->b, s->step, DT_f32), n);
  done = build2(&s->b, OP_min, done, f32_constant(s, 1));
  ValueId rise = build2(&s->b, OP_mul, build2(&s->b, OP_sub, to, from), done);
  ValueId lr = build2(&s->b, OP_add, from, rise);
  return build_select(&s->b, build2(&s->b, OP_ne, override, override), lr, override);
}

static void build_lr(Step *s) {
  s->lr = argument(s, ARG_hyper, "lr", type_scalar(DT_f32));
  if (has_setting(&s->b.g->train, AT_lr_to)) s->lr = linear_schedule(s, s->lr);
}

static void build_counters(Step *s) {
  s->step = state_argument(s, "step");
  s->attempt = state_argument(s, "attempt");
  s->skipped = state_argument(s, "skipped");
  ValueId one = build_constant(&s->b, type_scalar(DT_i32), 1);
  s->t = build_cast(&s->b, build2(&s->b, OP_add, s->step, one), DT_f32);
}

static void add_result(Step *s, ResRole role, const char *name, ValueId v) {
  graph_add_entry_result(s->b.g, s->entry, role, name_of(s->b.g, name), v, s->b.loc);
}

static ValueId commit(Step *s, ValueId new, ValueId old) {
  return build(&s->b, OP_commit, 3, (ValueId[]){s->ok, new, old}, 0, NULL);
}

static void commit_counters(Step *s) {
  ValueId one = build_constant(&s->b, type_scalar(DT_i32), 1), zero = build_like(&s->b, one, 0);
  ValueId idle = build2(&s->b, OP_eq, s->weight, f32_constant(s, 0));
  ValueId more = build2(&s->b, OP_add, s->skipped, one);
  ValueId skipped = build_select(&s->b, idle, s->skipped, build_select(&s->b, s->ok, zero, more));
  add_result(s, RES_state, "step", commit(s, build2(&s->b, OP_add, s->step, one), s->step));
  add_result(s, RES_state, "attempt", build2(&s->b, OP_add, s->attempt, one));
  add_result(s, RES_state, "skipped", skipped);
}

/* ---- parameters ---------------------------------------------------------------------------- */

static void load_moments(Step *s, Update *u, const char *path) {
  Graph *g = s->b.g;
  for (int m = 0; m < 2; m++) {
    u->old[m] = u->new[m] = NO_ID;
    if (keeps_moment(g, s->optimizer, m))
      u->old[m] = state_argument(s, moment_path(g, path, s->optimizer->moment[m]));
  }
}

/* One test for all that the update makes: an infinite v would hide behind a finite parameter. */
static void report_nonfinite(Step *s, const Update *u, const char *path) {
  ValueId finite = build1(&s->b, OP_isfinite, u->new_p);
  for (int m = 0; m < 2; m++)
    if (u->new[m] != NO_ID) finite = both(s, finite, build1(&s->b, OP_isfinite, u->new[m]));
  ValueId bad = build1(&s->b, OP_not, all_true(&s->b, finite));
  add_result(s, RES_nonfinite, path, both(s, s->ok, bad));
}

static void update_parameter(Step *s, const char *path, ValueId grad) {
  Graph *g = s->b.g;
  State p = *graph_state(g, path);
  s->b.loc = p.loc;
  Update u = {.b = s->b, .train = &g->train, .lr = s->lr, .t = s->t, .decay = !p.no_decay};
  u.p = state_argument(s, path);
  u.g = build2(&u.b, OP_mul, update_splat(&u, s->k), grad);
  load_moments(s, &u, path);
  s->optimizer->update(&u);
  add_result(s, RES_state, path, commit(s, u.new_p, u.p));
  for (int m = 0; m < 2; m++)
    if (u.new[m] != NO_ID)
      add_result(s, RES_state, moment_path(g, path, s->optimizer->moment[m]),
                 commit(s, u.new[m], u.old[m]));
  report_nonfinite(s, &u, path);
}

/* State that the forward pass wrote commits with the rest. */
static void commit_written(Step *s, uint32_t n) {
  Graph *g = s->b.g;
  for (uint32_t i = 0; i < n; i++) {
    Port p = port_at(s, i);
    const Node *def = value_node(g, result_at(s, i));
    if (p.role != RES_state || (def && def->op == OP_commit)) continue;
    ValueId v = commit(s, result_at(s, i), state_argument(s, p.name));
    g->blocks.at[g->entries.at[s->entry].body].results.at[i] = v;
  }
}

static void remove_gradients(Step *s) {
  Entry *e = &s->b.g->entries.at[s->entry];
  Block *body = &s->b.g->blocks.at[e->body];
  uint32_t kept = 0;
  for (uint32_t i = 0; i < e->results.len; i++) {
    if (e->results.at[i].role == RES_grad) continue;
    e->results.at[kept] = e->results.at[i];
    body->results.at[kept++] = body->results.at[i];
  }
  e->results.len = body->results.len = kept;
}

/* ---- the step ------------------------------------------------------------------------------ */

static void optimize_step(Graph *g, uint32_t entry, const Optimizer *o, PassCtx *c) {
  const Entry *e = &g->entries.at[entry];
  Step s = {.b = {.g = g, .block = e->body, .loc = g->train.optimizer_loc},
            .c = c,
            .entry = entry,
            .optimizer = o};
  uint32_t results = e->results.len;
  add_moments(g, e, o);
  add_counters(g, g->train.optimizer_loc);
  if (!total_weight(&s)) return;
  build_counters(&s);
  build_lr(&s);
  build_guard(&s);
  build_scale(&s);
  commit_written(&s, results);
  for (uint32_t i = 0; i < results; i++)
    if (port_at(&s, i).role == RES_grad)
      update_parameter(&s, port_at(&s, i).name, result_at(&s, i));
  s.b.loc = g->train.optimizer_loc;
  commit_counters(&s);
  add_result(&s, RES_ok, "ok", s.ok);
  remove_gradients(&s);
}

static void add_hypers(Graph *g) {
  const Train *t = &g->train;
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
           (Hyper){.name = name_of(g, "steps"), .value = (double)t->steps, .shown = steps.at});
  vec_push(g->arena, &g->hypers,
           (Hyper){.name = name_of(g, "lr"), .value = scheduled ? NAN : lr, .shown = shown.at});
}

static const Optimizer *chosen_optimizer(const Graph *g, const Entry *step, PassCtx *c) {
  const Train *t = &g->train;
  if (!t->optimizer) {
    diag_error(c->diag, step->loc, "nothing updates the parameters: train has no optimizer");
    return NULL;
  }
  const Optimizer *o = find_optimizer(t->optimizer);
  if (!o) diag_error(c->diag, t->optimizer_loc, "unknown optimizer `%s`", t->optimizer);
  else if (!has_setting(t, AT_lr))
    diag_error(c->diag, t->optimizer_loc, "optimizer `%s` has no learning rate `lr`", t->optimizer);
  return o && has_setting(t, AT_lr) ? o : NULL;
}

bool pass_optimize(Graph *g, PassCtx *c) {
  const Optimizer *o = NULL;
  for (uint32_t i = 0; i < g->entries.len; i++) {
    if (g->entries.at[i].kind != ENTRY_step) continue;
    if (!o && !(o = chosen_optimizer(g, &g->entries.at[i], c))) return false;
    optimize_step(g, i, o, c);
  }
  if (o) add_hypers(g);
  return o != NULL;
}
