/* builtin_train.c: what optimizers and schedules ask of the run.
 *
 * steps_done() is the number of steps that committed before this one, f32[]: bias corrections of
 * Adam read it.  A step that was skipped does not count, so it leaves corrections where they were.
 */
#include "frontend/builtin.h"

static Val call_steps_done(Sema *s, const Builtin *b, const Call *c) {
  if (s->building) return val_tensor(steps_done(s));
  diag_error(s->diag, c->whole, "%s() is a tensor: use it in a function", b->name);
  return val_bad();
}

static const Builtin table[] = {
    BUILTIN("steps_done", 0, 0, .call = call_steps_done),
};

const BuiltinTable builtin_train = BUILTIN_TABLE(table);
