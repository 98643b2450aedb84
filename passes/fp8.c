/* fp8.c: which products take fp8 operands (docs/precision.md).  The base is bf16: what this pass
 * leaves alone, `precision` treats as under bf16, and so it does the results of scaled products.
 *
 * A layer is a matmul of the forward pass that reads a parameter.  The first layers (behind no
 * other) and the last (none behind them: heads) stay wide; so do products of two activations, as
 * in attention, those under a `prec` of the user's, and those inside loops.  A product of the
 * backward pass follows the layer whose operand it reads, be that the weight (gradient of the
 * input) or the input (gradient of the weight, which stays f32); where layers of both kinds read
 * it, it stays wide. What the forward pass computes becomes e4m3, a cotangent e5m2.
 *
 * How the scales are found is the recipe: each has a row in ir/fp8.def and a file of its own,
 * fp8_NAME.c, with the function that makes a chosen product.
 */
#include "passes/fp8.h"

#include <string.h>

static Fp8Product *const product[FP8_RECIPES] = {
#define RECIPE(name, written, meaning) product_##name,
#include "ir/fp8.def"
};

static const Node *node_at(const Fp8 *s, uint32_t i) {
  return &s->g->nodes.at[s->g->blocks.at[s->block].nodes.at[i]];
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

/* ---- the forward pass and its layers --------------------------------------------------------- */

static void find_forward(Fp8 *s, const Entry *e) {
  const Block *b = &s->g->blocks.at[s->block];
  for (uint32_t i = 0; i < e->results.len; i++) {
    ResRole role = (ResRole)e->results.at[i].role;
    if (role == RES_loss || role == RES_metric || role == RES_value)
      s->forward[b->results.at[i]] = true;
  }
  for (uint32_t i = b->nodes.len; i-- > 0;) {
    const Node *n = node_at(s, i);
    if (!any_result(n, s->forward)) continue;
    for (uint32_t k = 0; k < n->nops; k++) s->forward[n->ops[k]] = true;
  }
}

static bool is_parameter(const Fp8 *s, const Entry *e, ValueId v) {
  v = value_origin(s->g, v, true);
  if (value_node(s->g, v) || s->g->values.at[v].block != s->block) return false;
  Port p = e->args.at[s->g->values.at[v].index];
  const State *state = p.role == ARG_state ? graph_state(s->g, p.name) : NULL;
  return state && state->kind == STATE_param;
}

static bool is_layer(const Fp8 *s, const Entry *e, const Node *n) {
  return n->op == OP_matmul && s->forward[n->res] &&
         (is_parameter(s, e, n->ops[0]) || is_parameter(s, e, n->ops[1]));
}

static void find_layers(Fp8 *s, const Entry *e) {
  uint32_t nodes = s->g->blocks.at[s->block].nodes.len;
  for (uint32_t i = 0; i < nodes; i++) {
    const Node *n = node_at(s, i);
    bool behind = any_operand(n, s->behind) || is_layer(s, e, n);
    for (uint32_t k = 0; k < n->nres; k++) s->behind[n->res + k] = behind;
  }
  for (uint32_t i = nodes; i-- > 0;) {
    const Node *n = node_at(s, i);
    if (!any_result(n, s->ahead) && !is_layer(s, e, n)) continue;
    for (uint32_t k = 0; k < n->nops; k++) s->ahead[n->ops[k]] = true;
  }
}

static bool is_plain(const Fp8 *s, const Node *n) {
  bool matmul = n->op == OP_matmul && n->nops == 2 && !node_text(n, AT_prec, NULL);
  for (uint32_t i = 0; matmul && i < 2; i++) matmul = type_count(value_type(s->g, n->ops[i])) > 0;
  return matmul;
}

static bool is_inner_layer(const Fp8 *s, const Entry *e, const Node *n) {
  return is_plain(s, n) && is_layer(s, e, n) && any_operand(n, s->behind) && s->ahead[n->res];
}

static void mark_operands(Fp8 *s, const Entry *e) {
  for (uint32_t i = 0; i < s->g->blocks.at[s->block].nodes.len; i++) {
    const Node *n = node_at(s, i);
    if (n->op != OP_matmul || !s->forward[n->res]) continue;
    bool *mark = is_inner_layer(s, e, n) ? s->narrow : s->wide;
    mark[n->ops[0]] = mark[n->ops[1]] = true;
  }
}

static bool takes_fp8(const Fp8 *s, const Entry *e, const Node *n) {
  if (n->op == OP_matmul && s->forward[n->res]) return is_inner_layer(s, e, n);
  if (!is_plain(s, n) || s->forward[n->ops[0]] == s->forward[n->ops[1]]) return false;
  ValueId known = n->ops[s->forward[n->ops[0]] ? 0 : 1];
  return s->narrow[known] && !s->wide[known];
}

/* ---- scaled products ------------------------------------------------------------------------- */

DType fp8_type(const Fp8 *s, ValueId x) { return s->forward[x] ? DT_f8e4m3fn : DT_f8e5m2; }

ValueId fp8_quantize(Fp8 *s, Builder *b, ValueId x, ValueId scale) {
  Type from = value_type(b->g, x), t[4];
  t[0] = type_with(from, fp8_type(s, x));
  t[0].unit = 0;
  t[1] = t[2] = type_scalar(DT_f32);
  t[1].unit = t[2].unit = from.unit;
  t[3] = type_scalar(DT_i1);
  NodeId q = graph_add_node(b->g, b->block, OP_quantize, b->loc, 2, (ValueId[]){x, scale}, 4, t, 0,
                            NULL);
  return s->quantized[x] = b->g->nodes.at[q].res;
}

static void rewrite(Fp8 *s, const Entry *e) {
  NodeIds old = s->g->blocks.at[s->block].nodes;
  bool *chosen = NEW_ARRAY(s->arena, bool, old.len);
  for (uint32_t i = 0; i < old.len; i++) chosen[i] = takes_fp8(s, e, node_at(s, i));
  s->g->blocks.at[s->block].nodes = (NodeIds){0};
  for (uint32_t i = 0; i < old.len; i++) {
    Node n = s->g->nodes.at[old.at[i]]; /* a copy: the array moves */
    if (!chosen[i]) {
      vec_push(s->g->arena, &s->g->blocks.at[s->block].nodes, old.at[i]);
      continue;
    }
    Builder b = {.g = s->g, .block = s->block};
    builder_follow(&b, &n);
    vec_push(s->arena, &s->done, (Replaced){n.res, product[s->recipe](s, &b, &n)});
  }
}

static bool scale_entry(Graph *g, Arena *arena, Fp8Recipe recipe, const Entry *e) {
  uint32_t values = g->values.len;
  Fp8 s = {.g = g, .arena = arena, .recipe = recipe, .block = e->body};
  s.forward = NEW_ARRAY(arena, bool, values);
  s.behind = NEW_ARRAY(arena, bool, values);
  s.ahead = NEW_ARRAY(arena, bool, values);
  s.narrow = NEW_ARRAY(arena, bool, values);
  s.wide = NEW_ARRAY(arena, bool, values);
  s.quantized = NEW_ARRAY(arena, ValueId, values);
  for (ValueId v = 0; v < values; v++) s.quantized[v] = NO_ID;
  find_forward(&s, e);
  find_layers(&s, e);
  mark_operands(&s, e);
  rewrite(&s, e);
  graph_replace_all(g, arena, s.done.len, s.done.at);
  return s.done.len > 0;
}

bool pass_fp8(Graph *g, PassCtx *c) {
  bool changed = false;
  Fp8Recipe recipe = fp8_recipe(g->train.precision);
  if (recipe == FP8_RECIPES) return false;
  if (g->train.accumulate > 1) {
    diag_error(c->diag, g->train.precision_loc, "fp8 together with `accumulate`: not supported");
    return false;
  }
  for (uint32_t i = 0; i < g->entries.len; i++) {
    Entry e = g->entries.at[i];
    bool computes = e.kind == ENTRY_step || e.kind == ENTRY_grads || e.kind == ENTRY_eval ||
                    e.kind == ENTRY_infer;
    if (computes) changed |= scale_entry(g, c->arena, recipe, &e);
  }
  return changed;
}
