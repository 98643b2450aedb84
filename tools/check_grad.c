/* check_grad.c: --check-grad: the gradients that a program gives of its own, tried in the
 * evaluator.
 *
 * A rule must be linear in dy, or the loss scale would not come off again.  Its types prove that
 * (frontend/custom_grad.c); this looks: each rule gets random residuals, a random dy and twice
 * that, and g(2 dy) must be 2 g(dy).  Doubling is exact, so must have those very bits, but where a
 * number leaves the range of f32. One line a rule.
 */
#include "ref/eval.h"
#include "tools/tools.h"

#include <math.h>

enum { SEEDS = 3 };

typedef struct Tried { /* a rule, at its place in the source */
  Loc loc;
  uint32_t calls, wrong;
  double got, wanted; /* the first that is wrong */
} Tried;

typedef struct Trial { /* one call */
  const char *dy;      /* an input of the entry */
  uint32_t rule, n;    /* of Try.rules; gradients that it gives: results DY.0 … */
} Trial;

typedef struct Try {
  Graph *g;
  Arena *arena;
  VEC(Tried) rules;
  VEC(Trial) trials; /* of the entry */
} Try;

static uint32_t rule_at(Try *t, Loc loc) {
  uint32_t i = 0;
  while (i < t->rules.len && !same_place(t->rules.at[i].loc, loc)) i++;
  if (i == t->rules.len) vec_push(t->arena, &t->rules, (Tried){.loc = loc});
  t->rules.at[i].calls++;
  return i;
}

static const char *gradient_name(Try *t, const Trial *trial, uint32_t i) {
  return arena_printf(t->arena, "%s.%u", trial->dy, (unsigned)i);
}

/* dy becomes an input, the rule's gradients results. */
static void expose(Try *t, uint32_t entry, NodeId id) {
  Graph *g = t->g;
  Node n = g->nodes.at[id]; /* a copy: the array moves */
  Trial trial = {arena_printf(t->arena, "dy.%u", (unsigned)t->trials.len), rule_at(t, n.loc),
                 (n.nops - 2) / 2};
  ValueId dy = graph_add_entry_arg(g, entry, ARG_input, trial.dy, value_type(g, n.ops[1]), n.loc);
  for (uint32_t i = 0; i < trial.n; i++)
    graph_add_entry_result(g, entry, RES_value, gradient_name(t, &trial, i), n.ops[2 + trial.n + i],
                           n.loc);
  graph_replace_uses(g, g->entries.at[entry].body, n.ops[1], dy);
  vec_push(t->arena, &t->trials, trial);
}

static void expose_all(Try *t, uint32_t entry) {
  BlockId body = t->g->entries.at[entry].body;
  t->trials.len = 0;
  for (uint32_t i = 0; i < t->g->blocks.at[body].nodes.len; i++) {
    NodeId id = t->g->blocks.at[body].nodes.at[i];
    if (t->g->nodes.at[id].op == OP_custom_grad) expose(t, entry, id);
  }
}

/* Beyond these a doubled number is flushed or infinite. */
static bool in_range(double v) { return v == 0 || (fabs(v) > 0x1p-120 && fabs(v) < 0x1p126); }

static void compare(Tried *r, const Tensor *once, const Tensor *twice) {
  for (int64_t k = 0; k < type_count(once->type); k++) {
    double wanted = 2 * tensor_get(once, k), got = tensor_get(twice, k);
    if (got == wanted || (isnan(got) && isnan(wanted)) || !in_range(wanted)) continue;
    if (!r->wrong++) r->got = got, r->wanted = wanted;
  }
}

static void double_input(Try *t, Eval *e, const Scalars *scalars, const char *name) {
  const Tensor *dy = eval_arg(e, ARG_input, name);
  Tensor twice = tensor_new(t->arena, dy->type, dy->wide);
  for (int64_t k = 0; k < type_count(dy->type); k++)
    tensor_set(scalars, &twice, k, 2 * tensor_get(dy, k));
  eval_set(e, ARG_input, name, &twice);
}

static Tensor copy(Try *t, const Tensor *x) {
  Tensor y = *x;
  y.data = arena_copy(t->arena, x->data, tensor_bytes(x));
  return y;
}

static void try_entry(Try *t, uint32_t entry, uint64_t seed) {
  const Scalars *scalars = scalars_parse(t->arena);
  Eval *e = eval_new(t->arena, t->g, scalars, EVAL_EXACT);
  int64_t batch = t->g->entries.at[entry].batch;
  VEC(Tensor) once = {0};
  eval_set_seed(e, seed);
  eval_set_random(e, entry, seed);
  eval_run(e, entry, batch ? batch : 1);
  for (uint32_t i = 0; i < t->trials.len; i++)
    for (uint32_t k = 0; k < t->trials.at[i].n; k++)
      vec_push(t->arena, &once,
               copy(t, eval_result(e, RES_value, gradient_name(t, &t->trials.at[i], k))));
  for (uint32_t i = 0; i < t->trials.len; i++) double_input(t, e, scalars, t->trials.at[i].dy);
  eval_run(e, entry, batch ? batch : 1);
  for (uint32_t i = 0, at = 0; i < t->trials.len; i++)
    for (uint32_t k = 0; k < t->trials.at[i].n; k++, at++)
      compare(&t->rules.at[t->trials.at[i].rule], &once.at[at],
              eval_result(e, RES_value, gradient_name(t, &t->trials.at[i], k)));
  eval_free(e);
}

static void report(Try *t, Diag *diag, Text *out) {
  for (uint32_t i = 0; i < t->rules.len; i++) {
    const Tried *r = &t->rules.at[i];
    if (r->wrong)
      diag_error(diag, r->loc,
                 "the rule is not linear in dy: where 2 g(dy) is %.9g, g(2 dy) is %.9g", r->wanted,
                 r->got);
    else
      text_printf(out, "%s:%u:%u: g(2 dy) = 2 g(dy), %u call%s\n",
                  diag->sources.at[r->loc.source].name, (unsigned)r->loc.line,
                  (unsigned)r->loc.col, (unsigned)r->calls, &"s"[r->calls == 1]);
  }
  if (!t->rules.len) text_add(out, "no function gives a gradient of its own\n");
}

bool check_grad(const Graph *g, Diag *diag, Text *out) {
  Arena scratch = {0};
  Try t = {.g = graph_clone(g, &scratch), .arena = &scratch};
  for (uint32_t i = 0; i < t.g->entries.len; i++) {
    if (t.g->entries.at[i].kind != ENTRY_step) continue;
    expose_all(&t, i);
    for (uint64_t seed = 1; t.trials.len && seed <= SEEDS; seed++) try_entry(&t, i, seed);
  }
  report(&t, diag, out);
  arena_free(&scratch);
  return !diag->errors;
}
