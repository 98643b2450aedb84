/* pass.c: the driver.  Every pass is run by run_pass and by nothing else, so that each is verified,
 * timed, dumped, stopped at and checked in the same way; a pass itself knows of none of that.
 *
 * After each pass the graph must verify and what passes.def says the pass gives must hold; before
 * it, what it needs.  A breach is ours: it ends the process and names the pass.
 */
#include "passes/pass.h"
#include "ref/expand.h"

#include <string.h>
#include <time.h>

/* simplify comes first too: grad then sees matmul's flags where the program transposes weights. */
const char passes_default[] =
    "simplify, grad, fp8, accumulate, optimize, simplify, cse, dce, derive, range, expand, "
    "simplify, cse, dce, group, precision, replay, watch, order, recompute, schedule";

typedef enum FactId {
#define FACT(name, meaning) FACT_##name,
#include "passes/passes.def"
  FACT_COUNT
} FactId;

typedef struct Pass {
  const char *name, *meaning;
  bool (*run)(Graph *, PassCtx *);
  uint32_t needs, gives; /* sets of facts */
  PassKeeps keeps;
  bool optional;
} Pass;

#define F(fact) (1u << FACT_##fact)
static const Pass passes[PASS_COUNT] = {
#define PASS(name, meaning, needs, gives, keeps, optional)                                         \
  {#name, meaning, pass_##name, needs, gives, KEEP_##keeps, optional},
#include "passes/passes.def"
};
#undef F

/* ---- facts --------------------------------------------------------------------------------- */

typedef bool NodeTest(const Graph *g, const Node *n);

static bool block_nodes(const Graph *g, BlockId block, NodeTest *test) {
  const Block *b = &g->blocks.at[block];
  for (uint32_t k = 0; k < b->nodes.len; k++) {
    const Node *n = &g->nodes.at[b->nodes.at[k]];
    if (!test(g, n) || (n->op == OP_loop && !block_nodes(g, n->blocks[0], test))) return false;
  }
  return true;
}

static bool all_nodes(const Graph *g, NodeTest *test) {
  for (uint32_t i = 0; i < g->entries.len; i++)
    if (!block_nodes(g, g->entries.at[i].body, test)) return false;
  return true;
}

static bool is_left(uint8_t role) {
  return role == RES_grad || role == RES_amax || role == RES_count;
}

static bool fact_nograd(const Graph *g) {
  for (uint32_t i = 0; i < g->entries.len; i++)
    for (uint32_t k = 0; k < g->entries.at[i].results.len; k++)
      if (is_left(g->entries.at[i].results.at[k].role)) return false;
  return true;
}

static bool fact_noupdate(const Graph *g) { return graph_entry_find(g, ENTRY_update) < 0; }

static bool reduces_a_run(const Graph *g, const Node *n) {
  const Attr *axes = node_attr(n, AT_axes);
  uint32_t last = axes->n - 1;
  bool run = axes->ints[last] - axes->ints[0] == (int64_t)last;
  return run && (axes->ints[0] == 0 || axes->ints[last] == value_type(g, n->ops[0]).rank - 1);
}

static bool is_simple(const Graph *g, const Node *n) {
  return !expand_is_composite(n->op) && (!(op_flags[n->op] & F_REDUCE) || reduces_a_run(g, n));
}

static bool is_flat(const Graph *g, const Node *n) {
  (void)g;
  return n->op != OP_kernel;
}

static bool fact_simple(const Graph *g) { return all_nodes(g, is_simple); }
static bool fact_flat(const Graph *g) { return all_nodes(g, is_flat); }
static bool fact_kernels(const Graph *g) { return all_nodes(g, node_is_grouped); }

static const struct {
  const char *name;
  bool (*holds)(const Graph *);
} facts[FACT_COUNT] = {
#define FACT(name, meaning) {#name ": " meaning, fact_##name},
#include "passes/passes.def"
};

static void check_facts(const Pass *p, const Graph *g, uint32_t set, const char *when) {
  for (int i = 0; i < FACT_COUNT; i++)
    if ((set >> i & 1) && !facts[i].holds(g))
      ice(g, NO_ID, "pass %s: %s it this must hold: %s", p->name, when, facts[i].name);
}

/* ---- lists of passes ----------------------------------------------------------------------- */

/* The next name of a list "a, b"; *n is 0 at its end. */
static const char *next_name(const char **list, size_t *n) {
  const char *s = *list ? *list : "";
  s += strspn(s, ", ");
  *n = strcspn(s, ", ");
  *list = s + *n;
  return s;
}

static bool listed(const char *list, const char *name) {
  size_t n;
  for (const char *s = next_name(&list, &n); n; s = next_name(&list, &n))
    if (n == strlen(name) && !memcmp(s, name, n)) return true;
  return false;
}

static const Pass *find_pass(const char *name, size_t n) {
  for (int i = 0; i < PASS_COUNT; i++)
    if (n == strlen(passes[i].name) && !memcmp(name, passes[i].name, n)) return &passes[i];
  return NULL;
}

static void unknown_pass(PassCtx *c, const char *where, const char *name, size_t n) {
  const char *names[PASS_COUNT];
  for (int i = 0; i < PASS_COUNT; i++) names[i] = passes[i].name;
  const char *text = arena_text(c->arena, name, n), *near = nearest_name(text, names, PASS_COUNT);
  diag_error(c->diag, (Loc){0}, "%s: no pass is named `%s`%s%s%s", where, text,
             near ? "; did you mean `" : "", near ? near : "", near ? "`?" : "");
}

static bool check_list(PassCtx *c, const char *where, const char *list, bool optional) {
  uint32_t errors = c->diag->errors;
  size_t n;
  for (const char *s = next_name(&list, &n); n; s = next_name(&list, &n)) {
    const Pass *p = find_pass(s, n);
    if (!p) unknown_pass(c, where, s, n);
    else if (optional && !p->optional)
      diag_error(c->diag, (Loc){0}, "%s: nothing works without `%s`", where, p->name);
  }
  return c->diag->errors == errors;
}

bool passes_check_options(PassCtx *c) {
  const PassOptions *o = c->options;
  bool ok = check_list(c, "--print-ir-after", o->print_after, false);
  ok &= check_list(c, "--print-ir-before", o->print_before, false);
  ok &= check_list(c, "--stop-after", o->stop_after, false);
  return check_list(c, "--disable", o->disable, true) && ok;
}

bool passes_know(const char *name) { return find_pass(name, strlen(name)) != NULL; }

void passes_describe(Text *out) {
  for (int i = 0; i < PASS_COUNT; i++)
    text_printf(out, "  %-10s %s\n", passes[i].name, passes[i].meaning);
}

/* ---- around a pass ------------------------------------------------------------------------- */

static FILE *out_file(const PassCtx *c) { return c->options->out ? c->options->out : stderr; }

static void dump(const Graph *g, const PassCtx *c, const char *when, const Pass *p) {
  Text t = {.arena = c->arena};
  graph_print(g, &t, (PrintOptions){0});
  fprintf(out_file(c), "// ---- %s %s\n%s", when, p->name, t.at);
}

static void verify(const Graph *g, PassCtx *c, const char *when, const Pass *p) {
  Text why = {.arena = c->arena};
  uint32_t n = graph_verify(g, &why);
  if (!n) return;
  dump(g, c, when, p);
  ice(g, NO_ID, "%s pass %s: the graph breaks %u rules, first: %s", when, p->name, (unsigned)n,
      why.at);
}

static double seconds(void) {
  struct timespec t;
  timespec_get(&t, TIME_UTC);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The graph goes on as what its own text says, so nothing can hide beside the text. */
static bool roundtrip(Graph **g, PassCtx *c, const Pass *p) {
  PrintOptions o = {.locs = true, .diag = c->diag};
  Arena *arena = (*g)->arena;
  Text text = {.arena = arena}, again = {.arena = c->arena};
  graph_print(*g, &text, o);
  uint32_t source =
      diag_source(c->diag, arena_printf(arena, "after %s", p->name), text.at, text.len);
  Graph *parsed = graph_parse(arena, (*g)->strings, c->diag, source);
  if (!parsed) return false;
  graph_print(parsed, &again, o);
  if (strcmp(text.at, again.at)) ice(*g, NO_ID, "after %s: print, parse, print differs", p->name);
  *g = parsed;
  return true;
}

static bool evaluate(const Graph *g, const PassCtx *c, const Pass *p) {
  const PassOptions *o = c->options;
  return !o->check || o->check(c, p ? p->name : NULL, p ? p->keeps : KEEP_none, g);
}

static bool run_pass(const Pass *p, Graph **g, PassCtx *c) {
  const PassOptions *o = c->options;
  check_facts(p, *g, p->needs, "before");
  if (listed(o->print_before, p->name)) dump(*g, c, "before", p);
  double start = seconds();
  bool changed = p->run(*g, c);
  double took = seconds() - start;
  bool ok = !c->diag->errors;
  if (o->time)
    fprintf(out_file(c), "%-10s %9.3f ms%s\n", p->name, took * 1e3, changed ? "" : "  unchanged");
  if (ok) {
    verify(*g, c, "after", p);
    check_facts(p, *g, p->gives, "after");
    if (o->print_after_all || listed(o->print_after, p->name)) dump(*g, c, "after", p);
    ok = (!o->roundtrip || roundtrip(g, c, p)) && evaluate(*g, c, p);
  }
  return ok;
}

bool passes_run(Graph **g, const char *list, PassCtx *c) {
  Arena own = {0}, scratch = {0}, *callers = c->arena;
  c->scalars = scalars_parse(&own);
  c->arena = &scratch;
  bool ok = !c->diag->errors;
  ok = passes_check_options(c) && ok;
  ok = check_list(c, "--passes", list, false) && ok;
  ok = ok && evaluate(*g, c, NULL);
  size_t n;
  for (const char *s = next_name(&list, &n); ok && n; s = next_name(&list, &n)) {
    const Pass *p = find_pass(s, n);
    if (!listed(c->options->disable, p->name)) ok = run_pass(p, g, c);
    arena_free(&scratch);
    if (listed(c->options->stop_after, p->name)) break;
  }
  arena_free(&scratch);
  arena_free(&own);
  c->arena = callers;
  c->scalars = NULL;
  return ok;
}
