/* fuzz.h: what the fuzz targets share.  Each defines libFuzzer's entry point; without libFuzzer,
 * standalone.c calls it for every file it is given. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include "ir/ir.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition)                                                                      \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                              \
      abort();                                                                                     \
    }                                                                                              \
  } while (0)

/* It verifies, and print(parse(print(g))) = print(g). */
void fuzz_check_graph(const Graph *g, Arena *arena, Strings *strings, Diag *diag);

#endif
