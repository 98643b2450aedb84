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
  bool planned; /* it has gone through the passes */
} Fixture;

enum { FIXTURE_BUILDS = 8 };

typedef struct Build {
  const char *mcpu;
  int opt;
  unsigned parts;
  bool shared; /* threads share every map and gemm, however small */
} Build;

/* text: everything behind `graph "t"`.  Ends the process if it does not parse or verify. */
void fixture_init(Fixture *f, const char *text);
/* f->g goes through all passes, each checked by evaluation; f has arena, strings and diag. */
void fixture_passes(Fixture *f);
void fixture_free(Fixture *f);

/* A graph behind the passes gets plan_make's Program; of another every buffer has its own place and
 * a barrier stands before every launch.  code[b.parts] */
void fixture_compile(Fixture *f, Build b, CpuOutput output, CpuCode *code);

/* In each of n builds, at most FIXTURE_BUILDS, every entry, on random arguments without and with zeros of both signs, infinities and NaN among
 * them, with 1, 2, 3 threads and all, half of and one real row, gives what the evaluator gives and
 * writes nothing else (planned: leaves what it may in the arena, and the evaluator gives the same on
 * the Program's memory, poisoned). */
void fixture_run(Checks *c, Fixture *f, const Build *b, int n);

#endif
