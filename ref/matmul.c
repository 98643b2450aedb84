/* matmul.c: the contraction, in the one order that counts.
 *
 * k in chunks of k_chunk; a chunk is a chain of fused multiply-adds from +0, k ascending; chunk
 * totals are added ascending to the accumulator operand, +0 where there is none.  Where k is odd
 * and both operands are bf16 the last chain ends with +0 · +0, because instructions take bf16 in
 * pairs; it turns a chain of -0 into +0.  Leading axes make many products of one shape; where the
 * operands and the result lie in memory (ta, perm_a, …) changes no bit.
 *
 * matmul_scaled with one scale an operand starts from +0, multiplies the total by a's scale, then
 * by b's, and adds that to the accumulator operand, if there is one.  Where the scales are of
 * blocks a chain is as long as a block and is multiplied by the product of its two scales before it
 * is added.
 */
#include "ref/cells.h"

#include <math.h>
#include <string.h>

typedef struct Matmul {
  int64_t m, n, k, chunk;
  bool pad; /* one more +0 · +0 at the end */
} Matmul;

static int64_t chunks_of(const Matmul *p) { return (p->k + p->chunk - 1) / p->chunk; }

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

/* sa, sb: the scales of the chunks, or NULL. */
static float dot_f32(const Matmul *p, const float *a, const float *b, const float *sa,
                     const float *sb, float total) {
  for (int64_t first = 0; first < p->k; first += p->chunk) {
    float chain = 0;
    int64_t end = p->k - first < p->chunk ? p->k : first + p->chunk;
    for (int64_t i = first; i < end; i++) chain = fmaf(a[i], b[i], chain);
    if (p->pad && end == p->k) chain = fmaf(0, 0, chain);
    if (sa) chain *= sa[first / p->chunk] * sb[first / p->chunk];
    total += chain;
  }
  return total;
}

static double dot_f64(const Matmul *p, const double *a, const double *b, const double *sa,
                      const double *sb, double total) {
  for (int64_t first = 0; first < p->k; first += p->chunk) {
    double chain = 0;
    int64_t end = p->k - first < p->chunk ? p->k : first + p->chunk;
    for (int64_t i = first; i < end; i++) chain = fma(a[i], b[i], chain);
    if (sa) chain *= sa[first / p->chunk] * sb[first / p->chunk];
    total += chain;
  }
  return total;
}

/* A matrix as lines of k elements along axis `along`, so that both dots run along memory; `same`
 * neighbouring lines are one in it. */
static void pack(void *to, const Matrix *m, int64_t first, int along, int64_t lines, int64_t same,
                 int64_t k) {
  const Tensor *x = m->t;
  int across = 2 * x->type.rank - 3 - along;
  for (int64_t i = 0; i < lines * k; i++) {
    int64_t at = first + i / k / same * m->stride[across] + i % k * m->stride[along];
    if (x->wide) ((double *)to)[i] = tensor_get(x, at);
    else ((float *)to)[i] = get_f32(x, at);
  }
}

typedef struct Product {
  Matmul p;
  Matrix a, b, c, scales[2];
  const Tensor *acc, *scale[2]; /* or NULL */
  bool blocks;                  /* the scales are of blocks */
  int64_t same[2];              /* neighbouring rows of a, columns of b, that share a scale */
  void *rows, *cols;            /* of one matrix, packed */
  void *row_scales, *col_scales;
} Product;

static double scaled(const Eval *e, double total, double scale) {
  return eval_wide(e) ? total * scale : (double)((float)total * (float)scale);
}

static double dot(const Eval *e, const Product *x, int64_t row, int64_t col, double start) {
  const Matmul *p = &x->p;
  int64_t k = p->k, n = chunks_of(p);
  if (eval_wide(e)) {
    const double *a = x->rows, *b = x->cols, *sa = x->row_scales, *sb = x->col_scales;
    return dot_f64(p, a + row * k, b + col * k, sa ? sa + row * n : NULL, sb ? sb + col * n : NULL,
                   start);
  }
  const float *a = x->rows, *b = x->cols, *sa = x->row_scales, *sb = x->col_scales;
  return dot_f32(p, a + row * k, b + col * k, sa ? sa + row * n : NULL, sb ? sb + col * n : NULL,
                 (float)start);
}

static void multiply(Eval *e, const Product *x, Tensor *c, int64_t at) {
  const Matmul *p = &x->p;
  int rank = c->type.rank;
  for (int64_t i = 0; i < p->m * p->n; i++) {
    int64_t row = i / p->n, col = i % p->n;
    int64_t to = at + row * x->c.stride[rank - 2] + col * x->c.stride[rank - 1];
    double acc = x->acc ? tensor_get(x->acc, to) : 0;
    bool after = x->scale[0] && !x->blocks; /* the scales, and the accumulator behind them */
    double total = dot(e, x, row, col, after ? 0 : acc);
    for (int s = 0; s < 2 && after; s++) total = scaled(e, total, tensor_get(x->scale[s], 0));
    if (after && x->acc) total = eval_wide(e) ? acc + total : (double)((float)acc + (float)total);
    tensor_set(e->scalars, c, to, total);
  }
}

/* The scales of matmul_scaled; they lie as their operand does. */
static void find_scales(Eval *e, const Node *n, Product *x) {
  for (uint32_t i = 0; i < 2; i++) {
    const Tensor *t = x->scale[i] = eval_operand(e, n, 2 + i);
    if (!t->type.rank) continue;
    x->blocks = true;
    x->scales[i] =
        matrix_of(t, node_attr(n, i ? AT_perm_b : AT_perm_a), node_bool(n, i ? AT_tb : AT_ta));
    x->same[i] = matmul_scale_lines(e->g, n, i);
  }
}

static void *room(const Eval *e, Arena *scratch, int64_t count) {
  return arena_array(scratch, (size_t)count, eval_wide(e) ? sizeof(double) : sizeof(float));
}

static void pack_scales(Eval *e, Product *x, Arena *scratch, Type lead, int64_t i) {
  const Matmul *p = &x->p;
  int rank = lead.rank;
  int64_t n = chunks_of(p);
  if (!x->blocks) return;
  if (!x->row_scales) {
    x->row_scales = room(e, scratch, p->m * n);
    x->col_scales = room(e, scratch, p->n * n);
  }
  pack(x->row_scales, &x->scales[0], matrix_at(&x->scales[0], lead, i), rank - 1, p->m, x->same[0],
       n);
  pack(x->col_scales, &x->scales[1], matrix_at(&x->scales[1], lead, i), rank - 2, p->n, x->same[1],
       n);
}

void eval_matmul(Eval *e, const Node *n) {
  Tensor *c = eval_output(e, n, 0);
  Product x = {.acc = NULL};
  uint32_t acc = matmul_accumulator(n->op);
  if (n->nops > acc) x.acc = eval_operand(e, n, acc);
  if (n->op == OP_matmul_scaled) find_scales(e, n, &x);
  Type a = matmul_operand(e->g, n, 0), b = matmul_operand(e->g, n, 1);
  int rank = a.rank;
  int64_t lead = 1;
  for (int i = 0; i < rank - 2; i++) lead *= a.dim[i];
  x.p = (Matmul){.m = node_int(n, AT_m, a.dim[rank - 2]),
                 .n = node_int(n, AT_n, b.dim[rank - 1]),
                 .k = a.dim[rank - 1]};
  x.p.chunk = node_int(n, AT_k_chunk, K_CHUNK);
  x.p.pad = x.p.k % 2 && a.dtype == DT_bf16 && b.dtype == DT_bf16;
  if (x.p.chunk < 1) eval_refuse(e, n, "k_chunk must be positive");
  x.a = matrix_of(eval_operand(e, n, 0), node_attr(n, AT_perm_a), node_bool(n, AT_ta));
  x.b = matrix_of(eval_operand(e, n, 1), node_attr(n, AT_perm_b), node_bool(n, AT_tb));
  x.c = result_of(c, node_attr(n, AT_perm_c));
  Arena scratch = {0};
  x.rows = room(e, &scratch, x.p.m * x.p.k);
  x.cols = room(e, &scratch, x.p.n * x.p.k);
  for (int64_t i = 0; i < lead; i++) {
    pack(x.rows, &x.a, matrix_at(&x.a, a, i), rank - 1, x.p.m, 1, x.p.k);
    pack(x.cols, &x.b, matrix_at(&x.b, a, i), rank - 2, x.p.n, 1, x.p.k);
    pack_scales(e, &x, &scratch, a, i);
    multiply(e, &x, c, matrix_at(&x.c, a, i));
  }
  arena_free(&scratch);
}
