/* product.c: the gemm form: gemm_emit's loops with the kernel's map nodes on the store.
 *
 * The space is the result's; whenever gemm has a run of finished elements of a row, the matmul is
 * given at that place and every result is evaluated there and stored.  Leading axes make a batch of
 * products; operands and result may be stored with their axes in another order, of which only the
 * distances between rows and between products are left here.
 */
#include "codegen/cpu/emit.h"
#include "codegen/cpu/scalar_emit.h"

#include <string.h>

typedef struct Product {
  Kernel *k;
  const Node *matmul;
  int rank;
  Type a, b;                   /* as the product reads them */
  int stored[MAX_RANK];        /* the product's axis i is this axis of the result */
  LLVMValueRef lead[MAX_RANK]; /* where the leading axes stand */
} Product;

static const Node *find_matmul(const Kernel *k) {
  for (uint32_t i = 0; i < k->body->nodes.len; i++) {
    const Node *n = &k->g->nodes.at[k->body->nodes.at[i]];
    if (op_form[n->op] == FORM_gemm) return n;
  }
  ice(k->g, (NodeId)(k->node - k->g->nodes.at), "cpu: a gemm kernel without a matmul");
}

/* Elements between neighbours along each axis of a value in memory. */
static void strides_of(Type t, int64_t *stride) {
  int64_t step = 1;
  for (int i = t.rank; i-- > 0; step *= t.dim[i]) stride[i] = step;
}

static LLVMValueRef matrix(const Kernel *k, ValueId v) {
  return k_operand(k, k->g->values.at[v].index);
}

static void set_axis(Product *p, int axis, LLVMValueRef at, AxisKind kind) {
  Kernel *k = p->k;
  int group = k->group[p->stored[axis]];
  if (group >= 0) k->axis[group] = (Axis){k->axis[group].extent, kind, at, k->scope};
}

/* The builder stands in gemm's loops: a scope of ours around what is emitted there. */
static void scope_enter(Product *p, LLVMValueRef row, LLVMValueRef col, unsigned lanes) {
  Kernel *k = p->k;
  k->block = LLVMGetInsertBlock(k->b);
  k->scope++;
  k->lanes = k->valid = lanes;
  for (int i = 0; i < p->rank - 2; i++) set_axis(p, i, p->lead[i], AXIS_SPLAT);
  set_axis(p, p->rank - 2, row, AXIS_SPLAT);
  set_axis(p, p->rank - 1, col, AXIS_STEP);
}

static void scope_leave(Kernel *k) {
  expr_forget(k, k->scope);
  LLVMPositionBuilderAtEnd(k->b, k->block);
  k->scope--;
}

static Index place(const Product *p) {
  return index_identity(value_type(p->k->g, p->matmul->res), 0);
}

/* fp8 operands have one scale each, which comes in behind the sums. */
static bool has_tensor_scales(const Product *p) {
  return p->matmul->op == OP_matmul_scaled && value_type(p->k->g, p->matmul->ops[2]).rank == 0;
}

static uint32_t accumulator(const Product *p) { return matmul_accumulator(p->matmul->op); }

static bool has_accumulator(const Product *p) { return p->matmul->nops > accumulator(p); }

/* By the scales of fp8 operands, then to the accumulator. */
static Val scaled(const Product *p, Val total, const Index *ix) {
  Index none;
  memset(&none, 0, sizeof none);
  if (!has_tensor_scales(p)) return total;
  for (uint32_t i = 2; i < 4; i++) {
    Val x[] = {total, expr(p->k, p->matmul->ops[i], &none)};
    total = expr_program(p->k, SC_mul, 2, x);
  }
  if (!has_accumulator(p)) return total;
  Val sum[] = {expr(p->k, p->matmul->ops[accumulator(p)], ix), total};
  return expr_program(p->k, SC_add, 2, sum);
}

static void store(void *ctx, LLVMBuilderRef b, LLVMValueRef row, LLVMValueRef col, unsigned lanes,
                  LLVMValueRef value) {
  Product *p = ctx;
  Kernel *k = p->k;
  Index ix = place(p);
  (void)b;
  scope_enter(p, row, col, lanes);
  expr_given(k, p->matmul->res, &ix, scaled(p, (Val){value, lanes > 1, k->scope}, &ix));
  emit_results(k, p->rank);
  scope_leave(k);
}

static LLVMValueRef init(void *ctx, LLVMBuilderRef b, LLVMValueRef row, LLVMValueRef col,
                         unsigned lanes) {
  Product *p = ctx;
  Kernel *k = p->k;
  Index ix = place(p);
  (void)b;
  scope_enter(p, row, col, lanes);
  LLVMValueRef v = expr_wide(k, expr(k, p->matmul->ops[accumulator(p)], &ix)).v;
  scope_leave(k);
  return v;
}

/* Elements of operand i between neighbours along the product's axes. */
static void matrix_strides(const Product *p, uint32_t i, int64_t *along) {
  bool b = i % 2;
  const Attr *perm = node_attr(p->matmul, b ? AT_perm_b : AT_perm_a);
  int64_t stride[MAX_RANK];
  int m = p->rank - 2, n = p->rank - 1;
  strides_of(value_type(p->k->g, p->matmul->ops[i]), stride);
  for (int a = 0; a < p->rank; a++) along[a] = stride[perm ? perm->ints[a] : a];
  if (!node_bool(p->matmul, b ? AT_tb : AT_ta)) return;
  int64_t row = along[m];
  along[m] = along[n];
  along[n] = row;
}

/* The scale of a block: its operand's places are those of blocks along two axes. */
static LLVMValueRef block_scale(void *ctx, LLVMBuilderRef b, int operand, LLVMValueRef line,
                                LLVMValueRef chunk) {
  Product *p = ctx;
  Kernel *k = p->k;
  ValueId v = p->matmul->ops[2 + operand];
  int64_t along[MAX_RANK], lines = matmul_scale_lines(k->g, p->matmul, (uint32_t)operand);
  DType d = (DType)value_type(k->g, v).dtype;
  matrix_strides(p, 2 + (uint32_t)operand, along);
  if (lines > 1) line = LLVMBuildUDiv(b, line, k_int(k, lines), "");
  LLVMValueRef at = LLVMBuildNSWAdd(b, k_times(k, line, along[p->rank - 2 + operand]),
                                    k_times(k, chunk, along[p->rank - 1 - operand]), "");
  for (int a = 0; a < p->rank - 2; a++)
    if (p->a.dim[a] != 1) at = LLVMBuildNSWAdd(b, at, k_times(k, p->lead[a], along[a]), "");
  at = k_times(k, at, dtype_bytes[d]);
  at = LLVMBuildGEP2(b, k->m->i8, matrix(k, v), &at, 1, "");
  LLVMValueRef x = LLVMBuildLoad2(b, d == DT_f32 ? k->m->f32 : k->m->i8, at, "");
  if (d == DT_f32) return x;
  x = LLVMBuildZExt(b, x, k->m->i32, "");
  scalar_emit(b, &k->m->scalars->prog[dtype_widen(d)], 1, &x, &x);
  return x;
}

static GemmElem elem(const Kernel *k, ValueId v) {
  DType d = (DType)value_type(k->g, v).dtype;
  return d == DT_bf16       ? GEMM_BF16
         : d == DT_f16      ? GEMM_F16
         : d == DT_f8e4m3fn ? GEMM_E4M3
         : d == DT_f8e5m2   ? GEMM_E5M2
                            : GEMM_F32;
}

/* Elements between rows of operand i as it is stored. */
static int64_t row_stride(const Product *p, uint32_t i) {
  int64_t along[MAX_RANK];
  matrix_strides(p, i, along);
  return along[p->rank - 2 + node_bool(p->matmul, i ? AT_tb : AT_ta)];
}

static LLVMValueRef moved(Product *p, LLVMValueRef from, uint32_t i) {
  Kernel *k = p->k;
  int64_t stride[MAX_RANK];
  LLVMValueRef at = NULL;
  matrix_strides(p, i, stride);
  for (int a = 0; a < p->rank - 2; a++) {
    if (p->a.dim[a] == 1) continue;
    LLVMValueRef term = k_times(k, p->lead[a], stride[a]);
    at = at ? LLVMBuildNSWAdd(k->b, at, term, "") : term;
  }
  unsigned bytes = dtype_bytes[value_type(k->g, p->matmul->ops[i]).dtype];
  if (!at) return from;
  at = k_times(k, at, bytes);
  return LLVMBuildGEP2(k->b, k->m->i8, from, &at, 1, "");
}

static void element(void *ctx, LLVMBuilderRef b, LLVMValueRef at, LLVMValueRef *a,
                    LLVMValueRef *bm) {
  Product *p = ctx;
  for (int i = p->rank - 2; i-- > 0;) {
    LLVMValueRef dim = k_int(p->k, p->a.dim[i]);
    p->lead[i] = i ? LLVMBuildURem(b, at, dim, "") : at;
    at = LLVMBuildUDiv(b, at, dim, "");
  }
  *a = moved(p, *a, 0);
  *bm = moved(p, *bm, 1);
}

static Product product_of(Kernel *k) {
  const Node *n = find_matmul(k);
  Product p = {.k = k, .matmul = n, .a = matmul_operand(k->g, n, 0)};
  const Attr *perm = node_attr(n, AT_perm_c);
  p.b = matmul_operand(k->g, n, 1);
  p.rank = p.a.rank;
  for (int i = 0; i < p.rank; i++) p.stored[perm ? perm->ints[i] : i] = i;
  return p;
}

static GemmSpec product_spec(Product *p) {
  const Kernel *k = p->k;
  const Node *n = p->matmul;
  int rank = p->rank;
  GemmSpec s = {.m = node_int(n, AT_m, p->a.dim[rank - 2]),
                .n = node_int(n, AT_n, p->b.dim[rank - 1]),
                .k = p->a.dim[rank - 1]};
  s.ta = node_bool(n, AT_ta);
  s.tb = node_bool(n, AT_tb);
  s.k_chunk = node_int(n, AT_k_chunk, K_CHUNK);
  s.a = elem(k, n->ops[0]);
  s.b = elem(k, n->ops[1]);
  s.lda = row_stride(p, 0);
  s.ldb = row_stride(p, 1);
  s.vec = k->m->level->vec;
  s.scalars = k->m->scalars;
  s.store = store;
  s.init = has_accumulator(p) && !has_tensor_scales(p) ? init : NULL;
  s.scale = n->op == OP_matmul_scaled && !has_tensor_scales(p) ? block_scale : NULL;
  s.batch = 1;
  for (int i = 0; i < rank - 2; i++) s.batch *= p->a.dim[i];
  s.element = rank > 2 ? element : NULL;
  s.ctx = p;
  return s;
}

void measure_product(Kernel *k) {
  Product p = product_of(k);
  GemmSpec s = product_spec(&p);
  k->scratch_bytes = gemm_scratch_bytes(&s);
}

void emit_product(Kernel *k) {
  Product p = product_of(k);
  for (int i = 0; i < p.rank; i++) k->parted[i] = true; /* gemm counts along each axis alone */
  space_set(k, value_type(k->g, p.matmul->res), -1, 0);
  k->lanes = k->m->level->vec.f32_lanes;
  GemmSpec s = product_spec(&p);
  k_go(k, k->scope);
  gemm_emit(&s, k->b, k->tid32, k->threads32, matrix(k, p.matmul->ops[0]),
            matrix(k, p.matmul->ops[1]), k->scratch);
  k->block = LLVMGetInsertBlock(k->b);
}
