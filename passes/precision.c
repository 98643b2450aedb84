/* precision.c: the storage type of every value that crosses a kernel border, and the casts.
 *
 * Groups are fixed; inside one everything is f32.  A value in memory is f32 or low (bf16, f16), or
 * there is a copy of each.  Every node works in one type: that of its attribute `prec`, else the
 * program's.  Where it is low, what column PREC of ops.def says it loads low (a matmul's operands,
 * a table that is looked up in) it loads low, always; everything else it can read in either form.
 * Which copies there are and who reads which is the least-cost assignment under these rules
 * (precision_assign.c builds the problem, assign.c solves it):
 *
 * - what an op of another type reads is f32, and so are results of the entry and what a loop
 *   carries: masters, moments, anything the optimizer computes;
 * - some values are *wide*: who can read f32 does (wide_because: what the op's triple stores in
 *   f32, weight gradients, what is neither activation nor loaded low, in f16 what a constant went
 *   into that f16 takes for infinity or zero, under `residual f32` a sum of a value and what was
 *   computed from it);
 * - an op whose PREC says `widest` and which reads an operand of its own size as f32 gives a wide
 *   value.  What an entry is given widens nothing: it is f32 by nature, not by decision.  Nor does
 *   anything widen the residual stream: without `residual f32` that is low.
 *
 * A low value is written by its kernel through `cast.policy` and read through another; a matmul
 * reads it as it is.  Both copies are written by the kernel that makes the value; where it cannot
 * (a scatter) or where none does (an input), a kernel casts once for all readers.  Of a parameter
 * the low form is a derived state, `PATH:bf16`; every entry that writes the master writes the copy
 * in the same kernel, and the entry `derive` makes it anew after init, load or set.  A kernel that
 * takes a part of a parameter takes it of the copy (precision_move.c).  So no step casts a weight;
 * nor does a loop, to which the form is one more invariant.  After this pass every
 * rounding is meaning: nobody adds, moves or drops a cast.
 */
#include "passes/precision.h"

#include <string.h>

typedef enum Prec {
  PREC_none,
  PREC_any,
  PREC_low,
  PREC_f32,
  PREC_stored,
  PREC_follow,
  PREC_widest,
  PREC_integer
} Prec;

typedef struct PrecRow {
  uint8_t load, math, store;
} PrecRow;

static const PrecRow prec[OP_COUNT] = {
#define OP(name, doc) [OP_##name] =
#define PREC(load, math, store) {PREC_##load, PREC_##math, PREC_##store},
#include "ir/ops.def"
};

const DType low_type[LOWS] = {[LOW_bf16] = DT_bf16, [LOW_f16] = DT_f16};

int work_bit(DType t) {
  for (int low = 0; low < LOWS; low++)
    if (low_type[low] == t) return 1 << low;
  return WORK_f32;
}

/* The node inside the kernel that computes result v. */
const Node *made_by(const Graph *g, ValueId v) {
  const Node *k = value_node(g, v);
  if (!k || k->op != OP_kernel) return NULL;
  return value_node(g, g->blocks.at[k->blocks[0]].results.at[g->values.at[v].index]);
}

/* ---- what nodes want ------------------------------------------------------------------------- */

DType precision_type(const char *word) {
  if (!word) return DT_f32;
  if (fp8_recipe(word) != FP8_RECIPES) return DT_bf16; /* what pass `fp8` left */
  for (int low = 0; low < LOWS; low++)
    if (!strcmp(word, dtype_name[low_type[low]])) return low_type[low];
  return DT_f32;
}

DType node_precision(const Graph *g, const Node *n) {
  return precision_type(node_text(n, AT_prec, g->train.precision));
}

/* The same, without looking at the program's word each time. */
DType precision_of(const Precision *s, const Node *n) {
  const char *word = node_text(n, AT_prec, NULL);
  return word ? precision_type(word) : s->type;
}

/* An optional operand is one. */
bool is_accumulator(Op op, uint32_t operand) {
  for (const OpArg *a = op_args[op]; a->kind != ARG_END; a++) {
    if (a->kind != ARG_IN && a->kind != ARG_OPT) continue;
    if (!operand--) return a->kind == ARG_OPT;
  }
  return false;
}

bool loads_low(const Node *n, uint32_t j) {
  return prec[n->op].load == PREC_low && !is_accumulator(n->op, j);
}

bool takes_low(const Node *n, uint32_t j) { return loads_low(n, j) && op_form[n->op] == FORM_gemm; }

/* ---- who reads a value ----------------------------------------------------------------------- */

/* chosen: set of Low, what the kernel reads v as where its op may choose. */
static void note_reader(Precision *s, ValueId v, const Node *n, uint32_t operand, uint8_t chosen) {
  Readers *r = &s->readers[v];
  int work = work_bit(precision_of(s, n));
  if (work != WORK_f32 && loads_low(n, operand)) r->asked |= (uint8_t)work;
  else if (chosen) r->asked |= chosen;
  else r->other = true;
}

static void note_f32(Precision *s, ValueId v) { s->readers[v].other = true; }

/* Reported once. */
static void check_scaled(Precision *s, const Node *n) {
  if (!s->unscaled || precision_of(s, n) != DT_f16) return;
  diag_error(s->unscaled, n->loc,
             "f16 without a loss scale: add one in train, `precision W scale(dynamic)`");
  s->unscaled = NULL;
}

static void note_kernel(Precision *s, NodeId id) {
  const Graph *g = s->g;
  const Node *k = &g->nodes.at[id];
  const Block *body = &g->blocks.at[k->blocks[0]];
  for (uint32_t i = 0; i < body->nodes.len; i++) {
    const Node *n = &g->nodes.at[body->nodes.at[i]];
    check_scaled(s, n);
    for (uint32_t j = 0; j < n->nops; j++) {
      Value v = g->values.at[n->ops[j]];
      if (v.node == NO_ID) note_reader(s, k->ops[v.index], n, j, *read_choice(s, id, v.index));
    }
  }
  for (uint32_t i = 0; i < body->results.len; i++) {
    Value v = g->values.at[body->results.at[i]];
    if (v.node == NO_ID) note_f32(s, k->ops[v.index]);
  }
}

static void note_through(Precision *s, ValueId from, ValueId to) {
  Readers *r = &s->readers[to], of = s->readers[from];
  *r = (Readers){r->asked | of.asked, r->other || of.other};
}

static void find_readers(Precision *s, BlockId block);

/* Is all there will be of what v shows one low copy? */
static bool is_alone(const Precision *s, ValueId v) {
  return s->alone[precision_origin(s, v).value] != 0;
}

/* A loop's block reads slices and invariants, each under an argument; carries stay f32, and so does
 * what is cut into slices, once it is decided that not all of it is low. */
static void note_loop(Precision *s, const Node *n) {
  int64_t carries = node_int(n, AT_carries, 0), slices = node_int(n, AT_slices, 0);
  find_readers(s, n->blocks[0]);
  for (uint32_t j = 0; j < n->nops; j++)
    if (j < carries) note_f32(s, n->ops[j]);
    else if (j < carries + slices && s->decided && !is_alone(s, n->ops[j])) note_f32(s, n->ops[j]);
    else note_through(s, s->g->blocks.at[n->blocks[0]].args.at[j + 1], n->ops[j]);
}

/* Readers stand behind what they read, so views come before their source. */
static void find_readers(Precision *s, BlockId block) {
  const Graph *g = s->g;
  const Block *b = &g->blocks.at[block];
  for (uint32_t i = 0; i < b->results.len; i++) note_f32(s, b->results.at[i]);
  for (uint32_t i = b->nodes.len; i-- > 0;) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    if (n->op == OP_kernel) note_kernel(s, b->nodes.at[i]);
    else if (n->op == OP_loop) note_loop(s, n);
    else note_through(s, n->res, n->ops[0]);
  }
}

/* ---- which values are wide ------------------------------------------------------------------- */

bool stores_f32(Op op) { return prec[op].store == PREC_f32; }
bool stores_widest(Op op) { return prec[op].store == PREC_widest; }

const char *wide_because(const Precision *s, ValueId v, Low low) {
  const Graph *g = s->g;
  Type t = value_type(g, v);
  const Node *n = made_by(g, v);
  if (op_form[n->op] == FORM_gemm && matmul_is_weight_gradient(g, n))
    return "rule: weight gradient";
  if (stores_f32(n->op) || node_bool(n, AT_wide)) return RULE_STORED_F32;
  if (s->wide_residual && is_residual(s, n)) return "user: residual(f32)";
  if (low == LOW_f16 && s->lost[v]) return "range: a constant f16 cannot hold";
  bool activation = t.rank >= 2 && (t.rows >= 0 || s->varies[v]);
  bool may = activation || s->readers[v].asked >> low & 1 || loads_low(n, 0);
  return may ? NULL : "rule: no activation";
}

/* ---- one entry ------------------------------------------------------------------------------- */

static bool is_stored(const Precision *s, ValueId v, Low low) {
  return v < s->values && s->low_of[low][v] == v;
}

ValueId low_form(Precision *s, ValueId v, Low low, Loc loc) {
  if (v >= s->values) return NO_ID;
  ValueId *form = &s->low_of[low][v];
  if (*form == NO_ID && value_type(s->g, v).dtype == DT_f32) *form = make_low(s, v, low, loc);
  return *form;
}

static void label_operand(Precision *s, NodeId k, uint32_t i) {
  ValueId v = s->g->nodes.at[k].ops[i];
  for (Low low = 0; low < LOWS; low++)
    if (is_stored(s, v, low)) {
      read_low(s, k, i, low);
      return;
    }
  uint8_t chosen = *read_choice(s, k, i);
  for (Low low = 0; low < LOWS; low++)
    if (chosen >> low & 1) {
      ValueId form = low_form(s, v, low, s->g->nodes.at[k].loc);
      s->g->nodes.at[k].ops[i] = form;
      read_low(s, k, i, low);
      return;
    }
  for (Low low = 0; low < LOWS; low++) {
    if (!asks_low(s, k, i, low)) continue;
    ValueId form = low_form(s, v, low, s->g->nodes.at[k].loc);
    if (form != NO_ID) read_low_beside(s, k, i, low, form);
  }
}

static void label_kernel(Precision *s, NodeId k) {
  uint32_t operands = s->g->nodes.at[k].nops;
  for (uint32_t i = 0; i < operands; i++) label_operand(s, k, i);
  for (uint32_t i = 0; i < s->g->nodes.at[k].nres; i++)
    for (Low low = 0; low < LOWS; low++) {
      ValueId v = s->g->nodes.at[k].res + i;
      if (s->alone[v] != 1 << low) continue;
      write_low(s, k, i, low);
      s->low_of[low][v] = v;
    }
}

static void show_low(Precision *s, NodeId view, ValueId form, Low low) {
  Node *n = &s->g->nodes.at[view];
  n->ops[0] = form;
  s->g->values.at[n->res].type.dtype = (uint8_t)low_type[low];
}

/* A view of what is stored low is low; of anything else each form that is asked for has its view,
 * the last the old one if nobody wants that in f32. */
static void label_view(Precision *s, NodeId id) {
  Graph *g = s->g;
  Node n = g->nodes.at[id];
  Readers r = s->readers[n.res];
  bool free = !r.other;
  for (Low low = 0; low < LOWS; low++) {
    bool stored = is_stored(s, n.ops[0], low);
    if (!stored && !(r.asked >> low & 1)) continue;
    ValueId form = low_form(s, n.ops[0], low, n.loc);
    if (form == NO_ID) continue;
    NodeId view = id;
    if (!stored && !(free && r.asked >> low == 1)) {
      Type t = value_type(g, n.res);
      view = graph_add_node(g, s->at->block, OP_reshape, n.loc, 1, &n.ops[0], 1, &t, 0, NULL);
      vec_push(s->arena, &s->at->nodes, view);
    }
    show_low(s, view, form, low);
    s->low_of[low][n.res] = g->nodes.at[view].res;
  }
}

/* Kernels that the pass makes before it decides have reasons, too. */
static void grow_reasons(Precision *s) {
  const char **old = s->node_why;
  if (s->g->nodes.len <= s->nodes) return;
  s->node_why = NEW_ARRAY(s->arena, const char *, s->g->nodes.len);
  memcpy(s->node_why, old, s->nodes * sizeof *old);
  s->nodes = s->g->nodes.len;
}

static void set_up(Precision *s) {
  grow_reasons(s);
  s->values = s->g->values.len;
  s->cost[s->entry] = 0;
  s->moving.len = 0;
  s->readers = NEW_ARRAY(s->arena, Readers, s->values);
  s->alone = NEW_ARRAY(s->arena, uint8_t, s->values);
  s->why = NEW_ARRAY(s->arena, const char *, s->values);
  s->first_choice = NEW_ARRAY(s->arena, uint32_t, s->g->nodes.len);
  uint32_t choices = 0;
  for (NodeId n = 0; n < s->g->nodes.len; n++) {
    s->first_choice[n] = choices;
    choices += s->g->nodes.at[n].nops;
  }
  s->choices = NEW_ARRAY(s->arena, uint8_t, choices);
  s->decided = false;
  for (int low = 0; low < LOWS; low++) {
    s->low_of[low] = NEW_ARRAY(s->arena, ValueId, s->values);
    for (ValueId v = 0; v < s->values; v++) s->low_of[low][v] = NO_ID;
  }
}

static void label_block(Precision *s, BlockId block, NodeId loop);

/* What is stored low outside is low inside. */
static void label_loop(Precision *s, NodeId id) {
  Node n = s->g->nodes.at[id];
  for (uint32_t j = 0; j < n.nops; j++)
    for (Low low = 0; low < LOWS; low++) {
      if (!is_stored(s, n.ops[j], low)) continue;
      ValueId arg = s->g->blocks.at[n.blocks[0]].args.at[j + 1];
      s->g->values.at[arg].type.dtype = (uint8_t)low_type[low];
      s->low_of[low][arg] = arg;
    }
  label_block(s, n.blocks[0], id);
}

static void label_block(Precision *s, BlockId block, NodeId loop) {
  Frame frame = {.block = block, .loop = loop, .outer = s->at};
  uint32_t n = s->g->blocks.at[block].nodes.len;
  s->at = &frame;
  for (uint32_t i = 0; i < n; i++) {
    NodeId id = s->g->blocks.at[block].nodes.at[i];
    Op op = s->g->nodes.at[id].op;
    if (op == OP_kernel) label_kernel(s, id);
    else if (op == OP_loop) label_loop(s, id);
    else label_view(s, id);
    vec_push(s->arena, &frame.nodes, id);
  }
  NodeIds *nodes = &s->g->blocks.at[block].nodes;
  nodes->at = arena_copy(s->g->arena, frame.nodes.at, frame.nodes.len * sizeof *frame.nodes.at);
  nodes->len = nodes->cap = frame.nodes.len;
  s->at = frame.outer;
}

static void decide_entry(Precision *s) {
  set_up(s);
  s->varies = find_varying(s->g, s->entry, s->arena);
  s->lost = find_lost(s->g, s->entry, s->arena);
  for (Low low = 0; s->g->train.automatic && !s->greedy && low < LOWS; low++)
    if (s->type == low_type[low]) assign_products(s, low);
  find_readers(s, s->g->entries.at[s->entry].body);
  for (Low low = 0; low < LOWS; low++) assign_entry(s, low);
  for (Low low = 0; low < LOWS; low++) choose_moves(s, low);
}

static void label_entry(Precision *s) {
  BlockId body = s->g->entries.at[s->entry].body;
  for (bool split = true; split;) {
    split = false;
    decide_entry(s);
    for (Low low = 0; low < LOWS && !split; low++) split = split_parts(s, low);
  }
  work_moves(s);
  memset(s->readers, 0, s->values * sizeof *s->readers);
  s->decided = true;
  note_reasons(s);
  find_readers(s, body);
  label_block(s, body, NO_ID);
  if (!s->greedy) fold_casts(s, body);
}

/* Is anything to be low? */
static bool has_work(const Precision *s) {
  if (s->type != DT_f32) return true;
  for (NodeId n = 0; n < s->g->nodes.len; n++)
    if (precision_of(s, &s->g->nodes.at[n]) != DT_f32) return true;
  return false;
}

bool precision_is_low(const Graph *g) {
  Precision s = {.g = (Graph *)g, .type = precision_type(g->train.precision)};
  return has_work(&s) || graph_is_scaled(g);
}

static bool is_labelled(const Graph *g, uint32_t entry) {
  EntryKind kind = g->entries.at[entry].kind;
  return kind != ENTRY_init && kind != ENTRY_derive && kind != ENTRY_replay;
}

static Precision start(Graph *g, const PassCtx *ctx, bool greedy) {
  Precision s = {.g = g, .arena = ctx->arena, .greedy = greedy, .nodes = g->nodes.len};
  s.type = precision_type(g->train.precision);
  s.wide_residual = g->train.residual && !strcmp(g->train.residual, "f32");
  s.node_why = NEW_ARRAY(s.arena, const char *, s.nodes);
  s.cost = NEW_ARRAY(s.arena, int64_t, g->entries.len);
  s.costs = ctx->target->costs;
  return s;
}

static void label_kind(Precision *s, Diag *diag, bool steps) {
  Graph *g = s->g;
  for (s->entry = 0; s->entry < g->entries.len; s->entry++) {
    bool step = g->entries.at[s->entry].kind == ENTRY_step;
    s->unscaled = !step || graph_is_scaled(g) || !diag || diag->errors ? NULL : diag;
    if (step == steps && is_labelled(g, s->entry)) label_entry(s);
  }
}

/* Steps decide first.  diag: NULL where the errors are told by another run. */
static void label(Precision *s, Diag *diag) {
  Graph *g = s->g;
  label_kind(s, diag, true);
  label_kind(s, diag, false);
  for (s->entry = 0; s->entry < g->entries.len; s->entry++) {
    EntryKind kind = g->entries.at[s->entry].kind;
    if (kind == ENTRY_step || kind == ENTRY_apply) write_copies(s);
  }
  build_derive(s);
  store_masters(s);
}

typedef VEC(PrecisionMoves) Moves; /* by entry */

/* cost: by entry, or NULL. */
static Moves moves_of(const Graph *g, Arena *arena, const int64_t *cost) {
  Moves m = {0};
  for (uint32_t e = 0; e < g->entries.len; e++) {
    PrecisionMoves moves = precision_moves(g, e);
    if (cost && is_labelled(g, e)) moves.cost = cost[e];
    vec_push(arena, &m, moves);
  }
  return m;
}

/* What the baseline would move, off a copy of the graph. */
static Moves greedy_moves(const Graph *g, const PassCtx *ctx) {
  Arena arena = {0};
  Graph *copy = graph_clone(g, &arena);
  Precision s = start(copy, ctx, true);
  if (has_work(&s)) label(&s, NULL);
  Moves m = moves_of(copy, ctx->arena, s.cost);
  arena_free(&arena);
  return m;
}

static void report(const Precision *s, PrecisionReport *r, Moves f32, Moves greedy) {
  Moves chosen = moves_of(s->g, s->arena, s->cost);
  for (uint32_t e = 0; e < f32.len; e++) {
    if (!is_labelled(s->g, e)) continue;
    PrecisionEntry x = {s->g->entries.at[e].name, f32.at[e], greedy.at[e], chosen.at[e]};
    vec_push(r->arena, &r->entries, x);
  }
  precision_report(s, r);
}

bool pass_precision(Graph *g, PassCtx *ctx) {
  Precision s = start(g, ctx, ctx->options->greedy_precision);
  PrecisionReport *r = ctx->options->precision;
  Moves f32 = {0}, greedy = {0};
  if (r) f32 = moves_of(g, s.arena, NULL);
  if (r) greedy = greedy_moves(g, ctx);
  bool work = has_work(&s);
  if (work) label(&s, ctx->diag);
  if (r) report(&s, r, f32, greedy);
  return work;
}
