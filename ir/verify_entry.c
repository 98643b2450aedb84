/* verify_entry.c: what holds of states, of entries and their ports, and of the transaction that a
 * step is: rules 11 to 20 of the list on top of verify.c.
 *
 * All are about names (of states, hyperparameters, losses) that must lead to what they say, and
 * about who may write what: a step writes a state only through a commit under its one `ok`.
 */
#include "ir/verify.h"

#include <string.h>

static const char *const exempt[] = {"attempt", "skipped",
                                     "saturated:", "underflow:"}; /* NAME: of each slot */
static const char *const of_scaler[] = {"scale", "clean", "hysteresis"};

/* ---- states: 11, 12 ------------------------------------------------------------------------- */

void verify_index_states(Verifier *v) {
  const Graph *g = v->g;
  v->states = (NameTable){.arena = &v->scratch};
  for (uint32_t i = 0; i < g->states.len; i++)
    if (g->states.at[i].path) names_add(&v->states, 0, g->states.at[i].path, i);
}

static const State *find_state(const Verifier *v, const char *path) {
  uint32_t i = path ? names_find(&v->states, 0, path) : NO_NAME;
  return i == NO_NAME ? NULL : &v->g->states.at[i];
}

bool verify_state(Verifier *v, const State *s) {
  if (!s->path || !*s->path) return verify_report(v, s->loc, NO_ID, "a state without a path");
  if (find_state(v, s->path) != s)
    return verify_report(v, s->loc, NO_ID, "a second state \"%s\"", s->path);
  if (!verify_type(v, s->type, s->loc, NO_ID)) return false;
  if (s->type.unit && !state_is_scale(v->g, s))
    return verify_report(v, s->loc, NO_ID, "state \"%s\" carries the loss scale", s->path);
  if (s->kind != STATE_moment && s->kind != STATE_derived && s->kind != STATE_part) return true;
  const State *master = find_state(v, s->master);
  if (s->kind == STATE_part && master && master->store != STORE_split)
    return verify_report(v, s->loc, NO_ID, "\"%s\" is a part of a parameter that is not split",
                         s->path);
  return (master && master->kind == STATE_param) ||
         verify_report(v, s->loc, NO_ID, "state \"%s\" must name a parameter as its master",
                       s->path);
}

/* ---- entries: 13 to 17 ---------------------------------------------------------------------- */

static bool is_scalar(Type t, char kind) { return t.rank == 0 && dtype_kind[t.dtype] == kind; }
static bool is_number(Type t) { return t.rank == 0 && dtype_kind[t.dtype] != 'b'; }

static bool check_state_port(Verifier *v, const Port *p, Type t) {
  const State *s = find_state(v, p->name);
  if (!s) return verify_report(v, p->loc, NO_ID, "there is no state \"%s\"", p->name);
  if (s->store == STORE_split)
    return verify_report(v, p->loc, NO_ID, "parameter \"%s\" is kept in parts: it has no place",
                         p->name);
  return type_equal(s->type, t) ||
         verify_report(v, p->loc, NO_ID, "state \"%s\" has another type", p->name);
}

static bool check_hyper(Verifier *v, const Port *p, Type t) {
  bool found = false;
  for (uint32_t i = 0; i < v->g->hypers.len; i++)
    found |= !strcmp(v->g->hypers.at[i].name, p->name);
  if (!found) return verify_report(v, p->loc, NO_ID, "there is no hyperparameter \"%s\"", p->name);
  return type_equal(t, type_scalar(DT_f32)) ||
         verify_report(v, p->loc, NO_ID, "a hyperparameter must be f32[]");
}

static bool check_grad(Verifier *v, const Port *p, Type t) {
  const State *s = find_state(v, p->name);
  if (!s || s->kind != STATE_param)
    return verify_report(v, p->loc, NO_ID, "there is no parameter \"%s\"", p->name);
  if (t.unit && !unit_scales(t.unit))
    return verify_report(v, p->loc, NO_ID, "the gradient of \"%s\" must carry one loss scale, once",
                         p->name);
  return (t.dtype == DT_f32 && t.rows < 0 && type_same_dims(t, s->type)) ||
         verify_report(v, p->loc, NO_ID, "the gradient of \"%s\" must have its dims, in f32",
                       p->name);
}

static bool check_arg(Verifier *v, const Port *p, Type t) {
  switch ((ArgRole)p->role) {
  case ARG_input: return true;
  case ARG_state: return check_state_port(v, p, t);
  case ARG_seed:
    return is_scalar(t, 'i') ||
           verify_report(v, p->loc, NO_ID, "a seed must be an integer of rank 0");
  case ARG_grad: return check_grad(v, p, t);
  case ARG_draw:
    return type_equal(t, type_scalar(DT_i32)) ||
           verify_report(v, p->loc, NO_ID, "a draw must be i32[]");
  case ARG_hyper: return check_hyper(v, p, t);
  }
  return false;
}
static bool has_result(const Entry *e, ResRole role, const char *name) {
  for (uint32_t i = 0; i < e->results.len; i++)
    if (e->results.at[i].role == role && (!name || !strcmp(e->results.at[i].name, name)))
      return true;
  return false;
}

static bool check_result(Verifier *v, const Port *p, Type t) {
  const State *s = p->role == RES_state ? find_state(v, p->name) : NULL;
  if (t.unit && p->role != RES_grad && !(s && state_is_scale(v->g, s)))
    return verify_report(v, p->loc, NO_ID, "%s \"%s\" leaves the entry with the loss scale",
                         res_role_name[p->role], p->name);
  switch ((ResRole)p->role) {
  case RES_state: return check_state_port(v, p, t);
  case RES_grad: return check_grad(v, p, t);
  case RES_value: return true;
  case RES_loss:
    if (!has_result(v->entry, RES_weight, p->name))
      return verify_report(v, p->loc, NO_ID, "loss \"%s\" has no weight", p->name);
    break;
  case RES_nonfinite:
    if (!find_state(v, p->name))
      return verify_report(v, p->loc, NO_ID, "there is no state \"%s\"", p->name);
    return is_scalar(t, 'b') || verify_report(v, p->loc, NO_ID, "nonfinite must be i1[]");
  case RES_ok:
  case RES_fault:
  case RES_finite:
    return is_scalar(t, 'b') ||
           verify_report(v, p->loc, NO_ID, "%s must be i1[]", res_role_name[p->role]);
  case RES_hyper: return check_hyper(v, p, t);
  case RES_gauge:
  case RES_watch:
    return type_equal(t, type_scalar(DT_f32)) ||
           verify_report(v, p->loc, NO_ID, "a %s must be f32[]", res_role_name[p->role]);
  case RES_amax:
    if (!graph_slot(v->g, p->name))
      return verify_report(v, p->loc, NO_ID, "there is no slot \"%s\"", p->name);
    return type_equal(t, type_scalar(DT_f32)) ||
           verify_report(v, p->loc, NO_ID, "amax must be f32[]");
  case RES_count:
    return type_equal(t, type_scalar(DT_i32)) ||
           verify_report(v, p->loc, NO_ID, "count must be i32[]");
  case RES_metric:
  case RES_weight: break;
  }
  return is_number(t) ||
         verify_report(v, p->loc, NO_ID, "%s must be a number of rank 0", res_role_name[p->role]);
}

/* Each port: named, of a role that exists, no second one like it. */
static bool check_unique(Verifier *v, uint32_t n, const Port *ports, uint32_t roles) {
  NameTable seen = {.arena = &v->scratch};
  for (uint32_t i = 0; i < n; i++) {
    const Port *p = &ports[i];
    if (!p->name || p->role >= roles)
      return verify_report(v, p->loc, NO_ID, "a port without name or role");
    if (!names_add(&seen, p->role, p->name, i))
      return verify_report(v, p->loc, NO_ID, "a second port of this role and name");
  }
  return true;
}

/* The parameter whose gradient an entry takes, or NULL. */
static const char *updated(const Entry *e) {
  for (uint32_t i = 0; i < e->args.len; i++)
    if (e->args.at[i].role == ARG_grad) return e->args.at[i].name;
  return NULL;
}

static bool check_update(Verifier *v, const Entry *e) {
  const char *path = updated(e);
  uint32_t gradients = 0;
  for (uint32_t i = 0; i < e->args.len; i++) gradients += e->args.at[i].role == ARG_grad;
  if (gradients != (e->kind == ENTRY_update))
    return verify_report(v, e->loc, NO_ID, "an entry `update` takes one gradient, others none");
  if (!path) return true;
  for (uint32_t i = 0; i < e->results.len; i++) {
    const Port *p = &e->results.at[i];
    const State *s = p->role == RES_state ? find_state(v, p->name) : NULL;
    bool own =
        s && (!strcmp(s->path, path) || (s->kind == STATE_moment && !strcmp(s->master, path)));
    if (!own)
      return verify_report(v, p->loc, NO_ID,
                           "the update of \"%s\" gives that state and its moments alone", path);
  }
  return has_result(e, RES_state, path) ||
         verify_report(v, e->loc, NO_ID, "the update of \"%s\" does not give it", path);
}

bool verify_ports(Verifier *v, const Entry *e) {
  const Block *b = &v->g->blocks.at[e->body];
  bool ok = true;
  if (e->args.len != b->args.len || e->results.len != b->results.len)
    return verify_report(v, e->loc, NO_ID, "arguments or results without a port");
  if (!check_unique(v, e->args.len, e->args.at, ARG_ROLES) ||
      !check_unique(v, e->results.len, e->results.at, RES_ROLES))
    return false;
  for (uint32_t i = 0; i < e->args.len; i++)
    ok = check_arg(v, &e->args.at[i], value_type(v->g, b->args.at[i])) && ok;
  for (uint32_t i = 0; i < e->results.len; i++)
    ok = check_result(v, &e->results.at[i], value_type(v->g, b->results.at[i])) && ok;
  return ok && check_update(v, e);
}

/* ---- transaction: 18 to 20 ------------------------------------------------------------------- */

static bool is_prefix(const char *name, const char *path) {
  size_t n = strlen(name);
  return name[n - 1] == ':' && !strncmp(path, name, n);
}

static bool is_exempt(const Graph *g, const State *s) {
  uint32_t scaler;
  for (size_t i = 0; s->kind == STATE_counter && i < sizeof exempt / sizeof *exempt; i++)
    if (!strcmp(s->path, exempt[i]) || is_prefix(exempt[i], s->path)) return true;
  for (size_t i = 0; i < sizeof of_scaler / sizeof *of_scaler; i++)
    if (scaler_counts(g, s, of_scaler[i], &scaler)) return true;
  return false;
}

static uint32_t entry_index(const Verifier *v) { return (uint32_t)(v->entry - v->g->entries.at); }

/* How a part of a number is computed from it, and packed bits become one again. */
static const bool takes_apart[OP_COUNT] = {
    [OP_bf16_rest] = true, [OP_and] = true, [OP_ne] = true, [OP_select] = true, [OP_sum] = true};
static const bool unpacks[OP_COUNT] = {[OP_ne] = true, [OP_floor] = true, [OP_mul] = true};

/* Where v comes from, through moves, casts and such ops. */
static ValueId origin_through(const Graph *g, ValueId v, const bool *ops) {
  for (const Node *n; v = value_origin(g, v, true), (n = value_node(g, v)) && ops[n->op];)
    v = n->ops[0];
  return v;
}

static void index_ports(NameTable *names, uint32_t n, const Port *ports) {
  for (uint32_t i = 0; i < n; i++) names_add(names, ports[i].role, ports[i].name, i);
}

/* The state's argument, its result; NO_ID: the entry at hand has none. */
static ValueId old_value(const Verifier *v, const char *path) {
  uint32_t i = names_find(&v->args, ARG_state, path);
  return i == NO_NAME ? NO_ID : v->g->blocks.at[v->entry->body].args.at[i];
}

static ValueId new_value(const Verifier *v, const char *path) {
  uint32_t i = names_find(&v->results, RES_state, path);
  return i == NO_NAME ? NO_ID : v->g->blocks.at[v->entry->body].results.at[i];
}

/* The commit behind a state's result, or NULL. */
static const Node *find_commit(const Verifier *v, const State *s, ValueId result) {
  const Graph *g = v->g;
  bool moved = s->kind == STATE_derived || s->store;
  ValueId from = s->kind == STATE_part ? origin_through(g, result, takes_apart)
                                       : value_origin(g, result, moved);
  const Node *n = value_node(g, from);
  return n && n->op == OP_commit ? n : NULL;
}

/* What a commit falls back on is the old value: of a part, the number that it is joined to. */
static bool is_old(const Verifier *v, const State *s, ValueId back, ValueId old) {
  const Graph *g = v->g;
  if (s->kind != STATE_part) return value_origin(g, back, s->store) == old;
  const Node *n = value_node(g, value_origin(g, back, true));
  for (uint32_t i = 0; n && n->op == OP_bf16_join && i < n->nops; i++)
    if (origin_through(g, n->ops[i], unpacks) == old) return true;
  return false;
}

/* Nothing but a random rounding makes the new value of a parameter without a master. */
static bool is_rounded(const Verifier *v, const Node *commit) {
  const Node *n = value_node(v->g, value_origin(v->g, commit->ops[1], true));
  return n && (n->op == OP_round_by_bits || n->op == OP_stochastic_round);
}

/* Of what commits a derived state is what `derive` makes of it. */
static bool check_derived(Verifier *v, const Port *p, ValueId x, ValueId result) {
  return derived_same(v->g, x, entry_index(v), result, true) ||
         verify_report(v, p->loc, NO_ID,
                       "\"%s\" is not what `derive` makes of the states that it is made of",
                       p->name);
}

static bool check_committed(Verifier *v, const Port *p, ValueId result) {
  const Graph *g = v->g;
  const State *s = find_state(v, p->name);
  const Node *n = find_commit(v, s, result);
  ValueId old = old_value(v, p->name);
  ValueId ok = graph_entry_result(g, entry_index(v), RES_ok, NULL);
  if (is_exempt(g, s) || (old != NO_ID && value_origin(g, result, false) == old)) return true;
  if (!n && ok == NO_ID && s->kind == STATE_state) return true;
  ValueId derived = s->kind == STATE_derived ? derived_value(g, s->path) : NO_ID;
  if (derived != NO_ID && !check_derived(v, p, derived, result)) return false;
  if (!n && derived != NO_ID) return true;
  if (!n) return verify_report(v, p->loc, NO_ID, "state \"%s\" changes without a commit", p->name);
  if (ok != NO_ID && value_origin(g, n->ops[0], false) != value_origin(g, ok, false))
    return verify_report(v, p->loc, NO_ID, "state \"%s\" commits under another predicate than `ok`",
                         p->name);
  if (s->kind == STATE_derived) return true;
  if (s->store == STORE_sr && !is_rounded(v, n))
    return verify_report(v, p->loc, NO_ID,
                         "parameter \"%s\" has no master: only a random rounding may change it",
                         p->name);
  return is_old(v, s, n->ops[2], old) ||
         verify_report(v, p->loc, NO_ID,
                       "state \"%s\" falls back on a value that is not its old one", p->name);
}

/* The derived copies of what p writes, and if that is a part, the other parts. */
static bool check_copies(Verifier *v, const Port *p, ValueId result) {
  const Graph *g = v->g;
  const State *own = find_state(v, p->name);
  const char *path = own->kind == STATE_part ? own->master : p->name;
  const Node *master = find_commit(v, own, result);
  for (uint32_t i = 0; master && i < g->states.len; i++) {
    const State *s = &g->states.at[i];
    if ((s->kind != STATE_derived && s->kind != STATE_part) || strcmp(s->master, path)) continue;
    ValueId copy = new_value(v, s->path);
    if (copy == NO_ID)
      return verify_report(v, p->loc, NO_ID, "\"%s\" is written, its copy \"%s\" is not", p->name,
                           s->path);
    const Node *n = find_commit(v, s, copy);
    if (!n && s->kind == STATE_derived && derived_value(g, s->path) != NO_ID) continue;
    if (!n || value_origin(g, n->ops[0], false) != value_origin(g, master->ops[0], false))
      return verify_report(v, p->loc, NO_ID,
                           "copy \"%s\" is written under another predicate than \"%s\"", s->path,
                           p->name);
    if (n != master)
      return verify_report(v, p->loc, NO_ID,
                           s->kind == STATE_part
                               ? "\"%s\" and \"%s\" are parts of different values"
                               : "copy \"%s\" is not of the value that \"%s\" becomes",
                           s->path, p->name);
  }
  return true;
}

static bool is_left(const Verifier *v, const State *s, ValueId result) {
  return result == NO_ID || value_origin(v->g, result, false) == old_value(v, s->path);
}

/* Of a derived state that the entry leaves as it is, it leaves all that it is made of.  (That it
 * does not give the copy of a parameter that it writes has been said.) */
static bool check_left(Verifier *v, const State *s) {
  const Graph *g = v->g;
  ValueId x = derived_value(g, s->path), result = new_value(v, s->path);
  States sources = {0};
  if (x == NO_ID || !is_left(v, s, result)) return true;
  sources = derived_sources(g, &v->scratch, x);
  for (uint32_t i = 0; i < sources.len; i++) {
    const State *from = sources.at[i];
    bool said = result == NO_ID && !strcmp(from->path, s->master);
    if (said || state_made(g, entry_index(v), from) == NO_ID) continue;
    return verify_report(v, v->entry->loc, NO_ID,
                         "\"%s\" is written, what is made of it, \"%s\", is not", from->path,
                         s->path);
  }
  return true;
}

/* Shadows are all that `grads` writes, and nobody else writes one. */
static bool check_shadow(Verifier *v, const Port *p) {
  bool grads = v->entry->kind == ENTRY_grads;
  if (grads == (find_state(v, p->name)->kind == STATE_shadow)) return true;
  return verify_report(v, p->loc, NO_ID,
                       grads ? "state \"%s\" is written before it is known whether the step commits"
                             : "shadow \"%s\" is written outside of an entry `grads`",
                       p->name);
}

/* What looks at a model leaves it alone. */
static bool check_looks(Verifier *v, const Port *p, ValueId result) {
  EntryKind kind = v->entry->kind;
  /* A replay is a whole step until `optimize` leaves it the guard's questions. */
  if ((kind == ENTRY_replay && !has_result(v->entry, RES_loss, NULL)) || kind == ENTRY_origin)
    return verify_report(v, p->loc, NO_ID, "an entry %s writes the state \"%s\"",
                         entry_kind_name[kind], p->name);
  if ((kind != ENTRY_eval && kind != ENTRY_infer) || find_state(v, p->name)->private) return true;
  ValueId old = old_value(v, p->name);
  return (old != NO_ID && value_origin(v->g, result, false) == old) ||
         verify_report(v, p->loc, NO_ID, "an entry %s changes the state \"%s\"",
                       entry_kind_name[kind], p->name);
}

bool verify_transaction(Verifier *v, const Entry *e) {
  const Block *b = &v->g->blocks.at[e->body];
  bool ok = true,
       commits = e->kind == ENTRY_step || e->kind == ENTRY_apply || e->kind == ENTRY_calibrate;
  v->args = v->results = (NameTable){.arena = &v->scratch};
  index_ports(&v->args, e->args.len, e->args.at);
  index_ports(&v->results, e->results.len, e->results.at);
  for (uint32_t i = 0; i < e->results.len; i++) {
    const Port *p = &e->results.at[i];
    if (p->role != RES_state) continue;
    ok = check_shadow(v, p) && check_looks(v, p, b->results.at[i]) && ok;
    if (!commits) continue;
    ok = check_committed(v, p, b->results.at[i]) && check_copies(v, p, b->results.at[i]) && ok;
  }
  for (uint32_t i = 0; commits && i < v->g->states.len; i++)
    if (v->g->states.at[i].kind == STATE_derived) ok = check_left(v, &v->g->states.at[i]) && ok;
  return ok;
}
