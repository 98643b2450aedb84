/* check.c: evaluation behind every pass, on random arguments (docs: verification, rung 5).
 *
 * The graph runs in exact mode, each entry with all and with half of its rows, on arguments that
 * are random by role and name.  What came out is kept for the next pass: every result that was
 * there and that this pass claims to keep must be the same bit for bit, any NaN equal to any NaN.
 * Slow: for tests and for finding the pass that broke a model.
 */
#include "passes/pass.h"
#include "ref/eval.h"

#include <string.h>

enum { SEED = 1, RUNS = 2 };

typedef struct Kept {
  Port port;
  Tensor of[RUNS];
} Kept;

struct EntryValues {
  const Entry *entry; /* a copy; NULL at the end of the list */
  Kept *results;
};

typedef struct Check {
  const PassCtx *c;
  const char *pass;
  Arena arena; /* of what is kept */
} Check;

static Tensor copy(Check *c, const Tensor *t) {
  Tensor to = tensor_new(&c->arena, t->type, t->wide);
  tensor_convert(c->c->scalars, &to, t);
  return to;
}

/* Derived states are what they are of the others, which are random by name. */
static void set_derived(Eval *e, const Graph *g) {
  int derive = graph_entry_find(g, ENTRY_derive);
  if (derive < 0) return;
  eval_set_random(e, (uint32_t)derive, SEED);
  eval_run(e, (uint32_t)derive, 0);
  for (uint32_t i = 0; i < g->entries.at[derive].results.len; i++) {
    const char *path = g->entries.at[derive].results.at[i].name;
    eval_set(e, ARG_state, path, eval_result(e, RES_state, path));
  }
}

static Kept *evaluate_entry(Check *c, Eval *e, const Graph *g, uint32_t index) {
  const Entry *en = &g->entries.at[index];
  Kept *kept = NEW_ARRAY(&c->arena, Kept, en->results.len);
  eval_forget(e);
  if (en->kind != ENTRY_derive) set_derived(e, g);
  eval_set_random(e, index, SEED);
  for (int run = 0; run < (en->batch > 1 ? RUNS : 1); run++) {
    eval_run(e, index, run ? (en->batch + 1) / 2 : en->batch);
    for (uint32_t i = 0; i < en->results.len; i++) {
      Port p = en->results.at[i];
      const Tensor *t = eval_result(e, (ResRole)p.role, p.name);
      kept[i].port = p;
      if (t) kept[i].of[run] = copy(c, t);
    }
  }
  return kept;
}

static struct EntryValues *evaluate(Check *c, const Graph *g) {
  Arena scratch = {0};
  Eval *e = eval_new(&scratch, g, c->c->scalars, EVAL_EXACT);
  struct EntryValues *v = NEW_ARRAY(&c->arena, struct EntryValues, g->entries.len + 1);
  eval_set_seed(e, SEED);
  for (uint32_t i = 0; i < g->entries.len; i++) {
    const Entry *en = &g->entries.at[i];
    v[i] = (struct EntryValues){arena_copy(&c->arena, en, sizeof *en), evaluate_entry(c, e, g, i)};
  }
  eval_free(e);
  arena_free(&scratch);
  return v;
}

static const struct EntryValues *find_entry(const struct EntryValues *v, const char *name) {
  while (v->entry && strcmp(v->entry->name, name)) v++;
  return v->entry ? v : NULL;
}

static const Kept *find_result(const struct EntryValues *v, Port p) {
  for (uint32_t i = 0; i < v->entry->results.len; i++)
    if (v->results[i].port.role == p.role && !strcmp(v->results[i].port.name, p.name))
      return &v->results[i];
  return NULL;
}

static bool compare_result(Check *c, const Entry *entry, const Kept *before, const Kept *after) {
  for (int run = 0; after && run < RUNS; run++) {
    const Tensor *x = &before->of[run], *y = &after->of[run];
    const Port *p = &before->port;
    int64_t at = 0;
    if (!x->data || !y->data || tensor_same(x, y, &at)) continue;
    diag_error(c->c->diag, p->loc,
               "pass %s changes %s \"%s\" of @%s: element %lld was %.9g and is %.9g", c->pass,
               res_role_name[p->role], p->name, entry->name, (long long)at, tensor_get(x, at),
               tensor_get(y, at));
    return false;
  }
  return true;
}

static bool compare_entry(Check *c, const struct EntryValues *before,
                          const struct EntryValues *all) {
  const Entry *entry = before->entry;
  const struct EntryValues *after = find_entry(all, entry->name);
  bool ok = after != NULL;
  if (!ok) diag_error(c->c->diag, entry->loc, "pass %s loses @%s", c->pass, entry->name);
  for (uint32_t i = 0; ok && i < entry->results.len; i++)
    ok = compare_result(c, entry, &before->results[i], find_result(after, before->results[i].port));
  return ok;
}

static bool is_of_step(EntryKind k) {
  return k == ENTRY_step || k == ENTRY_calibrate || k == ENTRY_replay || k == ENTRY_update;
}

bool pass_check_values(const PassCtx *ctx, const char *pass, PassKeeps keeps, const Graph *g) {
  PassValues *known = ctx->options->check_user;
  Check c = {.c = ctx, .pass = pass};
  struct EntryValues *now = evaluate(&c, g);
  bool ok = true;
  for (struct EntryValues *v = known->entries; ok && keeps != KEEP_none && v && v->entry; v++)
    if (keeps != KEEP_others || !is_of_step(v->entry->kind)) ok = compare_entry(&c, v, now);
  arena_free(&known->arena);
  *known = (PassValues){c.arena, now};
  return ok;
}
