/* verify_order.c: nothing is stored over a value that somebody still wants: 22 to 26 of verify.c's
 * list, of a graph that pass `order` has been over.
 *
 * There the nodes of a block run in the sequence they stand in, and what replaces a value is stored
 * over it: a state's result over the state, a carry's next value over the last one, a loop's
 * results over what its carries begin with (ir/place.c).  A place is written once in each run of
 * its block, by one kernel, so for each place it is enough to ask who reads its old value behind
 * that kernel. A block sees its own values alone, so who reads something inside of a loop does so
 * at the loop.
 *
 * That a guarded state is written behind the guard only is the same fact with 18: the kernel writes
 * what the step gives as the state, and that is a commit under the entry's `ok`, an operand. */
#include "ir/verify.h"

typedef struct Order {
  Verifier *v;
  const Graph *g;
  BlockId block;
  uint32_t *at;    /* by node: position in its block */
  uint32_t *shown; /* by value: how many results of its block show it, views seen through */
  uint32_t *over;  /* by argument of a block: the result that is stored over it, NO_ID: none */
} Order;

static const Block *block_of(const Order *o) { return &o->g->blocks.at[o->block]; }

static bool is_of_loop(const Order *o) { return block_of(o)->owner != NO_ID; }

static Loc loc_of(const Order *o, uint32_t result) {
  NodeId owner = block_of(o)->owner;
  return owner == NO_ID ? o->v->entry->results.at[result].loc : o->g->nodes.at[owner].loc;
}

static ValueId shown_by(const Order *o, uint32_t result) {
  return view_source(o->g, block_of(o)->results.at[result]);
}

/* `state "w"`, `carry 0`: where the result is stored. */
static const char *place_of(const Order *o, uint32_t result) {
  Arena *a = &o->v->scratch;
  if (is_of_loop(o)) return arena_printf(a, "carry %u", (unsigned)result);
  return arena_printf(a, "state \"%s\"", o->v->entry->results.at[result].name);
}

/* ---- places: 23, 24 -------------------------------------------------------------------------- */

/* The node whose own place the value may be: it computes it, and no other result shows it. */
static const Node *maker_of(const Order *o, ValueId source) {
  return o->shown[source] == 1 ? value_node(o->g, source) : NULL;
}

/* old: NO_ID: the entry never sees it. */
static bool check_stored(Order *o, uint32_t i, ValueId old) {
  ValueId source = shown_by(o, i);
  const Node *n = maker_of(o, source);
  if (source == old) return true; /* it stays */
  if (!n || n->op != OP_kernel)
    return verify_report(o->v, loc_of(o, i), block_of(o)->owner,
                         "what is stored in %s is no result of a kernel that nobody else is given",
                         place_of(o, i));
  if (old == NO_ID) return true;
  NodeId writer = (NodeId)(n - o->g->nodes.at);
  o->over[old] = i;
  return kernel_in_place(o->g, writer, old, source) ||
         verify_report(o->v, n->loc, writer,
                       "the kernel reads %s, and not in place, as it stores over it",
                       place_of(o, i));
}

/* A loop's result is a slice, which the kernel or the loop inside writes. */
static bool check_stacked(const Order *o, uint32_t i) {
  return maker_of(o, shown_by(o, i)) ||
         verify_report(o->v, loc_of(o, i), block_of(o)->owner,
                       "result %u of the block is not computed there, or given twice", (unsigned)i);
}

/* What the host reads lies in the arena. */
static bool check_given(const Order *o, uint32_t i) {
  const Value *x = &o->g->values.at[shown_by(o, i)];
  const Port *p = x->node == NO_ID ? &o->v->entry->args.at[x->index] : NULL;
  return !p || p->role != ARG_state ||
         verify_report(o->v, loc_of(o, i), NO_ID, "what the host is given lies in state \"%s\"",
                       p->name);
}

static bool check_results(Order *o) {
  const Block *b = block_of(o);
  const ValueId *replaced = results_replaced(o->g, o->block, &o->v->scratch);
  bool ok = true;
  for (uint32_t i = 0; i < b->results.len; i++) o->shown[shown_by(o, i)]++;
  for (uint32_t i = 0; i < b->results.len; i++) {
    ValueId old = replaced[i];
    bool state = !is_of_loop(o) && o->v->entry->results.at[i].role == RES_state;
    if (state || old != NO_ID) ok = check_stored(o, i, old) && ok;
    else if (is_of_loop(o)) ok = check_stacked(o, i) && ok;
    else ok = check_given(o, i) && ok;
  }
  return ok;
}

/* ---- readers: 25, 26 ------------------------------------------------------------------------- */

/* Both places: at the reader, and a note at the writer. */
static bool check_read(const Order *o, NodeId reader, ValueId source) {
  uint32_t result = o->over[source];
  if (result == NO_ID) return true;
  NodeId writer = o->g->values.at[shown_by(o, result)].node;
  if (o->at[reader] <= o->at[writer]) return true;
  Text kernel = {.arena = &o->v->scratch};
  Loc at = o->g->nodes.at[writer].loc;
  node_print(o->g, writer, &kernel);
  verify_report(o->v, o->g->nodes.at[reader].loc, reader,
                "%s reads %s behind what stores over it, `%s`", op_name[o->g->nodes.at[reader].op],
                place_of(o, result), kernel.at);
  if (o->v->diag && at.line)
    diag_note(o->v->diag, at, "%s is stored over here", place_of(o, result));
  return false;
}

/* A view reads nothing by itself. */
static bool check_reads(const Order *o, NodeId id) {
  const Node *n = &o->g->nodes.at[id];
  bool ok = true;
  for (uint32_t i = 0; ok && n->op != OP_reshape && i < n->nops; i++)
    ok = check_read(o, id, view_source(o->g, n->ops[i]));
  return ok;
}

static uint32_t count_reads(const Order *o, ValueId v) {
  uint32_t reads = o->shown[v];
  for (uint32_t i = 0; i < block_of(o)->nodes.len; i++) {
    const Node *n = &o->g->nodes.at[block_of(o)->nodes.at[i]];
    for (uint32_t k = 0; k < n->nops; k++) reads += view_source(o->g, n->ops[k]) == v;
  }
  return reads;
}

static bool check_carries(const Order *o, NodeId loop) {
  const Node *n = &o->g->nodes.at[loop];
  for (uint32_t k = 0; k < node_int(n, AT_carries, 0); k++) {
    const Node *first = value_node(o->g, n->ops[k]);
    if (!first || first->op != OP_kernel || count_reads(o, n->ops[k]) != 1)
      return verify_report(o->v, n->loc, loop,
                           "what carry %u begins with is no result of a kernel that the loop alone "
                           "reads: it is stored over",
                           (unsigned)k);
  }
  return true;
}

static bool check_block(Order *o, BlockId block) {
  const Block *b = &o->g->blocks.at[block];
  bool ok = true;
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &o->g->nodes.at[b->nodes.at[i]];
    o->at[b->nodes.at[i]] = i;
    if (!node_is_grouped(o->g, n))
      return verify_report(
          o->v, n->loc, b->nodes.at[i],
          "an ordered block holds kernels, views and loops of its own values alone");
    if (n->op == OP_loop) ok = check_block(o, n->blocks[0]) && ok;
  }
  o->block = block;
  ok = check_results(o) && ok;
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    ok = check_reads(o, b->nodes.at[i]) && ok;
    if (o->g->nodes.at[b->nodes.at[i]].op == OP_loop) ok = check_carries(o, b->nodes.at[i]) && ok;
  }
  return ok;
}

bool verify_order(Verifier *v, const Entry *e) {
  const Graph *g = v->g;
  Order o = {.v = v, .g = g};
  if (!g->ordered) return true;
  o.at = NEW_ARRAY(&v->scratch, uint32_t, g->nodes.len);
  o.shown = NEW_ARRAY(&v->scratch, uint32_t, g->values.len);
  o.over = NEW_ARRAY(&v->scratch, uint32_t, g->values.len);
  for (ValueId i = 0; i < g->values.len; i++) o.over[i] = NO_ID;
  return check_block(&o, e->body);
}
