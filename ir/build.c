/* build.c: nodes with inferred types.
 *
 * What the operands may be was checked where the user's words were known; an error here is ours,
 * and ends in an ice.  A Builder knows block, place and the attributes of the region at hand, so
 * what is built for a node (its gradient, its expansion) carries that node's. */
#include "ir/ir.h"

#include <math.h>
#include <string.h>

void builder_follow(Builder *b, const Node *n) {
  b->loc = n->loc;
  b->prec = node_text(n, AT_prec, NULL);
  b->recompute = node_int(n, AT_recompute, 0);
}

Loc builder_loc(const Builder *b) {
  Loc loc = b->loc;
  if (!loc.module) loc.module = b->module;
  return loc;
}

ValueId build_typed(Builder *b, Op op, Type t, uint32_t nops, const ValueId *ops, uint32_t nattrs,
                    const Attr *attrs) {
  NodeId n = graph_add_node(b->g, b->block, op, builder_loc(b), nops, ops, 1, &t, nattrs, attrs);
  if (b->prec) node_set_attr(b->g, n, attr_text(AT_prec, b->prec));
  if (b->recompute) node_set_attr(b->g, n, attr_int(AT_recompute, b->recompute));
  return b->g->nodes.at[n].res;
}

ValueId build(Builder *b, Op op, uint32_t nops, const ValueId *ops, uint32_t nattrs,
              const Attr *attrs) {
  Type t;
  Text why = {.arena = b->g->arena};
  if (!shape_infer(b->g, op, nops, ops, nattrs, attrs, &t, &why))
    ice(b->g, NO_ID, "build: %s", why.at);
  return build_typed(b, op, t, nops, ops, nattrs, attrs);
}

ValueId build1(Builder *b, Op op, ValueId x) { return build(b, op, 1, &x, 0, NULL); }
ValueId build2(Builder *b, Op op, ValueId x, ValueId y) {
  return build(b, op, 2, (ValueId[]){x, y}, 0, NULL);
}

ValueId build_select(Builder *b, ValueId c, ValueId x, ValueId y) {
  return build(b, OP_select, 3, (ValueId[]){c, x, y}, 0, NULL);
}

ValueId build_constant(Builder *b, Type t, double value) {
  Attr a = attr_float(AT_value, value);
  Type scalar = type_scalar((DType)t.dtype);
  scalar.unit = t.unit;
  return build_splat(b, build_typed(b, OP_constant, scalar, 0, NULL, 1, &a), t);
}

ValueId build_like(Builder *b, ValueId v, double value) {
  return build_constant(b, value_type(b->g, v), value);
}

ValueId build_cast(Builder *b, ValueId x, DType d) {
  Type t = value_type(b->g, x);
  return t.dtype == d ? x : build_typed(b, OP_cast, type_with(t, d), 1, &x, 0, NULL);
}

ValueId build_iota(Builder *b, Type t, int axis) {
  Attr a = attr_int(AT_axis, axis);
  return build_typed(b, OP_iota, type_with(t, DT_i32), 0, NULL, 1, &a);
}

ValueId build_reduce(Builder *b, Op op, ValueId x, uint32_t naxes, const int64_t *axes) {
  if (!naxes) return x;
  Attr a = attr_ints(AT_axes, naxes, axes);
  return build(b, op, 1, &x, 1, &a);
}

ValueId build_reduce_last(Builder *b, Op op, ValueId x) {
  int64_t last = value_type(b->g, x).rank - 1;
  return build_reduce(b, op, x, 1, &last);
}

ValueId build_wide(Builder *b, ValueId v) {
  node_set_attr(b->g, b->g->values.at[v].node, attr_bool(AT_wide, true));
  return v;
}

ValueId build_reduce_all(Builder *b, Op op, ValueId x) {
  int64_t axes[MAX_RANK] = {0, 1, 2, 3, 4, 5, 6, 7};
  return build_reduce(b, op, x, value_type(b->g, x).rank, axes);
}

ValueId build_reduce_rows(Builder *b, Op op, ValueId x) {
  if (value_type(b->g, x).rank > 1) x = build_reduce_last(b, op, x);
  return build_reduce_all(b, op, x);
}

ValueId build_broadcast(Builder *b, ValueId x, Type t, const int64_t *axes) {
  Type from = value_type(b->g, x);
  bool same = type_same_dims(from, t);
  for (int i = 0; i < from.rank; i++) same = same && axes[i] == i;
  if (same && from.rows == t.rows) return x;
  t.dtype = from.dtype;
  t.unit = from.unit;
  Attr a = attr_ints(AT_axes, from.rank, axes);
  return build_typed(b, OP_broadcast, t, 1, &x, 1, &a);
}

ValueId build_broadcast_leading(Builder *b, ValueId x, Type t) {
  return build_broadcast(b, x, t, (int64_t[]){0, 1, 2, 3, 4, 5, 6, 7});
}

ValueId build_splat(Builder *b, ValueId scalar, Type t) {
  return build_broadcast(b, scalar, t, NULL);
}

ValueId build_reshape(Builder *b, ValueId x, Type t) {
  Type from = value_type(b->g, x);
  if (type_same_dims(from, t) && from.rows == t.rows) return x;
  t.dtype = from.dtype;
  t.unit = from.unit;
  return build_typed(b, OP_reshape, t, 1, &x, 0, NULL);
}

ValueId build_transpose(Builder *b, ValueId x, const int64_t *perm) {
  Attr a = attr_ints(AT_perm, value_type(b->g, x).rank, perm);
  return build(b, OP_transpose, 1, &x, 1, &a);
}

ValueId build_least_positive(Builder *b, uint32_t n, const ValueId *xs) {
  ValueId least = NO_ID;
  for (uint32_t i = 0; i < n; i++) {
    ValueId positive = build2(b, OP_gt, xs[i], build_like(b, xs[i], 0));
    ValueId x = build_select(b, positive, xs[i], build_like(b, xs[i], INFINITY));
    least = i ? build2(b, OP_min, least, x) : x;
  }
  return least;
}

static ValueId build_moved(Builder *b, Op op, ValueId x, Type t, const int64_t *starts,
                           const int64_t *steps) {
  Type from = value_type(b->g, x);
  Attr a[] = {attr_ints(AT_starts, from.rank, starts), attr_ints(AT_steps, from.rank, steps)};
  t.dtype = from.dtype;
  t.unit = from.unit;
  t.rows = from.rows;
  return build_typed(b, op, t, 1, &x, 2, a);
}

ValueId build_slice(Builder *b, ValueId x, Type t, const int64_t *starts, const int64_t *steps) {
  return build_moved(b, OP_slice, x, t, starts, steps);
}

ValueId build_pad(Builder *b, ValueId x, Type t, const int64_t *starts, const int64_t *steps) {
  return build_moved(b, OP_pad, x, t, starts, steps);
}

ValueId build_part(Builder *b, ValueId x, int axis, int64_t start, int64_t size) {
  int64_t starts[MAX_RANK] = {0}, steps[MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
  Type t = value_type(b->g, x);
  if (start == 0 && t.dim[axis] == size) return x;
  t.dim[axis] = size;
  starts[axis] = start;
  return build_slice(b, x, t, starts, steps);
}

ValueId build_concat(Builder *b, uint32_t n, const ValueId *xs, int axis) {
  Attr a = attr_int(AT_axis, axis);
  return n == 1 ? xs[0] : build(b, OP_concat, n, xs, 1, &a);
}

ValueId build_matmul(Builder *b, ValueId a, ValueId c, bool ta, bool tb) {
  Attr attrs[3] = {attr_int(AT_k_chunk, K_CHUNK)};
  uint32_t n = 1;
  if (ta) attrs[n++] = attr_bool(AT_ta, true);
  if (tb) attrs[n++] = attr_bool(AT_tb, true);
  return build(b, OP_matmul, 2, (ValueId[]){a, c}, n, attrs);
}
