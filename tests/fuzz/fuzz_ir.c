/* fuzz_ir.c: any bytes as the text of a graph: the parser refuses, or the verifier does, or the
 * graph prints as text that parses to the same. */
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Arena arena = {0};
  Strings strings = {.arena = &arena};
  Diag diag;
  diag_init(&diag, &arena, NULL);
  const char *text = arena_text(&arena, (const char *)data, size);
  Graph *g = graph_parse(&arena, &strings, &diag, diag_source(&diag, "ir", text, size));
  FUZZ_CHECK(!g == (diag.errors > 0));
  if (g && !graph_verify_diag(g, &diag)) fuzz_check_graph(g, &arena, &strings, &diag);
  arena_free(&arena);
  return 0;
}
