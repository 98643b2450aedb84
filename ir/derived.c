/* derived.c: what a derived state is made of: the entry `derive` says it, of the states alone.
 *
 * A copy that a step writes must be the same expression of what the step makes of those states;
 * pass `derive` looks for equal ones, the verifier proves that they stayed so.  Expressions are
 * compared through kernels and reshapes, by op, attributes and types; the places where they end are
 * states: an argument, or the number that a parameter without a master is widened or joined to.
 */
#include "ir/ir.h"

#include <string.h>

ValueId derived_value(const Graph *g, const char *path) {
  int e = graph_entry_find(g, ENTRY_derive);
  return e < 0 ? NO_ID : graph_entry_result(g, (uint32_t)e, RES_state, path);
}

const State *argument_state(const Graph *g, ValueId v) {
  const Value *x = &g->values.at[v];
  if (x->node != NO_ID || g->blocks.at[x->block].owner != NO_ID) return NULL;
  for (uint32_t i = 0; i < g->entries.len; i++) {
    const Entry *e = &g->entries.at[i];
    if (e->body != x->block) continue;
    const Port *p = &e->args.at[x->index];
    return p->role == ARG_state ? graph_state(g, p->name) : NULL;
  }
  return NULL;
}

ValueId derived_source(const Graph *g, ValueId v) {
  const State *s = argument_state(g, v);
  return s && s->kind == STATE_derived ? derived_value(g, s->path) : NO_ID;
}

/* The state whose value v is, as the entry finds it, or NULL. */
static const State *state_read(const Graph *g, ValueId v) {
  const Node *n = value_node(g, v);
  if (n && n->op != OP_cast_policy && n->op != OP_bf16_join) return NULL;
  const State *s = argument_state(g, n ? value_origin(g, n->ops[n->nops - 1], false) : v);
  if (!s || !n) return s;
  if (n->op == OP_bf16_join) return s->kind == STATE_part ? graph_state(g, s->master) : NULL;
  return s->store == STORE_sr ? s : NULL;
}

/* The low part of a split parameter. */
static const char *low_part(const Graph *g, const State *s) {
  for (uint32_t i = 0; i < g->states.len; i++) {
    const State *p = &g->states.at[i];
    if (p->kind == STATE_part && p->type.dtype == DT_bf16 && !strcmp(p->master, s->path))
      return p->path;
  }
  return s->path;
}

ValueId state_made(const Graph *g, uint32_t entry, const State *s) {
  const char *path = s->store == STORE_split ? low_part(g, s) : s->path;
  ValueId v = graph_entry_result(g, entry, RES_state, path);
  if (v == NO_ID) return NO_ID;
  v = value_origin(g, v, s->store != STORE_whole);
  return value_node(g, v) ? v : NO_ID;
}

/* ---- equal expressions ----------------------------------------------------------------------- */

typedef struct Same {
  const Graph *g;
  uint32_t entry;
  bool after;
} Same;

static bool is_state(const Same *s, const State *state, ValueId v) {
  ValueId written = s->after ? state_made(s->g, s->entry, state) : NO_ID;
  return written == NO_ID ? state_read(s->g, v) == state : written == v;
}

/* What the user wrote around a node says nothing of its value. */
static bool is_remark(const Attr *a) {
  return a->key == AT_prec || a->key == AT_wide || a->key == AT_recompute;
}

static uint32_t next_attr(const Node *n, uint32_t i) {
  while (i < n->nattrs && is_remark(&n->attrs[i])) i++;
  return i;
}

static bool same_attrs(const Node *m, const Node *n) {
  uint32_t i = 0, j = 0;
  for (;; i++, j++) {
    i = next_attr(m, i), j = next_attr(n, j);
    if (i == m->nattrs || j == n->nattrs) return i == m->nattrs && j == n->nattrs;
    if (!attr_equal(&m->attrs[i], &n->attrs[j])) return false;
  }
}

static bool same(Same *s, ValueId x, ValueId v);

static bool same_operands(Same *s, const Node *m, const Node *n) {
  bool all = true;
  for (uint32_t i = 0; all && i < m->nops; i++) all = same(s, m->ops[i], n->ops[i]);
  if (all || !(op_flags[m->op] & F_COMM)) return all;
  return same(s, m->ops[0], n->ops[1]) && same(s, m->ops[1], n->ops[0]);
}

static bool same(Same *s, ValueId x, ValueId v) {
  const Graph *g = s->g;
  x = value_origin(g, x, false);
  v = value_origin(g, v, false);
  const State *state = state_read(g, x);
  if (state) return is_state(s, state, v);
  const Node *m = value_node(g, x), *n = value_node(g, v);
  if (!m || !n || m->op != n->op || m->nops != n->nops || m->nblocks || n->nblocks) return false;
  if (g->values.at[x].index != g->values.at[v].index || (op_flags[m->op] & F_RANDOM)) return false;
  if (!type_equal(value_type(g, x), value_type(g, v)) || !same_attrs(m, n)) return false;
  return same_operands(s, m, n);
}

bool derived_same(const Graph *g, ValueId x, uint32_t entry, ValueId v, bool after) {
  return same(&(Same){g, entry, after}, x, v);
}

/* ---- sources --------------------------------------------------------------------------------- */

static void add_sources(const Graph *g, Arena *arena, ValueId x, States *found) {
  x = value_origin(g, x, false);
  const State *s = state_read(g, x);
  const Node *n = value_node(g, x);
  for (uint32_t i = 0; s && i < found->len; i++)
    if (found->at[i] == s) return;
  if (s) vec_push(arena, found, s);
  for (uint32_t i = 0; !s && n && i < n->nops; i++) add_sources(g, arena, n->ops[i], found);
}

States derived_sources(const Graph *g, Arena *arena, ValueId x) {
  States found = {0};
  add_sources(g, arena, x, &found);
  return found;
}
