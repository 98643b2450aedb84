/* check.h: the smallest test harness.  A test file is a list of static functions and a main that
 * runs them; a failed CHECK prints where and what and makes the program exit with 1. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Checks {
  int done, failed;
} Checks;

#define CHECK(c, condition) check((c), (condition), #condition, __FILE__, __LINE__)

static inline int check(Checks *c, int good, const char *what, const char *file, int line) {
  c->done++;
  if (good) return 1;
  c->failed++;
  fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
  return 0;
}

/* Whether everything is to be tried: --long first on the command line, or MPCC_LONG=1.  A sanitized
 * build, which would take days, looks for other mistakes: never. */
static inline bool checks_long(int argc, char **argv) {
  const char *all = getenv("MPCC_LONG");
  if (SANITIZED) return false;
  return (argc > 1 && !strcmp(argv[1], "--long")) || (all && !strcmp(all, "1"));
}

static inline int checks_end(const Checks *c, const char *name) {
  printf("%s: %d checks, %d failed\n", name, c->done, c->failed);
  return c->failed ? 1 : 0;
}

#endif
