/* index.c: the axes of a kernel's space, and what an index along them means to a value.
 *
 * A value is asked for at an Index: for each of its own axes a place, which is an axis of the
 * space, zero or a computed value.  Views change only the Index, so no kernel ever moves data that
 * it does not have to.
 *
 * Neighbouring axes of the space fold into one Axis where every array that is read steps through
 * them as through one (its stride along the first is the size of the second times its stride along
 * the second) and no node looks at either index alone.  So an elementwise map over [64, 256] is one
 * flat loop.  fold_value finds that out by the same recursion that expr.c emits by.  Axes of size 1
 * have index 0 and no Axis.
 */
#include "codegen/cpu/emit.h"

#include <string.h>

int64_t ix_scale(const Ix *ix) { return ix->kind == IX_ZERO || !ix->scale ? 1 : ix->scale; }

static Ix ix_moved(const Ix *ix, int64_t scale, int64_t offset) {
  Ix moved = *ix;
  moved.scale = ix_scale(ix) * scale;
  moved.offset = ix->offset * scale + offset;
  return moved;
}

static Ix ix_axis(int axis) { return (Ix){.kind = IX_AXIS, .axis = axis}; }

Index index_identity(Type t, int first) {
  Index ix = {0};
  for (int i = 0; i < t.rank; i++)
    if (t.dim[i] != 1) ix.at[i] = ix_axis(first + i);
  return ix;
}

bool index_equal(const Index *a, const Index *b, int rank) {
  for (int i = 0; i < rank; i++) {
    const Ix *x = &a->at[i], *y = &b->at[i];
    if (x->kind != y->kind) return false;
    if (x->kind == IX_AXIS && x->axis != y->axis) return false;
    if (x->kind == IX_VALUE && x->value.v != y->value.v) return false;
    if (ix_scale(x) != ix_scale(y) || x->offset != y->offset) return false;
  }
  return true;
}

static Index operand_broadcast(const Node *n, Type x, const Index *result) {
  Index ix = {0};
  const Attr *axes = node_attr(n, AT_axes);
  for (int i = 0; i < x.rank; i++)
    if (x.dim[i] != 1) ix.at[i] = result->at[axes->ints[i]];
  return ix;
}

static Index operand_transpose(const Node *n, const Index *result) {
  Index ix = {0};
  const Attr *perm = node_attr(n, AT_perm);
  for (uint32_t i = 0; i < perm->n; i++) ix.at[perm->ints[i]] = result->at[i];
  return ix;
}

static Index operand_slice(const Node *n, const Index *result) {
  Index ix = {0};
  const Attr *starts = node_attr(n, AT_starts), *steps = node_attr(n, AT_steps);
  for (uint32_t i = 0; i < starts->n; i++)
    ix.at[i] = ix_moved(&result->at[i], steps->ints[i], starts->ints[i]);
  return ix;
}

/* Of the table: but for the row. */
static Index operand_table(Type x, int rank, const Index *result) {
  Index ix = {0};
  for (int i = 1; i < x.rank; i++) ix.at[i] = result->at[rank - x.rank + i];
  return ix;
}

/* Gather's last axis and embedding's first are left at zero: their place is the index operand's
 * value.  Pad's operand is asked for where it has an element (expr.c). */
Index index_operand(const Graph *g, const Node *n, uint32_t operand, const Index *result) {
  Type x = value_type(g, n->ops[operand]);
  if (n->op == OP_broadcast) return operand_broadcast(n, x, result);
  if (n->op == OP_transpose) return operand_transpose(n, result);
  if (n->op == OP_slice) return operand_slice(n, result);
  if (n->op == OP_embedding && operand == 0)
    return operand_table(x, value_type(g, n->res).rank, result);
  if (x.rank == 0) return (Index){0}; /* commit's ok, saturate's one scale */
  Index ix = *result;
  if (n->op == OP_gather && operand == 0) ix.at[x.rank - 1] = (Ix){0};
  return ix;
}

/* ---- folding --------------------------------------------------------------------------------- */

typedef struct Seen {
  ValueId value;
  Index index;
} Seen;

typedef struct Fold {
  Kernel *k;
  VEC(Seen) seen;
} Fold;

static int next_axis(const Kernel *k, int a) {
  for (a++; a < k->rank && k->dim[a] == 1; a++) {
  }
  return a;
}

static void part(Kernel *k, int axis) {
  if (axis < k->rank) k->parted[axis] = true;
}

static void fold_array(Kernel *k, Type t, const Index *ix) {
  int64_t stride[MAX_RANK] = {0}, step = 1;
  for (int i = t.rank - 1; i >= 0; step *= t.dim[i--])
    if (ix->at[i].kind == IX_AXIS) stride[ix->at[i].axis] += step * ix_scale(&ix->at[i]);
  for (int a = next_axis(k, -1); a < k->rank; a = next_axis(k, a)) {
    int b = next_axis(k, a);
    if (b < k->rank && stride[a] != stride[b] * k->dim[b]) part(k, b);
  }
}

/* The index along ix is looked at alone, or (first) compared with a bound. */
static void fold_pin(Kernel *k, const Ix *ix, bool first) {
  if (ix->kind != IX_AXIS) return;
  part(k, ix->axis);
  if (!first) part(k, next_axis(k, ix->axis));
}

/* Does pad put something in front of, behind or between the places of this axis? */
bool pad_cuts(const Node *n, Type x, Type y, int axis) {
  return x.dim[axis] != y.dim[axis] || node_attr(n, AT_steps)->ints[axis] != 1;
}

static bool fold_seen(Fold *f, ValueId v, const Index *ix) {
  int rank = value_type(f->k->g, v).rank;
  for (uint32_t i = 0; i < f->seen.len; i++)
    if (f->seen.at[i].value == v && index_equal(&f->seen.at[i].index, ix, rank)) return true;
  vec_push(f->k->m->arena, &f->seen, (Seen){v, *ix});
  return false;
}

static void fold_rows(Kernel *k, Type t, const Index *ix) {
  if (t.rows >= 0) fold_pin(k, &ix->at[t.rows], true);
}

static void fold_value(Fold *f, ValueId v, const Index *ix) {
  const Graph *g = f->k->g;
  const Node *n = value_node(g, v);
  Type t = value_type(g, v);
  if (fold_seen(f, v, ix)) return;
  if (!n || op_form[n->op] == FORM_gemm || op_flags[n->op] & F_REDUCE) {
    fold_array(f->k, t, ix);
    return;
  }
  if (n->op == OP_iota) fold_pin(f->k, &ix->at[node_int(n, AT_axis, 0)], false);
  if (n->op == OP_mask_rows || n->op == OP_untag_rows)
    fold_rows(f->k, value_type(g, n->ops[0]), ix);
  for (int i = 0; n->op == OP_pad && i < t.rank; i++)
    if (pad_cuts(n, value_type(g, n->ops[0]), t, i)) fold_pin(f->k, &ix->at[i], false);
  for (uint32_t i = 0; i < n->nops; i++) {
    Index x = index_operand(g, n, i, ix);
    fold_value(f, n->ops[i], &x);
  }
}

static void fold_reduction(Fold *f, const Node *n) {
  Type x = value_type(f->k->g, n->ops[0]);
  Index ix = index_identity(x, 0);
  if (x.rows >= 0) fold_pin(f->k, &ix.at[x.rows], true);
  fold_value(f, n->ops[0], &ix);
}

static void fold_body(Fold *f) {
  const Kernel *k = f->k;
  const Block *b = k->body;
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &k->g->nodes.at[b->nodes.at[i]];
    if (op_flags[n->op] & F_REDUCE) fold_reduction(f, n);
    for (uint32_t j = 0; n->op == OP_scatter_add && j < 2; j++) {
      Index ix = index_identity(value_type(k->g, n->ops[j]), 0);
      fold_value(f, n->ops[j], &ix);
    }
  }
  for (uint32_t i = 0; i < b->results.len; i++) {
    const Node *n = value_node(k->g, b->results.at[i]);
    Type t = value_type(k->g, b->results.at[i]);
    Index ix = index_identity(t, t.rank < k->rank ? k->lead : 0);
    if (n && n->op == OP_scatter_add) continue; /* stored where the index says */
    fold_value(f, b->results.at[i], &ix);
  }
}

static void make_groups(Kernel *k) {
  k->axes = 0;
  for (int a = 0; a < k->rank; a++) {
    k->group[a] = -1;
    if (k->dim[a] == 1) continue;
    if (k->axes == 0 || k->parted[a]) k->axis[k->axes++].extent = 1;
    k->group[a] = k->axes - 1;
    k->axis[k->axes - 1].extent *= k->dim[a];
    int b = next_axis(k, a);
    k->last[a] = b == k->rank || k->parted[b];
  }
}

void space_set(Kernel *k, Type space, int border, int lead) {
  Fold f = {.k = k};
  k->lead = lead;
  k->rank = space.rank;
  memcpy(k->dim, space.dim, sizeof k->dim);
  if (border >= 0) part(k, next_axis(k, border - 1));
  fold_body(&f);
  make_groups(k);
}

int space_groups_before(const Kernel *k, int axis) {
  int n = 0;
  for (int a = 0; a < axis; a++)
    if (k->group[a] >= 0) n = k->group[a] + 1;
  return n;
}

int64_t space_extent(const Kernel *k, int from, int n) {
  int64_t e = 1;
  for (int i = 0; i < n; i++) e *= k->axis[from + i].extent;
  return e;
}

/* ---- places ---------------------------------------------------------------------------------- */

static void place_axis(Kernel *k, int group, LLVMValueRef at, AxisKind kind) {
  Axis *a = &k->axis[group];
  a->at = at;
  a->kind = kind;
  a->scope = k->scope;
}

static LLVMValueRef int_like(Kernel *k, LLVMValueRef p, int64_t v) {
  LLVMTypeRef t = LLVMTypeOf(p);
  if (LLVMGetTypeKind(t) != LLVMVectorTypeKind) return k_int(k, v);
  return k_splat(k, k_int(k, v), LLVMGetVectorSize(t));
}

/* p as digits, the last axis fastest. */
static void place_digits(Kernel *k, int from, int n, LLVMValueRef p, AxisKind last, AxisKind rest) {
  for (int i = n - 1; i > 0; i--) {
    LLVMValueRef e = int_like(k, p, k->axis[from + i].extent);
    place_axis(k, from + i, LLVMBuildURem(k->b, p, e, ""), i == n - 1 ? last : rest);
    p = LLVMBuildUDiv(k->b, p, e, "");
  }
  place_axis(k, from, p, n == 1 ? last : rest);
}

void space_place(Kernel *k, int from, int n, LLVMValueRef p, AxisKind kind) {
  if (n == 0) return;
  bool cuts = kind == AXIS_STEP && n > 1 && k->axis[from + n - 1].extent % k->lanes != 0;
  if (!cuts) {
    place_digits(k, from, n, p, kind, AXIS_SPLAT);
    return;
  }
  p = LLVMBuildNSWAdd(k->b, k_splat(k, p, k->lanes), k_iota(k->m->i64, k->lanes), "");
  place_digits(k, from, n, p, AXIS_LANES, AXIS_LANES);
}

/* ---- indices as values ----------------------------------------------------------------------- */

LLVMValueRef k_clamp(Kernel *k, LLVMValueRef x, LLVMValueRef low, LLVMValueRef high) {
  LLVMValueRef under = LLVMBuildICmp(k->b, LLVMIntSLT, x, low, "");
  x = LLVMBuildSelect(k->b, under, low, x, "");
  LLVMValueRef over = LLVMBuildICmp(k->b, LLVMIntSGT, x, high, "");
  return LLVMBuildSelect(k->b, over, high, x, "");
}

/* Lanes in front of the limit, as a mask: the difference is clamped so that i32 lanes will do. */
static Val below_step(Kernel *k, const Axis *a, LLVMValueRef limit) {
  LLVMValueRef left = LLVMBuildNSWSub(k->b, limit, a->at, "");
  left = k_clamp(k, left, k_int(k, 0), k_int(k, k->lanes));
  left = LLVMBuildTrunc(k->b, left, k->m->i32, "");
  LLVMValueRef all = k_splat(k, left, k->lanes), i = k_iota(k->m->i32, k->lanes);
  return (Val){LLVMBuildICmp(k->b, LLVMIntSLT, i, all, ""), k->lanes > 1, a->scope};
}

static int64_t behind(const Kernel *k, int axis) {
  int64_t n = 1;
  for (; !k->last[axis]; n *= k->dim[axis]) axis = next_axis(k, axis);
  return n;
}

/* ix->axis is the first of its group: fold_pin saw to it. */
Val index_below(Kernel *k, const Ix *ix, LLVMValueRef limit) {
  if (ix->kind != IX_AXIS) {
    int scope = ix->kind == IX_VALUE ? ix->value.scope : ROOT;
    LLVMValueRef at = ix->kind == IX_VALUE ? ix->value.v : k_int(k, 0);
    bool wide = ix->kind == IX_VALUE && ix->value.wide;
    k_go(k, scope);
    LLVMValueRef all = k_splat(k, limit, wide ? k->lanes : 1);
    return (Val){LLVMBuildICmp(k->b, LLVMIntSLT, at, all, ""), wide, scope};
  }
  const Axis *a = &k->axis[k->group[ix->axis]];
  k_go(k, a->scope);
  limit = k_times(k, limit, behind(k, ix->axis));
  if (a->kind == AXIS_STEP) return below_step(k, a, limit);
  bool wide = a->kind == AXIS_LANES;
  LLVMValueRef all = k_splat(k, limit, wide ? k->lanes : 1);
  return (Val){LLVMBuildICmp(k->b, LLVMIntSLT, a->at, all, ""), wide, a->scope};
}

static Val scaled(Kernel *k, Val at, const Ix *ix) {
  unsigned lanes = at.wide ? k->lanes : 1;
  LLVMValueRef scale = LLVMConstInt(k->m->i32, (uint64_t)ix_scale(ix), true);
  LLVMValueRef offset = LLVMConstInt(k->m->i32, (uint64_t)ix->offset, true);
  if (ix_scale(ix) != 1) at.v = LLVMBuildMul(k->b, at.v, k_splat(k, scale, lanes), "");
  if (ix->offset) at.v = LLVMBuildAdd(k->b, at.v, k_splat(k, offset, lanes), "");
  return at;
}

/* A group of one axis: fold_pin saw to it. */
Val index_value(Kernel *k, const Ix *ix) {
  if (ix->kind == IX_ZERO)
    return (Val){LLVMConstInt(k->m->i32, (uint64_t)ix->offset, false), false, ROOT};
  if (ix->kind == IX_VALUE) {
    k_go(k, ix->value.scope);
    LLVMTypeRef t = k_vector(k->m->i32, ix->value.wide ? k->lanes : 1);
    LLVMValueRef at = LLVMBuildTrunc(k->b, ix->value.v, t, "");
    return scaled(k, (Val){at, ix->value.wide, ix->value.scope}, ix);
  }
  const Axis *a = &k->axis[k->group[ix->axis]];
  k_go(k, a->scope);
  bool wide = a->kind != AXIS_SPLAT && k->lanes > 1;
  LLVMTypeRef t = k_vector(k->m->i32, a->kind == AXIS_LANES ? k->lanes : 1);
  LLVMValueRef at = LLVMBuildTrunc(k->b, a->at, t, "");
  if (a->kind == AXIS_STEP && wide)
    at = LLVMBuildAdd(k->b, k_splat(k, at, k->lanes), k_iota(k->m->i32, k->lanes), "");
  return scaled(k, (Val){at, wide, a->scope}, ix);
}

LLVMValueRef k_real_rows(Kernel *k, Type t) {
  k_go(k, ROOT);
  int64_t m = k->batch > 0 ? t.dim[t.rows] / k->batch : 1;
  return k_times(k, k->rows, m);
}
