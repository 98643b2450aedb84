/* fp8_layers.c: which products take fp8 operands (docs/precision.md).
 *
 * A layer is a matmul of the forward pass that reads a parameter.  The first layers (behind no
 * other) and the last (none behind them: heads) stay wide; so do products of two activations, as
 * in attention, and those under a `prec` of the user's.  A product of the backward pass follows the
 * layer whose operand it reads, be that the weight (gradient of the input) or the input (gradient
 * of the weight, which stays f32); where layers of both kinds read it, it stays wide.
 *
 * The step decides.  Other entries hold layers of the same parameters, perhaps not all and perhaps
 * more often (a prompt, then token after token): use k of a parameter does as use k in the step
 * did, or as its last.
 */
#include "passes/fp8.h"

#include <string.h>

static const Entry *entry_of(const Fp8 *s) { return &s->g->entries.at[s->entry]; }
static Block *block_at(const Fp8 *s, BlockId b) { return &s->g->blocks.at[b]; }
static const Node *node_at(const Fp8 *s, BlockId b, uint32_t i) {
  return &s->g->nodes.at[block_at(s, b)->nodes.at[i]];
}

static bool any_result(const Node *n, const bool *mark) {
  for (uint32_t k = 0; k < n->nres; k++)
    if (mark[n->res + k]) return true;
  return false;
}

static bool any_operand(const Node *n, const bool *mark) {
  for (uint32_t k = 0; k < n->nops; k++)
    if (mark[n->ops[k]]) return true;
  return false;
}

static bool raise_mark(bool *mark, bool to) {
  bool changed = to && !*mark;
  *mark = *mark || to;
  return changed;
}

/* ---- the forward pass ------------------------------------------------------------------------ */

/* Of a loop that is needed everything is. */
static void need_block(Fp8 *s, BlockId block) {
  for (uint32_t i = block_at(s, block)->nodes.len; i-- > 0;) {
    const Node *n = node_at(s, block, i);
    if (!any_result(n, s->forward)) continue;
    for (uint32_t k = 0; k < n->nops; k++) s->forward[n->ops[k]] = true;
    if (n->op != OP_loop) continue;
    const Block *inner = block_at(s, n->blocks[0]);
    for (uint32_t k = 0; k < inner->args.len; k++) s->forward[inner->args.at[k]] = true;
    for (uint32_t k = 0; k < inner->results.len; k++) s->forward[inner->results.at[k]] = true;
    need_block(s, n->blocks[0]);
  }
}

static void find_forward(Fp8 *s) {
  const Entry *e = entry_of(s);
  for (uint32_t i = 0; i < e->results.len; i++) {
    ResRole role = (ResRole)e->results.at[i].role;
    if (role == RES_loss || role == RES_metric || role == RES_value)
      s->forward[block_at(s, e->body)->results.at[i]] = true;
  }
  need_block(s, e->body);
}

/* ---- layers ---------------------------------------------------------------------------------- */

ValueId fp8_source(const Fp8 *s, ValueId v) {
  for (ValueId out; (out = loop_invariant(s->g, v)) != NO_ID;) v = out;
  return v;
}

/* The parameter that v shows, or NULL. */
static const char *parameter(const Fp8 *s, ValueId v) {
  const State *state = argument_state(s->g, value_source(s->g, v, true));
  return state && state->kind == STATE_param ? state->path : NULL;
}

bool fp8_is_parameter(const Fp8 *s, ValueId v) { return parameter(s, v) != NULL; }

int fp8_parameter(const Fp8 *s, const Node *n) {
  if (n->op != OP_matmul || !s->forward[n->res]) return -1;
  return parameter(s, n->ops[1]) ? 1 : parameter(s, n->ops[0]) ? 0 : -1;
}

static bool is_layer(const Fp8 *s, const Node *n) { return fp8_parameter(s, n) >= 0; }

/* Round a loop until nothing moves: what a carry is behind, its next value is. */
static void find_behind(Fp8 *s, BlockId block) {
  for (uint32_t i = 0; i < block_at(s, block)->nodes.len; i++) {
    const Node *n = node_at(s, block, i);
    bool behind = any_operand(n, s->behind) || is_layer(s, n);
    for (uint32_t k = 0; k < n->nres && n->op != OP_loop; k++) s->behind[n->res + k] = behind;
    if (n->op != OP_loop) continue;
    const Block *inner = block_at(s, n->blocks[0]);
    for (uint32_t k = 0; k < n->nops; k++) s->behind[inner->args.at[k + 1]] = s->behind[n->ops[k]];
    for (bool moved = true; moved;) {
      find_behind(s, n->blocks[0]);
      moved = false;
      for (int64_t k = 0; k < node_int(n, AT_carries, 0); k++)
        moved |= raise_mark(&s->behind[inner->args.at[k + 1]], s->behind[inner->results.at[k]]);
    }
    for (uint32_t k = 0; k < n->nres; k++) s->behind[n->res + k] = s->behind[inner->results.at[k]];
  }
}

static void find_ahead(Fp8 *s, BlockId block) {
  for (uint32_t i = block_at(s, block)->nodes.len; i-- > 0;) {
    const Node *n = node_at(s, block, i);
    bool ahead = any_result(n, s->ahead) || is_layer(s, n);
    for (uint32_t k = 0; k < n->nops && n->op != OP_loop && ahead; k++) s->ahead[n->ops[k]] = true;
    if (n->op != OP_loop) continue;
    const Block *inner = block_at(s, n->blocks[0]);
    for (uint32_t k = 0; k < n->nres; k++)
      raise_mark(&s->ahead[inner->results.at[k]], s->ahead[n->res + k]);
    for (bool moved = true; moved;) {
      find_ahead(s, n->blocks[0]);
      moved = false;
      for (int64_t k = 0; k < node_int(n, AT_carries, 0); k++)
        moved |= raise_mark(&s->ahead[inner->results.at[k]], s->ahead[inner->args.at[k + 1]]);
    }
    for (uint32_t k = 0; k < n->nops; k++)
      raise_mark(&s->ahead[n->ops[k]], s->ahead[inner->args.at[k + 1]]);
  }
}

/* ---- the choice ------------------------------------------------------------------------------ */

/* A scale takes at most one power of the loss scale out. */
static bool scales(Type t) { return type_count(t) > 0 && (!t.unit || unit_scales(t.unit)); }

static bool is_plain(const Fp8 *s, const Node *n) {
  bool matmul = n->op == OP_matmul && n->nops == 2 && !node_text(n, AT_prec, NULL);
  for (uint32_t i = 0; matmul && i < 2; i++) matmul = scales(value_type(s->g, n->ops[i]));
  return matmul;
}

static bool leads(const Fp8 *s) {
  return entry_of(s)->kind == ENTRY_step || entry_of(s)->kind == ENTRY_calibrate;
}

/* The layer of the step that use `use` of the parameter stands for, or NO_ID. */
static uint32_t look_up(const Fp8 *s, const char *path, uint32_t use) {
  uint32_t found = NO_ID;
  for (uint32_t i = 0; i < s->layers->len; i++) {
    const Fp8Layer *l = &s->layers->at[i];
    if (!strcmp(l->path, path) && l->use <= use) found = i;
  }
  return found;
}

typedef VEC(const char *) Paths;

static uint32_t count_use(Fp8 *s, Paths *seen, const char *path) {
  uint32_t uses = 0;
  for (uint32_t i = 0; i < seen->len; i++) uses += !strcmp(seen->at[i], path);
  vec_push(s->arena, seen, path);
  return uses;
}

static void find_layer(Fp8 *s, Paths *seen, const Node *n) {
  int at = fp8_parameter(s, n);
  if (at < 0) return;
  const char *path = parameter(s, n->ops[at]);
  uint32_t use = count_use(s, seen, path), layer = s->layers->len;
  bool inner = any_operand(n, s->behind) && s->ahead[n->res];
  if (leads(s)) vec_push(s->arena, s->layers, (Fp8Layer){path, use, inner, NULL, NULL});
  else layer = look_up(s, path, use);
  bool chosen = layer != NO_ID && s->layers->at[layer].chosen && is_plain(s, n);
  if (chosen) s->layer[n->res] = layer;
}

static void choose(Fp8 *s, Paths *seen, BlockId block) {
  for (uint32_t i = 0; i < block_at(s, block)->nodes.len; i++) {
    const Node *n = node_at(s, block, i);
    if (n->op == OP_loop) choose(s, seen, n->blocks[0]);
    if (n->op != OP_matmul || !s->forward[n->res]) continue;
    find_layer(s, seen, n);
    bool *mark = s->layer[n->res] != NO_ID ? s->narrow : s->wide;
    for (uint32_t k = 0; k < 2; k++) mark[fp8_source(s, n->ops[k])] = true;
  }
}

bool fp8_takes(const Fp8 *s, const Node *n) {
  if (n->op != OP_matmul) return false;
  if (s->forward[n->res]) return s->layer[n->res] != NO_ID;
  if (!is_plain(s, n) || s->forward[n->ops[0]] == s->forward[n->ops[1]]) return false;
  ValueId known = fp8_source(s, n->ops[s->forward[n->ops[0]] ? 0 : 1]);
  return s->narrow[known] && !s->wide[known];
}

static void visit_block(Fp8 *s, BlockId block, Fp8Visit *visit) {
  for (uint32_t i = 0; i < block_at(s, block)->nodes.len; i++) {
    const Node *n = node_at(s, block, i);
    if (n->op == OP_loop) visit_block(s, n->blocks[0], visit);
    else if (fp8_takes(s, n)) visit(s, n);
  }
}

void fp8_visit(Fp8 *s, Fp8Visit *visit) { visit_block(s, entry_of(s)->body, visit); }

void fp8_find_layers(Fp8 *s) {
  Paths seen = {0};
  if (leads(s)) s->layers->len = 0;
  find_forward(s);
  find_behind(s, entry_of(s)->body);
  find_ahead(s, entry_of(s)->body);
  choose(s, &seen, entry_of(s)->body);
}
