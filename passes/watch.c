/* watch.c: statistics of the values that --watch names, as results of the step.
 *
 * It comes behind `precision`, so nothing that rounds depends on it and the bits of training are
 * those without it.  Watched are floats that kernels store: activations and cotangents, which have
 * the axis of the batch, and the parameters' gradients.  They are called
 *
 *   net.0.matmul:8        instance, op, line; "#2" behind it where there are more of them; the
 *                         last op counts of those that one kernel does
 *   grad:net.0.matmul:8   what the gradient of that line computes
 *   grad:net.0.weight     a parameter's gradient
 *
 * and give five numbers each, f32[], over all real rows and all trips of loops around, of x, the
 * value in f32 as its kernel computed it, and y, as it was stored:
 *
 *   max        the largest |x|
 *   squares    Σ x²
 *   flushed    how many x that are not 0 are 0 in y
 *   saturated  how many y are infinite, or, in fp8, the largest number in place of a larger one
 *   elements   how many there are
 *
 * Cotangents are looked at as they are: times the loss scale.
 */
#include "passes/pass.h"

#include <math.h>
#include <string.h>

enum { STATS = 5 };
static const char *const stat_name[STATS] = {"max", "squares", "flushed", "saturated", "elements"};

typedef struct Watch {
  Graph *g;
  PassCtx *c;
  uint32_t entry;
  VEC(const char *) names; /* met so far in the entry, with number where there are several */
  VEC(const char *) plain; /* the same without */
  bool *met;               /* by pattern */
} Watch;

/* ---- names ----------------------------------------------------------------------------------- */

static const char *numbered(Watch *w, const char *plain) {
  uint32_t before = 0;
  for (uint32_t i = 0; i < w->plain.len; i++) before += !strcmp(w->plain.at[i], plain);
  vec_push(w->c->arena, &w->plain, plain);
  const char *name = before ? arena_printf(w->c->arena, "%s#%u", plain, before + 1) : plain;
  vec_push(w->c->arena, &w->names, name);
  return name;
}

static bool is_named(Watch *w, const char *name) {
  const PassOptions *o = w->c->options;
  bool any = false;
  for (uint32_t i = 0; i < o->nwatches; i++)
    if (o->watch(o->watch_user, i, name)) w->met[i] = any = true;
  return any;
}

/* An op that stands in no module is called after the one whose value it goes on from. */
static const char *module_of(const Graph *g, const Node *n) {
  const NodeIds *nodes = &g->blocks.at[n->block].nodes;
  const char *module = n->loc.module;
  for (uint32_t i = nodes->len; !module && i-- > 0;) module = g->nodes.at[nodes->at[i]].loc.module;
  return module ? module : "";
}

static const char *name_of_node(Watch *w, const Node *n) {
  const char *module = module_of(w->g, n);
  return arena_printf(w->c->arena, "%s%s%s%s:%u", n->loc.backward ? "grad:" : "", module,
                      *module ? "." : "", op_name[n->op], (unsigned)n->loc.line);
}

/* ---- kernels --------------------------------------------------------------------------------- */

/* The value stripped of its unit: times 1/S, which is written as 1. */
static ValueId bare(Builder *b, ValueId x) {
  Type t = value_type(b->g, x), inverse = type_scalar(DT_f32);
  if (!t.unit || !unit_times(0, t.unit, -1, &inverse.unit)) return x;
  return build2(b, OP_mul, x, build_splat(b, build_constant(b, inverse, 1), t));
}

static ValueId reduce(Builder *b, Op op, ValueId x, bool all) {
  return all ? build_reduce_all(b, op, x) : build_reduce_last(b, op, x);
}

/* Of the elements; counts in i32. */
static void first_numbers(Builder *b, ValueId x, ValueId y, double top, double bottom,
                          ValueId *stat) {
  ValueId size = build1(b, OP_abs, y), zero = build_like(b, size, 0);
  ValueId gone = build2(b, OP_le, size, build_like(b, size, bottom));
  gone = build2(b, OP_and, gone, build2(b, OP_ne, x, zero));
  Op above = isinf(top) ? OP_ge : OP_gt;
  ValueId at_top = build2(b, above, size, build_like(b, size, top));
  stat[0] = build1(b, OP_abs, x);
  stat[1] = build2(b, OP_mul, x, x);
  stat[2] = build_cast(b, gone, DT_i32);
  stat[3] = build_cast(b, at_top, DT_i32);
  stat[4] = build_constant(b, type_with(value_type(b->g, x), DT_i32), 1);
}

static Builder begin_kernel(Watch *w, Loc loc, uint32_t nops, const ValueId *ops) {
  Builder b = {.g = w->g, .block = graph_add_block(w->g, NO_ID), .loc = loc};
  for (uint32_t i = 0; i < nops; i++) graph_add_arg(w->g, b.block, value_type(w->g, ops[i]));
  return b;
}

static ValueId argument(const Builder *b, uint32_t i) {
  return b->g->blocks.at[b->block].args.at[i];
}

/* Reduces all, or the last axis, of stat; the kernel's results. */
static void end_kernel(Watch *w, Builder *b, BlockId block, uint32_t nops, const ValueId *ops,
                       bool all, bool last, ValueId *stat) {
  Type types[STATS];
  for (int i = 0; i < STATS; i++) {
    ValueId v = reduce(b, i ? OP_sum : OP_reduce_max, stat[i], all);
    if (last) v = build_cast(b, v, DT_f32);
    vec_push(w->g->arena, &w->g->blocks.at[b->block].results, v);
    types[i] = value_type(w->g, v);
  }
  NodeId k = kernel_close(w->g, block, b->loc, FORM_reduce, b->block, nops, ops, STATS, types);
  for (uint32_t i = 0; i < STATS; i++) stat[i] = w->g->nodes.at[k].res + i;
}

/* ---- one value ------------------------------------------------------------------------------- */

typedef struct Seen {
  ValueId x, y;       /* in memory; y is what the other numbers are asked of */
  double top, bottom; /* |y| above top, or infinite, is saturated; up to bottom it is flushed */
  Loc loc;
} Seen;

static void measure(Watch *w, BlockId block, const Seen *s, ValueId *stat) {
  ValueId ops[] = {s->x, s->y};
  uint32_t nops = s->x == s->y ? 1 : 2;
  bool row = value_type(w->g, s->x).rank == 1;
  Builder b = begin_kernel(w, s->loc, nops, ops);
  ValueId x = bare(&b, build_cast(&b, argument(&b, 0), DT_f32)), y = x;
  if (nops == 2) y = bare(&b, build_cast(&b, argument(&b, 1), DT_f32));
  first_numbers(&b, x, y, s->top, s->bottom, stat);
  end_kernel(w, &b, block, nops, ops, row, row, stat);
  if (row) return;
  ValueId rows[STATS];
  memcpy(rows, stat, sizeof rows);
  b = begin_kernel(w, s->loc, STATS, rows);
  for (uint32_t i = 0; i < STATS; i++) stat[i] = argument(&b, i);
  end_kernel(w, &b, block, STATS, rows, true, true, stat);
}

/* Out of the loops around the block: each trip leaves its numbers. */
static void carry_out(Watch *w, BlockId block, Loc loc, ValueId *stat) {
  Graph *g = w->g;
  for (NodeId loop; (loop = g->blocks.at[block].owner) != NO_ID;) {
    ValueId trips[STATS];
    for (int i = 0; i < STATS; i++) stat[i] = loop_stack_result(g, loop, stat[i]);
    const Node *n = &g->nodes.at[loop]; /* its last results */
    for (uint32_t i = 0; i < STATS; i++) trips[i] = n->res + n->nres - STATS + i;
    block = n->block;
    Builder b = begin_kernel(w, loc, STATS, trips);
    for (uint32_t i = 0; i < STATS; i++) stat[i] = argument(&b, i);
    end_kernel(w, &b, block, STATS, trips, true, true, stat);
  }
}

static void show(Watch *w, const char *name, Loc loc, const ValueId *stat) {
  for (int i = 0; i < STATS; i++) {
    const char *text = arena_printf(w->c->arena, "%s %s", name, stat_name[i]);
    graph_add_entry_result(w->g, w->entry, RES_watch, states_name(w->g, text), stat[i], loc);
  }
}

/* `at`: position in the block of the kernel that made it. */
static void watch_value(Watch *w, BlockId block, uint32_t at, const char *name, const Seen *s) {
  ValueId stat[STATS];
  uint32_t end = w->g->blocks.at[block].nodes.len;
  measure(w, block, s, stat);
  graph_move_nodes(w->g, block, end, at + 1);
  carry_out(w, block, s->loc, stat);
  show(w, name, s->loc, stat);
}

/* ---- results of kernels ---------------------------------------------------------------------- */

static const double vanishing[DT_COUNT] = {[DT_f8e4m3fn] = 0x1p-10, [DT_f8e5m2] = 0x1p-17};

static const Node *maker(const Graph *g, const Node *kernel, uint32_t result) {
  const Node *n = value_node(g, g->blocks.at[kernel->blocks[0]].results.at[result]);
  return n && n->op == OP_cast_policy ? value_node(g, n->ops[0]) : n;
}

/* Is it also there in a low type? */
static bool has_low(const Graph *g, const Node *kernel, uint32_t result) {
  const NodeIds *nodes = &g->blocks.at[kernel->blocks[0]].nodes;
  ValueId v = g->blocks.at[kernel->blocks[0]].results.at[result];
  for (uint32_t i = 0; i < nodes->len; i++) {
    const Node *n = &g->nodes.at[nodes->at[i]];
    if (n->op == OP_cast_policy && n->ops[0] == v && value_type(g, n->res).dtype != DT_f32)
      for (uint32_t k = 0; k < kernel->nres; k++)
        if (g->blocks.at[kernel->blocks[0]].results.at[k] == n->res) return true;
  }
  return false;
}

static bool is_watchable(const Graph *g, const Node *kernel, uint32_t result) {
  Type t = value_type(g, kernel->res + result);
  const Node *n = maker(g, kernel, result);
  if (!type_is_float(t) || t.rows < 0 || !n || !n->loc.line) return false;
  if (dtype_bytes[t.dtype] == 1 && n->op != OP_saturate) return false; /* scales, codes that move */
  return !has_low(g, kernel, result);
}

/* x in memory, and for fp8 what is rounded, x · scale. */
static Seen expose(Graph *g, NodeId k, uint32_t result) {
  BlockId body = g->nodes.at[k].blocks[0];
  ValueId y = g->blocks.at[body].results.at[result];
  Node n = *value_node(g, y);
  DType d = (DType)value_type(g, y).dtype;
  Seen s = {.top = INFINITY};
  if (n.op == OP_cast_policy) {
    s.x = kernel_add_result(g, k, n.ops[0]);
    s.y = g->nodes.at[k].res + result;
  } else if (n.op == OP_saturate) {
    Builder b = {.g = g, .block = body, .loc = n.loc};
    ValueId scale = n.ops[1]; /* one for all, or one an element */
    if (!value_type(g, scale).rank) scale = build_splat(&b, scale, value_type(g, n.ops[0]));
    ValueId product = build2(&b, OP_mul, n.ops[0], scale);
    kernel_add_result(g, k, n.ops[0]);
    s.y = kernel_add_result(g, k, product);
    s.x = s.y - 1;
    s.top = fp8_largest(d);
    s.bottom = vanishing[d];
  } else s.x = s.y = g->nodes.at[k].res + result;
  return s;
}

static void watch_kernel(Watch *w, BlockId block, uint32_t at) {
  Graph *g = w->g;
  NodeId k = g->blocks.at[block].nodes.at[at];
  uint32_t results = g->nodes.at[k].nres;
  for (uint32_t i = 0; i < results; i++) {
    if (!is_watchable(g, &g->nodes.at[k], i)) continue;
    const char *name = numbered(w, name_of_node(w, maker(g, &g->nodes.at[k], i)));
    bool plain = node_is_kernel(&g->nodes.at[k], FORM_scatter);
    if (!is_named(w, name)) continue;
    Seen s = plain ? (Seen){.x = g->nodes.at[k].res, .y = g->nodes.at[k].res, .top = INFINITY}
                   : expose(g, k, i);
    s.loc = maker(g, &g->nodes.at[k], i)->loc;
    watch_value(w, block, at, name, &s);
  }
}

static void watch_block(Watch *w, BlockId block) {
  Graph *g = w->g;
  NodeIds before = {0};
  for (uint32_t i = 0; i < g->blocks.at[block].nodes.len; i++)
    vec_push(w->c->arena, &before, g->blocks.at[block].nodes.at[i]);
  for (uint32_t i = 0, at = 0; i < before.len; i++) {
    while (g->blocks.at[block].nodes.at[at] != before.at[i]) at++;
    const Node *n = &g->nodes.at[before.at[i]];
    if (n->op == OP_loop) watch_block(w, n->blocks[0]);
    else if (n->op == OP_kernel) watch_kernel(w, block, at);
  }
}

/* ---- gradients of parameters ----------------------------------------------------------------- */

/* What the guard asked about: x of isfinite(c · x), in memory; NO_ID: it is not there. */
static ValueId guarded(Graph *g, ValueId asked) {
  for (;;) {
    asked = view_source(g, asked);
    const Node *n = value_node(g, asked);
    if (!n || n->op != OP_kernel) return NO_ID;
    NodeId k = (NodeId)(n - g->nodes.at);
    ValueId v = g->blocks.at[n->blocks[0]].results.at[g->values.at[asked].index];
    while ((n = value_node(g, v)) && n->op == OP_reduce_and) v = n->ops[0];
    if (!n) {
      asked = g->nodes.at[k].ops[g->values.at[v].index];
      continue;
    }
    const Node *product = n->op == OP_isfinite ? value_node(g, n->ops[0]) : NULL;
    if (!product || product->op != OP_mul) return NO_ID;
    n = value_node(g, product->ops[0]); /* c is one number for all */
    ValueId x = product->ops[n && n->op == OP_broadcast];
    n = value_node(g, x);
    if (!n) return g->nodes.at[k].ops[g->values.at[x].index];
    for (uint32_t i = 0; i < g->nodes.at[k].nres; i++)
      if (g->blocks.at[g->nodes.at[k].blocks[0]].results.at[i] == x) return g->nodes.at[k].res + i;
    return kernel_add_result(g, k, x);
  }
}

static void watch_gradients(Watch *w) {
  Graph *g = w->g;
  BlockId body = g->entries.at[w->entry].body;
  uint32_t results = g->entries.at[w->entry].results.len;
  for (uint32_t i = 0; i < results; i++) {
    Port p = g->entries.at[w->entry].results.at[i];
    if (p.role != RES_finite || strncmp(p.name, "grad:", 5)) continue;
    if (!is_named(w, numbered(w, p.name))) continue;
    ValueId x = guarded(g, g->blocks.at[body].results.at[i]);
    if (x == NO_ID || !value_type(g, x).rank) continue;
    Seen s = {.x = x, .y = x, .top = INFINITY, .loc = p.loc};
    watch_value(w, body, g->blocks.at[body].nodes.len - 1, p.name, &s);
  }
}

/* ---- the pass -------------------------------------------------------------------------------- */

static void report_unmet(const Watch *w) {
  const PassOptions *o = w->c->options;
  for (uint32_t i = 0; i < o->nwatches; i++) {
    if (w->met[i]) continue;
    const char *near = nearest_name(o->watches[i], w->names.at, w->names.len);
    for (uint32_t k = 0; !near && k < w->names.len; k++)
      if (!strncmp(w->names.at[k], o->watches[i], 3)) near = w->names.at[k];
    if (!near && w->names.len) near = w->names.at[0];
    diag_error(w->c->diag, (Loc){0}, "--watch=%s: no value or gradient of a step matches%s%s",
               o->watches[i], near ? "; one is called " : "", near ? near : "");
  }
}

bool pass_watch(Graph *g, PassCtx *c) {
  if (!c->options->nwatches) return false;
  Watch w = {.g = g, .c = c, .met = NEW_ARRAY(c->arena, bool, c->options->nwatches)};
  for (w.entry = 0; w.entry < g->entries.len; w.entry++) {
    if (g->entries.at[w.entry].kind != ENTRY_step) continue;
    w.plain.len = 0;
    watch_block(&w, g->entries.at[w.entry].body);
    watch_gradients(&w);
  }
  report_unmet(&w);
  return true;
}
