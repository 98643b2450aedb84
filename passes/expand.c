/* expand.c: composite ops become simpler ones (ref/expand.h: the evaluator means the same by them),
 * and reductions take a form that a kernel has (program.h): over a trailing run of axes, or over a
 * leading run that leaves some.
 *
 *   over a trailing run and others    the trailing run first, then the rest
 *   over axes in the middle           transposed to the front
 *
 * Both are what the evaluator does anyway (ref/reduce.c): the trailing run is the contiguous axis
 * and goes first, the other reduced axes are rows, row-major.  So every bit stays.
 *
 * A matmul without elements or terms is its accumulator, or 0: no gemm has to know of empty sizes.
 */
#include "ref/expand.h"
#include "passes/pass.h"

typedef struct Split {
  Graph *g;
  Arena *scratch;
  VEC(Replaced) done;
} Split;

/* How many of the reduced axes are the last ones of x; the first ones. */
static uint32_t trailing_run(uint32_t n, const int64_t *axes, int rank) {
  uint32_t run = 0;
  while (run < n && axes[n - 1 - run] == rank - 1 - (int64_t)run) run++;
  return run;
}

static uint32_t leading_run(uint32_t n, const int64_t *axes) {
  uint32_t run = 0;
  while (run < n && axes[run] == (int64_t)run) run++;
  return run;
}

static bool has_form(uint32_t n, const int64_t *axes, int rank) {
  uint32_t tail = trailing_run(n, axes, rank);
  return tail == n || (!tail && leading_run(n, axes) == n);
}

static ValueId to_front(Builder *b, ValueId x, uint32_t n, const int64_t *axes) {
  int64_t perm[MAX_RANK];
  uint32_t reduced = 0, kept = n;
  for (int i = 0; i < value_type(b->g, x).rank; i++)
    if (reduced < n && axes[reduced] == i) perm[reduced++] = i;
    else perm[kept++] = i;
  return build_transpose(b, x, perm);
}

static ValueId reduce(Builder *b, Op op, ValueId x, uint32_t n, const int64_t *axes) {
  static const int64_t first[MAX_RANK] = {0, 1, 2, 3, 4, 5, 6, 7};
  int rank = value_type(b->g, x).rank;
  uint32_t tail = trailing_run(n, axes, rank);
  if (has_form(n, axes, rank)) return build_reduce(b, op, x, n, axes);
  if (!tail) return build_reduce(b, op, to_front(b, x, n, axes), n, first);
  return reduce(b, op, build_reduce(b, op, x, tail, axes + n - tail), n - tail, axes);
}

/* A sum of narrow floats is rounded once, at its end: its parts are f32. */
static ValueId reduce_parts(Builder *b, Op op, ValueId x, uint32_t n, const int64_t *axes) {
  DType d = (DType)value_type(b->g, x).dtype;
  if (op != OP_sum || dtype_kind[d] != 'f' || d == DT_f32) return reduce(b, op, x, n, axes);
  return build_cast(b, reduce(b, op, build_cast(b, x, DT_f32), n, axes), d);
}

static bool wants_split(const Graph *g, const Node *n) {
  if (!(op_flags[n->op] & F_REDUCE)) return false;
  const Attr *axes = node_attr(n, AT_axes);
  return !has_form(axes->n, axes->ints, value_type(g, n->ops[0]).rank);
}

static bool is_empty_matmul(const Graph *g, const Node *n) {
  if (n->op != OP_matmul && n->op != OP_matmul_scaled) return false;
  for (uint32_t i = 0; i < 2; i++)
    if (!type_count(value_type(g, n->ops[i]))) return true;
  return false;
}

/* The accumulator times 1, which keeps every bit: it may lack the tag of the real rows.  To it
 * comes 0 times the scales, which may be infinite; there are none of blocks. */
static ValueId without_terms(Builder *b, const Node *n) {
  Type plain = value_type(b->g, n->res);
  bool scaled = n->op == OP_matmul_scaled && !value_type(b->g, n->ops[2]).rank;
  uint32_t i = matmul_accumulator(n->op);
  ValueId acc = NO_ID, zero = build_constant(b, plain, 0);
  plain.unit = 0;
  if (n->nops > i) acc = build2(b, OP_mul, n->ops[i], build_constant(b, plain, 1));
  if (!scaled) return acc == NO_ID ? zero : acc;
  zero = build_constant(b, plain, 0);
  for (i = 2; i < 4; i++) zero = build2(b, OP_mul, zero, build_splat(b, n->ops[i], plain));
  return acc == NO_ID ? zero : build2(b, OP_add, acc, zero);
}

/* What n stands for, or NO_ID: it stays. */
static ValueId replacement(Builder *b, const Node *n) {
  const Attr *axes = node_attr(n, AT_axes);
  if (is_empty_matmul(b->g, n)) return without_terms(b, n);
  return wants_split(b->g, n) ? reduce_parts(b, n->op, n->ops[0], axes->n, axes->ints) : NO_ID;
}

/* Lists the nodes anew: a reduction gives way to its parts. */
static void split_block(Split *s, BlockId id) {
  Graph *g = s->g;
  NodeIds old = g->blocks.at[id].nodes;
  g->blocks.at[id].nodes = (NodeIds){0};
  for (uint32_t i = 0; i < old.len; i++) {
    Node n = g->nodes.at[old.at[i]];
    Builder b = {.g = g, .block = id};
    builder_follow(&b, &n);
    for (uint32_t k = 0; k < n.nblocks; k++) split_block(s, n.blocks[k]);
    ValueId v = replacement(&b, &n);
    if (v == NO_ID) vec_push(g->arena, &g->blocks.at[id].nodes, old.at[i]);
    else vec_push(s->scratch, &s->done, (Replaced){n.res, v});
  }
}

static bool split_reductions(Graph *g, Arena *scratch) {
  Split s = {.g = g, .scratch = scratch};
  for (uint32_t i = 0; i < g->entries.len; i++) split_block(&s, g->entries.at[i].body);
  graph_replace_all(g, scratch, s.done.len, s.done.at);
  return s.done.len > 0;
}

bool pass_expand(Graph *g, PassCtx *c) {
  bool changed = false;
  expand_graph(g, c->arena, &changed);
  return split_reductions(g, c->arena) || changed;
}
