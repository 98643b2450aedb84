/* expr.c: the value of a node at an index, emitted by recursion over its operands.
 *
 * Views change the index, elementwise ops keep it, block arguments are loads.  What a value costs
 * depends on what it depends on: each Val knows its scope and whether its lanes differ (`wide`); an
 * op is emitted in the innermost scope of its operands and as a scalar if none of them is wide.  So
 * a learning rate is computed once a kernel and a row's maximum once a row, whatever LLVM does
 * later.
 *
 * A memo keeps what was emitted, as long as its scope lives and its indices stand.  Meaning is
 * ref/map.c's and ref/move.c's, bit for bit.
 */
#include "codegen/cpu/emit.h"
#include "codegen/cpu/scalar_emit.h"

#include <math.h>
#include <string.h>

/* ---- memo ------------------------------------------------------------------------------------ */

static const Memo *memo_find(const Kernel *k, ValueId v, const Index *ix) {
  int rank = value_type(k->g, v).rank;
  for (uint32_t i = k->memo.len; i-- > 0;) {
    const Memo *m = &k->memo.at[i];
    if (m->value != v || (m->sub != k->sub && m->val.scope >= k->sub_scope)) continue;
    if (index_equal(&m->index, ix, rank)) return m;
  }
  return NULL;
}

void expr_given(Kernel *k, ValueId v, const Index *ix, Val val) {
  vec_push(k->m->arena, &k->memo, (Memo){v, *ix, k->sub, val});
}

void expr_forget(Kernel *k, int scope) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < k->memo.len; i++)
    if (k->memo.at[i].val.scope < scope) k->memo.at[n++] = k->memo.at[i];
  k->memo.len = n;
}

/* ---- scalar programs ------------------------------------------------------------------------- */

Val expr_wide(Kernel *k, Val v) {
  if (v.wide || k->lanes == 1) return v;
  k_go(k, v.scope);
  return (Val){k_splat(k, v.v, k->lanes), true, v.scope};
}

Val expr_program(Kernel *k, ScalarId id, unsigned n, const Val *args) {
  LLVMValueRef x[SCALAR_ARGS], y[SCALAR_RESULTS];
  Val r = {.scope = ROOT};
  for (unsigned i = 0; i < n; i++) {
    r.wide = r.wide || args[i].wide;
    if (args[i].scope > r.scope) r.scope = args[i].scope;
  }
  for (unsigned i = 0; i < n; i++) x[i] = (r.wide ? expr_wide(k, args[i]) : args[i]).v;
  k_go(k, r.scope);
  scalar_emit(k->b, &k->m->scalars->prog[id], r.wide ? k->lanes : 1, x, y);
  r.v = y[0];
  return r;
}

/* ---- element types --------------------------------------------------------------------------- */

static LLVMValueRef int_constant(Kernel *k, Val like, uint32_t v) {
  return k_splat(k, LLVMConstInt(k->m->i32, v, false), like.wide ? k->lanes : 1);
}

static Val widen_f16(Kernel *k, Val v) {
  unsigned lanes = v.wide ? k->lanes : 1;
  k_go(k, v.scope);
  v.v = scalar_widen_f16(k->b, LLVMBuildTrunc(k->b, v.v, k_vector(k->m->i16, lanes), ""));
  return v;
}

static Val narrow_f16(Kernel *k, Val v) {
  unsigned lanes = v.wide ? k->lanes : 1;
  k_go(k, v.scope);
  v.v = LLVMBuildZExt(k->b, scalar_narrow_f16(k->b, v.v), k_vector(k->m->i32, lanes), "");
  return v;
}

Val expr_to_program(Kernel *k, Val v, DType d) {
  unsigned widen = dtype_widen(d);
  if (d == DT_f16) return widen_f16(k, v);
  return widen == SC_none ? v : expr_program(k, (ScalarId)widen, 1, &v);
}

static Val bool_as_int(Kernel *k, Val v) { return expr_program(k, SC_btoi, 1, &v); }

static Val not_zero(Kernel *k, Val v, bool is_float) {
  k_go(k, v.scope);
  LLVMValueRef zero = LLVMConstNull(LLVMTypeOf(v.v));
  v.v = is_float ? LLVMBuildFCmp(k->b, LLVMRealUNE, v.v, zero, "")
                 : LLVMBuildICmp(k->b, LLVMIntNE, v.v, zero, "");
  return v;
}

/* An i32 cut to the width of its element type. */
static Val cut(Kernel *k, Val v, DType d) {
  if (dtype_bytes[d] >= 4) return v;
  k_go(k, v.scope);
  v.v = LLVMBuildAnd(k->b, v.v, int_constant(k, v, dtype_bytes[d] == 1 ? 0xff : 0xffff), "");
  return v;
}

static Val clamp_int(Kernel *k, Val v, uint32_t low, uint32_t high) {
  k_go(k, v.scope);
  v.v = k_clamp(k, v.v, int_constant(k, v, low), int_constant(k, v, high));
  return v;
}

static _Noreturn void refuse(const Kernel *k, DType d) {
  ice(k->g, (NodeId)(k->node - k->g->nodes.at), "cpu: elements of type %s here are not supported",
      dtype_name[d]);
}

/* Registers of an op's program to those of an element. */
Val expr_from_program(Kernel *k, Val v, SType is, DType d) {
  unsigned narrow = dtype_narrow(d);
  if (d == DT_f16) return narrow_f16(k, v);
  if (narrow != SC_none) return expr_program(k, (ScalarId)narrow, 1, &v);
  if (is == S_I32 && d == DT_i1) return not_zero(k, v, false);
  return is == S_I32 ? cut(k, v, d) : v;
}

static Val float_to_int(Kernel *k, Val v, DType to) {
  if (to == DT_i1) return not_zero(k, v, true);
  if (to == DT_i64 || to == DT_u32) refuse(k, to);
  v = expr_program(k, SC_ftoi, 1, &v);
  return to == DT_i32 ? v : clamp_int(k, v, 0, dtype_bytes[to] == 1 ? 0xff : 0xffff);
}

static Val int_to_float(Kernel *k, Val v, DType from) {
  ScalarId id = from == DT_i1 ? SC_btof : from == DT_u32 ? SC_utof : SC_itof;
  return expr_program(k, id, 1, &v);
}

static bool supported(DType d) { return d != DT_i64; }

static Val expr_convert(Kernel *k, Val v, DType from, DType to) {
  if (!supported(from) || !supported(to)) refuse(k, supported(from) ? to : from);
  bool float_from = dtype_kind[from] == 'f', float_to = dtype_kind[to] == 'f';
  if (!float_from && !float_to) {
    if (from == to) return v;
    if (to == DT_i1) return not_zero(k, v, false);
    return from == DT_i1 ? bool_as_int(k, v) : cut(k, v, to);
  }
  if (from == DT_f32 && to == DT_f32) return expr_program(k, SC_flush, 1, &v);
  v = float_from ? expr_to_program(k, v, from) : int_to_float(k, v, from);
  return float_to ? expr_from_program(k, v, S_F32, to) : float_to_int(k, v, to);
}

/* ---- cells ----------------------------------------------------------------------------------- */

typedef Val ExprCell(Kernel *k, const Node *n, const Index *ix);

static Val operand(Kernel *k, const Node *n, uint32_t i, const Index *ix) {
  Index x = index_operand(k->g, n, i, ix);
  return expr(k, n->ops[i], &x);
}

static Val zero_like(Val v) {
  LLVMTypeRef t = LLVMTypeOf(v.v);
  return (Val){LLVMConstNull(v.wide ? LLVMGetElementType(t) : t), false, ROOT};
}

static DType dtype_of(const Kernel *k, ValueId v) { return (DType)value_type(k->g, v).dtype; }

static Val expr_map(Kernel *k, const Node *n, const Index *ix) {
  Val x[SCALAR_ARGS];
  ScalarId id = (ScalarId)op_program(n->op, dtype_of(k, n->ops[n->nops - 1]));
  if (id == SC_none) refuse(k, dtype_of(k, n->ops[n->nops - 1]));
  const SProg *p = &k->m->scalars->prog[id];
  for (uint32_t i = 0; i < n->nops; i++) {
    DType d = dtype_of(k, n->ops[i]);
    if (!supported(d)) refuse(k, d);
    x[i] = expr_to_program(k, operand(k, n, i, ix), d);
    if (d == DT_i1 && p->arg[i] == S_I32) x[i] = bool_as_int(k, x[i]);
  }
  Val y = expr_program(k, id, n->nops, x);
  return expr_from_program(k, y, (SType)p->res_type[0], dtype_of(k, n->res));
}

static Val expr_cast(Kernel *k, const Node *n, const Index *ix) {
  return expr_convert(k, operand(k, n, 0, ix), dtype_of(k, n->ops[0]), dtype_of(k, n->res));
}

/* x · scale. */
static Val scaled(Kernel *k, const Node *n, const Index *ix) {
  Val x[2];
  for (uint32_t i = 0; i < 2; i++)
    x[i] = expr_to_program(k, operand(k, n, i, ix), dtype_of(k, n->ops[i]));
  return expr_program(k, SC_mul, 2, x);
}

static Val expr_saturate(Kernel *k, const Node *n, const Index *ix) {
  Val y = scaled(k, n, ix);
  bool e5m2 = dtype_of(k, n->res) == DT_f8e5m2;
  return expr_program(k, e5m2 ? SC_f32_to_e5m2_sat : SC_f32_to_e4m3_sat, 1, &y);
}

static Val expr_saturated(Kernel *k, const Node *n, const Index *ix) {
  Val y = scaled(k, n, ix);
  bool e5m2 = dtype_of(k, n->ops[2]) == DT_f8e5m2;
  return expr_program(k, e5m2 ? SC_e5m2_too_large : SC_e4m3_too_large, 1, &y);
}

static Val expr_flushed(Kernel *k, const Node *n, const Index *ix) {
  Val x = expr_to_program(k, operand(k, n, 0, ix), dtype_of(k, n->ops[0])), zero = zero_like(x);
  Val y = expr_to_program(k, operand(k, n, 1, ix), dtype_of(k, n->ops[1]));
  Val was[] = {x, zero}, is[] = {y, zero};
  Val both[] = {expr_program(k, SC_ne, 2, was), expr_program(k, SC_eq, 2, is)};
  return expr_program(k, SC_and, 2, both);
}

/* The programs give bits of the type, which are how bf16 and f16 lie in registers. */
static Val expr_round_by_bits(Kernel *k, const Node *n, const Index *ix) {
  Val x[] = {expr_to_program(k, operand(k, n, 0, ix), dtype_of(k, n->ops[0])),
             operand(k, n, 1, ix)};
  bool f16 = dtype_of(k, n->res) == DT_f16;
  return expr_program(k, f16 ? SC_f32_to_f16_random : SC_f32_to_bf16_random, 2, x);
}

/* As the evaluator rounds: to f32, subnormal to zero; integers toward zero, saturating. */
static uint64_t int_value(double v, DType d) {
  int bits = 8 * dtype_bytes[d];
  bool is_signed = d == DT_i32;
  double low = is_signed ? -ldexp(1, bits - 1) : 0,
         high = ldexp(1, is_signed ? bits - 1 : bits) - 1;
  if (isnan(v)) return 0;
  return (uint64_t)(int64_t)(v <= low ? low : v < high ? v : high);
}

static Val expr_constant(Kernel *k, const Node *n, const Index *ix) {
  double v = node_float(n, AT_value, 0);
  DType d = dtype_of(k, n->res);
  (void)ix;
  if (!supported(d)) refuse(k, d);
  if (d == DT_i1) return (Val){LLVMConstInt(k->m->i1, v != 0, false), false, ROOT};
  if (dtype_kind[d] == 'i')
    return (Val){LLVMConstInt(k->m->i32, int_value(v, d), false), false, ROOT};
  double flushed = fabs(v) < 0x1p-126 ? copysign(0, v) : (double)(float)v;
  Val x = {LLVMConstReal(k->m->f32, flushed), false, ROOT};
  return expr_from_program(k, x, S_F32, d);
}

static Val expr_iota(Kernel *k, const Node *n, const Index *ix) {
  DType d = dtype_of(k, n->res);
  Val i = index_value(k, &ix->at[node_int(n, AT_axis, 0)]);
  return d == DT_i32 || d == DT_u32 ? i : expr_convert(k, i, DT_i32, d);
}

static Val expr_view(Kernel *k, const Node *n, const Index *ix) { return operand(k, n, 0, ix); }

static Val choose(Kernel *k, Val c, Val x, Val y) {
  Val r = {.wide = c.wide || x.wide || y.wide, .scope = c.scope};
  if (x.scope > r.scope) r.scope = x.scope;
  if (y.scope > r.scope) r.scope = y.scope;
  if (r.wide) x = expr_wide(k, x), y = expr_wide(k, y);
  k_go(k, r.scope);
  r.v = LLVMBuildSelect(k->b, c.v, x.v, y.v, ""); /* one condition may choose whole vectors */
  return r;
}

static Val expr_mask_rows(Kernel *k, const Node *n, const Index *ix) {
  Val x = operand(k, n, 0, ix);
  Type t = value_type(k->g, n->ops[0]);
  if (t.rows < 0) return x;
  Val real = index_below(k, &ix->at[t.rows], k_real_rows(k, t));
  return choose(k, real, x, zero_like(x));
}

static Val expr_commit(Kernel *k, const Node *n, const Index *ix) {
  Val ok = operand(k, n, 0, ix), new = operand(k, n, 1, ix), old = operand(k, n, 2, ix);
  return choose(k, ok, new, old);
}

static Val expr_gather(Kernel *k, const Node *n, const Index *ix) {
  Type x = value_type(k->g, n->ops[0]);
  Val at = clamp_int(k, operand(k, n, 1, ix), 0, (uint32_t)(x.dim[x.rank - 1] - 1));
  at.v = LLVMBuildSExt(k->b, at.v, k_vector(k->m->i64, at.wide ? k->lanes : 1), "");
  Index inner = index_operand(k->g, n, 0, ix);
  inner.at[x.rank - 1] = (Ix){.kind = IX_VALUE, .value = at};
  return expr(k, n->ops[0], &inner);
}

/* The row of a table [n, …] that an index names, as near as there is one; an i64. */
Val expr_row(Kernel *k, ValueId index, const Index *ix, int64_t n) {
  Val at = clamp_int(k, expr(k, index, ix), 0, (uint32_t)(n - 1));
  at.v = LLVMBuildSExt(k->b, at.v, k_vector(k->m->i64, at.wide ? k->lanes : 1), "");
  return at;
}

static Val expr_embedding(Kernel *k, const Node *n, const Index *ix) {
  Index inner = index_operand(k->g, n, 0, ix);
  Val at = expr_row(k, n->ops[1], ix, value_type(k->g, n->ops[0]).dim[0]);
  inner.at[0] = (Ix){.kind = IX_VALUE, .value = at};
  return expr(k, n->ops[0], &inner);
}

/* Along one axis of pad: which place of the operand is meant, as near as there is one, and whether
 * it is exactly that. */
typedef struct Padded {
  Val place, inside;
} Padded;

static Padded padded_place(Kernel *k, const Ix *ix, int64_t start, int64_t step, int64_t n) {
  Padded p = {.place = index_value(k, ix)};
  unsigned lanes = p.place.wide ? k->lanes : 1;
  LLVMValueRef from = k_splat(k, LLVMConstInt(k->m->i32, (uint64_t)start, true), lanes);
  LLVMValueRef by = k_splat(k, LLVMConstInt(k->m->i32, (uint64_t)step, true), lanes);
  LLVMValueRef left = LLVMBuildSub(k->b, p.place.v, from, "");
  LLVMValueRef at = step == 1 ? left : LLVMBuildSDiv(k->b, left, by, "");
  p.inside = p.place;
  p.place = clamp_int(k, (Val){at, p.place.wide, p.place.scope}, 0, (uint32_t)(n - 1));
  LLVMValueRef back = step == 1 ? p.place.v : LLVMBuildMul(k->b, p.place.v, by, "");
  p.inside.v = LLVMBuildICmp(k->b, LLVMIntEQ, back, left, "");
  p.place.v = LLVMBuildSExt(k->b, p.place.v, k_vector(k->m->i64, lanes), "");
  return p;
}

static Val both(Kernel *k, Val x, Val y) {
  if (!x.v) return y;
  if (x.wide || y.wide) x = expr_wide(k, x), y = expr_wide(k, y);
  Val r = {.wide = x.wide, .scope = x.scope > y.scope ? x.scope : y.scope};
  k_go(k, r.scope);
  r.v = LLVMBuildAnd(k->b, x.v, y.v, "");
  return r;
}

static Val expr_pad(Kernel *k, const Node *n, const Index *ix) {
  Type x = value_type(k->g, n->ops[0]), y = value_type(k->g, n->res);
  const Attr *starts = node_attr(n, AT_starts), *steps = node_attr(n, AT_steps);
  Index inner = *ix;
  Val inside = {0};
  for (int i = 0; i < y.rank; i++) {
    if (!pad_cuts(n, x, y, i)) continue;
    Padded p = padded_place(k, &ix->at[i], starts->ints[i], steps->ints[i], x.dim[i]);
    inner.at[i] = (Ix){.kind = IX_VALUE, .value = p.place};
    inside = both(k, inside, p.inside);
  }
  Val v = expr(k, n->ops[0], &inner);
  return inside.v ? choose(k, inside, v, zero_like(v)) : v;
}

/* Reductions and the matmul are given by the form around; the others are no kernel's. */
static Val expr_composite(Kernel *k, const Node *n, const Index *ix) {
  (void)ix;
  ice(k->g, (NodeId)(n - k->g->nodes.at), "cpu: %s inside a kernel", op_name[n->op]);
}

#define expr_reduce expr_composite
#define expr_matmul expr_composite
#define expr_reshape expr_composite
#define expr_scatter_add expr_composite
#define expr_slice expr_view
#define expr_loop expr_composite
#define expr_kernel expr_composite
#define expr_transpose expr_view
#define expr_broadcast expr_view

static ExprCell *const expr_cell[OP_COUNT] = {
#define OP(name, doc) [OP_##name] =
#define EVAL(fn) expr_##fn,
#include "ir/ops.def"
};

static Val argument(Kernel *k, ValueId v, const Index *ix) {
  return k_load(k, k_operand(k, k->g->values.at[v].index), value_type(k->g, v), ix);
}

Val expr(Kernel *k, ValueId v, const Index *ix) {
  const Memo *known = memo_find(k, v, ix);
  if (known) return known->val;
  const Node *n = value_node(k->g, v);
  Val val = n ? expr_cell[n->op](k, n, ix) : argument(k, v, ix);
  expr_given(k, v, ix, val);
  return val;
}

/* ---- a point of the space -------------------------------------------------------------------- */

/* All results are evaluated before the first is stored: one may lie where an operand lies. */
void emit_results(Kernel *k, int rank) {
  const Block *b = k->body;
  Val *val = NEW_ARRAY(k->m->arena, Val, b->results.len);
  for (int store = 0; store < 2; store++)
    for (uint32_t i = 0; i < b->results.len; i++) {
      Type t = value_type(k->g, b->results.at[i]);
      if (t.rank != rank) continue;
      Index ix = index_identity(t, rank < k->rank ? k->lead : 0);
      if (store) k_store(k, k_result(k, i), t, &ix, val[i]);
      else val[i] = expr(k, b->results.at[i], &ix);
    }
}
