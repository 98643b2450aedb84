/* values.c: which values a step leaves in memory, and what they are called: `mpcc --with-values`.
 *
 * Named are the floats that kernels store on the way from inputs to losses and metrics
 * (`forward`), from there to the gradients (`backward`), and the gradients themselves (`gradient`,
 * by their parameter):
 *
 *     forward net.0 matmul mlp.mp:9 #0 bf16
 *
 * that is phase, module, op, place, which of those that are alike so far, storage type.  All but
 * the type is the same under every precision, since kernels are grouped before storage types are
 * chosen: so values of two programs can be matched.  What the optimizer does has no names, nor have
 * fp8 codes, which mean nothing without their scale.  A value inside a loop is that of the last
 * iteration. */
#include "passes/pass.h"

#include <stdlib.h>
#include <string.h>

typedef struct Values {
  Graph *g;
  Program *p;
  const Diag *diag;
  uint32_t entry;
  bool *wanted;          /* by value: a loss or metric depends on it */
  const char **gradient; /* by value: path of the parameter whose gradient it is */
  uint32_t *index;       /* by value: its number among named, NO_ID: none */
  VEC(NodeId) made;      /* by named: the node that computes it */
  VEC(ProgramValue) named;
} Values;

/* ---- what depends on what -------------------------------------------------------------------- */

static void mark_back(const Graph *g, BlockId block, bool *m);

/* marks of a region's results go in, those of its arguments come out */
static void mark_region(const Graph *g, const Node *n, bool *m) {
  const Block *body = &g->blocks.at[n->blocks[0]];
  uint32_t first = n->op == OP_loop, carries = (uint32_t)node_int(n, AT_carries, 0);
  for (uint32_t k = 0; k < n->nres; k++) m[body->results.at[k]] |= m[n->res + k];
  mark_back(g, n->blocks[0], m);
  for (uint32_t k = 0; n->op == OP_loop && k < carries; k++)
    m[body->results.at[k]] |= m[body->args.at[k + 1]];
  if (carries) mark_back(g, n->blocks[0], m);
  for (uint32_t k = 0; k < n->nops; k++) m[n->ops[k]] |= m[body->args.at[k + first]];
}

static void mark_back(const Graph *g, BlockId block, bool *m) {
  const NodeIds *nodes = &g->blocks.at[block].nodes;
  for (uint32_t i = nodes->len; i-- > 0;) {
    const Node *n = &g->nodes.at[nodes->at[i]];
    bool wanted = false;
    for (uint32_t k = 0; k < n->nres; k++) wanted |= m[n->res + k];
    if (wanted && n->nblocks) mark_region(g, n, m);
    for (uint32_t k = 0; wanted && !n->nblocks && k < n->nops; k++) m[n->ops[k]] = true;
  }
}

/* ---- gradients ------------------------------------------------------------------------------- */

/* Where a value that a kernel's block sees comes from. */
static ValueId outside(const Graph *g, ValueId v) {
  for (;;) {
    v = view_source(g, v);
    Value at = g->values.at[v];
    NodeId owner = at.node == NO_ID ? g->blocks.at[at.block].owner : NO_ID;
    if (owner == NO_ID || g->nodes.at[owner].op != OP_kernel) return v;
    v = g->nodes.at[owner].ops[at.index];
  }
}

/* The gradient g of what the guard (step_guard.c) asks: are all of x = c·g finite? */
static ValueId guarded(const Graph *g, ValueId v) {
  for (;;) {
    v = outside(g, v);
    const Node *n = value_node(g, v);
    if (!n || n->op == OP_loop) return v;
    if (n->op == OP_kernel) {
      if (value_is_float(g, v)) return v;
      v = g->blocks.at[n->blocks[0]].results.at[g->values.at[v].index];
      continue;
    }
    uint32_t operand = 0;
    while (n->op == OP_mul && operand < 2) {
      const Node *x = value_node(g, n->ops[operand]);
      if (!x || (x->op != OP_broadcast && x->op != OP_constant)) break;
      operand++;
    }
    if (operand == n->nops || !n->nops) return NO_ID;
    bool is_float = value_is_float(g, v);
    if (is_float && n->op != OP_mul && n->op != OP_reshape) return v;
    v = n->ops[operand];
  }
}

/* The stored value that holds what v, inside a kernel, is. */
static ValueId stored(const Graph *g, ValueId v) {
  BlockId block = value_block(g, v);
  NodeId owner = g->blocks.at[block].owner;
  if (owner == NO_ID || g->nodes.at[owner].op != OP_kernel) return v;
  for (uint32_t k = 0; k < g->nodes.at[owner].nres; k++)
    if (g->blocks.at[block].results.at[k] == v) return g->nodes.at[owner].res + k;
  return NO_ID;
}

static void find_gradients(Values *s, const Entry *e, const Block *body) {
  for (uint32_t i = 0; i < e->results.len; i++) {
    const Port *p = &e->results.at[i];
    if (p->role != RES_finite || strncmp(p->name, "grad:", 5)) continue;
    ValueId v = guarded(s->g, body->results.at[i]);
    if (v != NO_ID) v = stored(s->g, v);
    if (v != NO_ID) s->gradient[v] = p->name + 5;
  }
}

static void find_wanted(Values *s, const Entry *e, const Block *body) {
  for (uint32_t i = 0; i < e->results.len; i++) {
    ResRole role = (ResRole)e->results.at[i].role;
    if (role == RES_loss || role == RES_metric || role == RES_weight)
      s->wanted[body->results.at[i]] = true;
  }
  mark_back(s->g, e->body, s->wanted);
}

/* ---- names ----------------------------------------------------------------------------------- */

static const char *place(Values *s, Loc loc) {
  const char *name = loc.source < s->diag->sources.len ? s->diag->sources.at[loc.source].name : "";
  if (!loc.line) return "-";
  char *text = arena_printf(s->g->arena, "%s:%u", path_base(name), (unsigned)loc.line);
  for (char *c = text; *c; c++)
    if (*c == ' ') *c = '_'; /* names are words */
  return text;
}

/* The node that computes v: in a kernel, behind the cast that stores it. */
static NodeId maker(const Graph *g, ValueId v) {
  const Node *n = value_node(g, v);
  while (n->op == OP_kernel || n->op == OP_cast_policy || n->op == OP_reshape) {
    ValueId from = n->op == OP_kernel ? g->blocks.at[n->blocks[0]].results.at[g->values.at[v].index]
                                      : n->ops[0];
    if (!value_node(g, from)) from = outside(g, from);
    if (!value_node(g, from)) break;
    v = from;
    n = value_node(g, v);
  }
  return (NodeId)(n - g->nodes.at);
}

static bool can_be_seen(const Values *s, ValueId v) {
  DType d = (DType)value_type(s->g, v).dtype;
  return dtype_kind[d] == 'f' && dtype_bytes[d] > 1 && s->p->buffer[v].space == SPACE_ARENA;
}

static void add_value(Values *s, ValueId v) {
  Graph *g = s->g;
  NodeId by = maker(g, v);
  const Node *n = &g->nodes.at[by];
  const char *of = s->gradient[v];
  if (!can_be_seen(s, v) || !(of || n->loc.backward || s->wanted[v])) return;
  const char *phase = of ? "gradient" : n->loc.backward ? "backward" : "forward";
  const char *module = n->loc.module ? n->loc.module : value_node(g, v)->loc.module;
  const char *path = of ? of : module ? module : "-"; /* of a relu behind net.0: net.0 */
  ProgramValue x = {.value = v, .entry = s->entry};
  x.name = arena_printf(g->arena, "%s %s %s %s", phase, path, op_name[n->op], place(s, n->loc));
  s->index[v] = s->named.len;
  vec_push(g->arena, &s->named, x);
  vec_push(g->arena, &s->made, by);
}

/* Those alike are counted in the order the graph was written in, which no storage type changes. */
static uint32_t number_of(const Values *s, uint32_t i) {
  uint32_t n = 0;
  for (uint32_t k = 0; k < s->named.len; k++)
    n += s->made.at[k] < s->made.at[i] && !strcmp(s->named.at[k].name, s->named.at[i].name);
  return n;
}

/* What has no name (fp8 codes) stands for what it was made of. */
static void add_reads(Values *s, NodeId kernel, bool *seen, Text *out) {
  const Node *k = &s->g->nodes.at[kernel];
  for (uint32_t i = 0; k->op == OP_kernel && i < k->nops; i++) {
    ValueId from = view_source(s->g, k->ops[i]);
    if (seen[from]) continue;
    seen[from] = true;
    NodeId by = s->g->values.at[from].node;
    if (s->index[from] != NO_ID) text_printf(out, "%s%u", out->len ? " " : "", s->index[from]);
    else if (by != NO_ID) add_reads(s, by, seen, out);
  }
}

/* "3 17": the values with a name that went into what makes v. */
static const char *reads_of(Values *s, ValueId v, Arena *scratch) {
  Text t = {.arena = s->g->arena};
  text_add(&t, "");
  add_reads(s, s->g->values.at[v].node, NEW_ARRAY(scratch, bool, s->g->values.len), &t);
  return t.at;
}

static void add_entry(Values *s) {
  const ProgramEntry *e = &s->p->entries[s->entry];
  const Entry *entry = &s->g->entries.at[s->entry];
  find_gradients(s, entry, &s->g->blocks.at[entry->body]);
  find_wanted(s, entry, &s->g->blocks.at[entry->body]);
  for (uint32_t i = 0; i < e->steps.len; i++) {
    const Node *n = &s->g->nodes.at[e->steps.at[i].node];
    if (e->steps.at[i].kind == STEP_open) continue;
    for (uint32_t k = 0; k < n->nres; k++)
      if (n->op == OP_kernel || s->gradient[n->res + k]) add_value(s, n->res + k);
  }
}

void program_name_values(Program *p, PassCtx *ctx) {
  Graph *g = p->g;
  Values s = {.g = g, .p = p, .diag = ctx->diag};
  s.wanted = NEW_ARRAY(ctx->arena, bool, g->values.len);
  s.gradient = NEW_ARRAY(ctx->arena, const char *, g->values.len);
  s.index = NEW_ARRAY(ctx->arena, uint32_t, g->values.len);
  for (ValueId v = 0; v < g->values.len; v++) s.index[v] = NO_ID;
  for (s.entry = 0; s.entry < g->entries.len; s.entry++)
    if (g->entries.at[s.entry].kind == ENTRY_step) add_entry(&s);
  uint32_t *number = NEW_ARRAY(ctx->arena, uint32_t, s.named.len + 1);
  for (uint32_t i = 0; i < s.named.len; i++) number[i] = number_of(&s, i);
  for (uint32_t i = 0; i < s.named.len; i++) {
    ProgramValue *x = &s.named.at[i];
    DType d = (DType)value_type(g, x->value).dtype;
    x->name = arena_printf(g->arena, "%s #%u %s", x->name, (unsigned)number[i], dtype_name[d]);
    x->reads = reads_of(&s, x->value, ctx->arena);
    vec_push(g->arena, &p->values, *x);
  }
}
