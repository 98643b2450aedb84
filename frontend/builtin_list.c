/* builtin_list.c: functions of compile-time values. */
#include "frontend/builtin.h"

static Val call_floor_div(Sema *s, const Builtin *b, const Call *c) {
  Val l = c->arg[0].val, r = c->arg[1].val;
  if (l.kind == VAL_INT && r.kind == VAL_INT && r.i != 0 && r.i != -1)
    return val_int(l.i / r.i - (l.i % r.i && (l.i % r.i < 0) != (r.i < 0)));
  diag_error(s->diag, c->whole, "%s wants two ints, the second neither 0 nor -1", b->name);
  return val_bad();
}

static const Builtin table[] = {
    BUILTIN("floor_div", 2, 2, .call = call_floor_div),
};

const BuiltinTable builtin_list = BUILTIN_TABLE(table);
