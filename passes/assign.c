/* assign.c: copies of values and their reads at least cost, as a minimum cut.
 *
 * Every variable says "f32" (1, the sink's side) or "low" (0, the source's side):
 *
 *   F  of a value: 1, it has an f32 copy               4 bytes an element
 *   N  of a value: 0, it has a low copy (1: none)      2 bytes an element; where that takes a
 * kernel of its own, 4 more if F = 1 W  of a value: 1, it is wide                       nothing R
 * of a read that can choose: 1, it reads f32      4 bytes an element, 2 if R = 0
 *
 * All rules are implications of the form "if a then b", an edge b → a that cannot be cut:
 *
 *   R → F      who reads f32 finds a copy               N → R     who reads low finds one
 *   N → F      there is at least one                    W → R     what is wide is read as f32
 *   R → W'     an op's result is at least as wide as what it reads
 *
 * Reads that cannot choose fix F or N.  A read that sees one copy only has R = F.  So all terms are
 * submodular and the cut is exact; F and N apart are what lets both copies exist, paid once each.
 */
#include "passes/assign.h"

#include "passes/maxflow.h"

enum { SOURCE, SINK, FIRST }; /* nodes of the network */
enum { LOW_BYTES = 2, F32_BYTES = 4, BOTH_BYTES = LOW_BYTES + F32_BYTES };

static uint32_t node_f32(uint32_t value) { return FIRST + 3 * value; }
static uint32_t node_none(uint32_t value) { return FIRST + 3 * value + 1; }
static uint32_t node_wide(uint32_t value) { return FIRST + 3 * value + 2; }
static uint32_t node_read(const Assign *a, uint32_t read) {
  const AssignRead *r = &a->reads.at[read];
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
  costs(f, node_f32(v), 0, F32_BYTES * x->count);
  costs(f, node_none(v), LOW_BYTES * x->count, 0);
  if (x->apart) flow_edge(f, node_none(v), node_f32(v), F32_BYTES * x->count);
  implies(f, node_none(v), node_f32(v));
  if (x->wide) is_f32(f, node_wide(v));
}

static void add_read(const Assign *a, uint32_t i, Flow *f) {
  const AssignRead *r = &a->reads.at[i];
  uint32_t x = node_read(a, i);
  if (r->need == NEED_f32) is_f32(f, node_f32(r->value));
  else if (r->need == NEED_any) {
    costs(f, x, LOW_BYTES * r->count, F32_BYTES * r->count);
    implies(f, x, node_f32(r->value));
    implies(f, node_none(r->value), x);
    implies(f, node_wide(r->value), x);
  } else if (r->sole) costs(f, x, LOW_BYTES * r->count, (BOTH_BYTES + LOW_BYTES) * r->count);
  else is_low(f, node_none(r->value));
}

static bool reads_low(const Assign *a, uint32_t i, const Flow *f) {
  const AssignRead *r = &a->reads.at[i];
  if (r->need != NEED_any) return r->need == NEED_low;
  return flow_reaches(f, node_read(a, i));
}

int64_t assign_cut(Assign *a) {
  Flow f = flow_new(a->arena, FIRST + 3 * a->values.len + a->reads.len);
  for (uint32_t v = 0; v < a->values.len; v++) add_value(a, v, &f);
  for (uint32_t i = 0; i < a->reads.len; i++) add_read(a, i, &f);
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
  for (uint32_t i = 0; i < a->reads.len; i++) a->reads.at[i].low = reads_low(a, i, &f);
  return assign_cost(a);
}

/* ---- the baseline ---------------------------------------------------------------------------- */

/* Low alone where no rule and no reader says f32; else f32, and low beside it for who needs that.
 */
void assign_greedy(Assign *a) {
  uint32_t n = a->values.len, rule = 0;
  bool *wanted = NEW_ARRAY(a->arena, bool, n), *refused = NEW_ARRAY(a->arena, bool, n);
  for (uint32_t i = 0; i < a->reads.len; i++) {
    const AssignRead *r = &a->reads.at[i];
    if (r->need == NEED_f32) refused[r->value] = true;
    if (r->need == NEED_low && !r->sole) wanted[r->value] = true;
  }
  for (uint32_t v = 0; v < n; v++) {
    AssignValue *x = &a->values.at[v];
    x->f32 = x->wide || refused[v];
    for (; rule < a->rules.len && a->rules.at[rule].value == v; rule++) {
      const AssignRead *r = &a->reads.at[a->rules.at[rule].read];
      if (r->need == NEED_f32 || a->values.at[r->value].f32) x->f32 = true;
    }
    x->low = !x->f32 || wanted[v];
  }
  for (uint32_t i = 0; i < a->reads.len; i++) {
    AssignRead *r = &a->reads.at[i];
    r->low = r->need == NEED_low || (r->need == NEED_any && !a->values.at[r->value].f32);
  }
}

/* ---- what an assignment is worth ------------------------------------------------------------- */

int64_t assign_cost(const Assign *a) {
  int64_t cost = 0;
  for (uint32_t v = 0; v < a->values.len; v++) {
    const AssignValue *x = &a->values.at[v];
    cost += x->count * ((x->f32 ? F32_BYTES : 0) + (x->low ? LOW_BYTES : 0));
    if (x->f32 && x->low && x->apart) cost += x->count * F32_BYTES;
  }
  for (uint32_t i = 0; i < a->reads.len; i++) {
    const AssignRead *r = &a->reads.at[i];
    cost += r->count * (r->low ? LOW_BYTES : F32_BYTES);
    if (r->sole && r->need == NEED_low && a->values.at[r->value].f32) cost += r->count * BOTH_BYTES;
  }
  return cost;
}

static bool read_holds(const Assign *a, const AssignRead *r) {
  const AssignValue *x = &a->values.at[r->value];
  if (r->need != NEED_any && r->low != (r->need == NEED_low)) return false;
  if (r->sole && r->need == NEED_low) return true; /* it makes its own of either */
  if (r->sole && r->low == x->f32) return false;
  return r->low ? x->low : x->f32;
}

bool assign_holds(const Assign *a) {
  Arena scratch = {0};
  bool *wide = NEW_ARRAY(&scratch, bool, a->values.len), ok = true;
  for (uint32_t v = 0; v < a->values.len; v++) {
    wide[v] = a->values.at[v].wide;
    ok &= a->values.at[v].f32 || a->values.at[v].low;
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
