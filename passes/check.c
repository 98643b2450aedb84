/* check.c: evaluation before and after a pass, on random arguments (docs: verification, rung 5).
 *
 * Both graphs run in exact mode on the same arguments (random by role and name), once with a full
 * and once with a partial batch; every result that both have and that the pass claims to keep must
 * agree bit for bit, any NaN equal to any NaN.  Slow: for tests and for finding the pass that broke
 * a model.
 */
#include "passes/pass.h"
#include "ref/eval.h"

#include <string.h>

enum { SEED = 1 };

typedef struct Check {
  Arena arena;
  const Scalars *scalars;
  const char *pass;
  Diag *diag;
} Check;

static const Entry *find_entry(const Graph *g, const char *name, uint32_t *at) {
  for (*at = 0; *at < g->entries.len; ++*at)
    if (!strcmp(g->entries.at[*at].name, name)) return &g->entries.at[*at];
  return NULL;
}

static Eval *run(Check *c, const Graph *g, uint32_t entry, int64_t rows) {
  Eval *e = eval_new(&c->arena, g, c->scalars, EVAL_EXACT);
  eval_set_random(e, entry, SEED);
  eval_set_seed(e, SEED);
  eval_run(e, entry, rows);
  return e;
}

static bool compare(Check *c, const Entry *entry, const Eval *before, const Eval *after) {
  for (uint32_t i = 0; i < entry->results.len; i++) {
    const Port *p = &entry->results.at[i];
    const Tensor *x = eval_result(before, (ResRole)p->role, p->name);
    const Tensor *y = eval_result(after, (ResRole)p->role, p->name);
    int64_t at = 0;
    if (!x || !y || tensor_same(x, y, &at)) continue;
    diag_error(c->diag, p->loc,
               "pass %s changes %s \"%s\" of @%s: element %lld was %.9g and is %.9g", c->pass,
               res_role_name[p->role], p->name, entry->name, (long long)at, tensor_get(x, at),
               tensor_get(y, at));
    return false;
  }
  return true;
}

static bool check_entry(Check *c, uint32_t entry, const Graph *before, const Graph *after) {
  const Entry *e = &before->entries.at[entry];
  uint32_t at;
  bool ok = find_entry(after, e->name, &at) != NULL;
  if (!ok) diag_error(c->diag, e->loc, "pass %s loses @%s", c->pass, e->name);
  for (int64_t rows = e->batch; ok; rows = (e->batch + 1) / 2) {
    Eval *x = run(c, before, entry, rows), *y = run(c, after, at, rows);
    ok = compare(c, e, x, y);
    eval_free(x);
    eval_free(y);
    if (rows <= (e->batch + 1) / 2) break;
  }
  return ok;
}

static bool is_of_step(EntryKind k) {
  return k == ENTRY_step || k == ENTRY_calibrate || k == ENTRY_update;
}

bool pass_check_values(void *user, const char *pass, PassKeeps keeps, const Graph *before,
                       const Graph *after) {
  Check c = {.pass = pass, .diag = user};
  bool ok = true;
  c.scalars = scalars_parse(&c.arena);
  for (uint32_t i = 0; ok && keeps != KEEP_none && i < before->entries.len; i++)
    if (keeps != KEEP_others || !is_of_step(before->entries.at[i].kind))
      ok = check_entry(&c, i, before, after);
  arena_free(&c.arena);
  return ok;
}
