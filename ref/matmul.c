/* matmul.c: the contraction, in the one order that counts.
 *
 * k in chunks of k_chunk; a chunk is a chain of fused multiply-adds from +0, k ascending; chunk
 * totals are added ascending to the accumulator operand, +0 where there is none.  Where k is odd
 * and both operands are bf16 the last chain ends with +0 · +0, because instructions take bf16 in
 * pairs; it turns a chain of -0 into +0.  Leading axes make many products of one shape; where the
 * operands and the result lie in memory (ta, perm_a, …) changes no bit.  matmul_scaled multiplies
 * the total by a's scale, then by b's.
 */
#include "ref/cells.h"

#include <math.h>
#include <string.h>

typedef struct Matmul {
  int64_t m, n, k, chunk;
  bool pad; /* one more +0 · +0 at the end */
} Matmul;

/* Where the elements of an operand or of the result lie, by the axes of the product: leading ones,
 * then two of a matrix. */
typedef struct Matrix {
  const Tensor *t;
  int64_t stride[MAX_RANK];
} Matrix;

/* perm: the product's axis i is the tensor's axis perm[i]. */
static Matrix matrix_of(const Tensor *t, const Attr *perm, bool swap) {
  Matrix x = {.t = t};
  int64_t of[MAX_RANK], step = 1;
  int rank = t->type.rank;
  for (int i = rank; i-- > 0; step *= t->type.dim[i]) of[i] = step;
  for (int i = 0; i < rank; i++) x.stride[i] = of[perm ? perm->ints[i] : i];
  if (!swap) return x;
  int64_t row = x.stride[rank - 2];
  x.stride[rank - 2] = x.stride[rank - 1];
  x.stride[rank - 1] = row;
  return x;
}

/* The result is stored with the product's axis perm[i] as its axis i. */
static Matrix result_of(const Tensor *t, const Attr *perm) {
  Matrix stored = matrix_of(t, NULL, false), x = stored;
  for (uint32_t i = 0; perm && i < perm->n; i++) x.stride[perm->ints[i]] = stored.stride[i];
  return x;
}

/* The first element of the matrix at place i of the leading axes, whose dims are lead's. */
static int64_t matrix_at(const Matrix *x, Type lead, int64_t i) {
  int64_t at = 0;
  for (int a = lead.rank - 2; a-- > 0; i /= lead.dim[a]) at += i % lead.dim[a] * x->stride[a];
  return at;
}

static float get_f32(const Tensor *t, int64_t i) {
  uint32_t bits = tensor_get_bits(t, i);
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

static float dot_f32(const Matmul *p, const float *a, const float *b, float total) {
  for (int64_t first = 0; first < p->k; first += p->chunk) {
    float chain = 0;
    int64_t end = p->k - first < p->chunk ? p->k : first + p->chunk;
    for (int64_t i = first; i < end; i++) chain = fmaf(a[i], b[i], chain);
    if (p->pad && end == p->k) chain = fmaf(0, 0, chain);
    total += chain;
  }
  return total;
}

static double dot_f64(const Matmul *p, const double *a, const double *b, double total) {
  for (int64_t first = 0; first < p->k; first += p->chunk) {
    double chain = 0;
    int64_t end = p->k - first < p->chunk ? p->k : first + p->chunk;
    for (int64_t i = first; i < end; i++) chain = fma(a[i], b[i], chain);
    total += chain;
  }
  return total;
}

/* A matrix as lines of k elements along axis `along`, so that both dots run along memory. */
static void pack(void *to, const Matrix *m, int64_t first, int along, int64_t lines, int64_t k) {
  const Tensor *x = m->t;
  int across = 2 * x->type.rank - 3 - along;
  for (int64_t i = 0; i < lines * k; i++) {
    int64_t at = first + i / k * m->stride[across] + i % k * m->stride[along];
    if (x->wide) ((double *)to)[i] = tensor_get(x, at);
    else ((float *)to)[i] = get_f32(x, at);
  }
}

typedef struct Product {
  Matmul p;
  Matrix a, b, c;
  const Tensor *acc, *scale[2]; /* or NULL */
  void *rows, *cols;            /* of one matrix, packed */
} Product;

static double scaled(const Eval *e, double total, double scale) {
  return eval_wide(e) ? total * scale : (double)((float)total * (float)scale);
}

static void multiply(Eval *e, const Product *x, Tensor *c, int64_t at) {
  const Matmul *p = &x->p;
  int rank = c->type.rank;
  for (int64_t i = 0; i < p->m * p->n; i++) {
    int64_t row = i / p->n, col = i % p->n;
    int64_t to = at + row * x->c.stride[rank - 2] + col * x->c.stride[rank - 1];
    double start = x->acc ? tensor_get(x->acc, to) : 0;
    const void *rows = x->rows, *cols = x->cols;
    double total = eval_wide(e) ? dot_f64(p, (const double *)rows + row * p->k,
                                          (const double *)cols + col * p->k, start)
                                : (double)dot_f32(p, (const float *)rows + row * p->k,
                                                  (const float *)cols + col * p->k, (float)start);
    for (int s = 0; s < 2 && x->scale[s]; s++) total = scaled(e, total, tensor_get(x->scale[s], 0));
    tensor_set(e->scalars, c, to, total);
  }
}

void eval_matmul(Eval *e, const Node *n) {
  Tensor *c = eval_output(e, n, 0);
  Product x = {.acc = NULL};
  if (n->op == OP_matmul && n->nops > 2) x.acc = eval_operand(e, n, 2);
  for (uint32_t i = 0; n->op == OP_matmul_scaled && i < 2; i++)
    x.scale[i] = eval_operand(e, n, 2 + i);
  Type a = matmul_operand(e->g, n, 0), b = matmul_operand(e->g, n, 1);
  int rank = a.rank;
  int64_t lead = 1;
  for (int i = 0; i < rank - 2; i++) lead *= a.dim[i];
  x.p = (Matmul){.m = a.dim[rank - 2], .n = b.dim[rank - 1], .k = a.dim[rank - 1]};
  x.p.chunk = node_int(n, AT_k_chunk, K_CHUNK);
  x.p.pad = x.p.k % 2 && a.dtype == DT_bf16 && b.dtype == DT_bf16;
  if (x.p.chunk < 1) eval_refuse(e, n, "k_chunk must be positive");
  x.a = matrix_of(eval_operand(e, n, 0), node_attr(n, AT_perm_a), node_bool(n, AT_ta));
  x.b = matrix_of(eval_operand(e, n, 1), node_attr(n, AT_perm_b), node_bool(n, AT_tb));
  x.c = result_of(c, node_attr(n, AT_perm_c));
  Arena scratch = {0};
  size_t size = eval_wide(e) ? sizeof(double) : sizeof(float);
  x.rows = arena_array(&scratch, (size_t)(x.p.m * x.p.k), size);
  x.cols = arena_array(&scratch, (size_t)(x.p.n * x.p.k), size);
  for (int64_t i = 0; i < lead; i++) {
    pack(x.rows, &x.a, matrix_at(&x.a, a, i), rank - 1, x.p.m, x.p.k);
    pack(x.cols, &x.b, matrix_at(&x.b, a, i), rank - 2, x.p.n, x.p.k);
    multiply(e, &x, c, matrix_at(&x.c, a, i));
  }
  arena_free(&scratch);
}
