/* glob.c: patterns of paths.
 *
 * `*` is any run of characters of one segment, `?` one of them, `{a,b}` either, `**.` any number of
 * segments, also none, `**` at the end all below.  What matches a module covers its parameters: a
 * pattern may end where a segment of the path does.  runtime/glob.c has the same patterns, for what
 * a command line asks for; tests/unit/test_glob.c holds the two to the same answers.
 */
#include "frontend/sema.h"

#include <string.h>

enum { MOST_PLAIN = 256, LONGEST = 256 };

/* Row i of the table: whether the pattern from i on matches the path from each place on. */
typedef struct Table {
  const char *path;
  size_t length;
  bool *at;
} Table;

static bool *row(const Table *t, size_t i) { return t->at + i * (t->length + 1); }

/* Behind `**.`: here, or behind any dot from here on. */
static void any_segments(const Table *t, bool *here, const bool *behind) {
  bool later = false;
  for (size_t k = t->length + 1; k-- > 0;) {
    later = later || (t->path[k] == '.' && behind[k + 1]);
    here[k] = behind[k] || later;
  }
}

static void any_characters(const Table *t, bool *here, const bool *behind) {
  for (size_t k = t->length + 1; k-- > 0;) {
    bool goes_on = t->path[k] && t->path[k] != '.';
    here[k] = behind[k] || (goes_on && here[k + 1]);
  }
}

static void one_character(const Table *t, bool *here, const bool *behind, char c) {
  for (size_t k = 0; k < t->length; k++)
    here[k] = (c == '?' ? t->path[k] != '.' : t->path[k] == c) && behind[k + 1];
}

/* A pattern without braces, from its end; time is its length by that of the path. */
static bool matches(const char *g, const char *path) {
  Arena scratch = {0};
  size_t n = strlen(g), length = strlen(path);
  Table t = {path, length, NEW_ARRAY(&scratch, bool, (n + 1) * (length + 1))};
  for (size_t k = 0; k <= length; k++) row(&t, n)[k] = !path[k] || path[k] == '.';
  for (size_t i = n; i-- > 0;) {
    if (!strcmp(g + i, "**")) memset(row(&t, i), true, length + 1);
    else if (!strncmp(g + i, "**.", 3)) any_segments(&t, row(&t, i), row(&t, i + 3));
    else if (g[i] == '*') any_characters(&t, row(&t, i), row(&t, i + 1));
    else one_character(&t, row(&t, i), row(&t, i + 1), g[i]);
  }
  bool found = row(&t, 0)[0];
  arena_free(&scratch);
  return found;
}

/* Where the brace that opens at g closes, or NULL. */
static const char *closing(const char *g) {
  int depth = 0;
  for (; *g; g++) {
    depth += (*g == '{') - (*g == '}');
    if (!depth) return g;
  }
  return NULL;
}

typedef struct Patterns {
  Sema *s;
  VEC(const char *) plain;
} Patterns;

/* Every choice of the braces; false: too many, or one does not close. */
static bool expand(Patterns *all, const char *g) {
  const char *open = strchr(g, '{'), *close = open ? closing(open) : NULL;
  if (all->plain.len >= MOST_PLAIN || (open && !close)) return false;
  if (!open) {
    vec_push(all->s->arena, &all->plain, g);
    return !strchr(g, '}');
  }
  int depth = 0;
  for (const char *from = open + 1, *at = from; at <= close; at++) {
    if (at == close || (!depth && *at == ',')) {
      const char *one = arena_printf(all->s->arena, "%.*s%.*s%s", (int)(open - g), g,
                                     (int)(at - from), from, close + 1);
      if (!expand(all, one)) return false;
      from = at + 1;
    }
    depth += (*at == '{') - (*at == '}');
  }
  return true;
}

bool glob_read(Sema *s, const char *text, Loc loc, Glob *glob) {
  Patterns all = {.s = s};
  bool ok = *text && strlen(text) <= LONGEST && expand(&all, text);
  if (!ok) diag_error(s->diag, loc, "\"%s\" is no pattern of paths: * ? {a,b} and **. are", text);
  *glob = (Glob){text, loc, all.plain.len, all.plain.at};
  return ok;
}

bool glob_matches(const Glob *glob, const char *path) {
  for (uint32_t i = 0; i < glob->n; i++)
    if (matches(glob->plain[i], path)) return true;
  return false;
}

const char **frontend_glob(Arena *arena, Diag *diag, const char *text) {
  Sema s = {.arena = arena, .diag = diag};
  Glob glob;
  if (!glob_read(&s, text, (Loc){0}, &glob)) return NULL;
  const char **plain = NEW_ARRAY(arena, const char *, glob.n + 1);
  for (uint32_t i = 0; i < glob.n; i++) plain[i] = glob.plain[i];
  return plain;
}

bool frontend_glob_covers(const char *const *glob, const char *path) {
  for (; *glob; glob++)
    if (matches(*glob, path)) return true;
  return false;
}

/* ---- against the model ----------------------------------------------------------------------- */

const char *near_paths(Sema *s, const char *text) {
  VEC(const char *) paths = {0};
  Text near = {.arena = s->arena};
  for (uint32_t i = 0; i < s->params.len; i++) vec_push(s->arena, &paths, s->params.at[i]->path);
  for (int shown = 0; shown < 3 && paths.len; shown++) {
    const char *best = nearest_name(text, paths.at, paths.len);
    for (uint32_t i = 0; !best && i < paths.len; i++)
      if (!strncmp(paths.at[i], text, 3)) best = paths.at[i];
    if (!best) break;
    text_printf(&near, "%s%s", shown ? ", " : "; near: ", best);
    for (uint32_t i = 0, kept = 0; i < paths.len; i++) {
      if (strcmp(paths.at[i], best)) paths.at[kept++] = paths.at[i];
      if (i + 1 == paths.len) paths.len = kept;
    }
  }
  return near.len ? near.at : "";
}

bool glob_of_params(Sema *s, const Ast *a, Glob *glob) {
  if (!a || a->kind != AST_STRING) {
    diag_error(s->diag, a ? ast_start(a) : (Loc){0}, "a pattern of paths is a string: \"**.bias\"");
    return false;
  }
  if (!glob_read(s, a->name, a->loc, glob)) return false;
  for (uint32_t i = 0; i < s->params.len; i++)
    if (glob_matches(glob, s->params.at[i]->path)) return true;
  diag_error(s->diag, a->loc, "no parameter matches \"%s\"%s", a->name, near_paths(s, a->name));
  return false;
}
