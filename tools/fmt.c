/* fmt.c: `mpcc fmt [--check] FILE.mp …`: sources in the standard layout (frontend/format.c), in
 * place; `-` from standard input to standard output.  --check changes nothing and names the files
 * that would change, with exit status 1.  A file with a syntax error is left as it is. */
#include "tools/tools.h"

#include <string.h>

typedef struct Fmt {
  Arena *arena;
  bool check;
} Fmt;

/* The layout may not change what is said: the trees are compared. */
static bool same_meaning(Arena *a, Strings *strings, Diag *diag, const Ast *before,
                         const Text *after) {
  uint32_t source = diag_source(diag, "formatted", after->at, after->len);
  const Ast *again = frontend_parse(a, strings, diag, source);
  Text x = {.arena = a}, y = {.arena = a};
  if (!again) return false;
  ast_print(&x, before);
  ast_print(&y, again);
  return !strcmp(x.at, y.at);
}

static int format_file(const Fmt *f, const char *path) {
  Diag diag;
  Strings strings = {.arena = f->arena};
  const char *why = NULL;
  size_t size;
  const char *text = read_file(f->arena, path, &size, &why);
  if (!text) {
    fprintf(stderr, "mpcc fmt: cannot read %s: %s\n", path, why);
    return 1;
  }
  diag_init(&diag, f->arena, stderr);
  uint32_t source = diag_source(&diag, path, text, size);
  const Ast *ast = frontend_parse(f->arena, &strings, &diag, source);
  if (!ast) return 1;
  Text out = {.arena = f->arena};
  format_source(&strings, &diag, source, &out);
  if (!same_meaning(f->arena, &strings, &diag, ast, &out))
    ice(NULL, NO_ID, "fmt: the layout of %s would change its meaning", path);
  bool same = out.len == size && !memcmp(out.at, text, size);
  if (f->check) {
    if (!same) printf("%s\n", path);
    return !same;
  }
  if (same && strcmp(path, "-")) return 0;
  return !output_write(path, out.at, out.len);
}

int command_fmt(int argc, char **argv, Arena *arena) {
  Fmt f = {.arena = arena};
  int status = 0, files = 0;
  for (int i = 0; i < argc; i++) {
    if (!strcmp(argv[i], "--help")) {
      puts("usage: mpcc fmt [--check] FILE.mp …\n\nLays sources out in the standard way, in place; "
           "- is"
           " standard input to output.\n--check names the files that would change, and exits with "
           "1.");
      return 0;
    }
    if (!strcmp(argv[i], "--check")) f.check = true;
    else if (argv[i][0] == '-' && argv[i][1]) {
      fprintf(stderr, "mpcc fmt: unknown flag %s (--check, or files)\n", argv[i]);
      return 2;
    } else files++;
  }
  for (int i = 0; i < argc; i++)
    if (argv[i][0] != '-' || !argv[i][1]) status |= format_file(&f, argv[i]);
  if (files) return status;
  fputs("mpcc fmt: a file is wanted\n", stderr);
  return 2;
}
