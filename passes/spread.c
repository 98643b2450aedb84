/* spread.c: which values something gets into, going forward: into kernels by their arguments and
 * out by their results, round a loop until none of its carries is new.
 *
 * Two questions are asked so.  Where every batch is full no axis is tagged as that of the examples;
 * then an activation is what is computed from an input, and a cotangent from activations in turn;
 * what has been added up, over the batch for all one can tell, is one no more: gradients of
 * parameters, and all that follows from them.  And f16 takes some constants for infinity or zero
 * (range.c): a value holds one if it may be what a sum, a choice or a move of one is.
 */
#include "passes/pass.h"

/* What node n of a block makes of what its operands hold. */
typedef bool Rule(const Graph *g, const Node *n, const bool *marks);

typedef struct Spread {
  const Graph *g;
  Rule *rule;
  bool *marks; /* by value */
} Spread;

static void mark_block(Spread *s, BlockId block);

/* The block's arguments from `first` on are the node's operands. */
static void mark_region(Spread *s, const Node *n, uint32_t first) {
  const Block *b = &s->g->blocks.at[n->blocks[0]];
  for (uint32_t i = 0; i < n->nops; i++) s->marks[b->args.at[first + i]] |= s->marks[n->ops[i]];
  mark_block(s, n->blocks[0]);
  for (uint32_t i = 0; i < n->nres; i++) s->marks[n->res + i] = s->marks[b->results.at[i]];
}

/* Until no carry is marked that was not before. */
static void mark_loop(Spread *s, const Node *n) {
  const Block *b = &s->g->blocks.at[n->blocks[0]];
  int64_t carries = node_int(n, AT_carries, 0);
  for (bool more = true; more;) {
    more = false;
    mark_region(s, n, 1);
    for (uint32_t i = 0; i < carries; i++) {
      bool fresh = s->marks[b->results.at[i]] && !s->marks[b->args.at[i + 1]];
      s->marks[b->args.at[i + 1]] |= fresh;
      more |= fresh;
    }
  }
}

static void mark_block(Spread *s, BlockId block) {
  const Graph *g = s->g;
  const Block *b = &g->blocks.at[block];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    if (n->op == OP_kernel) mark_region(s, n, 0);
    else if (n->op == OP_loop) mark_loop(s, n);
    else
      for (uint32_t k = 0; k < n->nres; k++) s->marks[n->res + k] = s->rule(g, n, s->marks);
  }
}

static bool any_marked(const Node *n, const bool *marks) {
  for (uint32_t i = 0; i < n->nops; i++)
    if (marks[n->ops[i]]) return true;
  return false;
}

/* ---- what differs from example to example ---------------------------------------------------- */

static bool adds_up(const Graph *g, const Node *n) {
  bool product = op_form[n->op] == FORM_gemm;
  return n->op == OP_sum || n->op == OP_scatter_add || (product && matmul_is_weight_gradient(g, n));
}

/* What commits is a state, whatever it was made of. */
static bool varies(const Graph *g, const Node *n, const bool *marks) {
  return any_marked(n, marks) && !adds_up(g, n) && n->op != OP_commit;
}

bool *find_varying(const Graph *g, uint32_t entry, Arena *arena) {
  const Entry *e = &g->entries.at[entry];
  const Block *body = &g->blocks.at[e->body];
  bool *marks = NEW_ARRAY(arena, bool, g->values.len);
  for (uint32_t i = 0; e->full && i < e->args.len; i++) {
    Type t = value_type(g, body->args.at[i]);
    marks[body->args.at[i]] = e->args.at[i].role == ARG_input && t.rank && t.dim[0] == e->batch;
  }
  if (e->full) mark_block(&(Spread){g, varies, marks}, e->body);
  return marks;
}

/* ---- what holds a constant that f16 cannot hold ---------------------------------------------- */

/* Ops beside views whose result may be what an operand is. */
static const bool passes_on[OP_COUNT] = {
    [OP_add] = true, [OP_sub] = true,  [OP_neg] = true, [OP_select] = true,    [OP_max] = true,
    [OP_min] = true, [OP_cast] = true, [OP_pad] = true, [OP_mask_rows] = true, [OP_concat] = true};

bool hands_on(const Node *n) { return passes_on[n->op] || (op_flags[n->op] & F_VIEW); }

bool is_lost_constant(const Graph *g, ValueId v, double *value) {
  const Node *n = value_constant(g, v);
  if (!n || value_type(g, v).dtype != DT_f32) return false;
  *value = node_float(n, AT_value, 0);
  return !dtype_holds(DT_f16, *value);
}

static bool holds_lost(const Graph *g, const Node *n, const bool *marks) {
  double value;
  if (!value_is_float(g, n->res)) return false; /* a comparison with it holds none */
  for (uint32_t i = 0; i < n->nops; i++)
    if (is_lost_constant(g, n->ops[i], &value)) return true;
  return hands_on(n) && any_marked(n, marks);
}

bool *find_lost(const Graph *g, uint32_t entry, Arena *arena) {
  bool *marks = NEW_ARRAY(arena, bool, g->values.len);
  mark_block(&(Spread){g, holds_lost, marks}, g->entries.at[entry].body);
  return marks;
}
