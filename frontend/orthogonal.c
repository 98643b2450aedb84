/* orthogonal.c: rows of normal draws made orthonormal, for the initializer orthogonal().
 *
 * Gram and Schmidt row by row, in a loop: what lies along the rows before is taken away, twice,
 * which leaves it as orthogonal as rounding allows ("twice is enough": Giraud et al. 2005), then
 * the row gets length 1.  This is the QR decomposition whose R has a positive diagonal, so the
 * result has no preferred directions (Mezzadri 2007), as torch.nn.init.orthogonal_ has none.
 */
#include "frontend/sema.h"

/* v [m, 1] less what lies along the rows of q [n, m]. */
static ValueId less_rows(Builder *b, ValueId q, ValueId v) {
  ValueId along = build_matmul(b, q, v, false, false);
  return build2(b, OP_sub, v, build_matmul(b, q, along, true, false));
}

static ValueId unit(Builder *b, ValueId v) {
  ValueId length = build1(b, OP_sqrt, build_reduce_all(b, OP_sum, build2(b, OP_mul, v, v)));
  return build2(b, OP_div, v, build_splat(b, length, value_type(b->g, v)));
}

/* q with row i from v: those behind it are still 0. */
static ValueId round_of(Builder *b, ValueId i, ValueId q, ValueId row) {
  Type t = value_type(b->g, q);
  ValueId v = build_reshape(b, row, type_make(DT_f32, 2, (int64_t[]){t.dim[1], 1}));
  v = unit(b, less_rows(b, q, less_rows(b, q, v)));
  ValueId place = build_iota(b, t, 0),
          here = build2(b, OP_eq, place, build_splat(b, i, type_with(t, DT_i32)));
  ValueId all = build_reshape(b, v, type_make(DT_f32, 1, &t.dim[1]));
  return build_select(b, here, build_broadcast(b, all, t, (int64_t[]){1}), q);
}

ValueId build_orthonormal_rows(Sema *s, ValueId x) {
  Graph *g = s->g;
  Builder outer = s->b, inner = s->b;
  Type t = value_type(g, x);
  outer.prec = inner.prec = "f32";
  inner.block = graph_add_block(g, NO_ID);
  ValueId i = graph_add_arg(g, inner.block, type_scalar(DT_i32));
  ValueId q = graph_add_arg(g, inner.block, t);
  ValueId row = graph_add_arg(g, inner.block, type_make(DT_f32, 1, &t.dim[1]));
  ValueId next = round_of(&inner, i, q, row);
  vec_push(g->arena, &g->blocks.at[inner.block].results, next);
  const Attr attrs[] = {attr_int(AT_trip, t.dim[0]), attr_int(AT_carries, 1),
                        attr_int(AT_slices, 1)};
  ValueId ops[] = {build_like(&outer, x, 0), x};
  NodeId loop = graph_add_node(g, s->b.block, OP_loop, builder_loc(&s->b), 2, ops, 1, &t, 3, attrs);
  g->nodes.at[loop].nblocks = 1;
  g->nodes.at[loop].blocks = arena_copy(g->arena, &inner.block, sizeof inner.block);
  g->blocks.at[inner.block].owner = loop;
  return g->nodes.at[loop].res;
}
