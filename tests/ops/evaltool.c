/* evaltool.c: runs entries of a graph in the evaluator, for tests written in Python.
 *
 *     evaltool GRAPH [--f64] [--in=DIR] [--out=DIR] [--rows=N] [--seed=N] [--random=N] ENTRY...
 *
 * GRAPH is IR text.  DIR/ROLE.NAME.npy are arguments (input.images.npy, state.net.0.weight.npy,
 * hyper.lr.npy); --random fills those that no file gives.  The entries run in turn, each on the
 * states that the ones before it left.  The results of the last are written as DIR/ROLE.NAME.npy,
 * or DIR/ROLE.npy where they have no name: f8 with --f64, else f4.
 */
#include "tests/ops/npy.h"

#include <stdlib.h>
#include <string.h>

typedef struct Options {
  const char *in, *out;
  EvalMode mode;
  int64_t rows; /* 0: all */
  uint64_t seed, random;
  bool fill;
} Options;

static _Noreturn void fail(const char *what, const char *why) {
  fprintf(stderr, "evaltool: %s: %s\n", what, why);
  exit(1);
}

static const char *value_of(const char *arg, const char *option) {
  size_t n = strlen(option);
  return strncmp(arg, option, n) ? NULL : arg + n;
}

/* true: it was an option */
static bool read_option(Options *o, const char *arg) {
  const char *v;
  if (!strcmp(arg, "--f64")) o->mode = EVAL_F64;
  else if ((v = value_of(arg, "--in="))) o->in = v;
  else if ((v = value_of(arg, "--out="))) o->out = v;
  else if ((v = value_of(arg, "--rows="))) o->rows = strtoll(v, NULL, 10);
  else if ((v = value_of(arg, "--seed="))) o->seed = strtoull(v, NULL, 0);
  else if ((v = value_of(arg, "--random="))) o->fill = true, o->random = strtoull(v, NULL, 0);
  else if (!strncmp(arg, "--", 2)) fail(arg, "no such option");
  else return false;
  return true;
}

static Graph *read_graph(Arena *a, const char *path) {
  Strings *strings = NEW(a, Strings);
  const char *why;
  Diag diag;
  size_t size;
  strings->arena = a;
  char *text = read_file(a, path, &size, &why);
  if (!text) fail(path, why);
  diag_init(&diag, a, stderr);
  Graph *g = graph_parse(a, strings, &diag, diag_source(&diag, path, text, size));
  Text broken = {.arena = a};
  if (!g) exit(1);
  if (graph_verify(g, &broken)) fail(path, broken.at);
  return g;
}

static uint32_t find_entry(const Graph *g, const char *name) {
  for (uint32_t i = 0; i < g->entries.len; i++)
    if (!strcmp(g->entries.at[i].name, name)) return i;
  fail(name, "no such entry");
}

static char *path_of(Arena *a, const char *dir, const char *role, const char *name) {
  return arena_printf(a, "%s/%s%s%s.npy", dir, role, *name ? "." : "", name);
}

/* A state that an entry before left is not read again. */
static void read_args(Arena *a, const Options *o, Eval *e, const Entry *en) {
  for (uint32_t i = 0; o->in && i < en->args.len; i++) {
    const Port *p = &en->args.at[i];
    if (eval_arg(e, (ArgRole)p->role, p->name)) continue;
    char *path = path_of(a, o->in, arg_role_name[p->role], p->name);
    FILE *there = fopen(path, "rb");
    if (!there) continue; /* the evaluator says so where it needs it */
    fclose(there);
    Tensor t;
    const char *why = npy_read(a, path, &t);
    if (why) fail(path, why);
    eval_set(e, (ArgRole)p->role, p->name, &t);
  }
}

static void run_entry(Arena *a, const Options *o, Eval *e, const Graph *g, uint32_t entry) {
  const Entry *en = &g->entries.at[entry];
  read_args(a, o, e, en);
  if (o->fill) eval_set_random(e, entry, o->random);
  eval_run(e, entry, o->rows ? o->rows : en->batch);
  eval_carry_states(e);
}

static void write_results(Arena *a, const Options *o, const Eval *e, const Entry *en) {
  for (uint32_t i = 0; o->out && i < en->results.len; i++) {
    const Port *p = &en->results.at[i];
    char *path = path_of(a, o->out, res_role_name[p->role], p->name);
    const char *why = npy_write(path, eval_result(e, (ResRole)p->role, p->name));
    if (why) fail(path, why);
  }
}

int main(int argc, char **argv) {
  Arena arena = {0};
  Options o = {0};
  Eval *e = NULL;
  Graph *g = NULL;
  const Entry *last = NULL;
  for (int i = 1; i < argc; i++) /* options first, wherever they stand */
    if (read_option(&o, argv[i])) argv[i] = NULL;
  for (int i = 1; i < argc; i++) {
    if (!argv[i]) continue;
    if (!g) {
      g = read_graph(&arena, argv[i]);
      e = eval_new(&arena, g, scalars_parse(&arena), o.mode);
      eval_set_seed(e, o.seed);
      continue;
    }
    uint32_t entry = find_entry(g, argv[i]);
    run_entry(&arena, &o, e, g, entry);
    last = &g->entries.at[entry];
  }
  if (!last) fail("usage", "evaltool GRAPH [--f64] [--in=DIR] [--out=DIR] ENTRY...");
  write_results(&arena, &o, e, last);
  eval_free(e);
  arena_free(&arena);
  return 0;
}
