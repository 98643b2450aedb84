/* reduce.c: reductions, in the one order that counts.
 *
 * The trailing run of reduced axes is one axis of n elements and goes first: blocks of 4096; in a
 * block 32 partial results, element j going to number j mod 32, each from the identity; they fold
 * by h = 16, 8, 4, 2, 1 (p[i] = op(p[i], p[i + h])); block results ascending from the identity. The
 * other reduced axes are rows, in row-major order: chains over 64 rows from the identity, chain
 * results ascending from the identity.
 *
 * Padding rows of a partial batch are left out, and all others keep their place j: the result is
 * the one a compiler gets by giving them the identity, whatever the padding holds.
 */
#include "ref/cells.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 4096, LANES = 32, CHAIN = 64 };

typedef struct Axes { /* some axes of a tensor */
  int n;
  int64_t count, dim[MAX_RANK], stride[MAX_RANK];
} Axes;

typedef struct Reduce {
  Fn fn;
  const Tensor *x;
  Elem identity;
  int64_t run; /* elements of the trailing run */
  Axes rows, kept;
  int64_t tag_stride, tag_dim, tag_real; /* tag_real = INT64_MAX: nothing is left out */
} Reduce;

/* ∓inf is the identity of max and min on floats, the extreme i32 on integers; every narrower
 * integer lies between, and stores the extreme as its own. */
static const struct {
  float f;
  int32_t i;
} IDENTITY[OP_COUNT] = {
    [OP_sum] = {0, 0},
    [OP_reduce_max] = {-INFINITY, INT32_MIN},
    [OP_reduce_min] = {INFINITY, INT32_MAX},
    [OP_reduce_and] = {1, 1},
    [OP_reduce_or] = {0, 0},
};

static Elem identity_of(const Fn *f, Op op, bool is_float) {
  Elem v = {.f = IDENTITY[op].f};
  if (f->f64) return v;
  if (is_float) memcpy(&v.bits, &IDENTITY[op].f, sizeof v.bits);
  else v.bits = (uint32_t)IDENTITY[op].i;
  return v;
}

static void axes_add(Axes *a, int64_t dim, int64_t stride) {
  a->dim[a->n] = dim;
  a->stride[a->n++] = stride;
  a->count *= dim;
}

static int64_t axes_offset(const Axes *a, int64_t i) {
  int64_t at = 0;
  for (int k = a->n; k-- > 0; i /= a->dim[k]) at += i % a->dim[k] * a->stride[k];
  return at;
}

static Elem join(const Reduce *r, Elem x, Elem y) { return fn_apply(&r->fn, (Elem[]){x, y}, 2); }

static bool is_real(const Reduce *r, int64_t at) {
  return r->tag_real == INT64_MAX || at / r->tag_stride % r->tag_dim < r->tag_real;
}

static Elem reduce_block(const Reduce *r, int64_t at, int64_t n) {
  Elem part[LANES];
  for (int i = 0; i < LANES; i++) part[i] = r->identity;
  for (int64_t j = 0; j < n; j++)
    if (is_real(r, at + j))
      part[j % LANES] = join(r, part[j % LANES], fn_load(&r->fn, r->x, at + j));
  for (int h = LANES / 2; h; h /= 2)
    for (int i = 0; i < h; i++) part[i] = join(r, part[i], part[i + h]);
  return part[0];
}

static Elem reduce_run(const Reduce *r, int64_t at) {
  Elem total = r->identity;
  for (int64_t j = 0; j < r->run; j += BLOCK)
    total = join(r, total, reduce_block(r, at + j, r->run - j < BLOCK ? r->run - j : BLOCK));
  return total;
}

/* has_run: the trailing axis is reduced; else a row is one element. */
static Elem reduce_rows(const Reduce *r, int64_t base, bool has_run) {
  Elem total = r->identity;
  for (int64_t first = 0; first < r->rows.count; first += CHAIN) {
    Elem chain = r->identity;
    for (int64_t i = first; i < r->rows.count && i < first + CHAIN; i++) {
      int64_t at = base + axes_offset(&r->rows, i);
      if (is_real(r, at))
        chain = join(r, chain, has_run ? reduce_run(r, at) : fn_load(&r->fn, r->x, at));
    }
    total = join(r, total, chain);
  }
  return total;
}

/* Splits the axes of x; true: there is a trailing run. */
static bool split_axes(Reduce *r, const Eval *e, const Attr *axes) {
  Type t = r->x->type;
  uint32_t reduced = 0;
  int64_t stride[MAX_RANK], at = 1;
  int trailing = t.rank;
  for (uint32_t i = 0; i < axes->n; i++) reduced |= 1u << axes->ints[i];
  while (trailing && reduced >> (trailing - 1) & 1) trailing--;
  for (int i = t.rank; i-- > 0; at *= t.dim[i]) stride[i] = at;
  r->run = r->rows.count = r->kept.count = 1;
  for (int i = trailing; i < t.rank; i++) r->run *= t.dim[i];
  for (int i = 0; i < trailing; i++)
    axes_add(reduced >> i & 1 ? &r->rows : &r->kept, t.dim[i], stride[i]);
  r->tag_real = INT64_MAX;
  if (t.rows >= 0 && reduced >> t.rows & 1) {
    r->tag_stride = stride[t.rows];
    r->tag_dim = t.dim[t.rows];
    r->tag_real = eval_real(e, t);
  }
  return trailing < t.rank;
}

void eval_reduce(Eval *e, const Node *n) {
  Reduce r = {.x = eval_operand(e, n, 0)};
  Tensor *y = eval_output(e, n, 0);
  DType d = (DType)r.x->type.dtype;
  r.fn = fn_find(e, n, d);
  r.identity = identity_of(&r.fn, n->op, dtype_kind[d] == 'f');
  bool has_run = split_axes(&r, e, node_attr(n, AT_axes));
  for (int64_t i = 0; i < r.kept.count; i++) {
    int64_t base = axes_offset(&r.kept, i);
    Elem v = r.rows.n ? reduce_rows(&r, base, has_run) : reduce_run(&r, base);
    fn_store(&r.fn, y, i, v);
  }
}
