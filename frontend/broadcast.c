/* broadcast.c: what makes dims agree, and where the sizes that do not come from.
 *
 * Dims align at the right and leading axes may be absent.  An axis of size 1 stretches only where
 * the program wrote that 1: in the dims of a declaration, in a reshape, by `keep: true`.  A size
 * that happens to be 1, because a config or a batch is, stretches nothing.  Which value's axes are
 * such is known where it is declared; for all else it is read off the graph: an elementwise result
 * has the written ones of its operands.
 */
#include "frontend/sema.h"

#include <string.h>

enum { WALK = 1000 }; /* steps back through the graph */

/* ---- what is known of a value's dims --------------------------------------------------------- */

static Known *known(Sema *s, ValueId v) {
  while (s->known.len <= v) vec_push(s->arena, &s->known, (Known){0});
  return &s->known.at[v];
}

void dims_declare(Sema *s, ValueId v, const Ast *dims) {
  Type t = value_type(s->g, v);
  if (!dims || dims->len != t.rank || (dims->len && dims->kid[0]->kind == AST_REST)) return;
  Known *k = known(s, v);
  if (!k->dims) k->dims = dims;
  for (uint32_t i = 0; i < dims->len; i++)
    if (dims->kid[i]->kind == AST_INT && dims->kid[i]->i == 1) k->ones |= (uint8_t)(1u << i);
}

void dims_write_one(Sema *s, ValueId v, int axis) { known(s, v)->ones |= (uint8_t)(1u << axis); }

static int find_axis(const Node *n, AttrKey key, int64_t axis) {
  const Attr *a = node_attr(n, key);
  for (uint32_t i = 0; a && i < a->n; i++)
    if (a->ints[i] == axis) return (int)i;
  return -1;
}

/* The axis of `from` that is axis k of `to`: elements in front of and behind it are as many. */
static int reshaped_axis(Type from, Type to, int k) {
  int64_t front = 1, seen = 1;
  for (int i = 0; i < k; i++) front *= to.dim[i];
  for (int i = 0; i < from.rank; i++) {
    if (seen == front && from.dim[i] == to.dim[k]) return i;
    seen *= from.dim[i];
  }
  return -1;
}

/* The axis of n's operand i that axis k of its result comes from, -1: none. */
static int operand_axis(const Graph *g, const Node *n, uint32_t i, int k) {
  Type from = value_type(g, n->ops[i]), to = value_type(g, n->res);
  int axis = from.rank == to.rank ? k : -1;
  if (n->op == OP_broadcast) axis = find_axis(n, AT_axes, k);
  else if (n->op == OP_reshape) axis = reshaped_axis(from, to, k);
  else if (n->op == OP_transpose) axis = (int)node_attr(n, AT_perm)->ints[k];
  else if (n->op == OP_matmul) {
    bool left = k != to.rank - 1, t = node_bool(n, i ? AT_tb : AT_ta);
    if (left != (i == 0)) return -1;
    axis = k;
    if (k == to.rank - 1) axis = from.rank - (t ? 2 : 1);
    else if (k == to.rank - 2) axis = from.rank - (t ? 1 : 2);
  } else if (op_flags[n->op] & F_REDUCE) {
    axis = k;
    for (int j = 0; j <= axis; j++)
      if (find_axis(n, AT_axes, j) >= 0) axis++;
  }
  return axis >= 0 && axis < from.rank && from.dim[axis] == to.dim[k] ? axis : -1;
}

/* One step back from axis *k of *v.  A number that was broadcast is nobody's origin. */
static bool step_back(const Graph *g, ValueId *v, int *k) {
  const Node *n = value_node(g, *v);
  for (uint32_t i = 0; n && n->nres == 1 && i < n->nops; i++) {
    const Node *from = value_node(g, n->ops[i]);
    bool constant = from && (from->op == OP_constant ||
                             (from->op == OP_broadcast && !value_type(g, from->ops[0]).rank));
    int axis = constant ? -1 : operand_axis(g, n, i, *k);
    if (axis < 0) continue;
    *v = n->ops[i];
    *k = axis;
    return true;
  }
  return false;
}

static bool is_written(Sema *s, ValueId v, int axis) {
  for (int steps = 0; steps < WALK; steps++) {
    if (v < s->known.len && s->known.at[v].ones >> axis & 1) return true;
    if (!step_back(s->g, &v, &axis)) return false;
  }
  return false;
}

/* ---- where a size comes from ----------------------------------------------------------------- */

static Loc value_loc(const Graph *g, ValueId v) {
  const Node *n = value_node(g, v);
  if (n) return n->loc;
  const Value *value = &g->values.at[v];
  for (uint32_t i = 0; i < g->entries.len; i++)
    if (g->entries.at[i].body == value->block) return g->entries.at[i].args.at[value->index].loc;
  return (Loc){0};
}

/* Of axis `from_right`: where it was declared or made. */
static void note_size(Sema *s, ValueId v, int from_right, Loc loc) {
  Type t = value_type(s->g, v);
  int axis = t.rank - from_right;
  if (axis < 0) return;
  int64_t size = t.dim[axis];
  const Ast *dims = NULL;
  for (int steps = 0; steps < WALK; steps++) {
    dims = v < s->known.len ? s->known.at[v].dims : NULL;
    if (dims || !step_back(s->g, &v, &axis)) break;
  }
  const Ast *dim = dims ? dims->kid[axis] : NULL;
  Loc at = dim ? ast_start(dim) : value_loc(s->g, v);
  if (!at.line || (at.line == loc.line && at.col == loc.col)) return;
  if (dim && dim->kind == AST_NAME)
    diag_note(s->diag, at, "the size %lld is `%s`, from here", (long long)size, dim->name);
  else diag_note(s->diag, at, "the size %lld comes from here", (long long)size);
}

void note_sizes(Sema *s, uint32_t n, const ValueId *v, const int *from_right, Loc loc) {
  for (uint32_t i = 0; i < n; i++)
    if (v[i] != NO_ID) note_size(s, v[i], from_right[i], loc);
}

/* ---- joining --------------------------------------------------------------------------------- */

typedef struct Join {
  Sema *s;
  uint32_t n; /* of values so far; the last is being joined */
  const ValueId *v;
  Loc loc;
  const char *what;
  int skip; /* trailing axes that are not joined: of matrices */
} Join;

static bool dims_differ(const Join *j, Type a, Type b, int from_right) {
  static const char *const places[] = {"last", "second to last", "third to last"};
  Sema *s = j->s;
  int64_t m = a.dim[a.rank - from_right], n = b.dim[b.rank - from_right];
  Text t = {.arena = s->arena};
  a.rows = b.rows = -1;
  type_print(&t, a);
  text_add(&t, " and ");
  type_print(&t, b);
  const char *place = from_right <= 3 ? places[from_right - 1] : "same";
  const char *hint =
      m == 1 || n == 1 ? "; an axis of size 1 stretches only where the 1 is written" : "";
  diag_error(s->diag, j->loc, "%s of %s: sizes %lld and %lld of the %s axis differ%s", j->what,
             t.at, (long long)m, (long long)n, place, hint);
  int places_of[MAX_RANK];
  uint32_t shown = j->n < MAX_RANK ? j->n : MAX_RANK;
  for (uint32_t i = 0; i < shown; i++) places_of[i] = from_right;
  note_sizes(s, shown, j->v, places_of, j->loc);
  return false;
}

/* Some operand so far has this 1 by right. */
static bool stretches(const Join *j, uint32_t from, uint32_t to, int from_right) {
  for (uint32_t i = from; i < to; i++) {
    Type t = j->v[i] == NO_ID ? (Type){0} : value_type(j->s->g, j->v[i]);
    bool one = t.rank >= from_right && t.dim[t.rank - from_right] == 1;
    if (one && !is_written(j->s, j->v[i], t.rank - from_right)) return false;
  }
  return true;
}

void batches_differ(Sema *s, const char *what, Type a, Type b, Loc loc) {
  Text t = {.arena = s->arena};
  int first = a.rank - 1 - a.rows, second = b.rank - 1 - b.rows;
  a.rows = b.rows = -1;
  type_print(&t, a);
  text_add(&t, " and ");
  type_print(&t, b);
  diag_error(s->diag, loc,
             "%s of %s: the batch lies on axis %d from the right in one, %d in the other, so they do "
             "not line up",
             what, t.at, first + 1, second + 1);
}

static int rows_from_right(Type t, int skip) {
  return t.rows < 0 || t.rows >= t.rank - skip ? -1 : t.rank - t.rows;
}

/* *t gains the leading axes of u where it is shorter, the sizes that its ones stretch to, and the
 * batch where it has none. */
static bool join_dims(const Join *j, Type *t, Type u) {
  int n = t->rank < u.rank ? t->rank : u.rank;
  int t_rows = rows_from_right(*t, j->skip), u_rows = rows_from_right(u, j->skip);
  if (t_rows >= 0 && u_rows >= 0 && t_rows != u_rows) {
    batches_differ(j->s, j->what, *t, u, j->loc);
    return false;
  }
  Type longer = u.rank > t->rank ? u : *t;
  for (int k = 1 + j->skip; k <= n; k++) {
    int64_t a = t->dim[t->rank - k], b = u.dim[u.rank - k], *size = &longer.dim[longer.rank - k];
    *size = a;
    if (a == b) continue;
    if (b == 1 && stretches(j, j->n - 1, j->n, k)) continue;
    if (a != 1 || !stretches(j, 0, j->n - 1, k)) return dims_differ(j, *t, u, k);
    *size = b;
  }
  int rows = t_rows >= 0 ? t_rows : u_rows;
  *t = longer;
  t->rows = rows < 0 ? -1 : (int8_t)(t->rank - rows);
  return true;
}

static bool join_values(Join j, uint32_t n, Type *t) {
  bool first = true; /* some v[i] is a value */
  for (uint32_t i = 0; i < n; i++) {
    if (j.v[i] == NO_ID) continue;
    Type u = value_type(j.s->g, j.v[i]);
    j.n = i + 1;
    if (first) *t = u;
    else if (!join_dims(&j, t, u)) return false;
    first = false;
  }
  return true;
}

bool dims_join(Sema *s, uint32_t n, const ValueId *v, Type *t, Loc loc, const char *what) {
  return join_values((Join){.s = s, .v = v, .loc = loc, .what = what}, n, t);
}

bool dims_join_leading(Sema *s, const ValueId *v, Type *t, Loc loc, const char *what) {
  return join_values((Join){.s = s, .v = v, .loc = loc, .what = what, .skip = 2}, 2, t);
}

ValueId broadcast_to(Sema *s, ValueId v, Type t) {
  Type from = value_type(s->g, v);
  int64_t axes[MAX_RANK];
  for (int i = 0; i < from.rank; i++) axes[i] = t.rank - from.rank + i;
  return build_broadcast(&s->b, v, type_with(t, (DType)from.dtype), axes);
}

bool tensor_align(Sema *s, uint32_t n, ValueId *v, Loc loc, const char *what) {
  Type t;
  if (!dims_join(s, n, v, &t, loc, what)) return false;
  for (uint32_t i = 0; i < n; i++) v[i] = broadcast_to(s, v[i], t);
  return true;
}
