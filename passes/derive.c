/* derive.c: what is computed of weights alone on the way to a product in fp8 (filled up,
 * transposed, cut into blocks, quantized, counted) is computed where the weights change.
 *
 * A value is *settled* when nothing but states goes into it that change at the end of a step:
 * parameters, scales of slots.  Of the settled values behind a `quantize` those that something
 * unsettled reads become derived states, like `net.2.weight:f8e4m3fn` and `….scale_inv`:
 *
 *   who read one      reads the state: no step, eval or infer casts a weight
 *   entry `derive`    makes them of the states, after init, load and set
 *   an entry that writes one of those states writes what `derive` makes of the new ones, which
 *                     `group` puts into the kernel of the update where it can
 *
 * The verifier holds the last two together (ir/derived.c), and a product's codes to their scale.
 * What precision `bf16` and `f16` read of a weight is its cast alone: pass `precision` derives it.
 */
#include "passes/pass.h"

typedef struct Derive { /* of one entry */
  Graph *g;
  Arena *arena;
  uint32_t derive; /* the entry */
  uint32_t entry;
  ValueId values; /* there were before */
  bool *settled;
  const char **coded; /* by value: behind a quantize of this parameter, or NULL */
  bool *asked;        /* by value: a state is to be it */
  VEC(Replaced) done;
} Derive;

/* ---- what is settled ------------------------------------------------------------------------- */

static void settle_arguments(Derive *d, const char **of) {
  const Block *body = &d->g->blocks.at[d->g->entries.at[d->entry].body];
  for (uint32_t i = 0; i < body->args.len; i++) {
    const State *s = argument_state(d->g, body->args.at[i]);
    bool param = s && s->kind == STATE_param;
    d->settled[body->args.at[i]] = param || (s && graph_scaled_slot(d->g, s->path));
    if (param) of[body->args.at[i]] = s->path;
  }
}

/* Neither a draw nor a product, and the same whatever the batch's real rows are. */
static bool may_settle(const Derive *d, const Node *n) {
  bool tagged = n->nres && value_type(d->g, n->res).rows >= 0;
  bool other = n->nblocks || (op_flags[n->op] & (F_RANDOM | F_STATE));
  return !tagged && !other && op_form[n->op] != FORM_gemm;
}

/* of: by value, the first parameter that is in it, or NULL. */
static void settle_node(Derive *d, const Node *n, const char **of) {
  bool settled = may_settle(d, n), plain = true;
  const char *path = NULL, *coded = NULL;
  for (uint32_t i = 0; i < n->nops; i++) {
    settled = settled && d->settled[n->ops[i]];
    if (!path) path = of[n->ops[i]];
    if (!coded) coded = d->coded[n->ops[i]];
    plain = plain && !value_type(d->g, n->ops[i]).rank;
  }
  if (coded && plain) return; /* what is made of one number is not worth a state */
  if (n->op == OP_quantize && !coded) coded = path;
  for (uint32_t i = 0; settled && i < n->nres; i++) {
    d->settled[n->res + i] = true;
    of[n->res + i] = path;
    d->coded[n->res + i] = coded;
  }
}

static void find_settled(Derive *d) {
  const Graph *g = d->g;
  const Block *body = &g->blocks.at[g->entries.at[d->entry].body];
  const char **of = NEW_ARRAY(d->arena, const char *, d->values);
  settle_arguments(d, of);
  for (uint32_t i = 0; i < body->nodes.len; i++)
    settle_node(d, &g->nodes.at[body->nodes.at[i]], of);
}

/* ---- what somebody reads of it --------------------------------------------------------------- */

static void ask(Derive *d, ValueId v) { d->asked[v] = d->coded[v] != NULL; }

/* Nodes of inner blocks are not settled, whatever they read. */
static void ask_block(Derive *d, BlockId block) {
  const Graph *g = d->g;
  const Block *b = &g->blocks.at[block];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    for (uint32_t k = 0; k < n->nblocks; k++) ask_block(d, n->blocks[k]);
    if (n->nres && d->settled[n->res]) continue;
    for (uint32_t k = 0; k < n->nops; k++) ask(d, n->ops[k]);
  }
  for (uint32_t i = 0; i < b->results.len; i++) ask(d, b->results.at[i]);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* The quantize behind the coded value v. */
static const Node *quantize_of(const Derive *d, ValueId v) {
  const Node *n = value_node(d->g, v);
  while (n->op != OP_quantize) {
    uint32_t i = 0;
    while (!d->coded[n->ops[i]]) i++;
    n = value_node(d->g, n->ops[i]);
  }
  return n;
}

static bool is_transposed(const Graph *g, ValueId v) {
  bool odd = false;
  for (const Node *n; (n = value_node(g, v)) && n->nops; v = n->ops[0])
    odd ^= n->op == OP_transpose;
  return odd;
}

static const char *role_of(const Derive *d, ValueId v, const Node *quantize) {
  static const char *const role[] = {"", ".scale_inv", ".amax", ".nonfinite"};
  ValueId from = value_origin(d->g, v, true);
  const Node *n = value_node(d->g, from);
  if (type_is_fp8(value_type(d->g, v))) return role[0];
  return n == quantize ? role[d->g->values.at[from].index] : ".count";
}

/* "net.2.weight:f8e4m3fn", of the transposed matrix "….t"; the second of a name "….2". */
static const char *name_state(const Derive *d, ValueId v) {
  const Node *q = quantize_of(d, v);
  const char *code = dtype_name[value_type(d->g, q->res).dtype];
  const char *turned = is_transposed(d->g, q->ops[0]) ? ".t" : "", *role = role_of(d, v, q);
  const char *name = arena_printf(d->arena, "%s:%s%s%s", d->coded[v], code, turned, role);
  for (int i = 2; graph_state(d->g, name); i++)
    name = arena_printf(d->arena, "%s:%s%s%s.%d", d->coded[v], code, turned, role, i);
  return states_name(d->g, name);
}

/* ---- copies of expressions ------------------------------------------------------------------- */

typedef struct Copy {
  Graph *g;
  uint32_t to;  /* entry */
  bool after;   /* of states as it leaves them */
  ValueId *map; /* of what is copied */
} Copy;

static Copy copy_to(Graph *g, Arena *arena, uint32_t to, bool after) {
  Copy c = {g, to, after, NEW_ARRAY(arena, ValueId, g->values.len)};
  for (ValueId v = 0; v < g->values.len; v++) c.map[v] = NO_ID;
  return c;
}

static ValueId state_in(const Copy *c, const State *s) {
  ValueId v = c->after ? graph_entry_result(c->g, c->to, RES_state, s->path) : NO_ID;
  return v != NO_ID ? v : states_argument(c->g, c->to, s->path, s->loc);
}

/* Where it is computed there is no backward pass to compute it again for. */
static void drop_recompute(Node *n) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < n->nattrs; i++)
    if (n->attrs[i].key != AT_recompute) n->attrs[kept++] = n->attrs[i];
  n->nattrs = kept;
}

static ValueId copy(Copy *c, ValueId v) {
  Graph *g = c->g;
  if (c->map[v] != NO_ID) return c->map[v];
  NodeId id = g->values.at[v].node;
  if (id == NO_ID) return c->map[v] = state_in(c, argument_state(g, v));
  for (uint32_t i = 0; i < g->nodes.at[id].nops; i++) copy(c, g->nodes.at[id].ops[i]);
  NodeId to = graph_copy_node(g, id, g->entries.at[c->to].body, c->map);
  drop_recompute(&g->nodes.at[to]);
  /* Of the master, not of a part of it that is also there for a product in a low type. */
  if (c->after) node_set_attr(g, to, attr_bool(AT_wide, true));
  return c->map[v];
}

/* ---- states ---------------------------------------------------------------------------------- */

/* That is v already, or NULL. */
static const State *find_state(const Derive *d, ValueId v) {
  const Graph *g = d->g;
  for (uint32_t i = 0; i < g->states.len; i++) {
    const State *s = &g->states.at[i];
    if (s->kind != STATE_derived || !type_equal(s->type, value_type(g, v))) continue;
    if (derived_same(g, derived_value(g, s->path), d->entry, v, false)) return s;
  }
  return NULL;
}

static const char *add_state(Derive *d, Copy *to_derive, ValueId v) {
  Graph *g = d->g;
  const char *path = name_state(d, v);
  State s = {.path = path,
             .kind = STATE_derived,
             .type = value_type(g, v),
             .loc = value_node(g, v)->loc,
             .master = d->coded[v]};
  graph_add_entry_result(g, d->derive, RES_state, path, copy(to_derive, v), s.loc);
  vec_push(g->arena, &g->states, s);
  return path;
}

static void derive_entry(Derive *d) {
  Graph *g = d->g;
  Loc loc = g->entries.at[d->entry].loc;
  d->values = g->values.len;
  d->settled = NEW_ARRAY(d->arena, bool, d->values);
  d->coded = NEW_ARRAY(d->arena, const char *, d->values);
  d->asked = NEW_ARRAY(d->arena, bool, d->values);
  find_settled(d);
  ask_block(d, g->entries.at[d->entry].body);
  Copy to_derive = copy_to(g, d->arena, d->derive, false);
  for (ValueId v = 0; v < d->values; v++) {
    if (!d->asked[v]) continue;
    const State *known = find_state(d, v);
    const char *path = known ? known->path : add_state(d, &to_derive, v);
    vec_push(d->arena, &d->done, (Replaced){v, states_argument(g, d->entry, path, loc)});
  }
}

/* ---- who writes them ------------------------------------------------------------------------- */

static bool writes_any(const Graph *g, uint32_t entry, States sources) {
  for (uint32_t i = 0; i < sources.len; i++)
    if (state_made(g, entry, sources.at[i]) != NO_ID) return true;
  return false;
}

static void write_states(Graph *g, Arena *arena, uint32_t entry) {
  Copy c = copy_to(g, arena, entry, true);
  for (uint32_t i = 0; i < g->states.len; i++) {
    const State s = g->states.at[i];
    if (s.kind != STATE_derived) continue;
    ValueId x = derived_value(g, s.path);
    if (writes_any(g, entry, derived_sources(g, arena, x)))
      graph_add_entry_result(g, entry, RES_state, s.path, copy(&c, x), s.loc);
  }
}

bool pass_derive(Graph *g, PassCtx *c) {
  if (fp8_recipe(g->train.precision) == FP8_RECIPES) return false;
  Derive d = {.g = g, .arena = c->arena};
  uint32_t entries = g->entries.len;
  d.derive = graph_add_entry(g, "derive", ENTRY_derive, 0, (Loc){0});
  for (d.entry = 0; d.entry < entries; d.entry++)
    if (g->entries.at[d.entry].kind != ENTRY_init) derive_entry(&d);
  graph_replace_all(g, c->arena, d.done.len, d.done.at);
  for (uint32_t e = 0; e < entries; e++)
    if (g->entries.at[e].kind != ENTRY_init) write_states(g, c->arena, e);
  if (!d.done.len) g->entries.len--;
  return d.done.len > 0;
}
