/* range.c: constants that f16 cannot hold: beyond 65504 it takes them for infinity, below 2^-25 for
 * 0.
 *
 * What such a constant goes into stays f32 (wide_because in precision.c); where that is an
 * activation, which would be stored in f16 otherwise, the user is told the line.  One kind is
 * better rewritten: a mask, `where(keep, scores, -1e9)` under a softmax.  -65504, the least number
 * of f16, means the same there: e^(x - max) is 0 in f32 for any x more than 104 below the row's
 * maximum, so for a masked one unless all that is kept lies below -65400, and a row that is masked
 * throughout is spread evenly either way, since all its elements are equal.  (In `scores + mask`
 * they are not, so that stays f32; so does what log_softmax reads, where the value itself is a
 * result.)
 */
#include "passes/pass.h"

#include <math.h>
#include <string.h>

static const double F16_LEAST = -65504;

typedef struct Range {
  Graph *g;
  Diag *diag;
  Arena *arena;
  VEC(Loc) told;
  bool changed;
} Range;

static bool works_in_f16(const Range *s, const Node *n) {
  const char *word = node_text(n, AT_prec, s->g->train.precision);
  return word && !strcmp(word, "f16");
}

/* Whether v is one number everywhere, and which. */
static bool constant_of(const Graph *g, ValueId v, double *value) {
  const Node *n = value_node(g, v);
  while (n && n->op == OP_broadcast) n = value_node(g, n->ops[0]);
  if (!n || n->op != OP_constant) return false;
  *value = node_float(n, AT_value, 0);
  return true;
}

static bool softmax_alone_reads(const Graph *g, BlockId block, ValueId v) {
  const Block *b = &g->blocks.at[block];
  bool read = false;
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    for (uint32_t j = 0; j < n->nops; j++) {
      if (n->ops[j] != v) continue;
      if (n->op != OP_softmax) return false;
      read = true;
    }
  }
  for (uint32_t i = 0; i < b->results.len; i++) read &= b->results.at[i] != v;
  return read;
}

static bool is_mask(const Range *s, BlockId block, const Node *n, uint32_t operand, double value) {
  return n->op == OP_select && operand && isfinite(value) && value < F16_LEAST &&
         softmax_alone_reads(s->g, block, n->res);
}

static void rewrite_mask(Range *s, BlockId block, NodeId id, uint32_t operand) {
  Graph *g = s->g;
  uint32_t before = g->blocks.at[block].nodes.len;
  Builder b = {.g = g, .block = block, .loc = g->nodes.at[id].loc};
  ValueId least = build_constant(&b, value_type(g, g->nodes.at[id].ops[operand]), F16_LEAST);
  for (uint32_t i = before; i < g->blocks.at[block].nodes.len; i++)
    kernel_move_last_first(g, block);
  g->nodes.at[id].ops[operand] = least;
  s->changed = true;
}

/* Once a place: the gradient and other entries hold it, too. */
static bool is_told(Range *s, Loc loc) {
  for (uint32_t i = 0; i < s->told.len; i++) {
    Loc t = s->told.at[i];
    if (t.source == loc.source && t.line == loc.line && t.col == loc.col) return true;
  }
  vec_push(s->arena, &s->told, loc);
  return false;
}

static void tell(Range *s, const Node *n, double value, bool rewritten) {
  Type t = value_type(s->g, n->res);
  bool activation = t.dtype == DT_f32 && t.rows >= 0 && t.rank >= 2;
  if (!n->loc.line || n->loc.backward || (!rewritten && !activation) || is_told(s, n->loc)) return;
  const char *taken = fabs(value) < 1 ? "0" : value < 0 ? "-infinity" : "infinity";
  if (rewritten)
    diag_warning(s->diag, WARN_f16_mask, n->loc,
                 "%g is %s in f16: the mask is -65504 there, which is as good for softmax", value,
                 taken);
  else
    diag_warning(s->diag, WARN_f16_range, n->loc,
                 "%g is %s in f16: what is computed from it here stays f32", value, taken);
}

static void look_at(Range *s, BlockId block, NodeId id) {
  Graph *g = s->g;
  if (!works_in_f16(s, &g->nodes.at[id])) return;
  for (uint32_t i = 0; i < g->nodes.at[id].nops; i++) {
    const Node *n = &g->nodes.at[id];
    double value;
    if (n->op == OP_broadcast || n->op == OP_softmax) continue;
    if (value_type(g, n->ops[i]).dtype != DT_f32 || !constant_of(g, n->ops[i], &value)) continue;
    if (dtype_holds(DT_f16, value)) continue;
    bool mask = is_mask(s, block, n, i, value);
    tell(s, n, value, mask);
    if (mask) rewrite_mask(s, block, id, i);
  }
}

static void look_through(Range *s, BlockId block) {
  NodeIds old = s->g->blocks.at[block].nodes;
  NodeId *ids = arena_copy(s->arena, old.at, old.len * sizeof *old.at);
  for (uint32_t i = 0; i < old.len; i++) {
    look_at(s, block, ids[i]);
    for (uint32_t k = 0; k < s->g->nodes.at[ids[i]].nblocks; k++)
      look_through(s, s->g->nodes.at[ids[i]].blocks[k]);
  }
}

bool pass_range(Graph *g, PassCtx *c) {
  Range s = {.g = g, .diag = c->diag, .arena = c->arena};
  for (uint32_t e = 0; e < g->entries.len; e++)
    if (g->entries.at[e].kind != ENTRY_replay) look_through(&s, g->entries.at[e].body);
  return s.changed;
}
