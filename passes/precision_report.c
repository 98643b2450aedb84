/* precision_report.c: what was decided, for people: a row a kernel, and what it moves beside
 * all-f32 and the greedy baseline.  All numbers are read off graphs, not off the problem that was
 * solved.
 */
#include "passes/precision.h"

#include <string.h>

/* ---- what a graph moves ---------------------------------------------------------------------- */

static int64_t kernel_bytes(const Graph *g, const Node *k) {
  int64_t bytes = 0;
  for (uint32_t i = 0; i < k->nops; i++) bytes += (int64_t)value_bytes(g, k->ops[i]);
  for (uint32_t i = 0; i < k->nres; i++) bytes += (int64_t)value_bytes(g, k->res + i);
  return bytes;
}

static uint32_t kernel_casts(const Graph *g, const Node *k) {
  const NodeIds *nodes = &g->blocks.at[k->blocks[0]].nodes;
  uint32_t casts = 0;
  for (uint32_t i = 0; i < nodes->len; i++) casts += g->nodes.at[nodes->at[i]].op == OP_cast_policy;
  return casts;
}

static bool is_cast(const Graph *g, ValueId v) {
  const Node *n = value_node(g, v);
  return n && n->op == OP_cast_policy;
}

/* Is result i a copy of another result? */
static bool is_copy(const Graph *g, const ValueIds *results, uint32_t i) {
  if (!is_cast(g, results->at[i])) return false;
  for (uint32_t j = 0; j < results->len; j++)
    if (results->at[j] == value_node(g, results->at[i])->ops[0]) return true;
  return false;
}

/* All that a kernel moves which does nothing but cast; of any other, the copies it writes. */
static int64_t kernel_cast_bytes(const Graph *g, const Node *k) {
  const Block *body = &g->blocks.at[k->blocks[0]];
  int64_t bytes = 0;
  if (body->nodes.len == 1 && is_cast(g, body->results.at[0])) return kernel_bytes(g, k);
  for (uint32_t i = 0; i < body->results.len; i++)
    if (is_copy(g, &body->results, i)) bytes += (int64_t)value_bytes(g, k->res + i);
  return bytes;
}

/* Each kernel reads every operand once and writes every result once, trips times. */
static void add_moved(const Graph *g, BlockId block, int64_t trips, PrecisionMoves *m) {
  const NodeIds *nodes = &g->blocks.at[block].nodes;
  for (uint32_t i = 0; i < nodes->len; i++) {
    const Node *n = &g->nodes.at[nodes->at[i]];
    if (n->op == OP_loop) add_moved(g, n->blocks[0], trips * node_int(n, AT_trip, 1), m);
    if (n->op != OP_kernel) continue;
    m->kernels++;
    m->casts += kernel_casts(g, n);
    m->bytes += kernel_bytes(g, n) * trips;
    m->cast_bytes += kernel_cast_bytes(g, n) * trips;
  }
}

PrecisionMoves precision_moves(const Graph *g, uint32_t entry) {
  PrecisionMoves m = {0};
  add_moved(g, g->entries.at[entry].body, 1, &m);
  return m;
}

/* ---- rows ------------------------------------------------------------------------------------ */

typedef struct Rows {
  const Precision *s;
  PrecisionReport *report;
  uint32_t entry;
} Rows;

/* "net.0" of "net.0.weight:bf16". */
static const char *module_of(Arena *a, const char *path) {
  size_t n = strcspn(path, ":");
  while (n && path[n - 1] != '.') n--;
  return arena_text(a, path, n ? n - 1 : 0);
}

/* Of the first state that the kernel reads or writes; "": of none. */
static const char *path_of(const Rows *r, const Node *k) {
  const Graph *g = r->s->g;
  const Entry *e = &g->entries.at[r->entry];
  for (uint32_t i = 0; i < k->nops; i++) {
    ValueId v = precision_origin(r->s, k->ops[i]).value;
    Value at = g->values.at[v];
    if (at.node != NO_ID || at.block != e->body) continue;
    Port port = e->args.at[at.index];
    if (port.role == ARG_state && strchr(port.name, '.'))
      return module_of(r->report->arena, port.name);
  }
  return "";
}

/* "bf16 f32": the float types among n values from v on, or of ops; "-": none. */
static const char *types_of(const Rows *r, uint32_t n, const ValueId *ops, ValueId v) {
  bool seen[DT_COUNT] = {false};
  Text t = {.arena = r->report->arena};
  for (uint32_t i = 0; i < n; i++) {
    DType d = (DType)value_type(r->s->g, ops ? ops[i] : v + i).dtype;
    if (dtype_kind[d] != 'f' || seen[d]) continue;
    text_printf(&t, "%s%s", t.len ? " " : "", dtype_name[d]);
    seen[d] = true;
  }
  return t.len ? t.at : "-";
}

/* The op that a kernel is there for: that of its form, else the one that makes its first result. */
static Op op_of(const Graph *g, const Node *k) {
  const Block *body = &g->blocks.at[k->blocks[0]];
  for (uint32_t i = 0; i < body->nodes.len; i++) {
    Op op = g->nodes.at[body->nodes.at[i]].op;
    if (op_form[op] != FORM_map && node_is_kernel(k, op_form[op])) return op;
  }
  const Node *n = value_node(g, body->results.at[0]);
  while (n && n->op == OP_cast_policy && value_node(g, n->ops[0])) n = value_node(g, n->ops[0]);
  return n ? n->op : OP_kernel;
}

static const char REGION_F32[] = "region: f32";

static bool is_kept_f32(const Precision *s, const Node *n) {
  return node_attr(n, AT_prec) && precision_of(s, n) == DT_f32;
}

/* Of a kernel none of whose results was a question. */
static const char *why_not_asked(const Rows *r, const Node *k) {
  const Graph *g = r->s->g;
  for (uint32_t i = 0; i < k->nres; i++) {
    const Node *n = made_by(g, k->res + i);
    DType d = (DType)value_type(g, k->res + i).dtype;
    if (dtype_kind[d] != 'f') continue;
    if (n && n->op == OP_cast_policy && !value_node(g, n->ops[0]))
      return "cast: once, for all who read it";
    if (n && n->op == OP_cast_policy) n = value_node(g, n->ops[0]);
    if (n && r->s->type != DT_f32 && stores_f32(n->op)) return RULE_STORED_F32;
    if (n && is_kept_f32(r->s, n)) return REGION_F32;
    return r->s->type == DT_f32 ? "user: f32" : "rule: states and results are f32";
  }
  return "rule: no floats";
}

/* ---- fp8 ------------------------------------------------------------------------------------- */

/* The slot whose scale v is made of, or NULL. */
static const Fp8Slot *slot_of(const Rows *r, ValueId v, int depth) {
  const Graph *g = r->s->g;
  v = value_source(g, v, false);
  const Node *n = value_node(g, v);
  const State *state = argument_state(g, v);
  const Fp8Slot *found = state ? graph_scaled_slot(g, state->path) : NULL;
  for (uint32_t i = 0; n && depth && i < n->nops && !found; i++)
    found = slot_of(r, n->ops[i], depth - 1);
  return found;
}

/* Why a result is fp8: the recipe, and the slot where it has one; "": it is not. */
static const char *why_fp8(const Rows *r, ValueId v) {
  enum { DEPTH = 4 }; /* between a scale and its state stands the loss scale at most */
  const Graph *g = r->s->g;
  const Node *n = made_by(g, v);
  if (dtype_bytes[value_type(g, v).dtype] != 1 || !n || n->op != OP_saturate) return "";
  Fp8Recipe recipe = fp8_recipe(g->train.precision);
  const Fp8Slot *slot = slot_of(r, n->ops[1], DEPTH);
  return arena_printf(r->report->arena, "user: %s%s%s",
                      recipe == FP8_RECIPES ? "fp8" : fp8_recipe_written[recipe],
                      slot ? ", slot " : "", slot ? slot->name : "");
}

static const char *with_fp8(const Rows *r, const Node *k, const char *why) {
  for (uint32_t i = 0; i < k->nres; i++) {
    const char *more = why_fp8(r, k->res + i);
    if (!*more) continue;
    why = why ? arena_printf(r->report->arena, "%s; %s", why, more) : more;
  }
  return why;
}

/* ---- regions --------------------------------------------------------------------------------- */

/* A product that reads f32 says why, whatever its kernel stores. */
static const char *with_region(const Rows *r, const Node *k, const char *why) {
  const NodeIds *body = &r->s->g->blocks.at[k->blocks[0]].nodes;
  for (uint32_t i = 0; i < body->len; i++) {
    const Node *n = &r->s->g->nodes.at[body->at[i]];
    if (op_form[n->op] != FORM_gemm || !is_kept_f32(r->s, n)) continue;
    if (strstr(why, REGION_F32) || strstr(why, CUT_F32)) return why;
    return arena_printf(r->report->arena, "%s; %s", REGION_F32, why);
  }
  return why;
}

static const char *recipe_of(const Graph *g, Arena *arena) {
  Text t = {.arena = arena};
  Fp8Recipe recipe = fp8_recipe(g->train.precision);
  if (recipe == FP8_RECIPES) return NULL;
  const char *written = fp8_recipe_written[recipe];
  if (!g->slots.len) return written;
  text_add_n(&t, written, strlen(written) - 1); /* numbers go in front of the `)` */
  for (int i = 0; i < FP8_FIELDS; i++) {
    const char *at = (const char *)&g->train.delayed + fp8_field[i].offset;
    text_printf(&t, ", %s: %g", fp8_field[i].name, *(const double *)(const void *)at);
  }
  text_add(&t, ")");
  return t.at;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void add_row(Rows *r, NodeId id, int64_t trips) {
  const Graph *g = r->s->g;
  const Node *k = &g->nodes.at[id];
  const char *why = with_fp8(r, k, id < r->s->nodes ? r->s->node_why[id] : NULL);
  why = with_region(r, k, why ? why : why_not_asked(r, k));
  PrecisionRow row = {.entry = g->entries.at[r->entry].name,
                      .path = k->loc.module ? k->loc.module : path_of(r, k),
                      .op = op_name[op_of(g, k)],
                      .loc = k->loc,
                      .load = types_of(r, k->nops, k->ops, NO_ID),
                      .store = types_of(r, k->nres, NULL, k->res),
                      .why = arena_text(r->report->arena, why, strlen(why)),
                      .casts = kernel_casts(g, k),
                      .bytes = kernel_bytes(g, k) * trips};
  row.math = strcmp(row.load, "-") || strcmp(row.store, "-") ? dtype_name[DT_f32] : "-";
  vec_push(r->report->arena, &r->report->rows, row);
}

static void add_rows(Rows *r, BlockId block, int64_t trips) {
  const Graph *g = r->s->g;
  for (uint32_t i = 0; i < g->blocks.at[block].nodes.len; i++) {
    NodeId id = g->blocks.at[block].nodes.at[i];
    const Node *n = &g->nodes.at[id];
    if (n->op == OP_kernel) add_row(r, id, trips);
    else if (n->op == OP_loop) add_rows(r, n->blocks[0], trips * node_int(n, AT_trip, 1));
  }
}

void precision_report(const Precision *s, PrecisionReport *report) {
  report->recipe = recipe_of(s->g, report->arena);
  for (uint32_t i = 0; i < s->g->slots.len; i++)
    vec_push(report->arena, &report->slots, s->g->slots.at[i]);
  report->master = s->g->train.master ? s->g->train.master : "f32";
  for (uint32_t e = 0; e < s->g->entries.len; e++) {
    EntryKind kind = s->g->entries.at[e].kind;
    if (kind == ENTRY_init || kind == ENTRY_derive) continue;
    Rows r = {s, report, e};
    add_rows(&r, s->g->entries.at[e].body, 1);
  }
}

/* The reasons of a kernel's results, each said once. */
void note_reasons(Precision *s) {
  for (ValueId v = 0; v < s->values; v++) {
    Value at = s->g->values.at[v];
    if (!s->why[v] || at.node == NO_ID) continue;
    const char **why = &s->node_why[at.node];
    if (!*why) *why = s->why[v];
    else if (!strstr(*why, s->why[v])) *why = arena_printf(s->arena, "%s; %s", *why, s->why[v]);
  }
}
