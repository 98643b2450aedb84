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
  const char *why;
  size_t size;
  char *text = argc > 2 ? read_file(&a, argv[1], &size, &why) : NULL;
  if (!text) {
    fprintf(stderr, "usage: optool FILE MCPU...: %s\n", argc > 2 ? why : "no file");
    return 2;
  }
  fixture_init_planned(&c, &f, text, true);
  for (int i = 2; i < argc; i++)
    fixture_run(&c, &f, (Build){.mcpu = argv[i], .opt = i > 2 ? 3 : 0, .parts = 1});
  fixture_free(&f);
  arena_free(&a);
  return checks_end(&c, "optool");
}
