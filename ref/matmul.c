/* matmul.c: the contraction, in the one order that counts.
 *
 * k in chunks of k_chunk; a chunk is a chain of fused multiply-adds from +0, k ascending; chunk
 * totals are added ascending to the accumulator operand, +0 where there is none.  Where k is odd
 * and both operands are bf16 the last chain ends with +0 · +0, because instructions take bf16 in
 * pairs; it turns a chain of -0 into +0.
 */
#include "ref/cells.h"

#include <math.h>
#include <string.h>

typedef struct Matmul {
  int64_t m, n, k, chunk;
  bool pad; /* one more +0 · +0 at the end */
} Matmul;

/* Row i, column j of an operand, which is stored as [cols, rows] where it is transposed. */
static int64_t element(const Tensor *t, bool transposed, int64_t i, int64_t j) {
  int64_t width = t->type.dim[1];
  return transposed ? j * width + i : i * width + j;
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

/* The operand as lines of k elements, so that both dots run along memory. */
static void *pack(Arena *a, const Tensor *x, bool transposed, int64_t lines, int64_t k) {
  size_t size = x->wide ? sizeof(double) : sizeof(float);
  void *to = arena_array(a, (size_t)(lines * k), size);
  for (int64_t i = 0; i < lines * k; i++) {
    int64_t at = element(x, transposed, i / k, i % k);
    if (x->wide) ((double *)to)[i] = tensor_get(x, at);
    else ((float *)to)[i] = get_f32(x, at);
  }
  return to;
}

void eval_matmul(Eval *e, const Node *n) {
  const Tensor *a = eval_operand(e, n, 0), *b = eval_operand(e, n, 1);
  const Tensor *acc = n->nops > 2 ? eval_operand(e, n, 2) : NULL;
  Tensor *c = eval_output(e, n, 0);
  bool ta = node_bool(n, AT_ta), tb = node_bool(n, AT_tb);
  Matmul p = {.m = c->type.dim[0], .n = c->type.dim[1], .k = a->type.dim[!ta]};
  p.chunk = node_int(n, AT_k_chunk, K_CHUNK);
  p.pad = p.k % 2 && a->type.dtype == DT_bf16 && b->type.dtype == DT_bf16;
  if (p.chunk < 1) eval_refuse(e, n, "k_chunk must be positive");
  Arena scratch = {0};
  const void *rows = pack(&scratch, a, ta, p.m, p.k), *cols = pack(&scratch, b, !tb, p.n, p.k);
  for (int64_t i = 0; i < p.m * p.n; i++) {
    int64_t x = i / p.n * p.k, y = i % p.n * p.k;
    double start = acc ? tensor_get(acc, i) : 0;
    double total =
        eval_wide(e)
            ? dot_f64(&p, (const double *)rows + x, (const double *)cols + y, start)
            : (double)dot_f32(&p, (const float *)rows + x, (const float *)cols + y, (float)start);
    tensor_set(e->scalars, c, i, total);
  }
  arena_free(&scratch);
}
