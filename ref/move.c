/* move.c: ops that make or move elements without computing: their bytes arrive unchanged. */
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
