/* test_assign.c: maximum flow and the assignment of precision against brute force: 1,000 random
 * networks, 1,000 random problems of at most 16 values. */
#include "check.h"
#include "passes/assign.h"
#include "passes/maxflow.h"

#include <string.h>

static uint64_t state = 1;

static uint32_t below(uint32_t n) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((state >> 33) % n);
}

/* ---- flows ----------------------------------------------------------------------------------- */

enum { MOST_NODES = 12, MOST_EDGES = 40 };

typedef struct Net {
  uint32_t nodes, edges, from[MOST_EDGES], to[MOST_EDGES];
  int64_t capacity[MOST_EDGES];
} Net;

static Net random_net(void) {
  Net n = {.nodes = 2 + below(MOST_NODES - 1), .edges = below(MOST_EDGES + 1)};
  for (uint32_t e = 0; e < n.edges; e++) {
    n.from[e] = below(n.nodes);
    n.to[e] = below(n.nodes);
    n.capacity[e] = below(8) ? below(20) : FLOW_INFINITE / 64;
  }
  return n;
}

static int64_t cut_of(const Net *n, uint32_t side) {
  int64_t cut = 0;
  for (uint32_t e = 0; e < n->edges; e++)
    if (side >> n->from[e] & 1 && !(side >> n->to[e] & 1)) cut += n->capacity[e];
  return cut;
}

/* Node 0 is the source, 1 the sink.  The least side is what all least cuts have in common. */
static void check_net(Checks *c, const Net *n) {
  Arena arena = {0};
  Flow f = flow_new(&arena, n->nodes);
  for (uint32_t e = 0; e < n->edges; e++) flow_edge(&f, n->from[e], n->to[e], n->capacity[e]);
  int64_t flow = flow_solve(&f, 0, 1), best = INT64_MAX;
  uint32_t common = 0, reached = 0;
  for (uint32_t side = 1; side < 1u << n->nodes; side++) {
    if (!(side & 1) || side & 2) continue;
    int64_t cut = cut_of(n, side);
    if (cut < best) {
      best = cut;
      common = side;
    } else if (cut == best) common &= side;
  }
  for (uint32_t v = 0; v < n->nodes; v++)
    if (flow_reaches(&f, v)) reached |= 1u << v;
  CHECK(c, flow == best);
  CHECK(c, reached == common);
  arena_free(&arena);
}

/* A path as long as the deepest model. */
static void check_long_path(Checks *c) {
  enum { LENGTH = 200000 };
  Arena arena = {0};
  Flow f = flow_new(&arena, LENGTH);
  for (uint32_t v = 0; v + 1 < LENGTH; v++) flow_edge(&f, v, v + 1, v == LENGTH / 2 ? 3 : 5);
  CHECK(c, flow_solve(&f, 0, LENGTH - 1) == 3);
  CHECK(c, flow_reaches(&f, LENGTH / 2) && !flow_reaches(&f, LENGTH / 2 + 1));
  arena_free(&arena);
}

/* ---- problems -------------------------------------------------------------------------------- */

static ReadNeed random_need(void) {
  uint32_t r = below(8);
  return r < 5 ? NEED_any : r < 7 ? NEED_low : NEED_f32;
}

enum { MOST_OPS = 4 };

/* A product of two values, or one: it reads them, and makes v. */
static void add_op(Assign *a, uint32_t v, AssignValue *x) {
  uint32_t op = a->ops.len;
  vec_push(a->arena, &a->ops, ((AssignOp){.low_time = below(90), .f32_time = below(90)}));
  for (int k = 0; k < 2; k++) {
    AssignRead r = {.value = below(v), .need = NEED_op, .op = op};
    r.count = a->values.at[r.value].count;
    vec_push(a->arena, &a->reads, r);
  }
  x->asks = true;
  x->op = op;
}

static const Costs costs = {.byte = 5, .widen = 1, .narrow = 2, .launch = 17};

static Assign random_problem(Arena *arena) {
  Assign a = {.arena = arena, .costs = &costs};
  uint32_t n = 1 + below(16);
  for (uint32_t v = 0; v < n; v++) {
    AssignValue x = {.count = 1 + below(9), .wide = !below(5), .apart = !below(4)};
    x.given = !below(6);
    if (v && a.ops.len < MOST_OPS && !below(4)) add_op(&a, v, &x);
    for (uint32_t k = v ? below(4) : 0; k-- > 0;) { /* what it is computed from */
      AssignRead r = {.value = below(v), .need = random_need(), .sole = !below(8)};
      r.count = a.values.at[r.value].count;
      vec_push(arena, &a.reads, r);
      bool rule = r.need != NEED_low && below(2);
      if (rule) vec_push(arena, &a.rules, (AssignRule){a.reads.len - 1, v});
    }
    vec_push(arena, &a.values, x);
  }
  for (uint32_t v = 0; v < n; v++) { /* nobody's value would be no value */
    AssignRead r = {.value = v, .count = a.values.at[v].count, .need = random_need()};
    vec_push(arena, &a.reads, r);
  }
  return a;
}

typedef struct Search {
  Assign *a;
  int64_t best, at_least[17]; /* from value v on */
} Search;

static bool is_wide(const Assign *a, uint32_t v) {
  const AssignValue *x = &a->values.at[v];
  if (x->wide || (x->asks && !a->ops.at[x->op].low)) return true;
  for (uint32_t i = 0; i < a->rules.len; i++)
    if (a->rules.at[i].value == v && !a->reads.at[a->rules.at[i].read].low) return true;
  return false;
}

/* Cost of value v and its reads under these copies, INT64_MAX: they cannot be.  Where a read may
 * choose, low is never worse: it costs less and no rule is against it. */
static int64_t cost_of(Assign *a, uint32_t v, bool wide) {
  const AssignValue *x = &a->values.at[v];
  const int64_t f32 = 4 * costs.byte, low = 2 * costs.byte, narrow = low + costs.narrow;
  int64_t cost = x->count * ((x->f32 && !x->given ? f32 : 0) + (x->low ? narrow : 0));
  if (!x->f32 && (x->given || (x->asks && !a->ops.at[x->op].low))) return INT64_MAX;
  if (x->f32 && x->low && x->apart) cost += x->count * f32 + costs.launch;
  for (uint32_t i = 0; i < a->reads.len; i++) {
    AssignRead *r = &a->reads.at[i];
    if (r->value != v) continue;
    bool seen = r->sole ? !x->f32 : x->low, makes = r->sole && r->need == NEED_low;
    r->low = r->need == NEED_low || (r->need == NEED_op && a->ops.at[r->op].low) ||
             (r->need == NEED_any && seen && !wide);
    if (makes && !(x->f32 || x->low)) return INT64_MAX;
    if (!makes && !(r->low ? seen : x->f32)) return INT64_MAX;
    int64_t widened = low + (r->need == NEED_any ? costs.widen : 0);
    cost += r->count * (makes && x->f32 ? f32 + narrow + low : r->low ? widened : f32);
  }
  return cost;
}

static void search(Search *s, uint32_t v, int64_t cost) {
  if (cost + s->at_least[v] >= s->best) return;
  if (v == s->a->values.len) {
    s->best = cost;
    return;
  }
  bool wide = is_wide(s->a, v);
  for (int copies = 1; copies < 4; copies++) {
    s->a->values.at[v].f32 = copies & 1;
    s->a->values.at[v].low = copies & 2;
    int64_t more = cost_of(s->a, v, wide);
    if (more != INT64_MAX) search(s, v + 1, cost + more);
  }
}

/* Under the choice of ops in hand. */
static void search_all(Search *s, int64_t cost) {
  Assign *a = s->a;
  for (uint32_t v = a->values.len; v-- > 0;) {
    int64_t least = INT64_MAX;
    for (int copies = 1; copies < 4; copies++) {
      a->values.at[v].f32 = copies & 1;
      a->values.at[v].low = copies & 2;
      int64_t cost_v = cost_of(a, v, a->values.at[v].wide);
      if (cost_v < least) least = cost_v;
    }
    if (least == INT64_MAX) return;
    s->at_least[v] = s->at_least[v + 1] + least;
  }
  search(s, 0, cost);
}

/* From above the cut's cost down: what is found is the least there is. */
static int64_t least_cost(Assign *a, int64_t most) {
  Search s = {.a = a, .best = most};
  for (uint32_t choice = 0; choice < 1u << a->ops.len; choice++) {
    int64_t cost = 0;
    for (uint32_t i = 0; i < a->ops.len; i++) {
      AssignOp *op = &a->ops.at[i];
      op->low = choice >> i & 1;
      cost += op->low ? op->low_time : op->f32_time;
    }
    search_all(&s, cost);
  }
  return s.best;
}

typedef struct Seen {
  int both, better, f32_ops, low_ops;
} Seen;

static void check_problem(Checks *c, Seen *seen) {
  Arena arena = {0};
  Assign a = random_problem(&arena);
  assign_greedy(&a);
  CHECK(c, assign_holds(&a));
  int64_t greedy = assign_cost(&a), cut = assign_cut(&a);
  CHECK(c, assign_holds(&a));
  CHECK(c, cut <= greedy);
  seen->better += cut < greedy;
  for (uint32_t v = 0; v < a.values.len; v++)
    seen->both += a.values.at[v].f32 && a.values.at[v].low;
  for (uint32_t i = 0; i < a.ops.len; i++)
    *(a.ops.at[i].low ? &seen->low_ops : &seen->f32_ops) += 1;
  CHECK(c, least_cost(&a, cut + 1000) == cut);
  arena_free(&arena);
}

int main(void) {
  Checks c = {0};
  for (int i = 0; i < 1000; i++) {
    Net n = random_net();
    check_net(&c, &n);
  }
  check_long_path(&c);
  Seen seen = {0};
  for (int i = 0; i < 1000; i++) check_problem(&c, &seen);
  CHECK(&c, seen.both > 100 && seen.better > 100); /* the problems are none that any rule solves */
  CHECK(&c, seen.f32_ops > 100 && seen.low_ops > 100);
  return checks_end(&c, "assign");
}
