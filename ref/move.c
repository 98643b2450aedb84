/* move.c: ops that make or move elements without computing: their bytes arrive unchanged.
 *
 * NaN payloads and the sign of zero go through; only a constant is rounded, to the type it states.
 * Strides serve all that read at a place linear in the index; slice and pad are each other's
 * inverse. */
#include "ref/cells.h"

#include <string.h>

void eval_constant(Eval *e, const Node *n) {
  Tensor *y = eval_output(e, n, 0);
  double v = node_float(n, AT_value, 0);
  for (int64_t i = 0; i < type_count(y->type); i++) tensor_set(e->scalars, y, i, v);
}

void eval_iota(Eval *e, const Node *n) {
  Tensor *y = eval_output(e, n, 0);
  Type t = y->type;
  int64_t axis = node_int(n, AT_axis, 0), inner = 1;
  for (int i = (int)axis + 1; i < t.rank; i++) inner *= t.dim[i];
  for (int64_t i = 0; i < type_count(t); i++)
    tensor_set(e->scalars, y, i, (double)(i / inner % t.dim[axis]));
}

static void copy_elem(Tensor *y, int64_t i, const Tensor *x, int64_t j) {
  size_t size = tensor_elem_bytes(y);
  memcpy((char *)y->data + (size_t)i * size, (const char *)x->data + (size_t)j * size, size);
}

void eval_reshape(Eval *e, const Node *n) {
  tensor_convert(e->scalars, eval_output(e, n, 0), eval_operand(e, n, 0));
}

static void strides_of(Type t, int64_t *stride) {
  int64_t at = 1;
  for (int i = t.rank; i-- > 0; at *= t.dim[i]) stride[i] = at;
}

/* y[i0, i1, …] = x[i0 · stride[0] + i1 · stride[1] + …] */
static void copy_strided(Tensor *y, const Tensor *x, const int64_t *stride) {
  for (int64_t i = 0; i < type_count(y->type); i++) {
    int64_t from = 0, rest = i;
    for (int axis = y->type.rank; axis-- > 0; rest /= y->type.dim[axis])
      from += rest % y->type.dim[axis] * stride[axis];
    copy_elem(y, i, x, from);
  }
}

void eval_transpose(Eval *e, const Node *n) {
  const Tensor *x = eval_operand(e, n, 0);
  const Attr *perm = node_attr(n, AT_perm);
  int64_t of_x[MAX_RANK], stride[MAX_RANK] = {0};
  strides_of(x->type, of_x);
  for (int i = 0; i < x->type.rank; i++) stride[i] = of_x[perm->ints[i]];
  copy_strided(eval_output(e, n, 0), x, stride);
}

void eval_broadcast(Eval *e, const Node *n) {
  const Tensor *x = eval_operand(e, n, 0);
  const Attr *axes = node_attr(n, AT_axes);
  int64_t of_x[MAX_RANK], stride[MAX_RANK] = {0};
  strides_of(x->type, of_x);
  for (int i = 0; i < x->type.rank; i++)
    if (x->type.dim[i] != 1) stride[axes->ints[i]] = of_x[i];
  copy_strided(eval_output(e, n, 0), x, stride);
}

/* By axis of the part: how far its neighbours are from each other in the whole; *first: its first
 * element. */
static void part_strides(const Node *n, Type whole, int64_t *stride, int64_t *first) {
  const Attr *starts = node_attr(n, AT_starts), *steps = node_attr(n, AT_steps);
  strides_of(whole, stride);
  *first = 0;
  for (int i = 0; i < whole.rank; i++) {
    *first += starts->ints[i] * stride[i];
    stride[i] *= steps->ints[i];
  }
}

static int64_t strided(Type t, const int64_t *stride, int64_t i) {
  int64_t at = 0;
  for (int axis = t.rank; axis-- > 0; i /= t.dim[axis]) at += i % t.dim[axis] * stride[axis];
  return at;
}

void eval_slice(Eval *e, const Node *n) {
  const Tensor *x = eval_operand(e, n, 0);
  Tensor *y = eval_output(e, n, 0);
  int64_t stride[MAX_RANK], first;
  part_strides(n, x->type, stride, &first);
  for (int64_t i = 0; i < type_count(y->type); i++)
    copy_elem(y, i, x, first + strided(y->type, stride, i));
}

void eval_pad(Eval *e, const Node *n) {
  const Tensor *x = eval_operand(e, n, 0);
  Tensor *y = eval_output(e, n, 0);
  int64_t stride[MAX_RANK], first;
  part_strides(n, y->type, stride, &first);
  for (int64_t i = 0; i < type_count(y->type); i++) tensor_set(e->scalars, y, i, 0);
  for (int64_t i = 0; i < type_count(x->type); i++)
    copy_elem(y, first + strided(x->type, stride, i), x, i);
}

/* Index i of a table of n rows, as near as there is one. */
static int64_t row_of(const Tensor *index, int64_t i, int64_t n) {
  double at = tensor_get(index, i);
  return at < 0 ? 0 : at < (double)n ? (int64_t)at : n - 1;
}

void eval_embedding(Eval *e, const Node *n) {
  const Tensor *x = eval_operand(e, n, 0), *index = eval_operand(e, n, 1);
  Tensor *y = eval_output(e, n, 0);
  int64_t rows = x->type.dim[0], width = type_count(x->type) / rows;
  for (int64_t i = 0; i < type_count(y->type); i++)
    copy_elem(y, i, x, row_of(index, i / width, rows) * width + i % width);
}

void eval_scatter_add(Eval *e, const Node *n) {
  const Tensor *x = eval_operand(e, n, 0), *index = eval_operand(e, n, 1);
  Tensor *y = eval_output(e, n, 0);
  int64_t rows = y->type.dim[0], width = type_count(y->type) / rows;
  for (int64_t i = 0; i < type_count(y->type); i++)
    tensor_set(e->scalars, y, i, n->nops > 2 ? tensor_get(eval_operand(e, n, 2), i) : 0);
  for (int64_t i = 0; i < type_count(x->type); i++) {
    int64_t at = row_of(index, i / width, rows) * width + i % width;
    double sum = tensor_get(y, at), v = tensor_get(x, i);
    tensor_set(e->scalars, y, at, eval_wide(e) ? sum + v : (double)((float)sum + (float)v));
  }
}

void eval_mask_rows(Eval *e, const Node *n) {
  const Tensor *x = eval_operand(e, n, 0);
  Tensor *y = eval_output(e, n, 0);
  Type t = x->type;
  int64_t stride[MAX_RANK], real = eval_real(e, t);
  strides_of(t, stride);
  for (int64_t i = 0; i < type_count(t); i++) {
    if (t.rows < 0 || i / stride[t.rows] % t.dim[t.rows] < real) copy_elem(y, i, x, i);
    else tensor_set(e->scalars, y, i, 0);
  }
}

void eval_gather(Eval *e, const Node *n) {
  const Tensor *x = eval_operand(e, n, 0), *index = eval_operand(e, n, 1);
  Tensor *y = eval_output(e, n, 0);
  int64_t len = x->type.dim[x->type.rank - 1];
  if (!len && type_count(y->type)) eval_refuse(e, n, "rows without elements");
  for (int64_t i = 0; i < type_count(y->type); i++) {
    double at = tensor_get(index, i);
    int64_t k = at < 0 ? 0 : at < (double)len ? (int64_t)at : len - 1;
    copy_elem(y, i, x, i * len + k);
  }
}

void eval_commit(Eval *e, const Node *n) {
  bool ok = tensor_get(eval_operand(e, n, 0), 0) != 0;
  tensor_convert(e->scalars, eval_output(e, n, 0), eval_operand(e, n, ok ? 1 : 2));
}
