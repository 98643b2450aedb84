/* matmul.c: `@`: products of matrices, or of stacks of them whose leading axes broadcast.
 *
 * Where the right operand is one matrix the left one's leading axes are rows of one product; else
 * there is a product for each place of the leading axes.  The batch may be a leading axis, the
 * left's rows or the right's columns, never what is summed over.
 */
#include "frontend/sema.h"

static bool are_matrices(Sema *s, const ValueId *v, Loc loc, const char *what) {
  Type a = value_type(s->g, v[0]), b = value_type(s->g, v[1]);
  const char *left = val_describe(s, val_tensor(v[0])), *right = val_describe(s, val_tensor(v[1]));
  bool floats = type_is_float(a) && type_is_float(b);
  if (!floats || a.rank < 2 || b.rank < 2) {
    diag_error(s->diag, loc, "%s of %s and %s: floats [..., i, k] and [..., k, o] are wanted%s",
               what, left, right, floats ? "" : ", write f32(x)");
    return false;
  }
  int64_t inner = a.dim[a.rank - 1];
  if (inner != b.dim[b.rank - 2]) {
    diag_error(s->diag, loc, "%s of %s and %s: inner sizes %lld and %lld differ", what, left, right,
               (long long)inner, (long long)b.dim[b.rank - 2]);
    note_sizes(s, 2, v, (int[]){1, 2}, loc);
    return false;
  }
  return !mixes_rows(s, v[0], a.rank - 1, loc, what) && !mixes_rows(s, v[1], b.rank - 2, loc, what);
}

/* Both operands' batch, where both have one, must be the same leading axis. */
static bool one_batch(Sema *s, const ValueId *v, Loc loc, const char *what) {
  Type a = value_type(s->g, v[0]), b = value_type(s->g, v[1]);
  bool same = a.rank - a.rows == b.rank - b.rows;
  if (a.rows < 0 || b.rows < 0 || same) return true;
  batches_differ(s, what, a, b, loc);
  return false;
}

static bool is_too_large(Sema *s, Type t, Loc loc, const char *what) {
  uint64_t bytes;
  if (t.rank <= MAX_RANK && type_bytes(type_with(t, DT_i64), &bytes)) return false;
  diag_error(s->diag, loc, "%s makes a tensor of more than 2^43 elements", what);
  return true;
}

/* [..., k] @ [k, o]: the leading axes are rows of one product. */
static ValueId multiply_rows(Sema *s, const ValueId *v, Loc loc, const char *what) {
  Type a = value_type(s->g, v[0]), b = value_type(s->g, v[1]), out = a;
  Type flat = type_make((DType)a.dtype, 2, (int64_t[]){1, b.dim[0]});
  for (int i = 0; i < a.rank - 1; i++) flat.dim[0] *= a.dim[i];
  flat.rows = a.rows;
  out.dim[a.rank - 1] = b.dim[1];
  if (is_too_large(s, out, loc, what)) return NO_ID;
  ValueId c = build_matmul(&s->b, build_reshape(&s->b, v[0], flat), v[1], false, false);
  return build_reshape(&s->b, c, out);
}

/* v, whose last two axes stay, with the leading axes of t. */
static ValueId with_leading(Sema *s, ValueId v, Type t) {
  Type own = value_type(s->g, v);
  int rows = t.rows < t.rank - 2 ? t.rows : -1;
  t.rows = (int8_t)(rows >= 0 || own.rows < own.rank - 2 ? rows : t.rank - own.rank + own.rows);
  for (int i = 1; i <= 2; i++) t.dim[t.rank - i] = own.dim[own.rank - i];
  return broadcast_to(s, v, t);
}

ValueId matmul_build(Sema *s, ValueId *v, Loc loc, const char *what) {
  if (!are_matrices(s, v, loc, what) || !one_batch(s, v, loc, what)) return NO_ID;
  Type a = value_type(s->g, v[0]), b = value_type(s->g, v[1]), t;
  s->b.loc = loc;
  if (b.rank == 2 && b.rows < 0 && a.rows <= 0) return multiply_rows(s, v, loc, what);
  if (!dims_join_leading(s, v, &t, loc, what)) return NO_ID;
  Type out = t;
  out.dim[t.rank - 2] = a.dim[a.rank - 2];
  out.dim[t.rank - 1] = b.dim[b.rank - 1];
  if (is_too_large(s, out, loc, what)) return NO_ID;
  ValueId x = with_leading(s, v[0], t), y = with_leading(s, v[1], t);
  return build_matmul(&s->b, x, y, false, false);
}

Val tensor_matmul(Sema *s, Loc loc, Val l, Val r) {
  ValueId v[2] = {tensor_of(s, l, loc), NO_ID};
  if (v[0] != NO_ID) v[1] = tensor_of(s, r, loc);
  if (v[1] == NO_ID) return val_bad();
  ValueId c = matmul_build(s, v, loc, "`@`");
  return c == NO_ID ? val_bad() : val_tensor(c);
}
