/* fuzz_frontend.c: any bytes as a model: there is a graph exactly if there was no error, it keeps
 * the verifier's rules and prints as text that parses to the same; a source that parses can be laid
 * out, which changes neither its tree nor, a second time, anything. */
#include "frontend/frontend.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static const char *text_of(Arena *a, const Ast *ast) {
  Text t = {.arena = a};
  ast_print(&t, ast);
  return t.at;
}

static void check_layout(Arena *a, Strings *strings, Diag *diag, uint32_t source, const Ast *ast) {
  Text once = {.arena = a}, twice = {.arena = a};
  format_source(strings, diag, source, &once);
  uint32_t laid_out = diag_source(diag, "laid out", once.at, once.len);
  const Ast *again = frontend_parse(a, strings, diag, laid_out);
  FUZZ_CHECK(again && !strcmp(text_of(a, ast), text_of(a, again)));
  format_source(strings, diag, laid_out, &twice);
  FUZZ_CHECK(!strcmp(once.at, twice.at));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Arena arena = {0};
  Strings strings = {.arena = &arena};
  Diag diag;
  FrontendOptions o = {.name = "fuzz", .source = "f"};
  diag_init(&diag, &arena, NULL);
  uint32_t source = diag_source(&diag, "f", (const char *)data, size);
  const Ast *ast = frontend_parse(&arena, &strings, &diag, source);
  Graph *g = ast ? frontend_compile(&arena, &strings, &diag, ast, &o) : NULL;
  FUZZ_CHECK(!g == (diag.errors > 0));
  if (g) fuzz_check_graph(g, &arena, &strings, &diag);
  if (ast) check_layout(&arena, &strings, &diag, source, ast);
  arena_free(&arena);
  return 0;
}
