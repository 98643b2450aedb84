/* verify_op.c: what the generic checks of verify.c cannot say about one node: column VERIFY of
 * ops.def, and the rules a kernel keeps by its form (ir/program.h), which codegen relies on.  The
 * structure is sound: ids, arity and attributes were checked before.
 */
#include "ir/program.h"

#include <stdlib.h>
#include <string.h>

typedef struct Check {
  const Graph *g;
  const Node *n;
  Text *why;
} Check;

static bool refuse(const Check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(const Check *c, const char *fmt, ...) {
  va_list ap;
  text_printf(c->why, "%s: ", op_name[c->n->op]);
  va_start(ap, fmt);
  text_vprintf(c->why, fmt, ap);
  va_end(ap);
  return false;
}

static Type in(const Check *c, uint32_t i) { return value_type(c->g, c->n->ops[i]); }
static Type out(const Check *c) { return value_type(c->g, c->n->res); }
static char kind(Type t) { return dtype_kind[t.dtype]; }

static bool all_of_kind(const Check *c, char wanted, const char *what) {
  for (uint32_t i = 0; i < c->n->nops; i++)
    if (kind(in(c, i)) != wanted) return refuse(c, "operands must be %s", what);
  return true;
}

/* ---- sources and scalars -------------------------------------------------------------------- */

static bool verify_none(const Check *c) { return c != NULL; }
static bool verify_floats(const Check *c) { return all_of_kind(c, 'f', "floats"); }
static bool verify_bools(const Check *c) { return all_of_kind(c, 'b', "i1"); }

static bool verify_numbers(const Check *c) {
  for (uint32_t i = 0; i < c->n->nops; i++)
    if (kind(in(c, i)) == 'b') return refuse(c, "operands must be numbers");
  return true;
}

static bool verify_integers(const Check *c) {
  for (uint32_t i = 0; i < c->n->nops; i++)
    if (kind(in(c, i)) != 'i' || dtype_bytes[in(c, i).dtype] != 4)
      return refuse(c, "operands must be integers of 32 bits");
  return true;
}

static bool verify_axis(const Check *c) {
  int64_t axis = node_int(c->n, AT_axis, -1);
  if (kind(out(c)) == 'b') return refuse(c, "result must be numbers");
  return (axis >= 0 && axis < out(c).rank) ||
         refuse(c, "axis %lld of %d", (long long)axis, out(c).rank);
}

/* Operands from … are the words of the seed and the draw. */
static bool are_words(const Check *c, uint32_t from) {
  for (uint32_t i = from; i < c->n->nops; i++)
    if (in(c, i).rank || kind(in(c, i)) != 'i')
      return refuse(c, "seed and draw must be integers of rank 0");
  return true;
}

static bool verify_random(const Check *c) {
  return kind(out(c)) == 'f' ? are_words(c, 0) : refuse(c, "draws are floats");
}

static bool verify_dropout(const Check *c) {
  double rate = node_float(c->n, AT_rate, -1);
  if (kind(in(c, 0)) != 'f') return refuse(c, "operand must be floats");
  if (!(rate >= 0 && rate < 1)) return refuse(c, "the rate must be from 0 to below 1");
  return are_words(c, 1);
}

static bool rounds(const Check *c) {
  Type x = in(c, 0), y = out(c);
  if (kind(x) != 'f') return refuse(c, "operand must be floats");
  if (y.dtype != DT_bf16 && y.dtype != DT_f16) return refuse(c, "gives bf16 or f16");
  return (type_same_dims(x, y) && x.rows == y.rows) || refuse(c, "must keep dims and rows");
}

static bool verify_stochastic_round(const Check *c) { return rounds(c) && are_words(c, 1); }

static bool verify_round_by_bits(const Check *c) {
  Type bits = in(c, 1);
  if (bits.dtype != DT_i32 || !type_same_dims(bits, out(c)))
    return refuse(c, "bits must be i32 of the operand's dims");
  return rounds(c);
}

/* ---- views and casts ------------------------------------------------------------------------ */

/* Elements before the axis of the real rows: they must stay in front of it. */
static int64_t before_rows(Type t) {
  int64_t n = 1;
  for (int i = 0; i < t.rows; i++) n *= t.dim[i];
  return n;
}

static bool verify_reshape(const Check *c) {
  Type x = in(c, 0), y = out(c);
  if (x.dtype != y.dtype) return refuse(c, "must keep the element type");
  if (type_count(x) != type_count(y)) return refuse(c, "must keep the number of elements");
  if ((x.rows < 0) != (y.rows < 0)) return refuse(c, "must keep the tag of the real rows");
  return before_rows(x) == before_rows(y) || refuse(c, "moves the axis of the real rows");
}

static bool verify_broadcast(const Check *c) {
  Type x = in(c, 0), y = out(c);
  const Attr *axes = node_attr(c->n, AT_axes);
  uint32_t taken = 0;
  if (x.dtype != y.dtype) return refuse(c, "must keep the element type");
  if (axes->n != x.rank) return refuse(c, "axes must name a place for each axis");
  for (int i = 0; i < x.rank; i++) {
    int64_t to = axes->ints[i];
    if (to < 0 || to >= y.rank || (taken >> to & 1)) return refuse(c, "axes must exist and differ");
    if (x.dim[i] != y.dim[to] && x.dim[i] != 1)
      return refuse(c, "axis %d of size %lld cannot become %lld", i, (long long)x.dim[i],
                    (long long)y.dim[to]);
    if (i == x.rows && to != y.rows) return refuse(c, "loses the tag of the real rows");
    taken |= 1u << to;
  }
  return true;
}

/* `part` lies in `whole` at starts[i] + k · steps[i]; the batch's axis does so whole. */
static bool lies_in(const Check *c, Type part, Type whole) {
  const Attr *starts = node_attr(c->n, AT_starts), *steps = node_attr(c->n, AT_steps);
  if (part.dtype != whole.dtype || part.rank != whole.rank || part.rows != whole.rows)
    return refuse(c, "must keep element type, rank and the tag of the real rows");
  if (starts->n != part.rank || steps->n != part.rank)
    return refuse(c, "starts and steps must name a number for each axis");
  for (int i = 0; i < part.rank; i++) {
    int64_t first = starts->ints[i], step = steps->ints[i], n = part.dim[i];
    bool small = step != 0 && llabs(step) <= (1LL << 40) && llabs(first) <= (1LL << 40);
    int64_t last = small ? first + (n - 1) * step : -1;
    bool inside = small && first >= 0 && first < whole.dim[i] && last >= 0 && last < whole.dim[i];
    if (n && !inside)
      return refuse(c, "axis %d goes beyond its %lld places", i, (long long)whole.dim[i]);
    if (i == part.rows && (first != 0 || step != 1 || n != whole.dim[i]))
      return refuse(c, "cuts the axis of the real rows");
  }
  return true;
}

static bool verify_slice(const Check *c) { return lies_in(c, out(c), in(c, 0)); }
static bool verify_pad(const Check *c) { return lies_in(c, in(c, 0), out(c)); }

static bool verify_cast(const Check *c) {
  Type x = in(c, 0), y = out(c);
  if (kind(y) != 'f' && x.unit && !unit_is_any(c->g, c->n->ops[0]))
    return refuse(c, "an integer must not carry the loss scale");
  return (type_same_dims(x, y) && x.rows == y.rows) || refuse(c, "must keep dims and rows");
}

static bool verify_bf16_rest(const Check *c) {
  Type x = in(c, 0), y = out(c);
  if (x.dtype != DT_f32 || y.dtype != DT_u16) return refuse(c, "takes f32 and gives u16");
  return (type_same_dims(x, y) && x.rows == y.rows) || refuse(c, "must keep dims and rows");
}

static bool verify_bf16_join(const Check *c) {
  Type up = in(c, 0), rest = in(c, 1), high = in(c, 2), y = out(c);
  if (up.dtype != DT_i1 || rest.dtype != DT_u16 || high.dtype != DT_bf16 || y.dtype != DT_f32)
    return refuse(c, "joins i1, u16 and bf16 to f32");
  return (type_same_dims(up, y) && type_same_dims(rest, y) && type_same_dims(high, y)) ||
         refuse(c, "must keep dims");
}

static bool verify_rows(const Check *c) {
  return in(c, 0).rows >= 0 || refuse(c, "no axis of the operand is tagged `rows`");
}

/* ---- contraction ---------------------------------------------------------------------------- */

static bool verify_loss_seed(const Check *c) {
  int64_t losses = (int64_t)c->n->nops - node_bool(c->n, AT_scaled);
  int64_t index = node_int(c->n, AT_index, -1);
  for (uint32_t i = 0; i < c->n->nops; i++)
    if (in(c, i).rank || in(c, i).dtype != DT_f32) return refuse(c, "operands must be f32[]");
  return (index >= 0 && index < losses) ||
         refuse(c, "index %lld of %lld losses", (long long)index, (long long)losses);
}

static bool verify_scale_min(const Check *c) {
  for (uint32_t i = 0; i < c->n->nops; i++)
    if (in(c, i).rank || in(c, i).dtype != DT_f32 || !value_is_scale(c->g, c->n->ops[i]))
      return refuse(c, "operands must be loss scales, f32[]");
  return true;
}

/* The ratio is a quotient of two scales, whatever path it takes. */
static bool verify_rescale(const Check *c) {
  return all_of_kind(c, 'f', "floats") &&
         (out(c).dtype == in(c, 0).dtype || refuse(c, "keeps x's type"));
}

static bool verify_cotangent(const Check *c) {
  return (kind(out(c)) == 'f' && out(c).unit == UNIT_S) ||
         refuse(c, "must be floats that carry S once");
}

static bool verify_custom_grad(const Check *c) {
  const Node *dy = value_node(c->g, c->n->ops[1]);
  return (dy && dy->op == OP_cotangent) || refuse(c, "dy must be a cotangent");
}

static bool verify_matmul(const Check *c) {
  return node_int(c->n, AT_k_chunk, 0) > 0 || refuse(c, "k_chunk must be positive");
}

/* ---- fp8 (docs/precision.md) ---------------------------------------------------------------- */

static bool is_fp8(Type t) { return t.dtype == DT_f8e4m3fn || t.dtype == DT_f8e5m2; }

static bool is_scalar(Type t, DType d) { return t.dtype == d && t.rank == 0; }

static Unit inverse(Unit u) {
  unit_times(0, u, -1, &u);
  return u;
}

/* y is x in fp8, and carries no loss scale. */
static bool quantizes(const Check *c) {
  Type x = in(c, 0), scale = in(c, 1), y = out(c);
  if (kind(x) != 'f' || is_fp8(x) || x.dtype == DT_f8e8m0)
    return refuse(c, "wants an operand of f32, bf16 or f16");
  if (!is_fp8(y)) return refuse(c, "gives f8e4m3fn or f8e5m2");
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

static bool verify_saturate(const Check *c) { return has_scale(c) && quantizes(c); }

/* What became of x in y, the last operand; a scale stands between. */
static bool verify_rounding(const Check *c) {
  Type x = in(c, 0), y = in(c, c->n->nops - 1), z = out(c);
  if (c->n->nops > 2 && !has_scale(c)) return false;
  if (kind(x) != 'f' || is_fp8(x) || x.dtype == DT_f8e8m0 || !is_fp8(y))
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

static bool verify_quantize(const Check *c) {
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

/* Where v was computed, through views, kernels and their arguments, into loops, but no cast. */
static ValueId source_of(const Graph *g, ValueId v) {
  for (;;) {
    v = value_origin(g, v, false);
    const Node *n = value_node(g, v);
    ValueId from = !n ? loop_invariant(g, v) : op_flags[n->op] & F_VIEW ? n->ops[0] : NO_ID;
    if (from == NO_ID) return v;
    v = from;
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

/* Where v was made, through reshapes and the borders of kernels and loops. */
static ValueId maker_of(const Graph *g, ValueId v) {
  for (ValueId out; v = value_origin(g, v, false), (out = loop_invariant(g, v)) != NO_ID;) v = out;
  return v;
}

/* Which axes of the quantized value have scales; after `expand`, what was broadcast along the
 * others.  NULL: the scale is one number. */
static const Attr *axes_of_scale(const Graph *g, const Node *quantizer) {
  if (quantizer->op == OP_quantize) return node_attr(quantizer, AT_scale_axes);
  const Node *n = value_node(g, maker_of(g, quantizer->ops[1]));
  return n && n->op == OP_broadcast ? node_attr(n, AT_axes) : NULL;
}

/* Was the operand cut into blocks as the product takes them?  Its axes are places of blocks, each
 * with the elements of a block behind it where a block has more than one (an only block may be
 * short); the last blocks may have been cut off at their end. */
static bool has_its_blocks(const Check *c, uint32_t operand, bool lines) {
  const Graph *g = c->g;
  ValueId v = maker_of(g, c->n->ops[operand]);
  Type scale = in(c, operand + 2), whole = {0};
  const Node *n = value_node(g, v);
  for (; n && n->op == OP_slice; n = value_node(g, v)) v = maker_of(g, n->ops[0]);
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
  for (const Node *n; (n = value_node(g, maker_of(g, v))) != NULL; v = n->ops[0]) {
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

static bool verify_matmul_scaled(const Check *c) {
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
static bool reads_fp8_rightly(const Check *c) {
  Op op = c->n->op;
  bool passes_on = (op_flags[op] & F_VIEW) || op == OP_kernel || op == OP_loop;
  for (uint32_t i = 0; i < c->n->nops && !passes_on; i++) {
    bool scale = op == OP_matmul_scaled && (i == 2 || i == 3);
    bool code = (op == OP_matmul_scaled && i < 2) || (op == OP_saturated && i == 2) ||
                (op == OP_flushed && i == 1);
    if (is_fp8(in(c, i)) && !code)
      return refuse(c, "operand %u is fp8, which is for matmul_scaled alone", (unsigned)i);
    if (in(c, i).dtype == DT_f8e8m0 && !scale)
      return refuse(c, "operand %u is f8e8m0, which is for scales alone", (unsigned)i);
  }
  return true;
}

/* ---- indexing ------------------------------------------------------------------------------- */

static bool verify_gather(const Check *c) {
  Type x = in(c, 0);
  if (x.rank && x.dim[x.rank - 1] == 0) return refuse(c, "no element to choose from");
  return c->n->op == OP_gather || kind(x) == 'f' || refuse(c, "operands must be floats");
}

static bool verify_embedding(const Check *c) {
  return in(c, 0).dim[0] > 0 || refuse(c, "the table is empty");
}

static bool verify_scatter_add(const Check *c) {
  Type x = in(c, 0), index = in(c, 1), y = out(c);
  int lead = index.rank;
  if (kind(x) != 'f' || index.dtype != DT_i32 || y.dtype != DT_f32)
    return refuse(c, "wants floats and i32 indices, gives f32");
  if (y.rank < 1 || y.rows == 0 || x.rank != lead + y.rank - 1)
    return refuse(c, "wants x[index…, …] for a result [n, …]");
  if (y.rows != (x.rows >= lead ? x.rows - lead + 1 : -1))
    return refuse(c, "the batch must be the same axis of the rows and the result, or an index'");
  for (int i = 0; i < x.rank; i++)
    if (x.dim[i] != (i < lead ? index.dim[i] : y.dim[i - lead + 1]))
      return refuse(c, "axis %d of the elements differs", i);
  if (y.dim[0] < 1) return refuse(c, "no row to add to");
  return c->n->nops < 3 || type_equal(in(c, 2), y) || refuse(c, "accumulator of another type");
}

static bool verify_one_hot(const Check *c) {
  Type i = in(c, 0), y = out(c);
  if (kind(i) != 'i') return refuse(c, "indices must be integers");
  if (y.rank != i.rank + 1 || y.rows != i.rows)
    return refuse(c, "wants one more axis, behind the index'");
  y.rank--;
  return type_same_dims(y, i) || refuse(c, "wants one more axis, behind the index'");
}

static bool verify_rows_inner(const Check *c) {
  Type x = in(c, 0);
  bool floats = c->n->op != OP_argmax;
  if (kind(x) == 'b' || (floats && kind(x) != 'f'))
    return refuse(c, "operand must be %s", floats ? "floats" : "numbers");
  if (!x.rank || x.rows == x.rank - 1)
    return refuse(c, "wants a last axis that does not hold the batch");
  return x.dim[x.rank - 1] > 0 || refuse(c, "the last axis is empty");
}

static bool verify_commit(const Check *c) {
  return type_equal(in(c, 1), in(c, 2)) || refuse(c, "the new state has another type than the old");
}

/* ---- loop ----------------------------------------------------------------------------------- */

/* What iteration i sees of x[i], or gives of it: t without its first axis; with attribute `rows` a
 * first axis of rows is cut, and stays. */
static bool slice(const Check *c, Type *t, int64_t trip) {
  if (t->rank && t->rows == 0 && node_attr(c->n, AT_rows)) {
    if (t->dim[0] % trip) return false;
    t->dim[0] /= trip;
    return true;
  }
  if (!t->rank || t->dim[0] != trip || t->rows == 0) return false;
  for (int i = 1; i < t->rank; i++) t->dim[i - 1] = t->dim[i];
  t->dim[--t->rank] = 0;
  t->rows -= t->rows > 0;
  return true;
}

static bool loop_args(const Check *c, const Block *b, int64_t trip, int64_t carries,
                      int64_t slices) {
  if (b->args.len != c->n->nops + 1)
    return refuse(c, "the block wants the index and %u arguments", (unsigned)c->n->nops);
  Type index = value_type(c->g, b->args.at[0]);
  if (index.rank || kind(index) != 'i') return refuse(c, "the index must be an integer of rank 0");
  for (uint32_t i = 0; i < c->n->nops; i++) {
    Type t = in(c, i);
    bool whole = i < carries || i >= carries + slices;
    if (whole && t.rows >= 0 && node_attr(c->n, AT_rows))
      return refuse(c, "operand %u has the rows of all iterations", (unsigned)i);
    if (!whole && !slice(c, &t, trip))
      return refuse(c, "operand %u cannot be cut into %lld", (unsigned)i, (long long)trip);
    if (!type_equal(t, value_type(c->g, b->args.at[i + 1])))
      return refuse(c, "argument %u of the block has another type", (unsigned)i + 1);
  }
  return true;
}

static bool loop_results(const Check *c, const Block *b, int64_t trip, int64_t carries) {
  if (b->results.len != c->n->nres || c->n->nres < carries)
    return refuse(c, "the block must give the carries, and each result");
  for (uint32_t i = 0; i < c->n->nres; i++) {
    Type t = value_type(c->g, c->n->res + i), given = value_type(c->g, b->results.at[i]);
    if (i < carries && !type_equal(t, in(c, i)))
      return refuse(c, "carry %u changes its type", (unsigned)i);
    if (i >= carries && !slice(c, &t, trip))
      return refuse(c, "result %u is not %lld slices", (unsigned)i, (long long)trip);
    if (!type_equal(t, given))
      return refuse(c, "result %u of the block has another type", (unsigned)i);
  }
  return true;
}

static bool verify_loop(const Check *c) {
  int64_t trip = node_int(c->n, AT_trip, -1), carries = node_int(c->n, AT_carries, -1),
          slices = node_int(c->n, AT_slices, -1);
  const Block *b = &c->g->blocks.at[c->n->blocks[0]];
  if (trip < 0 || carries < 0 || slices < 0)
    return refuse(c, "trip, carries, slices must not be negative");
  if (carries > c->n->nops || slices > c->n->nops - carries)
    return refuse(c, "more carries and slices than operands");
  return loop_args(c, b, trip, carries, slices) && loop_results(c, b, trip, carries);
}

/* ---- kernel --------------------------------------------------------------------------------- */

typedef struct Kernel {
  Check c;
  const Block *body;
  Form form;
  const Node *anchor; /* first reduction, or the matmul or scatter_add */
} Kernel;

static bool kernel_form(Kernel *k) {
  const char *form = node_text(k->c.n, AT_form, "");
  for (int i = FORM_map; i < FORM_COUNT; i++)
    if (!strcmp(form, form_name[i])) k->form = (Form)i;
  return k->form || refuse(&k->c, "unknown form `%s`", form);
}

static bool kernel_borders(const Kernel *k) {
  const Node *n = k->c.n;
  const Graph *g = k->c.g;
  if (k->body->args.len != n->nops)
    return refuse(&k->c, "the block wants an argument for each operand");
  if (!n->nres || k->body->results.len != n->nres)
    return refuse(&k->c, "the block must give each result, and one at least");
  for (uint32_t i = 0; i < n->nops; i++)
    if (!type_equal(in(&k->c, i), value_type(g, k->body->args.at[i])))
      return refuse(&k->c, "argument %u of the block has another type than the operand",
                    (unsigned)i);
  for (uint32_t i = 0; i < n->nres; i++)
    if (!type_equal(value_type(g, n->res + i), value_type(g, k->body->results.at[i])))
      return refuse(&k->c, "result %u of the block has another type", (unsigned)i);
  return true;
}

static const Node *body_node(const Kernel *k, uint32_t i) {
  return &k->c.g->nodes.at[k->body->nodes.at[i]];
}

/* Each node is of form map or of the kernel's; the first of the latter is the anchor. */
static bool kernel_nodes(Kernel *k) {
  for (uint32_t i = 0; i < k->body->nodes.len; i++) {
    const Node *n = body_node(k, i);
    if (op_form[n->op] == FORM_map) continue;
    if (op_form[n->op] != k->form)
      return refuse(&k->c, "%s cannot be in a kernel of form %s", op_name[n->op],
                    form_name[k->form]);
    if (!k->anchor) k->anchor = n;
    else if (k->form == FORM_gemm) return refuse(&k->c, "a gemm has one matmul only");
    else if (k->form == FORM_scatter) return refuse(&k->c, "a scatter has one scatter_add only");
  }
  return k->anchor || k->form == FORM_map ||
         refuse(&k->c, "nothing in it is of form %s", form_name[k->form]);
}

static bool kernel_results_are(const Kernel *k, Type a, Type b) {
  for (uint32_t i = 0; i < k->body->results.len; i++) {
    Type t = value_type(k->c.g, k->body->results.at[i]);
    if (!type_same_dims(t, a) && !type_same_dims(t, b))
      return refuse(&k->c, "result %u has dims that the form does not give", (unsigned)i);
  }
  return true;
}

static bool kernel_map(const Kernel *k) {
  Type space = value_type(k->c.g, k->body->results.at[0]);
  return kernel_results_are(k, space, space);
}

/* Axes in a row from the first, leaving one at least, or in a row to the last. */
static bool one_run(const Attr *axes, int rank) {
  for (uint32_t i = 1; i < axes->n; i++)
    if (axes->ints[i] != axes->ints[0] + i) return false;
  return axes->ints[0] == 0 || axes->ints[axes->n - 1] == rank - 1;
}

static bool same_axes(const Attr *a, const Attr *b) {
  return a->n == b->n && !memcmp(a->ints, b->ints, a->n * sizeof *a->ints);
}

static bool kernel_reduce(const Kernel *k) {
  const Attr *axes = node_attr(k->anchor, AT_axes);
  Type space = value_type(k->c.g, k->anchor->ops[0]);
  uint32_t count = 0;
  if (!one_run(axes, space.rank))
    return refuse(&k->c, "reduces neither the leading nor the trailing axes");
  for (uint32_t i = 0; i < k->body->nodes.len; i++) {
    const Node *n = body_node(k, i);
    if (op_form[n->op] != FORM_reduce) continue;
    if (!type_same_dims(space, value_type(k->c.g, n->ops[0])))
      return refuse(&k->c, "its reductions have operands of different dims");
    if (!same_axes(axes, node_attr(n, AT_axes)))
      return refuse(&k->c, "its reductions go over different axes");
    if (++count > MOST_REDUCTIONS) return refuse(&k->c, "more than %d reductions", MOST_REDUCTIONS);
  }
  return kernel_results_are(k, space, value_type(k->c.g, k->anchor->res));
}

static bool kernel_gemm(const Kernel *k) {
  for (uint32_t i = 0; i < k->anchor->nops; i++)
    if (k->c.g->values.at[k->anchor->ops[i]].node != NO_ID)
      return refuse(&k->c, "the matmul must read arguments of the block directly");
  Type c = value_type(k->c.g, k->anchor->res);
  return kernel_results_are(k, c, c);
}

static bool kernel_scatter(const Kernel *k) {
  if (k->body->results.len != 1 || k->body->results.at[0] != k->anchor->res)
    return refuse(&k->c, "a scatter gives its sums alone");
  return k->anchor->nops < 3 || k->c.g->values.at[k->anchor->ops[2]].node == NO_ID ||
         refuse(&k->c, "a scatter's accumulator must be an argument of the block");
}

static bool verify_kernel(const Check *c) {
  static bool (*const rules[])(const Kernel *) = {[FORM_map] = kernel_map,
                                                  [FORM_reduce] = kernel_reduce,
                                                  [FORM_gemm] = kernel_gemm,
                                                  [FORM_scatter] = kernel_scatter};
  Kernel k = {.c = *c, .body = &c->g->blocks.at[c->n->blocks[0]]};
  return kernel_form(&k) && kernel_borders(&k) && kernel_nodes(&k) && rules[k.form](&k);
}

/* ---- the column ----------------------------------------------------------------------------- */

static bool (*const verify_rule[OP_COUNT])(const Check *) = {
#define OP(name, doc) [OP_##name] =
#define VERIFY(rule) verify_##rule,
#include "ir/ops.def"
};

bool node_check(const Graph *g, NodeId n, Text *why) {
  Check c = {g, &g->nodes.at[n], why};
  return reads_fp8_rightly(&c) && verify_rule[c.n->op](&c);
}
