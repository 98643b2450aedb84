/* verify_program.c: every launch of a Program reads what it asks for, whatever was stored since.
 *
 * The steps are walked with a list of what memory holds: a range of bytes for each value.  A launch
 * wants each operand held; then its results take their ranges, and what lay there is held no more.
 * A loop is walked twice, so that its second iteration reads what the first has left.  At the end
 * all results are held, each state's where the state lies, and the values of --with-values.
 *
 * Values that share a place by the plan's own rule have one name, that of the outermost: a view and
 * its source; what a loop's block sees of an operand, and that; a carry's first value, each next
 * one and the loop's result; a stacked result and its slices, which count as the whole.  Which of a
 * carry's values somebody reads is settled by the order (verify_order.c); a state's old and new
 * value are two. */
#include "ir/program.h"

typedef struct Held {
  uint8_t space;
  uint64_t at, end;
  ValueId name;
} Held;

typedef struct Walk {
  const Program *p;
  const Graph *g;
  uint32_t entry;
  Arena *scratch;
  ValueId *within; /* by value: what it shares the place of; itself: it has its own */
  VEC(Held) held;
  Text *why;
} Walk;

static const ProgramEntry *entry_of(const Walk *w) { return &w->p->entries[w->entry]; }

static ValueId name_of(const Walk *w, ValueId v) {
  while (w->within[v] != v) v = w->within[v];
  return v;
}

static Held range_of(const Walk *w, ValueId v) {
  Buffer b = w->p->buffer[v];
  return (Held){b.space, b.at, buffer_end(w->p, v), name_of(w, v)};
}

static bool overlap(Held x, Held y) { return x.space == y.space && x.at < y.end && y.at < x.end; }

static bool is_there(const Walk *w, ValueId v) {
  Held r = range_of(w, v);
  if (r.at == r.end || r.space == SPACE_INDEX) return true;
  for (uint32_t i = 0; i < w->held.len; i++) {
    Held h = w->held.at[i];
    if (h.name == r.name && h.space == r.space && h.at <= r.at && r.end <= h.end) return true;
  }
  return false;
}

static void take(Walk *w, ValueId v) {
  Held r = range_of(w, v);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < w->held.len; i++)
    if (!overlap(w->held.at[i], r)) w->held.at[kept++] = w->held.at[i];
  w->held.len = kept;
  vec_push(w->scratch, &w->held, r);
}

static bool wrong(const Walk *w, NodeId n, const char *what, uint32_t i) {
  text_printf(w->why, "@%s: ", w->g->entries.at[w->entry].name);
  if (n != NO_ID) {
    text_add(w->why, "`");
    node_print(w->g, n, w->why);
    text_printf(w->why, "` (line %u): ", (unsigned)w->g->nodes.at[n].loc.line);
  }
  text_printf(w->why, what, (unsigned)i);
  return false;
}

/* ---- names ----------------------------------------------------------------------------------- */

static void name_loop(Walk *w, const Node *n) {
  const Block *b = &w->g->blocks.at[n->blocks[0]];
  for (uint32_t k = 0; k < n->nops; k++) {
    bool carry = k < node_int(n, AT_carries, 0);
    w->within[b->args.at[k + 1]] = carry ? n->res + k : n->ops[k];
    if (carry) w->within[n->ops[k]] = n->res + k;
  }
  for (uint32_t k = 0; k < n->nres; k++) {
    ValueId v = view_source(w->g, b->results.at[k]);
    if (value_node(w->g, v)) w->within[v] = n->res + k;
  }
}

static void name_block(Walk *w, BlockId block) {
  const Block *b = &w->g->blocks.at[block];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &w->g->nodes.at[b->nodes.at[i]];
    if (n->op == OP_reshape) w->within[n->res] = n->ops[0];
    if (n->op != OP_loop) continue;
    name_loop(w, n);
    name_block(w, n->blocks[0]);
  }
}

/* ---- the walk -------------------------------------------------------------------------------- */

static bool same_range(Held x, Held y) {
  return x.space == y.space && x.at == y.at && x.end == y.end;
}

/* May the result lie on operand v?  On the same bytes, in place. */
static bool lies_on(const Walk *w, NodeId kernel, ValueId v, ValueId result) {
  return same_range(range_of(w, v), range_of(w, result)) &&
         kernel_in_place(w->g, kernel, view_source(w->g, v), result);
}

static bool launch(Walk *w, NodeId id) {
  const Node *n = &w->g->nodes.at[id];
  for (uint32_t i = 0; i < n->nops; i++)
    if (!is_there(w, n->ops[i])) return wrong(w, id, "operand %u is not there", i);
  for (uint32_t k = 0; k < n->nres; k++) {
    Held r = range_of(w, n->res + k);
    if (r.space == SPACE_NONE) return wrong(w, id, "result %u has no place", k);
    if (!same_range(r, range_of(w, r.name)))
      return wrong(w, id, "result %u does not lie where it belongs", k);
    for (uint32_t i = 0; i < n->nops; i++)
      if (overlap(range_of(w, n->ops[i]), r) && !lies_on(w, id, n->ops[i], n->res + k))
        return wrong(w, id, "operand %u is stored over while it is read", i);
    for (uint32_t i = 0; i < k; i++)
      if (overlap(range_of(w, n->res + i), r)) return wrong(w, id, "result %u lies on another", k);
  }
  for (uint32_t k = 0; k < n->nres; k++) take(w, n->res + k);
  return true;
}

static bool walk(Walk *w, uint32_t from, uint32_t end) {
  const ProgramEntry *e = entry_of(w);
  for (uint32_t i = from; i < end; i++) {
    if (e->steps.at[i].kind == STEP_kernel) {
      if (!launch(w, e->steps.at[i].node)) return false;
    } else {
      uint32_t close = program_close(e, i);
      if (!walk(w, i + 1, close) || !walk(w, i + 1, close)) return false;
      i = close;
    }
  }
  return true;
}

static bool is_at_home(const Walk *w, Port p, ValueId v) {
  const State *s = p.role == RES_state ? graph_state(w->g, p.name) : NULL;
  Buffer b = w->p->buffer[v];
  return !s || (b.space == SPACE_STATE && b.at == w->p->state_at[s - w->g->states.at]);
}

static bool check_entry(Walk *w) {
  const Entry *e = &w->g->entries.at[w->entry];
  const Block *b = &w->g->blocks.at[e->body];
  w->held.len = 0;
  name_block(w, e->body);
  for (uint32_t i = 0; i < b->args.len; i++) take(w, b->args.at[i]);
  for (uint32_t i = 0; i < b->args.len; i++)
    if (!is_there(w, b->args.at[i])) return wrong(w, NO_ID, "argument %u lies on another", i);
  if (!walk(w, 0, entry_of(w)->steps.len)) return false;
  for (uint32_t i = 0; i < b->results.len; i++) {
    if (!is_there(w, b->results.at[i]))
      return wrong(w, NO_ID, "result %u is not there at the end", i);
    if (!is_at_home(w, e->results.at[i], b->results.at[i]))
      return wrong(w, NO_ID, "result %u is not stored where its state lies", i);
  }
  for (uint32_t i = 0; i < w->p->values.len; i++)
    if (w->p->values.at[i].entry == w->entry && !is_there(w, w->p->values.at[i].value))
      return wrong(w, NO_ID, "value %u of --with-values is not there at the end", i);
  return true;
}

bool program_check(const Program *p, Text *why) {
  Arena scratch = {0};
  Walk w = {.p = p, .g = p->g, .scratch = &scratch, .why = why};
  bool ok = true;
  w.within = NEW_ARRAY(&scratch, ValueId, p->g->values.len);
  for (ValueId v = 0; v < p->g->values.len; v++) w.within[v] = v;
  for (; ok && w.entry < p->g->entries.len; w.entry++) ok = check_entry(&w);
  arena_free(&scratch);
  return ok;
}
