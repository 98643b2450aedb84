/* product.c: the gemm form: gemm_emit's loops with the kernel's map nodes on the store.
 *
 * The space is [m, n]; whenever gemm has a run of finished elements of a row, the matmul is given
 * at that place and every result is evaluated there and stored.
 */
#include "codegen/cpu/emit.h"

typedef struct Product {
  Kernel *k;
  const Node *matmul;
} Product;

static const Node *find_matmul(const Kernel *k) {
  for (uint32_t i = 0; i < k->body->nodes.len; i++) {
    const Node *n = &k->g->nodes.at[k->body->nodes.at[i]];
    if (n->op == OP_matmul) return n;
  }
  ice(k->g, (NodeId)(k->node - k->g->nodes.at), "cpu: a gemm kernel without a matmul");
}

/* The builder stands in gemm's loops: a scope of ours around what is emitted there. */
static void scope_enter(Kernel *k, LLVMValueRef row, LLVMValueRef col, unsigned lanes) {
  k->block = LLVMGetInsertBlock(k->b);
  k->scope++;
  k->lanes = k->valid = lanes;
  for (int a = 0; a < 2; a++) {
    if (k->group[a] < 0) continue;
    k->axis[k->group[a]].at = a ? col : row;
    k->axis[k->group[a]].kind = a ? AXIS_STEP : AXIS_SPLAT;
    k->axis[k->group[a]].scope = k->scope;
  }
}

static void scope_leave(Kernel *k) {
  expr_forget(k, k->scope);
  LLVMPositionBuilderAtEnd(k->b, k->block);
  k->scope--;
}

static Index place(const Product *p) {
  return index_identity(value_type(p->k->g, p->matmul->res), 0);
}

static void store(void *ctx, LLVMBuilderRef b, LLVMValueRef row, LLVMValueRef col, unsigned lanes,
                  LLVMValueRef value) {
  Product *p = ctx;
  Kernel *k = p->k;
  Index ix = place(p);
  (void)b;
  scope_enter(k, row, col, lanes);
  expr_given(k, p->matmul->res, &ix, (Val){value, lanes > 1, k->scope});
  emit_results(k, 2);
  scope_leave(k);
}

static LLVMValueRef init(void *ctx, LLVMBuilderRef b, LLVMValueRef row, LLVMValueRef col,
                         unsigned lanes) {
  Product *p = ctx;
  Kernel *k = p->k;
  Index ix = place(p);
  (void)b;
  scope_enter(k, row, col, lanes);
  LLVMValueRef v = expr_wide(k, expr(k, p->matmul->ops[2], &ix)).v;
  scope_leave(k);
  return v;
}

static GemmElem elem(const Kernel *k, ValueId v) {
  DType d = (DType)value_type(k->g, v).dtype;
  return d == DT_bf16 ? GEMM_BF16 : d == DT_f16 ? GEMM_F16 : GEMM_F32;
}

static GemmSpec product_spec(Product *p) {
  const Kernel *k = p->k;
  const Node *n = p->matmul;
  Type a = value_type(k->g, n->ops[0]), b = value_type(k->g, n->ops[1]);
  Type c = value_type(k->g, n->res);
  GemmSpec s = {.m = c.dim[0], .n = c.dim[1], .ta = node_bool(n, AT_ta), .tb = node_bool(n, AT_tb)};
  s.k = a.dim[s.ta ? 0 : 1];
  s.k_chunk = node_int(n, AT_k_chunk, K_CHUNK);
  s.a = elem(k, n->ops[0]);
  s.b = elem(k, n->ops[1]);
  s.lda = a.dim[1];
  s.ldb = b.dim[1];
  s.vec = k->m->target->vec;
  s.store = store;
  s.init = n->nops == 3 ? init : NULL;
  s.ctx = p;
  return s;
}

void measure_product(Kernel *k) {
  Product p = {.k = k, .matmul = find_matmul(k)};
  GemmSpec s = product_spec(&p);
  k->scratch_bytes = gemm_scratch_bytes(&s);
}

static LLVMValueRef matrix(const Kernel *k, ValueId v) {
  return k_operand(k, k->g->values.at[v].index);
}

void emit_product(Kernel *k) {
  Product p = {.k = k, .matmul = find_matmul(k)};
  space_set(k, value_type(k->g, p.matmul->res), 1, 0);
  k->lanes = k->m->target->vec.f32_lanes;
  GemmSpec s = product_spec(&p);
  k_go(k, k->scope);
  gemm_emit(&s, k->b, k->tid32, k->threads32, matrix(k, p.matmul->ops[0]),
            matrix(k, p.matmul->ops[1]), k->scratch);
  k->block = LLVMGetInsertBlock(k->b);
}
