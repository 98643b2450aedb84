/* precision_assign.c: the problem of assign.h, of one entry and one low type: its values are what
 * kernels make with nodes that work in this type, its reads whoever loads them, through views and
 * into loops.  Counts are elements times the trips of the loops around.
 *
 * Under `precision auto` it is solved twice: first with products that may stay in f32, where what
 * they read counts even if it is no question otherwise (a parameter's copy, an input's); those that
 * the cut leaves in f32 get `prec=f32`, and the rest is a problem as under a written precision.
 */
#include "passes/assign.h"
#include "passes/precision.h"

typedef struct Problem {
  Precision *s;
  Low low;
  Assign a;
  uint32_t *number;          /* value: its index in a, NO_ID: it is no question */
  VEC(uint8_t *) choices;    /* by read of a: where the answer goes, NULL: there is none */
  VEC(ValueId) values;       /* by value of a */
  VEC(const char *) because; /* by value of a: the rule that makes it wide, or NULL */
  bool products;             /* they are questions, too: */
  VEC(NodeId) op_kernel;     /* by op of a */
} Problem;

Origin precision_origin(const Precision *s, ValueId v) {
  const Graph *g = s->g;
  Origin o = {.value = v};
  for (;;) {
    o.value = view_source(g, o.value);
    Value at = g->values.at[o.value];
    NodeId loop = at.node == NO_ID ? g->blocks.at[at.block].owner : NO_ID;
    if (loop == NO_ID || !at.index) return o; /* made by a node, an entry's argument, an index */
    const Node *n = &g->nodes.at[loop];
    int64_t operand = (int64_t)at.index - 1, carries = node_int(n, AT_carries, 0);
    if (operand < carries) return o;
    if (operand < carries + node_int(n, AT_slices, 0)) o.sliced = true;
    o.value = n->ops[operand];
  }
}

/* ---- reads ----------------------------------------------------------------------------------- */

static uint32_t new_value(Problem *p, ValueId v, AssignValue x, const char *because) {
  p->number[v] = p->a.values.len;
  vec_push(p->s->arena, &p->a.values, x);
  vec_push(p->s->arena, &p->values, v);
  vec_push(p->s->arena, &p->because, because);
  return p->number[v];
}

/* What is f32 by nature.  A step writes a parameter's copy with the parameter, other entries find
 * it; of anything else that no kernel makes a kernel casts one. */
static void add_given(Problem *p, ValueId v) {
  const Graph *g = p->s->g;
  const State *state = argument_state(g, v);
  bool param = state && state->kind == STATE_param;
  bool step = g->entries.at[p->s->entry].kind == ENTRY_step;
  new_value(p, v,
            (AssignValue){.count = param && !step ? 0 : type_count(value_type(g, v)),
                          .given = true,
                          .apart = !param && !made_by(g, v)},
            NULL);
}

/* The index of the read, NO_ID: what is read is no question. */
static uint32_t add_read(Problem *p, ValueId v, int64_t trips, ReadNeed need, uint8_t *choice) {
  Origin o = precision_origin(p->s, v);
  bool f32 = value_type(p->s->g, o.value).dtype == DT_f32;
  if (p->number[o.value] == NO_ID && p->products && f32) add_given(p, o.value);
  if (p->number[o.value] == NO_ID) return NO_ID;
  AssignRead r = {.value = p->number[o.value],
                  .count = type_count(value_type(p->s->g, v)) * trips,
                  .need = need,
                  .sole = o.sliced};
  vec_push(p->s->arena, &p->a.reads, r);
  vec_push(p->s->arena, &p->choices, o.sliced ? NULL : choice);
  return p->a.reads.len - 1;
}

/* ---- products -------------------------------------------------------------------------------- */

/* The node of this type in the kernel that makes the kernel a gemm, or NULL. */
static const Node *product_in(const Problem *p, const Block *body) {
  for (uint32_t i = 0; i < body->nodes.len; i++) {
    const Node *n = &p->s->g->nodes.at[body->nodes.at[i]];
    if (op_form[n->op] == FORM_gemm && precision_of(p->s, n) == low_type[p->low]) return n;
  }
  return NULL;
}

/* Operands that the product loads low are f32 values that the kernel gets whole. */
static bool is_question(const Problem *p, const Node *k, const Node *n) {
  const Graph *g = p->s->g;
  for (uint32_t j = 0; j < n->nops; j++) {
    if (!loads_low(n, j)) continue;
    Value at = g->values.at[n->ops[j]];
    if (at.node != NO_ID) return false;
    Origin o = precision_origin(p->s, k->ops[at.index]);
    if (o.sliced || value_type(g, o.value).dtype != DT_f32) return false;
  }
  return true;
}

/* The op's index, NO_ID: the kernel has none that is a question. */
static uint32_t add_product(Problem *p, NodeId k, int64_t trips) {
  const Node *kernel = &p->s->g->nodes.at[k];
  const Node *n = product_in(p, &p->s->g->blocks.at[kernel->blocks[0]]);
  if (!p->products || !n || n->op != OP_matmul || !is_question(p, kernel, n)) return NO_ID;
  int64_t work = matmul_work(p->s->g, n) * trips;
  const Costs *c = p->a.costs;
  vec_push(p->s->arena, &p->a.ops,
           ((AssignOp){.low_time = work * c->mac_low, .f32_time = work * c->mac32}));
  vec_push(p->s->arena, &p->op_kernel, k);
  return p->a.ops.len - 1;
}

/* ---- kernels --------------------------------------------------------------------------------- */

/* How the kernel's nodes use argument i. */
typedef struct Uses {
  bool asked, any, f32;
} Uses;

static Uses uses_of(const Problem *p, const Block *body, ValueId arg) {
  const Graph *g = p->s->g;
  Uses u = {0};
  for (uint32_t i = 0; i < body->nodes.len; i++) {
    const Node *n = &g->nodes.at[body->nodes.at[i]];
    for (uint32_t j = 0; j < n->nops; j++) {
      if (n->ops[j] != arg) continue;
      if (precision_of(p->s, n) != low_type[p->low] || is_accumulator(n->op, j)) u.f32 = true;
      else if (loads_low(n, j)) u.asked = true;
      else if (op_form[n->op] == FORM_gemm) u.f32 = true; /* codes, scales: as they are */
      else u.any = true;
    }
  }
  for (uint32_t i = 0; i < body->results.len; i++) u.f32 |= body->results.at[i] == arg;
  return u;
}

/* op: of the product whose operands are low, NO_ID: that is settled.  free: by operand, the read
 * that may choose or is f32, NO_ID: none. */
static void add_reads(Problem *p, NodeId k, int64_t trips, uint32_t op, uint32_t *free) {
  const Node *n = &p->s->g->nodes.at[k];
  const Block *body = &p->s->g->blocks.at[n->blocks[0]];
  for (uint32_t i = 0; i < n->nops; i++) {
    Uses u = uses_of(p, body, body->args.at[i]);
    free[i] = NO_ID;
    uint32_t r = NO_ID;
    if (u.asked) r = add_read(p, n->ops[i], trips, op == NO_ID ? NEED_low : NEED_op, NULL);
    if (r != NO_ID) p->a.reads.at[r].op = op;
    if (u.f32) free[i] = add_read(p, n->ops[i], trips, NEED_f32, NULL);
    else if (u.any) free[i] = add_read(p, n->ops[i], trips, NEED_any, read_choice(p->s, k, i));
  }
}

/* ---- values ---------------------------------------------------------------------------------- */

/* The argument of the kernel that operand j of `made` is, seen whole: through views, and put beside
 * others as `concat` does; NO_ID: it is something else. */
static uint32_t whole_operand(const Graph *g, const Node *made, uint32_t j) {
  ValueId v = made->ops[j];
  int64_t count = type_count(value_type(g, v));
  for (const Node *n; (n = value_node(g, v)); v = n->ops[0]) {
    if (n->op == OP_pad) count = type_count(value_type(g, n->ops[0]));
    else if (!(op_flags[n->op] & F_VIEW)) return NO_ID;
  }
  return type_count(value_type(g, v)) == count ? g->values.at[v].index : NO_ID;
}

/* `concat` of several is a select of what the one before has put together; NULL: no such. */
static const Node *one_before(const Graph *g, const Node *made) {
  const Node *n = made->op == OP_select ? value_node(g, made->ops[1]) : NULL;
  return n && n->op == OP_select ? n : NULL;
}

/* At least as wide as what it reads whole; the residual stream is low where `residual f32` does not
 * say otherwise. */
static bool is_widest(const Precision *s, const Node *made) {
  return stores_widest(made->op) && (s->wide_residual || !is_residual(s, made));
}

/* The kernel's node `made` reads what another type's node has made, so in f32.  What an entry or a
 * loop is given widens nothing. */
static bool reads_wide(const Problem *p, const Node *kernel, const Node *made) {
  const Graph *g = p->s->g;
  const Node *before = one_before(g, made);
  for (uint32_t j = 0; j < made->nops; j++) {
    uint32_t arg = whole_operand(g, made, j);
    if (arg == NO_ID) continue;
    ValueId from = precision_origin(p->s, kernel->ops[arg]).value;
    const Node *n = made_by(g, from);
    bool f32 = value_type(g, from).dtype == DT_f32;
    if (n && f32 && precision_of(p->s, n) != low_type[p->low]) return true;
  }
  return before && reads_wide(p, kernel, before);
}

static void add_rules(Problem *p, const Node *made, uint32_t value, const uint32_t *free) {
  const Node *before = one_before(p->s->g, made);
  for (uint32_t j = 0; j < made->nops; j++) {
    uint32_t arg = whole_operand(p->s->g, made, j);
    if (arg == NO_ID || free[arg] == NO_ID) continue;
    vec_push(p->s->arena, &p->a.rules, (AssignRule){.read = free[arg], .value = value});
  }
  if (before) add_rules(p, before, value, free);
}

static bool makes_apart(const Node *k) { return node_is_kernel(k, FORM_scatter); }

static void add_value(Problem *p, ValueId v, int64_t trips, uint32_t op, const uint32_t *free) {
  Precision *s = p->s;
  const Node *made = made_by(s->g, v);
  if (value_type(s->g, v).dtype != DT_f32 || !made) return;
  if (precision_of(s, made) != low_type[p->low]) return;
  const char *because = wide_because(s, v, p->low);
  bool widest = !because && is_widest(s, made);
  if (widest && reads_wide(p, value_node(s->g, v), made)) because = "rule: an operand is f32";
  AssignValue x = {.count = type_count(value_type(s->g, v)) * trips,
                   .wide = because,
                   .apart = s->greedy || makes_apart(value_node(s->g, v)),
                   .asks = op != NO_ID && op_form[made->op] == FORM_gemm,
                   .op = op};
  uint32_t value = new_value(p, v, x, because);
  if (widest) add_rules(p, made, value, free);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static void add_block(Problem *p, BlockId block, int64_t trips);

static void add_loop(Problem *p, const Node *n, int64_t trips) {
  int64_t carries = node_int(n, AT_carries, 0);
  for (uint32_t j = 0; j < carries; j++) add_read(p, n->ops[j], trips, NEED_f32, NULL);
  add_block(p, n->blocks[0], trips * node_int(n, AT_trip, 1));
}

static void add_kernel(Problem *p, NodeId k, int64_t trips) {
  const Node *n = &p->s->g->nodes.at[k];
  uint32_t *free = NEW_ARRAY(p->s->arena, uint32_t, n->nops);
  uint32_t op = add_product(p, k, trips);
  add_reads(p, k, trips, op, free);
  for (uint32_t i = 0; i < n->nres; i++) add_value(p, n->res + i, trips, op, free);
}

static void add_block(Problem *p, BlockId block, int64_t trips) {
  const Graph *g = p->s->g;
  const Block *b = &g->blocks.at[block];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    if (n->op == OP_kernel) add_kernel(p, b->nodes.at[i], trips);
    else if (n->op == OP_loop) add_loop(p, n, trips);
  }
  for (uint32_t i = 0; i < b->results.len; i++)
    add_read(p, b->results.at[i], trips, NEED_f32, NULL);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* What is wide is in f32 for whoever can read that: nobody, where all load it low. */
static const char *reason(const AssignValue *x, const char *because) {
  if (because && x->f32) return because;
  if (!x->low) return "cut: f32 for who reads it";
  return x->f32 ? "cut: both copies" : "cut: low";
}

static void take_answers(Problem *p) {
  Precision *s = p->s;
  for (uint32_t i = 0; i < p->a.values.len; i++) {
    const AssignValue *x = &p->a.values.at[i];
    if (!x->f32) s->alone[p->values.at[i]] = (uint8_t)(1 << p->low);
    s->why[p->values.at[i]] = reason(x, p->because.at[i]);
  }
  for (uint32_t i = 0; i < p->a.reads.len; i++)
    if (p->choices.at[i] && p->a.reads.at[i].low) *p->choices.at[i] |= (uint8_t)(1 << p->low);
}

static Problem problem(Precision *s, Low low, bool products) {
  Problem p = {.s = s, .low = low, .products = products};
  p.a = (Assign){.arena = s->arena, .costs = s->costs};
  p.number = NEW_ARRAY(s->arena, uint32_t, s->values);
  for (ValueId v = 0; v < s->values; v++) p.number[v] = NO_ID;
  add_block(&p, s->g->entries.at[s->entry].body, 1);
  return p;
}

void assign_entry(Precision *s, Low low) {
  Problem p = problem(s, low, false);
  if (!p.a.values.len) return;
  if (s->greedy) assign_greedy(&p.a);
  else assign_cut(&p.a);
  s->cost[s->entry] += assign_cost(&p.a);
  take_answers(&p);
}

/* ---- precision auto -------------------------------------------------------------------------- */

static void keep_f32(Precision *s, NodeId kernel, NodeId product) {
  node_set_attr(s->g, product, attr_text(AT_prec, "f32"));
  s->node_why[kernel] = CUT_F32;
}

/* What a step decided of the product written there; NULL: no step holds it. */
static const Decision *decision_at(const Precision *s, Loc loc, bool contracts) {
  for (uint32_t i = 0; i < s->decisions.len; i++) {
    const Decision *d = &s->decisions.at[i];
    bool same =
        same_place(d->loc, loc) && d->loc.module == loc.module && d->loc.backward == loc.backward;
    if (same && d->contracts == contracts) return d;
  }
  return NULL;
}

void assign_products(Precision *s, Low low) {
  Problem p = problem(s, low, true);
  bool step = s->g->entries.at[s->entry].kind == ENTRY_step;
  if (!p.a.ops.len) return;
  assign_cut(&p.a);
  for (uint32_t i = 0; i < p.a.ops.len; i++) {
    NodeId k = p.op_kernel.at[i];
    const Node *n = product_in(&p, &s->g->blocks.at[s->g->nodes.at[k].blocks[0]]);
    Decision here = {n->loc, matmul_is_weight_gradient(s->g, n), p.a.ops.at[i].low};
    const Decision *d = decision_at(s, here.loc, here.contracts);
    if (step && !d) vec_push(s->arena, &s->decisions, here);
    if (!(d ? d->low : here.low)) keep_f32(s, k, (NodeId)(n - s->g->nodes.at));
  }
}
