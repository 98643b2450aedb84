/* range.c: constants that f16 cannot hold: beyond 65504 it takes them for infinity, below 2^-25 for
 * 0.
 *
 * What such a constant goes into stays f32 (find_lost in spread.c); where that is, or is added to,
 * an activation, which would be stored in f16 otherwise, the user is told the line.  One kind is
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
  /* By value, of the entry at hand: */
  bool *varies;  /* find_varying */
  bool *arrives; /* what it is may be in an activation */
} Range;

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

static bool is_activation(const Range *s, ValueId v) {
  Type t = value_type(s->g, v);
  return t.dtype == DT_f32 && t.rank >= 2 && (t.rows >= 0 || s->varies[v]);
}

/* Readers stand behind what they read: a mask without a batch is asked after the scores that it is
 * added to. */
static void find_arriving(Range *s, BlockId block) {
  const Graph *g = s->g;
  const Block *b = &g->blocks.at[block];
  for (uint32_t i = b->nodes.len; i-- > 0;) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    bool *at = s->arrives;
    if (n->op == OP_loop) {
      find_arriving(s, n->blocks[0]);
      for (uint32_t k = 0; k < n->nops; k++)
        at[n->ops[k]] |= at[g->blocks.at[n->blocks[0]].args.at[k + 1]];
    } else if (n->nres == 1) {
      at[n->res] |= is_activation(s, n->res);
      for (uint32_t k = 0; hands_on(n) && k < n->nops; k++) at[n->ops[k]] |= at[n->res];
    }
  }
}

/* Once a place: the gradient and other entries hold it, too. */
static bool is_told(Range *s, Loc loc) {
  for (uint32_t i = 0; i < s->told.len; i++)
    if (same_place(s->told.at[i], loc)) return true;
  vec_push(s->arena, &s->told, loc);
  return false;
}

static void tell(Range *s, const Node *n, double value, bool rewritten) {
  bool matters = rewritten || (s->arrives[n->res] && value_is_float(s->g, n->res));
  if (!n->loc.line || n->loc.backward || !matters || is_told(s, n->loc)) return;
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
  if (node_precision(g, &g->nodes.at[id]) != DT_f16) return;
  for (uint32_t i = 0; i < g->nodes.at[id].nops; i++) {
    const Node *n = &g->nodes.at[id];
    double value;
    if (n->op == OP_broadcast || n->op == OP_softmax) continue;
    if (!is_lost_constant(g, n->ops[i], &value)) continue;
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

static void look_at_entry(Range *s, uint32_t entry) {
  s->varies = find_varying(s->g, entry, s->arena);
  s->arrives = NEW_ARRAY(s->arena, bool, s->g->values.len);
  find_arriving(s, s->g->entries.at[entry].body);
  look_through(s, s->g->entries.at[entry].body);
}

bool pass_range(Graph *g, PassCtx *c) {
  Range s = {.g = g, .diag = c->diag, .arena = c->arena};
  for (uint32_t e = 0; e < g->entries.len; e++)
    if (g->entries.at[e].kind != ENTRY_replay) look_at_entry(&s, e);
  return s.changed;
}
