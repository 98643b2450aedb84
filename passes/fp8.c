/* fp8.c: chosen products take fp8 operands (docs/precision.md).  The base is bf16: what this pass
 * leaves alone, `precision` treats as under bf16, and so it does the results of scaled products.
 *
 * fp8_layers.c says which products.  What the forward pass computes becomes e4m3, a cotangent e5m2;
 * a value that several products read is quantized once, outside of loops where it comes from
 * there.  How the scales are found is the recipe: each has a row in ir/fp8.def and a file of its
 * own, fp8_NAME.c (mx8 that of block), with the function that makes a chosen product.
 *
 * The pass stands in front of `accumulate` and `optimize`: what a recipe learns of a step (results
 * of role amax) goes through micro-batches, guard and commit as all else does.
 */
#include "passes/fp8.h"

static Fp8Product *const product[FP8_RECIPES] = {
#define RECIPE(name, written, meaning) product_##name,
#include "ir/fp8.def"
};

/* ---- what recipes build of ------------------------------------------------------------------- */

DType fp8_type(const Fp8 *s, ValueId x) { return s->forward[x] ? DT_f8e4m3fn : DT_f8e5m2; }

Builder fp8_builder(const Fp8 *s, const Builder *b, ValueId x) {
  Builder at = *b;
  at.block = value_block(s->g, x);
  return at;
}

NodeId fp8_add_quantize(Builder *b, ValueId x, ValueId scale, DType to, DType stored,
                        const Attr *axes) {
  Type from = value_type(b->g, x), t[4];
  ValueId ops[] = {x, scale};
  t[0] = type_with(from, to);
  t[2] = value_type(b->g, scale);
  t[1] = type_with(t[2], stored);
  t[3] = type_scalar(DT_i1);
  t[0].unit = 0;
  t[1].unit = t[2].unit = from.unit;
  return graph_add_node(b->g, b->block, OP_quantize, b->loc, 2, ops, 4, t, axes != NULL, axes);
}

int64_t fp8_filled(int64_t n) { return (n + 15) / 16 * 16; }

ValueId fp8_fill(Builder *b, ValueId x, Type t) {
  static const int64_t starts[MAX_RANK] = {0}, steps[MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
  return type_same_dims(value_type(b->g, x), t) ? x : build_pad(b, x, t, starts, steps);
}

ValueId fp8_quantize(Fp8 *s, Builder *b, ValueId x, ValueId scale) {
  Type t = value_type(s->g, x);
  for (int i = t.rank - 2; i < t.rank; i++)
    if (i != t.rows) t.dim[i] = fp8_filled(t.dim[i]);
  NodeId q = fp8_add_quantize(b, fp8_fill(b, x, t), scale, fp8_type(s, x), DT_f32, NULL);
  fp8_count(s, b, x, q);
  return s->quantized[x] = b->g->nodes.at[q].res;
}

ValueId fp8_product(Builder *b, const Node *like, const ValueId *ops, bool ta, bool tb,
                    int64_t k_chunk) {
  Type c = value_type(b->g, like->res), x = value_type(b->g, ops[0]), y = value_type(b->g, ops[1]);
  int64_t m = c.dim[c.rank - 2], n = c.dim[c.rank - 1];
  Attr attrs[6] = {attr_int(AT_k_chunk, k_chunk)};
  uint32_t nattrs = 1;
  if (ta) attrs[nattrs++] = attr_bool(AT_ta, true);
  if (tb) attrs[nattrs++] = attr_bool(AT_tb, true);
  if (x.rows < 0 && y.rows < 0 && matmul_is_weight_gradient(b->g, like))
    attrs[nattrs++] = attr_bool(AT_weight, true);
  if (x.dim[x.rank - 2 + ta] != m) attrs[nattrs++] = attr_int(AT_m, m);
  if (y.dim[y.rank - 1 - tb] != n) attrs[nattrs++] = attr_int(AT_n, n);
  return build(b, OP_matmul_scaled, 4, ops, nattrs, attrs);
}

ValueId fp8_multiply(Builder *b, const Node *n, ValueId x, ValueId y) {
  ValueId ops[] = {x, y, x + 1, y + 1};
  return fp8_product(b, n, ops, node_bool(n, AT_ta), node_bool(n, AT_tb),
                     node_int(n, AT_k_chunk, K_CHUNK));
}

/* ---- what is counted ------------------------------------------------------------------------- */

/* How many of `outcome` are so. */
static void count(Fp8 *s, Builder *b, const char *what, const char *slot, ValueId outcome,
                  double so) {
  ValueId n = build_cast(b, build2(b, OP_eq, outcome, build_like(b, outcome, so)), DT_i32);
  const char *name = arena_printf(s->arena, "%s:%s", what, slot);
  Fp8Staged staged = {RES_count, states_name(s->g, name), build_reduce_rows(b, OP_sum, n)};
  vec_push(s->arena, &s->staged, staged);
}

/* One value says both, so that pass `group` counts in one kernel: that of the cast, where no matmul
 * is. */
void fp8_count(Fp8 *s, Builder *b, ValueId x, NodeId q) {
  enum { SATURATED = 1, FLUSHED };
  const char *slot = s->slot[x];
  const Node *n = &s->g->nodes.at[q];
  const Attr *axes = node_attr(n, AT_scale_axes);
  ValueId ops[] = {n->ops[0], n->ops[1], n->res};
  if (!slot || s->g->entries.at[s->entry].kind != ENTRY_step) return;
  if (axes) ops[1] = build_broadcast(b, ops[1], value_type(s->g, ops[0]), axes->ints);
  Type t = type_with(value_type(s->g, ops[2]), DT_i1), word = type_with(t, DT_i32);
  ValueId saturated = build_typed(b, OP_saturated, t, 3, ops, 0, NULL);
  ops[1] = ops[2];
  ValueId flushed = build_typed(b, OP_flushed, t, 2, ops, 0, NULL);
  ValueId outcome = build_constant(b, word, 0);
  outcome = build_select(b, flushed, build_constant(b, word, FLUSHED), outcome);
  outcome = build_select(b, saturated, build_constant(b, word, SATURATED), outcome);
  count(s, b, "saturated", slot, outcome, SATURATED);
  count(s, b, "underflow", slot, outcome, FLUSHED);
}

/* ---- the entry, anew ------------------------------------------------------------------------- */

/* What was staged in the loop is a result of it, one an iteration, and the largest, or the sum, is
 * staged behind it. */
static void lift_staged(Fp8 *s, NodeId loop) {
  BlockId inner = s->g->nodes.at[loop].blocks[0];
  for (uint32_t i = 0; i < s->staged.len; i++) {
    Fp8Staged *x = &s->staged.at[i];
    if (value_block(s->g, x->value) != inner) continue;
    Node old = s->g->nodes.at[loop];
    Builder b = {.g = s->g, .block = old.block, .loc = old.loc};
    ValueId all = loop_add_result(s->g, loop, x->value);
    for (uint32_t k = 0; k < old.nres; k++)
      vec_push(s->arena, &s->done, (Replaced){old.res + k, s->g->nodes.at[loop].res + k});
    x->value = build_reduce_all(&b, x->role == RES_amax ? OP_reduce_max : OP_sum, all);
  }
}

static void rewrite(Fp8 *s, BlockId block) {
  Graph *g = s->g;
  NodeIds old = g->blocks.at[block].nodes;
  g->blocks.at[block].nodes = (NodeIds){0};
  for (uint32_t i = 0; i < old.len; i++) {
    Node n = g->nodes.at[old.at[i]]; /* a copy: the array moves */
    if (n.op == OP_loop) rewrite(s, n.blocks[0]);
    Builder b = {.g = g, .block = block};
    builder_follow(&b, &n);
    ValueId v = n.nres && fp8_takes(s, &n) ? s->product(s, &b, &n) : n.res;
    if (v != n.res) vec_push(s->arena, &s->done, (Replaced){n.res, v});
    else vec_push(g->arena, &g->blocks.at[block].nodes, old.at[i]);
    if (n.op == OP_loop) lift_staged(s, old.at[i]);
  }
}

/* Memory for the tables by value. */
static Fp8 begin_entry(Graph *g, Arena *arena, uint32_t entry) {
  uint32_t values = g->values.len;
  Fp8 s = {.g = g, .arena = arena, .entry = entry, .values = values};
  s.forward = NEW_ARRAY(arena, bool, values);
  s.behind = NEW_ARRAY(arena, bool, values);
  s.ahead = NEW_ARRAY(arena, bool, values);
  s.narrow = NEW_ARRAY(arena, bool, values);
  s.wide = NEW_ARRAY(arena, bool, values);
  s.layer = NEW_ARRAY(arena, uint32_t, values);
  s.slot = NEW_ARRAY(arena, const char *, values);
  s.quantized = NEW_ARRAY(arena, ValueId, values);
  for (ValueId v = 0; v < values; v++) s.quantized[v] = s.layer[v] = NO_ID;
  return s;
}

/* A slot that was quantized more than once (blocks) has one count. */
static void give_staged(Fp8 *s) {
  Entry e = s->g->entries.at[s->entry];
  Builder b = {.g = s->g, .block = e.body, .loc = e.loc};
  for (uint32_t i = 0; i < s->staged.len; i++) {
    Fp8Staged *x = &s->staged.at[i];
    for (uint32_t k = i + 1; k < s->staged.len; k++) {
      Fp8Staged *y = &s->staged.at[k];
      if (y->value == NO_ID || y->role != x->role || y->name != x->name) continue;
      x->value = build2(&b, OP_add, x->value, y->value);
      y->value = NO_ID;
    }
    if (x->value != NO_ID)
      graph_add_entry_result(s->g, s->entry, x->role, x->name, x->value, e.loc);
  }
}

static bool scale_entry(Graph *g, Arena *arena, uint32_t entry, Fp8Layers *layers,
                        Fp8Product *make) {
  Fp8 s = begin_entry(g, arena, entry);
  s.product = make;
  s.layers = layers;
  fp8_find_layers(&s);
  fp8_name_slots(&s);
  rewrite(&s, g->entries.at[entry].body);
  graph_replace_all(g, arena, s.done.len, s.done.at);
  give_staged(&s);
  return s.done.len > 0;
}

/* ---- calibration ----------------------------------------------------------------------------- */

/* How many slots; index faults stay, for they keep a batch from being calibrated on. */
static uint32_t keep_observations(Graph *g, uint32_t entry) {
  const Entry *e = &g->entries.at[entry];
  uint32_t slots = 0;
  for (uint32_t i = e->results.len; i-- > 0;) {
    uint8_t role = e->results.at[i].role;
    slots += role == RES_amax;
    if (role != RES_amax && role != RES_fault) graph_drop_entry_result(g, entry, i);
  }
  return slots;
}

/* The step once more, in bf16, for what it shows of the slots' values alone. */
static void add_calibration(Graph *g, Arena *arena, uint32_t step, Fp8Layers *layers) {
  Entry e = g->entries.at[step];
  const char *name = states_name(g, arena_printf(arena, "%s.calibrate", e.name));
  uint32_t entry = graph_copy_entry(g, step, name, ENTRY_calibrate, arena);
  scale_entry(g, arena, entry, layers, fp8_observe);
  if (!keep_observations(g, entry)) g->entries.len--;
}

bool pass_fp8(Graph *g, PassCtx *c) {
  bool changed = false;
  Fp8Layers layers = {0};
  Fp8Recipe recipe = fp8_recipe(g->train.precision);
  if (recipe == FP8_RECIPES) return false;
  bool slots = recipe == RECIPE_fp8_delayed;
  uint32_t entries = g->entries.len;
  for (uint32_t i = 0; i < entries; i++) {
    if (g->entries.at[i].kind != ENTRY_step) continue;
    if (slots) add_calibration(g, c->arena, i, &layers);
    bool any = scale_entry(g, c->arena, i, &layers, product[recipe]);
    if (!any)
      diag_warning(
          c->diag, WARN_fp8, g->train.precision_loc,
          "no layer multiplies in fp8: one with a layer before and one behind it would; all "
          "is bf16");
    changed |= any;
  }
  for (uint32_t i = 0; i < entries; i++) {
    EntryKind kind = g->entries.at[i].kind;
    if (kind == ENTRY_eval || kind == ENTRY_infer)
      changed |= scale_entry(g, c->arena, i, &layers, product[recipe]);
  }
  return changed;
}
