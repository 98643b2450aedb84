/* codegen_fixture.h: a graph of kernels, compiled, loaded and run beside the evaluator. */
#ifndef TESTS_UNIT_CODEGEN_FIXTURE_H
#define TESTS_UNIT_CODEGEN_FIXTURE_H

#include "codegen/cpu/cpu.h"
#include "ref/eval.h"
#include "tests/unit/check.h"

typedef struct Fixture {
  Arena arena;
  Strings strings;
  Diag diag;
  const Scalars *scalars;
  Graph *g;
  Program *p;   /* every buffer its own place, a barrier before every launch */
  bool planned; /* but p is plan_make's */
} Fixture;

typedef struct Build {
  const char *mcpu;
  int opt;
  unsigned parts;
} Build;

/* text: everything behind `graph "t"`.  Ends the process if it does not parse or verify. */
void fixture_init(Fixture *f, const char *text);
/* The graph goes through all passes, each checked by evaluation, and plan_make; the
 * Program is run on poisoned memory.  shared: threads share every map and gemm, however small. */
/* The same of f->g, with f's arena, strings and diag. */
void fixture_plan(Checks *c, Fixture *f, bool shared);
void fixture_init_planned(Checks *c, Fixture *f, const char *text, bool shared);
void fixture_free(Fixture *f);
/* code[b.parts] */
void fixture_compile(Fixture *f, Build b, CpuOutput output, CpuCode *code);

/* Every entry, on random arguments without and with zeros of both signs, infinities and NaN among
 * them, with 1, 2, 3 threads and all, half of and one real row, gives what the evaluator gives and
 * writes nothing else (planned: leaves what it may in the arena). */
void fixture_run(Checks *c, Fixture *f, Build b);

#endif
