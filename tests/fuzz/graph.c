/* graph.c: what holds of every graph that a reader accepts, whatever bytes it came from.
 *
 * The verifier has nothing to say about it: what a user's text may get wrong is an error of the
 * reader, at its place.  And it prints as text that parses, and prints the same again. */
#include "tests/fuzz/fuzz.h"

#include <string.h>

void fuzz_check_graph(const Graph *g, Arena *arena, Strings *strings, Diag *diag) {
  Text why = {.arena = arena}, first = {.arena = arena}, second = {.arena = arena};
  FUZZ_CHECK(!graph_verify(g, &why));
  graph_print(g, &first, (PrintOptions){0});
  Graph *again = graph_parse(arena, strings, diag, diag_source(diag, "ir", first.at, first.len));
  FUZZ_CHECK(again);
  graph_print(again, &second, (PrintOptions){0});
  FUZZ_CHECK(!strcmp(first.at, second.at));
}
