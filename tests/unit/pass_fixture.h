/* pass_fixture.h: what the unit tests of passes share: a graph from text, run through passes;
 * counted checks with a message. */
#ifndef TESTS_UNIT_PASS_FIXTURE_H
#define TESTS_UNIT_PASS_FIXTURE_H

#include "passes/pass.h"
#include "ref/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Tally {
  unsigned passed, failed;
} Tally;

__attribute__((format(printf, 3, 4))) static inline bool expect(Tally *t, bool ok, const char *what,
                                                                ...) {
  if (ok) t->passed++;
  else t->failed++;
  if (ok) return true;
  va_list ap;
  va_start(ap, what);
  fputs("FAILED: ", stdout);
  vprintf(what, ap);
  putchar('\n');
  va_end(ap);
  return false;
}

static inline int tally_end(const Tally *t) {
  printf("%u passed, %u failed\n", t->passed, t->failed);
  return t->failed != 0;
}

typedef struct PassFixture {
  Arena arena;
  Strings strings;
  Diag diag;
  Graph *g;
  Eval *e;
} PassFixture;

/* text: a whole graph.  false: an error, which was printed. */
static inline bool fixture_start(PassFixture *f, const char *text, const char *passes,
                                 EvalMode mode) {
  static const PassOptions options = {.halves = true};
  f->strings.arena = &f->arena;
  diag_init(&f->diag, &f->arena, stdout);
  uint32_t source = diag_source(&f->diag, "test", text, strlen(text));
  f->g = graph_parse(&f->arena, &f->strings, &f->diag, source);
  PassCtx c = {.arena = &f->arena, .diag = &f->diag, .options = &options};
  if (!f->g || graph_verify_diag(f->g, &f->diag) || !passes_run(&f->g, passes, &c)) return false;
  f->e = eval_new(&f->arena, f->g, scalars_parse(&f->arena), mode);
  return true;
}

static inline void fixture_end(PassFixture *f) {
  if (f->e) eval_free(f->e);
  arena_free(&f->arena);
}

static inline double random_in(uint64_t *state, double lo, double hi) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return lo + (hi - lo) * (double)(*state >> 11) * 0x1p-53;
}

#endif
