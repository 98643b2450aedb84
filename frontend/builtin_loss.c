/* builtin_loss.c: losses, each a value for every example. */
#include "frontend/builtin.h"

#include <string.h>

void add_index_fault(Sema *s, ValueId index, int64_t n, Loc loc, const char *name) {
  Builder *b = &s->b;
  if (s->faults++) name = arena_printf(s->arena, "%s.%u", name, (unsigned)s->faults);
  ValueId low = build2(b, OP_lt, index, build_like(b, index, 0));
  ValueId high = build2(b, OP_ge, index, build_like(b, index, (double)n));
  ValueId any = build_reduce_all(b, OP_reduce_or, build2(b, OP_or, low, high));
  graph_add_entry_result(s->g, s->entry, RES_fault, intern(s->strings, name, strlen(name)), any,
                         loc);
}

static Val call_cross_entropy(Sema *s, const Builtin *b, const Call *c) {
  ValueId z = float_arg(s, b, &c->arg[0]), y = NO_ID;
  if (z != NO_ID) y = tensor_of(s, c->arg[1].val, c->arg[1].loc);
  if (y == NO_ID) return val_bad();
  y = tensor_widen(s, y);
  Type tz = value_type(s->g, z), ty = value_type(s->g, y), each = tz;
  each.rank = tz.rank ? tz.rank - 1 : 0;
  if (!tz.rank || ty.dtype != DT_i32 || !type_same_dims(each, ty)) {
    const char *logits = val_describe(s, c->arg[0].val), *classes = val_describe(s, c->arg[1].val);
    diag_error(s->diag, c->whole,
               "%s of %s and %s: logits [..., C] and int classes [...] are wanted", b->name, logits,
               classes);
    return val_bad();
  }
  if (mixes_rows(s, z, tz.rank - 1, c->loc, b->name)) return val_bad();
  if (tz.rows >= 0 && ty.rows >= 0 && tz.rows != ty.rows) {
    diag_error(s->diag, c->whole, "%s of tensors whose batch lies on different axes", b->name);
    return val_bad();
  }
  add_index_fault(s, y, tz.dim[tz.rank - 1], c->whole, b->name);
  return val_tensor(build2(&s->b, OP_cross_entropy, z, y));
}

static const Builtin table[] = {
    BUILTIN("cross_entropy", 2, 2, .call = call_cross_entropy, .op = OP_cross_entropy,
            .later = "smoothing"),
};

const BuiltinTable builtin_loss = BUILTIN_TABLE(table);
