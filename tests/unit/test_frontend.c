/* test_frontend.c: the parser against whole programs and hostile text.
 *
 *   test_frontend [--mutations=N] [--tokens=N] FILE...
 *
 * A file whose first line is `// error: LINE:COL about MATTER` and whose name begins with lex_,
 * parse_ or limit_ must be refused there, with one error; every other file must parse.  Then every
 * file is cut short at many places and damaged N times: whatever comes out, an error is counted
 * exactly if there is no tree.  At last, texts of N tokens (200,000), which must neither crash
 * nor take more than linear time (a few seconds each), say at least one error or none.
 */
#include "frontend/ast.h"
#include "frontend/frontend.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct Checks {
  FILE *out; /* what the user would see, of one text */
  unsigned passed, failed;
} Checks;

__attribute__((format(printf, 3, 4))) static bool check(Checks *c, bool ok, const char *what, ...) {
  va_list ap;
  if (ok) return c->passed++, true;
  c->failed++;
  printf("FAILED: ");
  va_start(ap, what);
  vprintf(what, ap);
  va_end(ap);
  printf("\n");
  return false;
}

/* ---- one text ------------------------------------------------------------------------------- */

typedef struct Result {
  uint32_t errors;
  uint32_t line, col; /* of the first error */
} Result;

static Result first_error(FILE *out, uint32_t errors) {
  Result r = {.errors = errors};
  fflush(out);
  rewind(out);
  if (errors && fscanf(out, "f:%u:%u: error", &r.line, &r.col) != 2) r.line = 0;
  return r;
}

/* A copy without a NUL behind it, so that a sanitizer sees every read beyond the end. */
static Result parse_text(Checks *c, const char *name, const char *text, size_t size) {
  char *copy = malloc(size + !size);
  if (size) memcpy(copy, text, size);
  Arena arena = {0};
  Strings strings = {.arena = &arena};
  Diag diag;
  rewind(c->out);
  diag_init(&diag, &arena, c->out);
  Ast *ast = frontend_parse(&arena, &strings, &diag, diag_source(&diag, "f", copy, size));
  check(c, !ast == (diag.errors > 0), "%s: either a tree or an error", name);
  if (ast) {
    Text printed = {.arena = &arena};
    ast_print(&printed, ast);
  }
  Result r = first_error(c->out, diag.errors);
  arena_free(&arena);
  free(copy);
  return r;
}

/* ---- files ---------------------------------------------------------------------------------- */

static bool is_syntax_error(const char *path) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  return !strncmp(name, "lex_", 4) || !strncmp(name, "parse_", 6) || !strncmp(name, "limit_", 6);
}

static void test_file(Checks *c, const char *path, const char *text, size_t size) {
  unsigned line = 0, col = 0;
  Result r = parse_text(c, path, text, size);
  if (!is_syntax_error(path)) {
    check(c, !r.errors, "%s parses", path);
    return;
  }
  bool any_column = strstr(text, "(any column of") != NULL;
  int known = sscanf(text, "// error: %u:%u about", &line, &col);
  check(c, known == 2 && r.errors == 1, "%s is refused with one error", path);
  check(c, r.line == line && (r.col == col || any_column), "%s is refused at %u:%u, not %u:%u",
        path, line, col, r.line, r.col);
}

static uint32_t random_below(uint64_t *state, size_t n) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((*state >> 33) % n);
}

static void cut_short(Checks *c, const char *path, const char *text, size_t size) {
  for (size_t n = 0; n < size; n += 1 + size / 100) parse_text(c, path, text, n);
}

/* One byte replaced, removed or doubled, mostly by what the grammar cares about. */
static void damage(Checks *c, const char *path, const char *text, size_t size, long mutations) {
  static const char bytes[] = "(){}[];,:=.+-*^<!\"'/\n\r\t #%_a0\x01\xff\xc3";
  uint64_t state = hash_bytes(path, strlen(path), 0);
  char *t = malloc(size + 1);
  for (long i = 0; i < mutations; i++) {
    size_t at = random_below(&state, size), n = size;
    uint32_t how = random_below(&state, 4);
    memcpy(t, text, size);
    if (how == 0) memmove(t + at, t + at + 1, --n - at);
    else if (how == 1) memmove(t + at + 1, t + at, n++ - at);
    else t[at] = bytes[random_below(&state, sizeof bytes)];
    parse_text(c, path, t, n);
  }
  free(t);
}

static void test_path(Checks *c, const char *path, long mutations) {
  Arena arena = {0};
  size_t size;
  const char *why;
  char *text = read_file(&arena, path, &size, &why);
  if (check(c, text, "%s: %s", path, text ? "" : why)) {
    test_file(c, path, text, size);
    if (size < 20000) {
      cut_short(c, path, text, size);
      damage(c, path, text, size, mutations);
    }
  }
  arena_free(&arena);
}

/* ---- long texts --------------------------------------------------------------------------- */

static const struct {
  const char *before, *repeated, *after;
  bool is_right;
} long_texts[] = {
    {"a = ", "-", "1", false},
    {"a = ", "not ", "1", false},
    {"a = ", "a^", "1", false},
    {"a = ", "a+", "1", false},
    {"a = ", "fn (x) = ", "1", false},
    {"a = b", ".b", "", false},
    {"a = b", "()", "", false},
    {"a = b", "[0]", "", false},
    {"a = ", "(", "", false},
    {"model M ", "{", "", false},
    {"a = ", ")", "", false},
    {"", "}", "", false},
    {"", "} \n", "", false},
    {"a = ", "b = ", "", false},
    {"", "a = = 1\n", "", false},
    {"", "a = (b c\n", "", false},
    {"fn f(x) {\n", "retrun x\n", "}", false},
    {"", "$ ", "", false},
    {"", "/*", "", false},
    {"", "\"\n", "", false},
    {"a = ", "1.", "", false},
    {"a = ", "\xff", "", false},
    {"a = 0", " < 1", "", false},
    {"", "\n", "", true},
    {"", ";", "", true},
    {"", "a = 1\n", "", true},
    {"", "a = 1\r\n", "", true},
    {"model M { ", "a: 1, ", "}", true},
    {"a = [", "1,", "]", true},
    {"a = f(", "1,", ")", true},
    {"a", ", a", " = 1", true},
    {"a = 1", " then 1", "", true},
    {"a = 1", " m", "", true},
    {"a = ", "if b { 1 } else ", "{ 2 }", true},
    {"fn f(x) { ", "if b { c = 1 } else ", "{ d = 2 } }", true},
    {"a = [b ", "for c in d ", "]", true},
    {"", "a", " = 1", true},
    {"//", "/", "", true},
};

static void test_long_texts(Checks *c, long tokens) {
  for (size_t i = 0; i < sizeof long_texts / sizeof *long_texts; i++) {
    Arena arena = {0};
    Text t = {.arena = &arena};
    text_add(&t, long_texts[i].before);
    for (long k = 0; k < tokens; k++) text_add(&t, long_texts[i].repeated);
    text_add(&t, long_texts[i].after);
    clock_t start = clock();
    Result r = parse_text(c, long_texts[i].repeated, t.at, t.len);
    double took = (double)(clock() - start) / CLOCKS_PER_SEC; /* a fifth of a second */
    check(c, took < 4, "%ld times %s: %.1f s", tokens, long_texts[i].repeated, took);
    check(c, long_texts[i].is_right == !r.errors, "%ld times %s", tokens, long_texts[i].repeated);
    arena_free(&arena);
  }
}

static void test_not_text(Checks *c) {
  Result r = parse_text(c, "NUL", "a = 1\nb = \0\n", 12);
  check(c, r.errors == 1 && r.line == 2 && r.col == 5, "NUL is refused where it is");
  r = parse_text(c, "UTF-8", "a = 1\nb = \"\xc3\xa9\xed\xa0\x80\"\n", 18);
  check(c, r.errors == 1 && r.line == 2 && r.col == 8, "bad UTF-8 is refused where it is");
}

int main(int argc, char **argv) {
  Checks c = {.out = tmpfile()};
  if (!check(&c, c.out, "a temporary file")) return 1;
  long mutations = 60, tokens = 1000000;
  for (int i = 1; i < argc; i++) {
    if (!strncmp(argv[i], "--mutations=", 12)) mutations = atol(argv[i] + 12);
    else if (!strncmp(argv[i], "--tokens=", 9)) tokens = atol(argv[i] + 9);
    else test_path(&c, argv[i], mutations);
  }
  test_not_text(&c);
  test_long_texts(&c, tokens);
  printf("frontend: %u passed, %u failed\n", c.passed, c.failed);
  return c.failed != 0;
}
