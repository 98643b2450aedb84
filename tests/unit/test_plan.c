/* test_plan.c: a Program computes what its graph says.  The evaluator executes launches on memory
 * that is poisoned wherever nothing live lies, so a wrong offset, a live range that is overwritten
 * or a state stored too early shows; the graph is evaluated beside it, step by step, state carried
 * on.
 */
#include "frontend/frontend.h"
#include "passes/pass.h"
#include "ref/eval.h"

#include <string.h>

typedef struct Count {
  int passed, failed;
} Count;

static void expect(Count *c, bool ok, const char *what, const char *where, int step) {
  if (ok) c->passed++;
  else {
    c->failed++;
    printf("FAILED: %s, %s, step %d\n", what, where, step);
  }
}

typedef struct World {
  Arena arena;
  Strings strings;
  Diag diag;
} World;

static Graph *compile(World *w, const char *path, const char *precision) {
  static const Target target = {
      .name = "x86-64-v3", .auto_precision = "bf16", .f32_lanes = 8, .costs = &costs_cpu};
  static const Define small[] = {{"hidden", "24"}};
  w->strings.arena = &w->arena;
  diag_init(&w->diag, &w->arena, stdout);
  size_t n = 0;
  const char *why = "", *text = read_file(&w->arena, path, &n, &why);
  if (!text) return NULL;
  uint32_t source = diag_source(&w->diag, path, text, n);
  Ast *ast = frontend_parse(&w->arena, &w->strings, &w->diag, source);
  FrontendOptions fo = {.name = "model", .source = path, .defines = small, .ndefines = 1};
  Graph *g = ast ? frontend_compile(&w->arena, &w->strings, &w->diag, ast, &fo) : NULL;
  if (!g) return NULL;
  g->train.precision = precision;
  PassOptions o = {0};
  Arena scratch = {0};
  PassCtx c = {.arena = &scratch, .diag = &w->diag, .target = &target, .options = &o};
  bool ok = passes_run(&g, passes_default, &c);
  arena_free(&scratch);
  return ok ? g : NULL;
}

/* Inputs of one batch: pixels and labels. */
static void set_inputs(World *w, const Scalars *s, Eval *e, const Graph *g, uint32_t entry,
                       uint64_t seed) {
  const Entry *en = &g->entries.at[entry];
  for (uint32_t i = 0; i < en->args.len; i++) {
    if (en->args.at[i].role != ARG_input) continue;
    Tensor t = tensor_new(&w->arena, value_type(g, g->blocks.at[en->body].args.at[i]), false);
    for (int64_t k = 0; k < type_count(t.type); k++) {
      uint64_t h = hash_bytes(&k, sizeof k, seed + i);
      tensor_set(s, &t, k, (double)(t.type.rank == 1 ? h % 10 : h % 256));
    }
    eval_set(e, ARG_input, en->args.at[i].name, &t);
  }
}

static void compare(Count *c, const Graph *g, uint32_t entry, const Eval *x, const Eval *y,
                    const char *where, int step) {
  const Entry *en = &g->entries.at[entry];
  for (uint32_t i = 0; i < en->results.len; i++) {
    Port p = en->results.at[i];
    const Tensor *a = eval_result(x, (ResRole)p.role, p.name),
                 *b = eval_result(y, (ResRole)p.role, p.name);
    int64_t at = 0;
    expect(c, a && b && tensor_same(a, b, &at), p.name, where, step);
  }
}

static void start(Eval *e, const Graph *g, const Program *p) {
  eval_set_seed(e, 7);
  eval_set_number(e, ARG_hyper, "lr", 0.01);
  eval_set_number(e, ARG_hyper, "steps", 10);
  EntryKind first[] = {ENTRY_init, ENTRY_derive};
  for (int i = 0; i < 2; i++) {
    int entry = graph_entry_find(g, first[i]);
    if (entry < 0) continue;
    if (p) eval_run_program(e, p, (uint32_t)entry, 1);
    else eval_run(e, (uint32_t)entry, 1);
    eval_carry_states(e);
  }
}

static void test_precision(Count *c, const char *path, const char *precision) {
  World w = {0};
  Graph *g = compile(&w, path, precision);
  expect(c, g != NULL, "compiles", precision, 0);
  if (!g) return;
  const Scalars *s = scalars_parse(&w.arena);
  PassCtx pc = {.arena = &w.arena, .diag = &w.diag, .options = &(PassOptions){0}};
  Program *p = plan_make(g, &pc);
  Eval *graph = eval_new(&w.arena, g, s, EVAL_EXACT),
       *program = eval_new(&w.arena, g, s, EVAL_EXACT);
  start(graph, g, NULL);
  start(program, g, p);
  static const int64_t rows[] = {64, 64, 37, 1};
  for (int step = 0; step < 4; step++) {
    EntryKind kind = step == 1 ? ENTRY_eval : ENTRY_step;
    uint32_t entry = (uint32_t)graph_entry_find(g, kind);
    set_inputs(&w, s, graph, g, entry, (uint64_t)step);
    set_inputs(&w, s, program, g, entry, (uint64_t)step);
    eval_run(graph, entry, rows[step]);
    eval_run_program(program, p, entry, rows[step]);
    compare(c, g, entry, graph, program, precision, step);
    if (kind == ENTRY_step) eval_carry_states(graph), eval_carry_states(program);
  }
  eval_free(graph);
  eval_free(program);
  arena_free(&w.arena);
}

int main(int argc, char **argv) {
  Count c = {0};
  if (argc != 2) return 2;
  test_precision(&c, argv[1], "f32");
  test_precision(&c, argv[1], "bf16");
  printf("%d passed, %d failed\n", c.passed, c.failed);
  return c.failed != 0;
}
