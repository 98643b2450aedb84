/* optool.c: entries of any ops as machine code, beside the evaluator: what the unit tests do with
 * graphs of their own, for graphs that a test in Python wrote.
 *
 *     optool FILE MCPU...
 *
 * FILE is IR text behind `graph "t"`.  It goes through all passes, each checked by evaluation, and
 * is compiled for each MCPU: -O0 for the first, -O3 for the others.  Every entry runs on random
 * operands and on special values among them, on 1, 2 and 3 threads, with all, half of and one real
 * row, and must give the evaluator's bits.
 */
#include "tests/unit/codegen_fixture.h"

#include <stdlib.h>

int main(int argc, char **argv) {
  Checks c = {0};
  Fixture f;
  Arena a = {0};
  const char *why = "a file and one to eight processors";
  size_t size;
  char *text = argc > 2 && argc <= 2 + FIXTURE_BUILDS ? read_file(&a, argv[1], &size, &why) : NULL;
  if (!text) {
    fprintf(stderr, "usage: optool FILE MCPU...: %s\n", why);
    return 2;
  }
  fixture_init(&f, text);
  fixture_passes(&f);
  Build b[FIXTURE_BUILDS];
  int n = 0;
  for (; n < FIXTURE_BUILDS && n + 2 < argc; n++)
    b[n] = (Build){argv[n + 2], n ? 3 : 0, 1, true};
  fixture_run(&c, &f, b, n);
  fixture_free(&f);
  arena_free(&a);
  return checks_end(&c, "optool");
}
