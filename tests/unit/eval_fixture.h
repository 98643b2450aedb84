/* eval_fixture.h: a graph from IR text, run by the evaluator, for the tests of ref/. */
#ifndef TESTS_UNIT_EVAL_FIXTURE_H
#define TESTS_UNIT_EVAL_FIXTURE_H

#include "ref/eval.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

typedef struct Tally {
  unsigned passed, failed;
} Tally;

static inline void expect(Tally *, bool, const char *, ...) __attribute__((format(printf, 3, 4)));
static inline void expect(Tally *t, bool ok, const char *what, ...) {
  va_list ap;
  t->passed += ok;
  t->failed += !ok;
  if (ok) return;
  va_start(ap, what);
  printf("FAILED: ");
  vprintf(what, ap);
  printf("\n");
  va_end(ap);
}

static inline int tally_end(const Tally *t) {
  printf("%u passed, %u failed\n", t->passed, t->failed);
  return t->failed != 0;
}

typedef struct Fixture {
  Arena arena;
  Strings strings;
  const Scalars *scalars;
  Graph *g;
  Eval *e;
} Fixture;

/* text: everything behind `graph "t"`. */
static inline Fixture *fixture_new(const char *text, EvalMode mode) {
  Fixture *f = calloc(1, sizeof *f);
  Diag diag;
  f->strings.arena = &f->arena;
  diag_init(&diag, &f->arena, stderr);
  const char *all = arena_printf(&f->arena, "graph \"t\"\n%s", text);
  f->g = graph_parse(&f->arena, &f->strings, &diag, diag_source(&diag, "t", all, strlen(all)));
  Text why = {.arena = &f->arena};
  if (!f->g) exit(1);
  if (graph_verify(f->g, &why)) printf("FAILED: the test's graph: %s\n", why.at), exit(1);
  f->scalars = scalars_parse(&f->arena);
  f->e = eval_new(&f->arena, f->g, f->scalars, mode);
  return f;
}

static inline void fixture_free(Fixture *f) {
  eval_free(f->e);
  arena_free(&f->arena);
  free(f);
}

static inline void set_f32(Fixture *f, const char *name, int rank, const int64_t *dims,
                           const float *x) {
  union {
    const float *from;
    void *to;
  } cast = {.from = x};
  Tensor t = {.type = type_make(DT_f32, rank, dims), .data = cast.to};
  eval_set(f->e, ARG_input, name, &t);
}

static inline void set_vector(Fixture *f, const char *name, int64_t n, const float *x) {
  set_f32(f, name, 1, &n, x);
}

/* Runs entry 0. */
static inline const Tensor *run(Fixture *f, int64_t rows, const char *result) {
  eval_run(f->e, 0, rows);
  return eval_result(f->e, RES_value, result);
}

static inline double result_at(Fixture *f, const char *name, int64_t i) {
  return tensor_get(eval_result(f->e, RES_value, name), i);
}

static inline bool same_float(double x, double y) {
  return (isnan(x) && isnan(y)) || (x == y && signbit(x) == signbit(y));
}

/* Numbers of mixed signs and sizes; sums of them depend on the order. */
static inline float noise(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return ldexpf((float)(int32_t)*state, (int)(*state >> 7 & 15) - 36);
}

static inline float *noise_vector(Fixture *f, int64_t n, uint32_t seed) {
  float *x = NEW_ARRAY(&f->arena, float, n + 1);
  for (int64_t i = 0; i < n; i++) x[i] = noise(&seed);
  return x;
}

#endif
