/* verify_fp8.c: rules of fp8 (docs/precision.md): who makes an fp8 value, that matmul_scaled alone
 * reads it, and with the scale that came from the same node or the same states.
 */
#include "ir/verify_rule.h"

#include <string.h>

static bool is_scalar(Type t, DType d) { return t.dtype == d && t.rank == 0; }

static Unit inverse(Unit u) {
  unit_times(0, u, -1, &u);
  return u;
}

/* y is x in fp8, and carries no loss scale. */
static bool quantizes(const Check *c) {
  Type x = in(c, 0), scale = in(c, 1), y = out(c);
  if (kind(x) != 'f' || type_is_fp8(x) || x.dtype == DT_f8e8m0)
    return refuse(c, "wants an operand of f32, bf16 or f16");
  if (!type_is_fp8(y)) return refuse(c, "gives f8e4m3fn or f8e5m2");
  if (!type_same_dims(x, y) || x.rows != y.rows) return refuse(c, "must keep dims and rows");
  return (y.unit == 0 && scale.unit == inverse(x.unit)) ||
         refuse(c, "the scale must take the loss scale out of the operand");
}

/* Operand 1 is a scale for all of operand 0, or one an element. */
static bool has_scale(const Check *c) {
  Type x = in(c, 0), scale = in(c, 1);
  if (scale.dtype != DT_f32 || (scale.rank && (!type_same_dims(scale, x) || scale.rows != x.rows)))
    return refuse(c, "the scale must be f32[], or f32 of the operand's dims");
  return true;
}

bool verify_saturate(const Check *c) { return has_scale(c) && quantizes(c); }

/* What became of x in y, the last operand; a scale stands between. */
bool verify_rounding(const Check *c) {
  Type x = in(c, 0), y = in(c, c->n->nops - 1), z = out(c);
  if (c->n->nops > 2 && !has_scale(c)) return false;
  if (kind(x) != 'f' || type_is_fp8(x) || x.dtype == DT_f8e8m0 || !type_is_fp8(y))
    return refuse(c, "wants an operand of f32, bf16 or f16, and what it became in fp8");
  if (!type_same_dims(x, y) || x.rows != y.rows || z.dtype != DT_i1 || !type_same_dims(x, z) ||
      x.rows != z.rows)
    return refuse(c, "must keep dims and rows, and give i1");
  return true;
}

/* The type of what there is one of for each scale: x without the axes that share one. */
static bool scale_type(const Check *c, Type *t) {
  const Attr *axes = node_attr(c->n, AT_scale_axes);
  Type x = in(c, 0);
  *t = type_scalar(DT_f32);
  for (uint32_t i = 0; axes && i < axes->n; i++) {
    int64_t a = axes->ints[i];
    if (a < 0 || a >= x.rank || (i && a <= axes->ints[i - 1]))
      return refuse(c, "scale_axes must ascend and exist");
    if (a == x.rows) t->rows = (int8_t)i;
    t->dim[t->rank++] = x.dim[a];
  }
  return true;
}

static bool is_one_a_scale(Type t, Type scale, DType d, Unit unit) {
  return t.dtype == d && type_same_dims(t, scale) && t.rows == scale.rows && t.unit == unit;
}

bool verify_quantize(const Check *c) {
  Type x = in(c, 0), scale = in(c, 1), t[4], one;
  if (!scale_type(c, &one)) return false;
  if (!is_one_a_scale(scale, one, DT_f32, scale.unit))
    return refuse(c, one.rank ? "the scale must be f32 of the axes scale_axes"
                              : "the scale must be f32[]");
  if (!quantizes(c)) return false;
  for (uint32_t i = 0; i < 4; i++) t[i] = value_type(c->g, c->n->res + i);
  DType stored = t[1].dtype == DT_f8e8m0 && one.rank ? DT_f8e8m0 : DT_f32;
  if (!is_one_a_scale(t[1], one, stored, x.unit))
    return refuse(c, one.rank ? "scale_inv must be f32 or f8e8m0 like the scale, of the operand's "
                                "loss scale"
                              : "scale_inv must be f32[] of the operand's loss scale");
  if (!is_one_a_scale(t[2], one, DT_f32, x.unit))
    return refuse(c, one.rank ? "amax must be f32 like the scale, of the operand's loss scale"
                              : "amax must be f32[] of the operand's loss scale");
  return (is_scalar(t[3], DT_i1) && t[3].unit == 0) || refuse(c, "nonfinite must be i1[]");
}

/* Where v was computed, through kernels and reshapes, out of loops, in `derive`. */
static ValueId made_as(const Graph *g, ValueId v) {
  for (ValueId out = v; out != NO_ID; out = derived_source(g, v)) v = value_source(g, out, false);
  return v;
}

/* The same, and through every view, but no cast. */
static ValueId source_of(const Graph *g, ValueId v) {
  for (;;) {
    v = made_as(g, v);
    const Node *n = value_node(g, v);
    if (!n || !(op_flags[n->op] & F_VIEW)) return v;
    v = n->ops[0];
  }
}

static bool is_number(const Graph *g, ValueId v, double *number) {
  const Node *n = value_node(g, source_of(g, v));
  if (!n || n->op != OP_constant) return false;
  *number = node_float(n, AT_value, 0);
  return true;
}

/* The same state, or the same function of the same sources: pass `group` may compute it twice. */
static bool same_value(const Graph *g, ValueId x, ValueId y, int depth) {
  x = source_of(g, x), y = source_of(g, y);
  const Node *m = value_node(g, x), *n = value_node(g, y);
  double p, q;
  if (x == y) return true;
  if (!m || !n || m->op != n->op || m->nops != n->nops || m->nblocks || !depth) return false;
  if (m->op == OP_constant) return is_number(g, x, &p) && is_number(g, y, &q) && p == q;
  bool same = m->nops > 0 && m->nattrs == 0 && n->nattrs == 0;
  for (uint32_t i = 0; same && i < m->nops; i++)
    same = same_value(g, m->ops[i], n->ops[i], depth - 1);
  return same;
}

/* Is `inverse` 1 / scale, maybe as f8e8m0, or that with NaN in its place where something was not
 * finite?  Where the scale is a number, simplify has made its inverse one too. */
static bool inverts(const Graph *g, ValueId inverse, ValueId scale) {
  enum { DEPTH = 8 }; /* of what a scale is computed by */
  const Node *n = value_node(g, source_of(g, inverse));
  double x, y;
  if (n && n->op == OP_cast && value_type(g, n->res).dtype == DT_f8e8m0) {
    inverse = n->ops[0];
    n = value_node(g, source_of(g, inverse));
  }
  if (n && n->op == OP_select && is_number(g, n->ops[2], &x) && x != x) {
    inverse = n->ops[1];
    n = value_node(g, source_of(g, inverse));
  }
  if (is_number(g, inverse, &y)) return is_number(g, scale, &x) && (float)y == 1 / (float)x;
  bool divides = n && n->op == OP_div && is_number(g, n->ops[0], &x) && x == 1;
  return divides && same_value(g, n->ops[1], scale, DEPTH);
}

/* The operand's scale is the scale_inv of the very quantize that made it; after `expand`, 1 over
 * the scale that it was multiplied by. */
static bool has_its_scale(const Check *c, uint32_t operand) {
  const Graph *g = c->g;
  ValueId y = source_of(g, c->n->ops[operand]), scale = c->n->ops[operand + 2];
  const Node *n = value_node(g, y);
  if (n && n->op == OP_quantize) return y == n->res && source_of(g, scale) == n->res + 1;
  return n && n->op == OP_saturate && inverts(g, scale, n->ops[1]);
}

/* Which axes of the quantized value have scales; after `expand`, what was broadcast along the
 * others.  NULL: the scale is one number. */
static const Attr *axes_of_scale(const Graph *g, const Node *quantizer) {
  if (quantizer->op == OP_quantize) return node_attr(quantizer, AT_scale_axes);
  const Node *n = value_node(g, made_as(g, quantizer->ops[1]));
  return n && n->op == OP_broadcast ? node_attr(n, AT_axes) : NULL;
}

/* Was the operand cut into blocks as the product takes them?  Its axes are places of blocks, each
 * with the elements of a block behind it where a block has more than one (an only block may be
 * short); the last blocks may have been cut off at their end. */
static bool has_its_blocks(const Check *c, uint32_t operand, bool lines) {
  const Graph *g = c->g;
  ValueId v = made_as(g, c->n->ops[operand]);
  Type scale = in(c, operand + 2), whole = {0};
  const Node *n = value_node(g, v);
  for (; n && n->op == OP_slice; n = value_node(g, v)) v = made_as(g, n->ops[0]);
  if (!n || (n->op != OP_quantize && n->op != OP_saturate)) return false;
  const Attr *axes = axes_of_scale(g, n);
  Type y = value_type(g, n->res);
  if (!axes || !axes->n) return true;
  bool swapped = node_bool(c->n, operand ? AT_tb : AT_ta);
  int along = scale.rank - 1 - ((operand == 1) != swapped);
  for (int i = 0; i < scale.rank; i++) {
    if (i >= (int)axes->n || axes->ints[i] != whole.rank) return false;
    whole.dim[whole.rank++] = scale.dim[i];
    if (i < scale.rank - 2 || (i != along && !lines)) continue;
    int64_t block = node_int(c->n, AT_k_chunk, 0);
    if (scale.dim[i] == 1 && whole.rank < y.rank && y.dim[whole.rank] < block)
      block = y.dim[whole.rank];
    if (whole.rank == MAX_RANK) return false;
    whole.dim[whole.rank++] = block;
  }
  return type_same_dims(whole, y);
}

/* No slice but of what lies in front. */
static bool cuts_the_end(const Graph *g, ValueId v) {
  for (const Node *n; (n = value_node(g, made_as(g, v))) != NULL; v = n->ops[0]) {
    if (n->op != OP_slice) return true;
    const Attr *starts = node_attr(n, AT_starts), *steps = node_attr(n, AT_steps);
    for (uint32_t i = 0; i < starts->n; i++)
      if (starts->ints[i] || steps->ints[i] != 1) return false;
  }
  return true;
}

static bool verify_block_scale(const Check *c, uint32_t i, const char *name) {
  Type scale = in(c, i + 2);
  if (scale.dtype != DT_f32 && scale.dtype != DT_f8e8m0)
    return refuse(c, "%s_scale must be f32 or f8e8m0", name);
  if (!matmul_scale_lines(c->g, c->n, i))
    return refuse(c,
                  "%s_scale must have a scale for each k_chunk of the contracted axis, and for "
                  "each or each k_chunk of the other",
                  name);
  bool fits = has_its_blocks(c, i, false) || has_its_blocks(c, i, true);
  return (fits && cuts_the_end(c->g, c->n->ops[i])) ||
         refuse(c, "%s was not quantized in the blocks of the product", name);
}

bool verify_matmul_scaled(const Check *c) {
  static const char *const name[] = {"a", "b"};
  bool blocks = in(c, 2).rank > 0;
  if (node_int(c->n, AT_k_chunk, 0) <= 0) return refuse(c, "k_chunk must be positive");
  if (in(c, 0).dtype == DT_f8e5m2 && in(c, 1).dtype == DT_f8e5m2)
    return refuse(c, "e5m2 is for gradients: one operand must be f8e4m3fn");
  if (blocks != (in(c, 3).rank > 0))
    return refuse(c, "one operand has a scale for all, the other one for each block");
  for (uint32_t i = 0; i < 2; i++) {
    if (!blocks && !is_scalar(in(c, i + 2), DT_f32))
      return refuse(c, "%s_scale must be f32[]", name[i]);
    if (!has_its_scale(c, i))
      return refuse(c, "%s_scale is not the scale_inv of the quantize that made %s", name[i],
                    name[i]);
    if (blocks && !verify_block_scale(c, i, name[i])) return false;
  }
  return true;
}

/* An fp8 value means nothing without its scale, and a scale is no number to compute with. */
bool reads_fp8_rightly(const Check *c) {
  Op op = c->n->op;
  bool passes_on = (op_flags[op] & F_VIEW) || op == OP_kernel || op == OP_loop;
  for (uint32_t i = 0; i < c->n->nops && !passes_on; i++) {
    bool scale = op == OP_matmul_scaled && (i == 2 || i == 3);
    bool code = (op == OP_matmul_scaled && i < 2) || (op == OP_saturated && i == 2) ||
                (op == OP_flushed && i == 1);
    if (type_is_fp8(in(c, i)) && !code)
      return refuse(c, "operand %u is fp8, which is for matmul_scaled alone", (unsigned)i);
    if (in(c, i).dtype == DT_f8e8m0 && !scale)
      return refuse(c, "operand %u is f8e8m0, which is for scales alone", (unsigned)i);
  }
  return true;
}
