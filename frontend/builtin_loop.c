/* builtin_loop.c: `scan(f, carries…, over: xs, axis: 0, reverse: false)`, a loop at run time.
 *
 * f is called once, on the carries and a slice of xs, into the block of a `loop`; what it reads
 * from outside becomes an invariant.  It returns the carries anew, then outputs; scan returns the
 * last carries and the outputs, stacked along the axis.  With `reverse` it starts at the end of xs,
 * and an output still lies where its slice lay.
 *
 * A carry must keep its type.  Whether its rows are those of the batch shows only behind the call:
 * where the first value does not say so (zeros) and the next one does, the body is built again from
 * a first value that does.
 *
 * Indices out of range inside are outputs, and surface behind the loop.
 */
#include "frontend/builtin.h"

enum { MOST_CARRIES = 63 };

typedef struct Scan {
  Sema *s;
  const Builtin *b;
  const Call *c;
  Val f;
  ValueId xs; /* sliced along its first axis */
  int axis;   /* of the argument */
  bool reverse;
  uint32_t n; /* carries */
  ValueId *first;
  /* the body */
  BlockId block;
  ValueIds next, outputs;
  uint32_t own;    /* outputs of the program; faults follow */
  VEC(Port) fault; /* the results that they become */
} Scan;

static bool refuse(const Scan *x, Loc loc, const char *what) {
  diag_error(x->s->diag, loc, "%s: %s", x->b->name, what);
  return false;
}

/* ---- arguments ------------------------------------------------------------------------------- */

static bool take_axis(Scan *x, Type t) {
  const Arg *a = call_named(x->c, "axis");
  int64_t i = !a ? 0 : a->val.kind == VAL_INT ? a->val.i : INT64_MIN;
  if (i < -t.rank || i >= t.rank) {
    Text why = {.arena = x->s->arena};
    text_printf(&why, "axis is %s, an int from %d to %d is wanted", val_describe(x->s, a->val),
                -t.rank, t.rank - 1);
    return refuse(x, a->loc, why.at);
  }
  x->axis = (int)(i < 0 ? i + t.rank : i);
  return true;
}

static bool take_reverse(Scan *x) {
  const Arg *a = call_named(x->c, "reverse");
  x->reverse = a && a->val.kind == VAL_BOOL && a->val.i;
  return !a || a->val.kind == VAL_BOOL || refuse(x, a->loc, "reverse is true or false");
}

static ValueId move_axis(Builder *b, ValueId v, int from, int to) {
  int rank = value_type(b->g, v).rank, at = 0;
  int64_t perm[MAX_RANK];
  if (from == to) return v;
  for (int i = 0; i < rank; i++) {
    if (at == from) at++;
    perm[i] = i == to ? from : at++;
  }
  return build_transpose(b, v, perm);
}

static bool take_over(Scan *x) {
  const Arg *a = call_named(x->c, "over");
  if (!a) return refuse(x, x->c->whole, "what to go over is missing: over: xs");
  ValueId v = tensor_of(x->s, a->val, a->loc);
  if (v == NO_ID) return false;
  Type t = value_type(x->s->g, v);
  if (!t.rank) return refuse(x, a->loc, "a single number has nothing to go over");
  if (!take_axis(x, t) || mixes_rows(x->s, v, x->axis, a->loc, x->b->name)) return false;
  x->xs = move_axis(&x->s->b, v, x->axis, 0);
  return true;
}

static bool take_carries(Scan *x) {
  x->n = call_positional(x->c) - 1;
  x->first = NEW_ARRAY(x->s->arena, ValueId, x->n + 1);
  for (uint32_t i = 0; i < x->n; i++) {
    Arg a = x->c->arg[1 + i];
    bool number = a.val.kind == VAL_INT || a.val.kind == VAL_FLOAT || a.val.kind == VAL_BOOL;
    DType d = a.val.kind == VAL_INT ? DT_i32 : a.val.kind == VAL_BOOL ? DT_i1 : DT_f32;
    if (number && !tensor_lift(x->s, &a.val, d, a.loc)) return false;
    x->first[i] = tensor_of(x->s, a.val, a.loc);
    if (x->first[i] == NO_ID) return false;
  }
  return true;
}

/* ---- the body -------------------------------------------------------------------------------- */

static ValueId body_arg(Scan *x, Type t, ValueId like) {
  Sema *s = x->s;
  ValueId v = graph_add_arg(s->g, x->block, t);
  uint8_t ones = like < s->known.len ? s->known.at[like].ones : 0;
  for (int i = 0; i < t.rank; i++)
    if (ones >> i & 1) dims_write_one(s, v, i);
  return v;
}

static Type slice_type(Type t) {
  for (int i = 1; i < t.rank; i++) t.dim[i - 1] = t.dim[i];
  t.dim[--t.rank] = 0;
  t.rows -= t.rows > 0;
  return t;
}

static Val call_body(Scan *x) {
  Arg *args = NEW_ARRAY(x->s->arena, Arg, x->n + 1);
  for (uint32_t i = 0; i < x->n; i++) {
    Type t = value_type(x->s->g, x->first[i]);
    args[i] = (Arg){NULL, val_tensor(body_arg(x, t, x->first[i])), x->c->arg[1 + i].loc};
  }
  Type t = slice_type(value_type(x->s->g, x->xs));
  args[x->n] = (Arg){NULL, val_tensor(body_arg(x, t, NO_ID)), call_named(x->c, "over")->loc};
  Call c = {.loc = x->c->arg[0].loc, .whole = x->c->arg[0].loc, .n = x->n + 1, .arg = args};
  return call_value(x->s, x->f, &c);
}

/* What the calls inside gave to the entry is of an iteration: it is taken back. */
static void take_faults(Scan *x, uint32_t before) {
  x->own = x->outputs.len;
  Graph *g = x->s->g;
  Entry *e = &g->entries.at[x->s->entry];
  Block *body = &g->blocks.at[e->body];
  for (uint32_t i = before; i < e->results.len; i++) {
    vec_push(x->s->arena, &x->fault, e->results.at[i]);
    vec_push(x->s->arena, &x->outputs, body->results.at[i]);
  }
  e->results.len = body->results.len = before;
}

/* A state would have to be carried; its value inside is of no use behind the loop. */
static bool leaves_states(Scan *x) {
  const Graph *g = x->s->g;
  bool ok = true;
  for (uint32_t i = 0; i < x->s->params.len; i++) {
    Param *p = x->s->params.at[i];
    if (p->arg == NO_ID || value_block(g, p->arg) != x->block) continue;
    Text why = {.arena = x->s->arena};
    text_printf(&why, "`%s :=` inside: return the new value as a carry and write it behind",
                p->name);
    refuse(x, x->c->whole, why.at);
    p->arg = NO_ID;
    p->written = ok = false;
  }
  return ok;
}

static bool wrong_count(Scan *x, uint32_t n) {
  Text why = {.arena = x->s->arena};
  text_printf(&why, "the function returns %u value%s, fewer than the %u carr%s that come first",
              (unsigned)n, &"s"[n == 1], (unsigned)x -> n, x -> n == 1 ? "y" : "ies");
  return refuse(x, x->c->arg[0].loc, why.at);
}

static bool take_results(Scan *x, Val v) {
  bool several = v.kind == VAL_TUPLE;
  uint32_t n = several ? v.list.n : 1;
  Loc loc = x->c->arg[0].loc;
  if (v.kind == VAL_BAD) return false;
  if (n < x->n) return wrong_count(x, n);
  for (uint32_t i = 0; i < n; i++) {
    Val part = several ? v.list.at[i] : v;
    DType d = i < x->n ? (DType)value_type(x->s->g, x->first[i]).dtype : DT_f32;
    double f;
    if (val_number(part, &f) && !tensor_lift(x->s, &part, d, loc)) return false;
    ValueId y = tensor_of(x->s, part, loc);
    if (y == NO_ID) return false;
    if (i < x->n) vec_push(x->s->arena, &x->next, y);
    else vec_push(x->s->arena, &x->outputs, y);
  }
  return true;
}

static bool trace(Scan *x) {
  Sema *s = x->s;
  BlockId around = s->b.block;
  uint32_t results = s->g->entries.at[s->entry].results.len;
  x->next.len = x->outputs.len = x->fault.len = 0;
  x->block = s->b.block = graph_add_block(s->g, NO_ID);
  Turn turn = {graph_add_arg(s->g, x->block, type_scalar(DT_i32)), value_type(s->g, x->xs).dim[0],
               s->turn};
  s->turn = &turn;
  bool ok = take_results(x, call_body(x));
  s->turn = turn.around;
  s->b.block = around;
  take_faults(x, results);
  return leaves_states(x) && ok;
}

/* ---- carries keep their types ---------------------------------------------------------------- */

static bool changes(Scan *x, uint32_t i) {
  Type a = value_type(x->s->g, x->first[i]), b = value_type(x->s->g, x->next.at[i]);
  if (type_same_dims(a, b) && a.dtype == b.dtype) return false;
  Text why = {.arena = x->s->arena};
  text_printf(&why, "carry %u begins as %s and goes on as %s", (unsigned)i + 1,
              val_describe(x->s, val_tensor(x->first[i])),
              val_describe(x->s, val_tensor(x->next.at[i])));
  refuse(x, x->c->arg[1 + i].loc, why.at);
  return true;
}

/* True: a first value has rows now that it had not, so the body is another. */
static bool take_rows(Scan *x) {
  bool again = false;
  for (uint32_t i = 0; i < x->n; i++) {
    Type a = value_type(x->s->g, x->first[i]), b = value_type(x->s->g, x->next.at[i]);
    if (b.rows < 0 || a.rows >= 0) continue;
    x->first[i] = broadcast_to(x->s, x->first[i], b);
    again = true;
  }
  return again;
}

static bool build_body(Scan *x) {
  do {
    if (!trace(x)) return false;
    bool changed = false;
    for (uint32_t i = 0; i < x->n; i++) changed |= changes(x, i);
    if (changed) return false;
  } while (take_rows(x));
  return true;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static Type stacked(Type t, int64_t n) {
  for (int i = t.rank++; i > 0; i--) t.dim[i] = t.dim[i - 1];
  t.dim[0] = n;
  t.rows += t.rows >= 0;
  return t;
}

static bool check_outputs(Scan *x) {
  for (uint32_t i = 0; i < x->own; i++) {
    Type t = value_type(x->s->g, x->outputs.at[i]);
    if (t.rank < MAX_RANK && x->axis <= t.rank) continue;
    Text why = {.arena = x->s->arena};
    text_printf(&why, "output %u, %s, cannot be stacked along axis %d", (unsigned)i + 1,
                val_describe(x->s, val_tensor(x->outputs.at[i])), x->axis);
    return refuse(x, x->c->arg[0].loc, why.at);
  }
  return true;
}

/* Carries that are the batch's rows go on as such. */
static void close_body(Scan *x) {
  Sema *s = x->s;
  BlockId around = s->b.block;
  s->b.block = x->block;
  for (uint32_t i = 0; i < x->n; i++) {
    ValueId v = broadcast_to(s, x->next.at[i], value_type(s->g, x->first[i]));
    vec_push(s->g->arena, &s->g->blocks.at[x->block].results, v);
  }
  for (uint32_t i = 0; i < x->outputs.len; i++)
    vec_push(s->g->arena, &s->g->blocks.at[x->block].results, x->outputs.at[i]);
  s->b.block = around;
}

static ValueId build_loop(Scan *x) {
  Sema *s = x->s;
  Graph *g = s->g;
  int64_t trip = value_type(g, x->xs).dim[0];
  ValueIds ops = {0};
  VEC(Type) types = {0};
  for (uint32_t i = 0; i < x->n; i++) {
    vec_push(s->arena, &ops, x->first[i]);
    vec_push(s->arena, &types, value_type(g, x->first[i]));
  }
  vec_push(s->arena, &ops, x->xs);
  for (uint32_t i = 0; i < x->outputs.len; i++)
    vec_push(s->arena, &types, stacked(value_type(g, x->outputs.at[i]), trip));
  const Attr attrs[] = {attr_int(AT_trip, trip), attr_int(AT_carries, x->n), attr_int(AT_slices, 1),
                        attr_bool(AT_reverse, true)};
  NodeId loop = graph_add_node(g, s->b.block, OP_loop, x->c->loc, ops.len, ops.at, types.len,
                               types.at, x->reverse ? 4 : 3, attrs);
  close_body(x);
  g->nodes.at[loop].nblocks = 1;
  g->nodes.at[loop].blocks = arena_copy(g->arena, &x->block, sizeof x->block);
  g->blocks.at[x->block].owner = loop;
  graph_close_loop(g, loop, s->arena);
  return g->nodes.at[loop].res;
}

static void give_faults(Scan *x, ValueId stack) {
  for (uint32_t i = 0; i < x->fault.len; i++) {
    Port p = x->fault.at[i];
    ValueId any = build_reduce_all(&x->s->b, OP_reduce_or, stack + i);
    graph_add_entry_result(x->s->g, x->s->entry, (ResRole)p.role, p.name, any, p.loc);
  }
}

static Val give(Scan *x, ValueId results) {
  uint32_t n = x->n + x->own;
  Val *v = NEW_ARRAY(x->s->arena, Val, n + 1);
  for (uint32_t i = 0; i < n; i++)
    v[i] = val_tensor(i < x->n ? results + i : move_axis(&x->s->b, results + i, 0, x->axis));
  give_faults(x, results + n);
  return n == 1 ? v[0] : val_list(x->s->arena, VAL_TUPLE, n, v);
}

static Val call_scan(Sema *s, const Builtin *b, const Call *c) {
  Scan x = {.s = s, .b = b, .c = c, .f = c->arg[0].val};
  if (!take_over(&x) || !take_reverse(&x) || !take_carries(&x)) return val_bad();
  if (!build_body(&x) || !check_outputs(&x)) return val_bad();
  s->b.loc = c->loc;
  return give(&x, build_loop(&x));
}

static const Builtin table[] = {
    BUILTIN("scan", 1, MOST_CARRIES + 1, .call = call_scan, .named = "over axis reverse"),
};

const BuiltinTable builtin_loop = BUILTIN_TABLE(table);
