/* shape.c: the result types of a node from its operands; one rule serves many ops (column SHAPE).
 *
 * The tag `rows` goes where its axis goes: elementwise ops pass it on (an untagged operand, say a
 * broadcast constant, agrees with any), a reduction over it drops it, a matmul takes it from the
 * axis of the result.  A rule says in *why what is wrong; nobody else checks operand shapes.
 */
#include "ir/ir.h"

#include <string.h>

typedef struct Shape {
  const Graph *g;
  Op op;
  uint32_t nops;
  const ValueId *ops;
  uint32_t nattrs;
  const Attr *attrs;
  Type *res;
  Text *why;
} Shape;

static Type operand(const Shape *s, uint32_t i) { return value_type(s->g, s->ops[i]); }

static const Attr *attr(const Shape *s, AttrKey key) {
  for (uint32_t i = 0; i < s->nattrs; i++)
    if (s->attrs[i].key == key) return &s->attrs[i];
  return NULL;
}

static bool flag(const Shape *s, AttrKey key) {
  const Attr *a = attr(s, key);
  return a && a->i;
}

static bool refuse(const Shape *s, const char *what) {
  text_printf(s->why, "%s: %s", op_name[s->op], what);
  for (uint32_t i = 0; i < s->nops; i++) {
    text_add(s->why, i ? ", " : " (");
    type_print(s->why, operand(s, i));
  }
  if (s->nops) text_add(s->why, ")");
  return false;
}

/* Dims of operands from..nops-1 agree; *t is the first with the tag that any of them has. */
static bool join_dims(const Shape *s, uint32_t from, Type *t) {
  *t = operand(s, from);
  for (uint32_t i = from + 1; i < s->nops; i++) {
    Type u = operand(s, i);
    if (!type_same_dims(*t, u)) return refuse(s, "operands of different dims");
    if (t->rows >= 0 && u.rows >= 0 && t->rows != u.rows)
      return refuse(s, "operands whose real rows lie on different axes");
    if (u.rows >= 0) t->rows = u.rows;
  }
  return true;
}

static bool same_dtype(const Shape *s, uint32_t from) {
  for (uint32_t i = from + 1; i < s->nops; i++)
    if (operand(s, i).dtype != operand(s, from).dtype)
      return refuse(s, "operands of different element types");
  return true;
}

static bool shape_given(Shape *s) { return refuse(s, "type must be given"); }

static bool shape_same(Shape *s) { return same_dtype(s, 0) && join_dims(s, 0, s->res); }

static bool shape_to(Shape *s, DType d) {
  if (!shape_same(s)) return false;
  s->res->dtype = (uint8_t)d;
  return true;
}

static bool shape_int_to_f32(Shape *s) {
  if (operand(s, 0).dtype != DT_i32) return refuse(s, "wants i32");
  return shape_to(s, DT_f32);
}

static bool shape_compare(Shape *s) { return shape_to(s, DT_i1); }
static bool shape_test(Shape *s) { return shape_to(s, DT_i1); }

static bool shape_select(Shape *s) {
  Type c = operand(s, 0);
  if (c.dtype != DT_i1) return refuse(s, "condition must be i1");
  if (!same_dtype(s, 1) || !join_dims(s, 0, s->res)) return false;
  s->res->dtype = operand(s, 1).dtype;
  return true;
}

static bool shape_commit(Shape *s) {
  if (operand(s, 0).dtype != DT_i1 || operand(s, 0).rank != 0) return refuse(s, "ok must be i1[]");
  if (!same_dtype(s, 1)) return false;
  return join_dims(s, 1, s->res);
}

static bool is_permutation(const Attr *perm, int rank) {
  uint32_t seen = 0;
  if (perm->n != (uint32_t)rank) return false;
  for (int i = 0; i < rank; i++) {
    int64_t p = perm->ints[i];
    if (p < 0 || p >= rank || (seen >> p & 1)) return false;
    seen |= 1u << p;
  }
  return true;
}

static Type permuted(Type x, const int64_t *perm) {
  Type t = x;
  for (int i = 0; i < x.rank; i++) {
    t.dim[i] = x.dim[perm[i]];
    if (perm[i] == x.rows) t.rows = (int8_t)i;
  }
  return t;
}

static bool shape_transpose(Shape *s) {
  const Attr *perm = attr(s, AT_perm);
  Type x = operand(s, 0);
  if (!perm || perm->n != x.rank) return refuse(s, "perm must name every axis");
  if (!is_permutation(perm, x.rank)) return refuse(s, "perm is not a permutation");
  *s->res = permuted(x, perm->ints);
  return true;
}

static bool shape_untagged(Shape *s) {
  *s->res = operand(s, 0);
  s->res->rows = -1;
  return true;
}

static bool shape_reduce(Shape *s) {
  const Attr *axes = attr(s, AT_axes);
  Type x = operand(s, 0), t = type_scalar((DType)x.dtype);
  if (!axes || !axes->n) return refuse(s, "axes must name at least one axis");
  uint32_t gone = 0;
  for (uint32_t i = 0; i < axes->n; i++) {
    int64_t a = axes->ints[i];
    if (a < 0 || a >= x.rank || gone >> a) return refuse(s, "axes must ascend and exist");
    gone |= 1u << a;
  }
  for (int i = 0; i < x.rank; i++) {
    if (gone >> i & 1) continue;
    if (i == x.rows) t.rows = (int8_t)t.rank;
    t.dim[t.rank++] = x.dim[i];
  }
  *s->res = t;
  return true;
}

/* x as the product reads it: first its axes by perm, then the last two swapped. */
static Type matmul_view(Type x, const Attr *perm, bool swap) {
  int64_t last[MAX_RANK] = {0, 1, 2, 3, 4, 5, 6, 7};
  if (perm) x = permuted(x, perm->ints);
  if (!swap) return x;
  last[x.rank - 2] = x.rank - 1;
  last[x.rank - 1] = x.rank - 2;
  return permuted(x, last);
}

Type matmul_operand(const Graph *g, const Node *n, uint32_t i) {
  bool b = i % 2;
  return matmul_view(value_type(g, n->ops[i]), node_attr(n, b ? AT_perm_b : AT_perm_a),
                     node_bool(n, b ? AT_tb : AT_ta));
}

uint32_t matmul_accumulator(Op op) { return op == OP_matmul_scaled ? 4 : 2; }

int64_t matmul_work(const Graph *g, const Node *n) {
  Type a = matmul_operand(g, n, 0);
  return type_count(value_type(g, n->res)) * a.dim[a.rank - 1];
}

bool matmul_is_weight_gradient(const Graph *g, const Node *n) {
  Type a = matmul_operand(g, n, 0), b = matmul_operand(g, n, 1);
  return node_bool(n, AT_weight) || a.rows == a.rank - 1 || b.rows == b.rank - 2;
}

int64_t matmul_scale_lines(const Graph *g, const Node *n, uint32_t i) {
  Type scale = value_type(g, n->ops[2 + i]), x = matmul_operand(g, n, i);
  if (scale.rank != x.rank) return 0;
  scale = matmul_operand(g, n, 2 + i);
  int along = x.rank - 1 - (int)i, across = x.rank - 2 + (int)i;
  int64_t block = node_int(n, AT_k_chunk, K_CHUNK), lines = x.dim[across];
  for (int a = 0; a < x.rank - 2; a++)
    if (scale.dim[a] != x.dim[a]) return 0;
  if (scale.dim[along] != (x.dim[along] + block - 1) / block) return 0;
  if (scale.dim[across] == lines) return 1;
  return scale.dim[across] == (lines + block - 1) / block ? block : 0;
}

/* A row of the last axis is read and written in one piece, so it stays the last. */
static bool matmul_perms(Shape *s, int rank) {
  static const AttrKey keys[] = {AT_perm_a, AT_perm_b, AT_perm_c};
  for (int i = 0; i < 3; i++) {
    const Attr *perm = attr(s, keys[i]);
    if (perm && (!is_permutation(perm, rank) || perm->ints[rank - 1] != rank - 1))
      return refuse(s, "perm_a, perm_b, perm_c must be permutations that keep the last axis");
  }
  return true;
}

/* The result's tag: of a leading axis, of a's rows or of b's columns. */
static bool matmul_rows(Shape *s, Type a, Type b, Type *t) {
  int m = t->rank - 2, n = t->rank - 1;
  int from_a = a.rows < n ? a.rows : -1, from_b = b.rows == m ? -1 : b.rows;
  bool lead = (from_a >= 0 && from_a < m) || (from_b >= 0 && from_b < m);
  if (lead && from_a >= 0 && from_b >= 0 && from_a != from_b)
    return refuse(s, "operands whose real rows lie on different axes");
  t->rows = (int8_t)(from_a >= 0 ? from_a : from_b);
  return true;
}

/* *dim as far as the attribute says; what is beyond is padding, so no rows of a batch. */
static bool cut_padding(Shape *s, AttrKey key, int64_t *dim, bool tagged) {
  const Attr *a = attr(s, key);
  if (a && (a->i < 0 || a->i > *dim || tagged))
    return refuse(s, "m or n cuts off what there is not");
  if (a) *dim = a->i;
  return true;
}

static bool multiplies(Type t) {
  return t.dtype == DT_f32 || t.dtype == DT_bf16 || t.dtype == DT_f16;
}

/* The product of the first two operands, if both `fits`; else they are not what it `wants`. */
static bool shape_product(Shape *s, bool (*fits)(Type), const char *wants, Type *result) {
  Type a = operand(s, 0), b = operand(s, 1);
  int rank = a.rank;
  if (rank < 2 || b.rank != rank) return refuse(s, "wants operands of equal rank, 2 or more");
  if (!matmul_perms(s, rank)) return false;
  a = matmul_view(a, attr(s, AT_perm_a), flag(s, AT_ta));
  b = matmul_view(b, attr(s, AT_perm_b), flag(s, AT_tb));
  if (a.dim[rank - 1] != b.dim[rank - 2]) return refuse(s, "inner sizes differ");
  if (memcmp(a.dim, b.dim, (size_t)(rank - 2) * sizeof *a.dim))
    return refuse(s, "leading axes differ");
  if (!fits(a) || !fits(b)) return refuse(s, wants);
  Type t = type_make(DT_f32, rank, a.dim);
  t.dim[rank - 1] = b.dim[rank - 1];
  if (!cut_padding(s, AT_m, &t.dim[rank - 2], a.rows == rank - 2) ||
      !cut_padding(s, AT_n, &t.dim[rank - 1], b.rows == rank - 1))
    return false;
  if (!matmul_rows(s, a, b, &t)) return false;
  if (attr(s, AT_perm_c)) t = permuted(t, attr(s, AT_perm_c)->ints);
  *result = t;
  return true;
}

static bool fits_accumulator(Shape *s, Type t) {
  uint32_t i = matmul_accumulator(s->op);
  if (s->nops <= i) return true;
  Type acc = operand(s, i);
  return (acc.dtype == DT_f32 && type_same_dims(acc, t)) ||
         refuse(s, "accumulator must be f32 of the result's dims");
}

static bool shape_matmul(Shape *s) {
  return shape_product(s, multiplies, "wants f32, bf16 or f16 operands", s->res) &&
         fits_accumulator(s, *s->res);
}

static bool shape_matmul_scaled(Shape *s) {
  return shape_product(s, type_is_fp8, "wants f8e4m3fn or f8e5m2 operands", s->res) &&
         fits_accumulator(s, *s->res);
}

/* x[…, n], index[…] -> […] */
static bool shape_gather(Shape *s) {
  Type x = operand(s, 0), i = operand(s, 1), t = x;
  if (!x.rank || i.rank != x.rank - 1 || i.dtype != DT_i32)
    return refuse(s, "wants x[…, n] and i32 indices […]");
  t.rank--;
  t.dim[t.rank] = 0;
  if (!type_same_dims(t, i)) return refuse(s, "one index for each row is wanted");
  if (t.rows == t.rank) return refuse(s, "the last axis holds the batch");
  if (i.rows >= 0 && t.rows < 0) t.rows = i.rows;
  *s->res = t;
  return true;
}

/* table[n, …], index[…] -> [index…, …] */
static bool shape_embedding(Shape *s) {
  Type x = operand(s, 0), t = operand(s, 1);
  if (!x.rank || t.dtype != DT_i32) return refuse(s, "wants a table [n, …] and i32 indices");
  if (t.rank + x.rank - 1 > MAX_RANK) return refuse(s, "the result has too many axes");
  if (x.rows == 0) return refuse(s, "the table's first axis holds the batch");
  if (x.rows > 0 && t.rows >= 0) return refuse(s, "the batch is an axis of both");
  if (x.rows > 0) t.rows = (int8_t)(t.rank + x.rows - 1);
  for (int i = 1; i < x.rank; i++) t.dim[t.rank++] = x.dim[i];
  t.dtype = x.dtype;
  *s->res = t;
  return true;
}

static bool shape_concat(Shape *s) {
  const Attr *axis = attr(s, AT_axis);
  if (!s->nops) return refuse(s, "wants an operand at least");
  Type t = operand(s, 0);
  if (!axis || axis->i < 0 || axis->i >= t.rank) return refuse(s, "axis must exist");
  for (uint32_t i = 1; i < s->nops; i++) {
    Type u = operand(s, i);
    bool fits = u.rank == t.rank && u.dtype == t.dtype;
    for (int k = 0; fits && k < t.rank; k++) fits = k == axis->i || u.dim[k] == t.dim[k];
    if (!fits) return refuse(s, "operands differ beyond the axis");
    if (t.rows >= 0 && u.rows >= 0 && t.rows != u.rows)
      return refuse(s, "operands whose real rows lie on different axes");
    if (u.rows >= 0) t.rows = u.rows;
    t.dim[axis->i] += u.dim[axis->i];
  }
  if (t.rows == axis->i) return refuse(s, "the axis holds the batch");
  *s->res = t;
  return true;
}

/* Without the last axis. */
static bool shape_last(Shape *s) {
  Type x = operand(s, 0);
  if (!x.rank) return refuse(s, "wants at least one axis");
  if (x.rows == x.rank - 1) x.rows = -1;
  x.dim[--x.rank] = 0;
  *s->res = x;
  return true;
}

static bool shape_argmax(Shape *s) {
  if (!shape_last(s)) return false;
  s->res->dtype = DT_i32;
  return true;
}

/* The first operand's; the others are settings. */
static bool shape_first(Shape *s) {
  *s->res = operand(s, 0);
  return true;
}

/* x[…, n], scale[n], bias[n] */
static bool shape_norm(Shape *s) {
  Type x = operand(s, 0);
  for (uint32_t i = 1; i < s->nops; i++) {
    Type p = operand(s, i);
    if (!x.rank || p.rank != 1 || p.dim[0] != x.dim[x.rank - 1] || !type_is_float(p))
      return refuse(s, "scale and bias must be floats of the last axis' size");
  }
  *s->res = x;
  return true;
}

/* y, dy, x…, g…: each g like its x, dy like y. */
static bool shape_custom_grad(Shape *s) {
  uint32_t n = s->nops / 2 - 1;
  if (s->nops % 2) return refuse(s, "wants a gradient for each input");
  if (!type_same_dims(operand(s, 0), operand(s, 1))) return refuse(s, "dy must be like y");
  for (uint32_t i = 0; i < n; i++)
    if (!type_same_dims(operand(s, 2 + i), operand(s, 2 + n + i)))
      return refuse(s, "a gradient must be like its input");
  *s->res = operand(s, 0);
  return true;
}

static bool shape_loop(Shape *s) { return refuse(s, "type must be given"); }
static bool shape_kernel(Shape *s) { return refuse(s, "type must be given"); }

static bool (*const shape_rule[OP_COUNT])(Shape *) = {
#define OP(name, doc) [OP_##name] =
#define SHAPE(rule) shape_##rule,
#include "ir/ops.def"
};

bool shape_is_given(Op op) {
  return shape_rule[op] == shape_given || shape_rule[op] == shape_loop ||
         shape_rule[op] == shape_kernel;
}

bool shape_infer(const Graph *g, Op op, uint32_t nops, const ValueId *ops, uint32_t nattrs,
                 const Attr *attrs, Type *types, Text *why) {
  Shape s = {g, op, nops, ops, nattrs, attrs, types, why};
  if (!op_arity_ok(op, nops)) return refuse(&s, "wrong number of operands");
  if (!shape_rule[op](&s)) return false;
  types->unit = 0;
  return unit_infer(g, op, nops, ops, &types->unit, why);
}
