/* verify_op.c: what the generic checks of verify.c cannot say about one node: column VERIFY of
 * ops.def.  The structure is sound: ids, arity and attributes were checked before.
 */
#include "ir/verify_rule.h"

#include <stdlib.h>
#include <string.h>

bool refuse(const Check *c, const char *fmt, ...) {
  va_list ap;
  text_printf(c->why, "%s: ", op_name[c->n->op]);
  va_start(ap, fmt);
  text_vprintf(c->why, fmt, ap);
  va_end(ap);
  return false;
}

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
