/* assign.c: copies of values and their reads at least cost, as a minimum cut.
 *
 * Every variable says "f32" (1, the sink's side) or "low" (0, the source's side):
 *
 *   F  of a value: 1, it has an f32 copy            writing it, unless it is given
 *   N  of a value: 0, it has a low copy (1: none)   writing it; where that takes a kernel of its
 *                                                   own and F = 1, reading the f32 and a launch
 *   W  of a value: 1, it is wide                    nothing
 *   R  of a read that can choose: 1, it reads f32   reading either
 *   M  of a product: 1, it reads f32 operands       its work with either, and reading them
 *
 * All rules are implications of the form "if a then b", an edge b → a that cannot be cut:
 *
 *   R → F      who reads f32 finds a copy               N → R     who reads low finds one
 *   N → F      there is at least one                    W → R     what is wide is read as f32
 *   R → W'     an op's result is at least as wide as what it reads
 *   M → F', M → W'   likewise, and f32 in memory; M stands for R where a product reads
 *
 * Reads that cannot choose fix F or N.  A read that sees one copy only has R = F.  So all terms are
 * submodular and the cut is exact; F and N apart are what lets both copies exist, paid once each.
 */
#include "passes/assign.h"

#include "passes/maxflow.h"

enum { SOURCE, SINK, FIRST }; /* nodes of the network */

/* ---- costs ----------------------------------------------------------------------------------- */

enum { LOW_BYTES = 2, F32_BYTES = 4 };

static int64_t read_f32(const Assign *a, int64_t n) { return n * F32_BYTES * a->costs->byte; }
static int64_t read_low(const Assign *a, int64_t n, ReadNeed need) {
  bool widens = need == NEED_any; /* a product takes it as it is */
  return n * (LOW_BYTES * a->costs->byte + (widens ? a->costs->widen : 0));
}
static int64_t write_f32(const Assign *a, const AssignValue *x) {
  return x->given ? 0 : x->count * F32_BYTES * a->costs->byte;
}
static int64_t write_low(const Assign *a, int64_t n) {
  return n * (LOW_BYTES * a->costs->byte + a->costs->narrow);
}
/* The low copy beside the f32 one, by a kernel of its own. */
static int64_t cast_apart(const Assign *a, int64_t n) { return read_f32(a, n) + a->costs->launch; }
/* A read that casts what it sees for itself. */
static int64_t cast_here(const Assign *a, int64_t n) {
  return read_f32(a, n) + write_low(a, n) + read_low(a, n, NEED_low);
}

/* ---- the network ----------------------------------------------------------------------------- */

static uint32_t node_f32(uint32_t value) { return FIRST + 3 * value; }
static uint32_t node_none(uint32_t value) { return FIRST + 3 * value + 1; }
static uint32_t node_wide(uint32_t value) { return FIRST + 3 * value + 2; }
static uint32_t node_op(const Assign *a, uint32_t op) {
  return FIRST + 3 * a->values.len + a->reads.len + op;
}
static uint32_t node_read(const Assign *a, uint32_t read) {
  const AssignRead *r = &a->reads.at[read];
  if (r->need == NEED_op) return node_op(a, r->op);
  return r->sole ? node_f32(r->value) : FIRST + 3 * a->values.len + read;
}

static void costs(Flow *f, uint32_t node, int64_t low, int64_t f32) {
  flow_edge(f, node, SINK, low);
  flow_edge(f, SOURCE, node, f32);
}
static void is_f32(Flow *f, uint32_t node) { flow_edge(f, node, SINK, FLOW_INFINITE); }
static void is_low(Flow *f, uint32_t node) { flow_edge(f, SOURCE, node, FLOW_INFINITE); }
static void implies(Flow *f, uint32_t a, uint32_t b) { flow_edge(f, b, a, FLOW_INFINITE); }

static void add_value(const Assign *a, uint32_t v, Flow *f) {
  const AssignValue *x = &a->values.at[v];
  costs(f, node_f32(v), 0, write_f32(a, x));
  costs(f, node_none(v), write_low(a, x->count), 0);
  if (x->apart) flow_edge(f, node_none(v), node_f32(v), cast_apart(a, x->count));
  implies(f, node_none(v), node_f32(v));
  if (x->wide) is_f32(f, node_wide(v));
  if (x->given) is_f32(f, node_f32(v));
  if (!x->asks) return;
  implies(f, node_op(a, x->op), node_f32(v));
  implies(f, node_op(a, x->op), node_wide(v));
}

static void add_read(const Assign *a, uint32_t i, Flow *f) {
  const AssignRead *r = &a->reads.at[i];
  uint32_t x = node_read(a, i);
  int64_t low = read_low(a, r->count, r->need), f32 = read_f32(a, r->count);
  if (r->need == NEED_f32) is_f32(f, node_f32(r->value));
  else if (r->need == NEED_any || r->need == NEED_op) {
    costs(f, x, low, f32);
    implies(f, x, node_f32(r->value));
    implies(f, node_none(r->value), x);
    if (r->need == NEED_any) implies(f, node_wide(r->value), x);
  } else if (r->sole) costs(f, x, low, cast_here(a, r->count));
  else is_low(f, node_none(r->value));
}

static bool reads_low(const Assign *a, uint32_t i, const Flow *f) {
  const AssignRead *r = &a->reads.at[i];
  if (r->need == NEED_low || r->need == NEED_f32) return r->need == NEED_low;
  return flow_reaches(f, node_read(a, i));
}

int64_t assign_cut(Assign *a) {
  Flow f = flow_new(a->arena, node_op(a, a->ops.len));
  for (uint32_t v = 0; v < a->values.len; v++) add_value(a, v, &f);
  for (uint32_t i = 0; i < a->reads.len; i++) add_read(a, i, &f);
  for (uint32_t i = 0; i < a->ops.len; i++)
    costs(&f, node_op(a, i), a->ops.at[i].low_time, a->ops.at[i].f32_time);
  for (uint32_t i = 0; i < a->rules.len; i++) {
    AssignRule r = a->rules.at[i];
    if (a->reads.at[r.read].need == NEED_f32) is_f32(&f, node_wide(r.value));
    else implies(&f, node_read(a, r.read), node_wide(r.value));
  }
  flow_solve(&f, SOURCE, SINK);
  for (uint32_t v = 0; v < a->values.len; v++) {
    a->values.at[v].f32 = !flow_reaches(&f, node_f32(v));
    a->values.at[v].low = flow_reaches(&f, node_none(v));
  }
  for (uint32_t i = 0; i < a->ops.len; i++) a->ops.at[i].low = flow_reaches(&f, node_op(a, i));
  for (uint32_t i = 0; i < a->reads.len; i++) a->reads.at[i].low = reads_low(a, i, &f);
  return assign_cost(a);
}

/* ---- the baseline ---------------------------------------------------------------------------- */

/* Low alone where no rule and no reader says f32; else f32, and low beside it for who needs that,
 * as every product does. */
void assign_greedy(Assign *a) {
  uint32_t n = a->values.len, rule = 0;
  bool *wanted = NEW_ARRAY(a->arena, bool, n), *refused = NEW_ARRAY(a->arena, bool, n);
  for (uint32_t i = 0; i < a->reads.len; i++) {
    const AssignRead *r = &a->reads.at[i];
    if (r->need == NEED_f32) refused[r->value] = true;
    if (r->need == NEED_op || (r->need == NEED_low && !r->sole)) wanted[r->value] = true;
  }
  for (uint32_t v = 0; v < n; v++) {
    AssignValue *x = &a->values.at[v];
    x->f32 = x->wide || x->given || refused[v];
    for (; rule < a->rules.len && a->rules.at[rule].value == v; rule++) {
      const AssignRead *r = &a->reads.at[a->rules.at[rule].read];
      if (r->need == NEED_f32 || a->values.at[r->value].f32) x->f32 = true;
    }
    x->low = !x->f32 || wanted[v];
  }
  for (uint32_t i = 0; i < a->ops.len; i++) a->ops.at[i].low = true;
  for (uint32_t i = 0; i < a->reads.len; i++) {
    AssignRead *r = &a->reads.at[i];
    bool low = r->need == NEED_low || r->need == NEED_op;
    r->low = low || (r->need == NEED_any && !a->values.at[r->value].f32);
  }
}

/* ---- what an assignment is worth ------------------------------------------------------------- */

int64_t assign_cost(const Assign *a) {
  int64_t cost = 0;
  for (uint32_t v = 0; v < a->values.len; v++) {
    const AssignValue *x = &a->values.at[v];
    cost += (x->f32 ? write_f32(a, x) : 0) + (x->low ? write_low(a, x->count) : 0);
    if (x->f32 && x->low && x->apart) cost += cast_apart(a, x->count);
  }
  for (uint32_t i = 0; i < a->reads.len; i++) {
    const AssignRead *r = &a->reads.at[i];
    bool casts = r->sole && r->need == NEED_low && a->values.at[r->value].f32;
    cost += casts    ? cast_here(a, r->count)
            : r->low ? read_low(a, r->count, r->need)
                     : read_f32(a, r->count);
  }
  for (uint32_t i = 0; i < a->ops.len; i++)
    cost += a->ops.at[i].low ? a->ops.at[i].low_time : a->ops.at[i].f32_time;
  return cost;
}

static bool read_holds(const Assign *a, const AssignRead *r) {
  const AssignValue *x = &a->values.at[r->value];
  if (r->need == NEED_op && r->low != a->ops.at[r->op].low) return false;
  if (r->need == NEED_low && !r->low) return false;
  if (r->need == NEED_f32 && r->low) return false;
  if (r->sole && r->need == NEED_low) return true; /* it makes its own of either */
  if (r->sole && r->low == x->f32) return false;
  return r->low ? x->low : x->f32;
}

/* The op that makes it, if any, computes in f32. */
static bool made_f32(const Assign *a, const AssignValue *x) {
  return x->asks && !a->ops.at[x->op].low;
}

bool assign_holds(const Assign *a) {
  Arena scratch = {0};
  bool *wide = NEW_ARRAY(&scratch, bool, a->values.len), ok = true;
  for (uint32_t v = 0; v < a->values.len; v++) {
    const AssignValue *x = &a->values.at[v];
    wide[v] = x->wide || made_f32(a, x);
    ok &= x->f32 || (x->low && !x->given && !made_f32(a, x));
  }
  for (uint32_t i = 0; i < a->rules.len; i++)
    if (!a->reads.at[a->rules.at[i].read].low) wide[a->rules.at[i].value] = true;
  for (uint32_t i = 0; i < a->reads.len; i++) {
    const AssignRead *r = &a->reads.at[i];
    ok &= read_holds(a, r) && !(r->need == NEED_any && wide[r->value] && r->low);
  }
  arena_free(&scratch);
  return ok;
}
