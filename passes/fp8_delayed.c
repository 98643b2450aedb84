/* fp8_delayed.c: fp8(delayed): an operand's scale comes from what it was in past steps
 * (docs/precision.md), so that it is quantized in one pass over it.
 *
 * Each operand of a layer has a slot, "net.1.weight:fp8.x", ".w" or ".dy" (its input, its weight,
 * the cotangent of its product; fp8.2 for the second layer that reads the parameter, and so on),
 * with a history and a scale among the states.  A value that several products read is quantized
 * once and has one slot, named for the first of them.  With σ = 1 / S for a cotangent under a
 * loss scale, else 1:
 *
 *   y          saturate(x · (σ · scale))
 *   scale_inv  1 / (σ · scale), of the same node; NaN where an element is not finite, so that
 *              saturation hides nothing from the guard
 *   amax       σ · max|x|: what the step gives for the slot; step_amax.c makes scales of it
 *
 * eval and infer read the step's scales and give nothing.
 */
#include "passes/fp8.h"
#include "ref/expand.h"

#include <float.h>
#include <string.h>

/* ---- names ----------------------------------------------------------------------------------- */

static bool is_taken(const Fp8 *s, const char *name) {
  for (ValueId v = 0; v < s->values; v++)
    if (s->slot[v] && !strcmp(s->slot[v], name)) return true;
  return false;
}

static const char *layer_slot(const Fp8 *s, const Fp8Layer *l, const char *role) {
  char use[16] = "";
  if (l->use) snprintf(use, sizeof use, ".%u", (unsigned)l->use + 1);
  return states_name(s->g, arena_printf(s->arena, "%s:fp8%s.%s", l->path, use, role));
}

static const char *name_operand(Fp8 *s, const Fp8Layer *l, const char *role, ValueId v) {
  v = fp8_source(s, v);
  if (!s->slot[v]) s->slot[v] = layer_slot(s, l, role);
  return s->slot[v];
}

/* Where the step gave both a name, other entries take it. */
static void name_layer(Fp8 *s, const Node *n) {
  if (!s->forward[n->res]) return;
  Fp8Layer *l = &s->layers->at[s->layer[n->res]];
  int w = fp8_parameter(s, n);
  if (!l->x) l->x = name_operand(s, l, "x", n->ops[1 - w]);
  if (!l->w) l->w = name_operand(s, l, "w", n->ops[w]);
  s->slot[fp8_source(s, n->ops[1 - w])] = l->x;
  s->slot[fp8_source(s, n->ops[w])] = l->w;
}

/* After the slot of what it is multiplied with; several may meet the same. */
static void name_cotangent(Fp8 *s, const Node *n, const char *met_as) {
  int known = s->forward[n->ops[0]] ? 0 : 1;
  const char *other = s->slot[fp8_source(s, n->ops[known])];
  ValueId v = fp8_source(s, n->ops[1 - known]);
  const char *role = strrchr(other, '.');
  if (s->slot[v] || (met_as && strcmp(role, met_as))) return;
  const char *name = arena_printf(s->arena, "%.*s.dy", (int)(role - other), other);
  for (int i = 2; is_taken(s, name); i++)
    name = arena_printf(s->arena, "%.*s.dy%d", (int)(role - other), other, i);
  s->slot[v] = states_name(s->g, name);
}

/* What meets a weight is that layer's; what only meets an input may be of several. */
static void name_by_weight(Fp8 *s, const Node *n) {
  if (!s->forward[n->res]) name_cotangent(s, n, ".w");
}

static void name_by_input(Fp8 *s, const Node *n) {
  if (!s->forward[n->res]) name_cotangent(s, n, NULL);
}

void fp8_name_slots(Fp8 *s) {
  fp8_visit(s, name_layer);
  fp8_visit(s, name_by_weight);
  fp8_visit(s, name_by_input);
}

/* ---- products -------------------------------------------------------------------------------- */

static bool observes(const Fp8 *s) {
  EntryKind kind = s->g->entries.at[s->entry].kind;
  return kind == ENTRY_step || kind == ENTRY_calibrate;
}

static void stage(Fp8 *s, Builder *b, const char *slot, ValueId sigma, ValueId amax) {
  if (sigma != NO_ID) amax = build2(b, OP_mul, sigma, amax);
  vec_push(s->arena, &s->staged, (Fp8Staged){RES_amax, slot, amax});
}

/* NO_ID: 1. */
static ValueId sigma_of(const Fp8 *s, Builder *b, ValueId x) {
  return scaler_inverse(b, s->entry, value_type(s->g, x).unit);
}

static ValueId quantize(Fp8 *s, const Builder *b, ValueId x) {
  x = fp8_source(s, x);
  if (s->quantized[x] != NO_ID) return s->quantized[x];
  const char *slot = s->slot[x];
  Builder at = fp8_builder(s, b, x);
  step_add_slot(s->g, slot, fp8_type(s, x), b->loc);
  ValueId scale = step_slot_state(s->g, s->entry, slot, "scale", b->loc);
  ValueId sigma = sigma_of(s, &at, x);
  if (sigma != NO_ID) {
    scale = build2(&at, OP_mul, sigma, scale);
    scale = build2(&at, OP_min, scale, build_like(&at, scale, FLT_MAX));
  }
  ValueId y = fp8_quantize(s, &at, x, scale);
  if (observes(s)) stage(s, &at, slot, sigma, y + 2);
  return y;
}

ValueId product_fp8_delayed(Fp8 *s, Builder *b, const Node *n) {
  ValueId x = quantize(s, b, n->ops[0]), y = quantize(s, b, n->ops[1]);
  return fp8_multiply(b, n, x, y);
}

/* ---- calibration ----------------------------------------------------------------------------- */

static void observe(Fp8 *s, const Builder *b, ValueId x) {
  x = fp8_source(s, x);
  if (s->quantized[x] != NO_ID) return;
  Builder at = fp8_builder(s, b, x);
  ValueId sigma = sigma_of(s, &at, x), amax = build_amax(&at, x, NULL);
  step_add_slot(s->g, s->slot[x], fp8_type(s, x), b->loc);
  stage(s, &at, s->slot[x], sigma, amax);
  s->quantized[x] = amax;
}

ValueId fp8_observe(Fp8 *s, Builder *b, const Node *n) {
  observe(s, b, n->ops[0]);
  observe(s, b, n->ops[1]);
  return n->res;
}
