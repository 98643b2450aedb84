/* builtin_list.c: functions of compile-time values: range, len, enumerate, zip, floor_div.
 *
 * Nothing of them is left in the graph.  What they make counts as work, so that a program that
 * unrolls to more than mpcc compiles is refused, whatever its loops say. */
#include "frontend/builtin.h"

#include <string.h>

static Val call_floor_div(Sema *s, const Builtin *b, const Call *c) {
  Val l = c->arg[0].val, r = c->arg[1].val;
  if (l.kind == VAL_INT && r.kind == VAL_INT && r.i != 0 && r.i != -1)
    return val_int(l.i / r.i - (l.i % r.i && (l.i % r.i < 0) != (r.i < 0)));
  diag_error(s->diag, c->whole, "%s wants two ints, the second neither 0 nor -1", b->name);
  return val_bad();
}

/* range(n), range(from, to), range(from, to, step) */
static Val call_range(Sema *s, const Builtin *b, const Call *c) {
  int64_t at[3] = {0, 0, 1};
  for (uint32_t i = 0; i < c->n; i++) {
    if (c->arg[i].val.kind != VAL_INT) {
      diag_error(s->diag, c->arg[i].loc, "%s wants ints, not %s", b->name,
                 val_describe(s, c->arg[i].val));
      return val_bad();
    }
    at[c->n == 1 ? 1 : i] = c->arg[i].val.i;
  }
  int64_t from = at[0], to = at[1], step = at[2];
  if (step == 0) {
    diag_error(s->diag, c->arg[2].loc, "%s with steps of 0", b->name);
    return val_bad();
  }
  Val list = {.kind = VAL_LIST};
  if (step > 0 ? from >= to : from <= to) return list;
  bool up = step > 0; /* unsigned differences never overflow */
  uint64_t way = up ? (uint64_t)to - (uint64_t)from : (uint64_t)from - (uint64_t)to;
  uint64_t stride = up ? (uint64_t)step : -(uint64_t)step, n = (way - 1) / stride + 1;
  if (n > EVAL_WORK || !sema_work(s, c->loc, (uint32_t)n))
    return sema_give_up(s, c->loc, "the program unrolls to more than mpcc compiles");
  list.list.n = (uint32_t)n;
  list.list.at = NEW_ARRAY(s->arena, Val, n);
  for (uint32_t i = 0; i < list.list.n; i++)
    list.list.at[i] = val_int((int64_t)((uint64_t)from + i * (uint64_t)step));
  return list;
}

static bool is_list(Val v) { return v.kind == VAL_LIST || v.kind == VAL_TUPLE; }

static bool wants_list(Sema *s, const Builtin *b, const Arg *a) {
  if (is_list(a->val)) return true;
  diag_error(s->diag, a->loc, "%s of %s: a list is wanted", b->name, val_describe(s, a->val));
  return false;
}

static Val call_len(Sema *s, const Builtin *b, const Call *c) {
  Val v = c->arg[0].val;
  if (v.kind == VAL_STRING) return val_int((int64_t)strlen(v.s));
  return wants_list(s, b, &c->arg[0]) ? val_int(v.list.n) : val_bad();
}

static Val pair(Sema *s, Val x, Val y) { return val_list(s->arena, VAL_TUPLE, 2, (Val[]){x, y}); }

static Val call_enumerate(Sema *s, const Builtin *b, const Call *c) {
  Val v = c->arg[0].val;
  if (!wants_list(s, b, &c->arg[0]) || !sema_work(s, c->loc, v.list.n)) return val_bad();
  Val list = val_list(s->arena, VAL_LIST, v.list.n, v.list.at);
  for (uint32_t i = 0; i < v.list.n; i++) list.list.at[i] = pair(s, val_int(i), v.list.at[i]);
  return list;
}

static Val call_zip(Sema *s, const Builtin *b, const Call *c) {
  Val l = c->arg[0].val, r = c->arg[1].val;
  if (!wants_list(s, b, &c->arg[0]) || !wants_list(s, b, &c->arg[1])) return val_bad();
  if (l.list.n != r.list.n) {
    diag_error(s->diag, c->whole, "%s of lists of %u and %u", b->name, (unsigned)l.list.n,
               (unsigned)r.list.n);
    return val_bad();
  }
  if (!sema_work(s, c->loc, l.list.n)) return val_bad();
  Val list = val_list(s->arena, VAL_LIST, l.list.n, l.list.at);
  for (uint32_t i = 0; i < l.list.n; i++) list.list.at[i] = pair(s, l.list.at[i], r.list.at[i]);
  return list;
}

static const Builtin table[] = {
    BUILTIN("floor_div", 2, 2, .call = call_floor_div),
    BUILTIN("range", 1, 3, .call = call_range),
    BUILTIN("len", 1, 1, .call = call_len),
    BUILTIN("enumerate", 1, 1, .call = call_enumerate),
    BUILTIN("zip", 2, 2, .call = call_zip),
};

const BuiltinTable builtin_list = BUILTIN_TABLE(table);
