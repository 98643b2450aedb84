/* glob.c: patterns of paths.
 *
 * `*` is any run of characters of one segment, `?` one of them, `{a,b}` either, `**.` any number of
 * segments, also none, `**` at the end all below.  What matches a module covers its parameters: a
 * pattern may end where a segment of the path does.
 */
#include "frontend/sema.h"

#include <string.h>

enum { MOST_PLAIN = 256, MOST_STARS = 8 };

/* A pattern without braces. */
static bool matches(const char *g, const char *p) {
  if (!*g) return !*p || *p == '.';
  if (!strncmp(g, "**.", 3)) {
    for (const char *at = p;; at++) {
      if (matches(g + 3, at)) return true;
      at = strchr(at, '.');
      if (!at) return false;
    }
  }
  if (!strcmp(g, "**")) return true;
  if (*g == '*') {
    for (;; p++) {
      if (matches(g + 1, p)) return true;
      if (!*p || *p == '.') return false;
    }
  }
  if (!*p) return false;
  if (*g == '?' ? *p == '.' : *g != *p) return false;
  return matches(g + 1, p + 1);
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

static bool few_stars(const char *g) {
  int n = 0;
  for (; *g; g++) n += *g == '*';
  return n <= 2 * MOST_STARS;
}

bool glob_read(Sema *s, const char *text, Loc loc, Glob *glob) {
  Patterns all = {.s = s};
  bool ok = *text && few_stars(text) && expand(&all, text);
  if (!ok) diag_error(s->diag, loc, "\"%s\" is no pattern of paths: * ? {a,b} and **. are", text);
  *glob = (Glob){text, loc, all.plain.len, all.plain.at};
  return ok;
}

bool glob_matches(const Glob *glob, const char *path) {
  for (uint32_t i = 0; i < glob->n; i++)
    if (matches(glob->plain[i], path)) return true;
  return false;
}

/* ---- against the model ----------------------------------------------------------------------- */

/* Paths near a pattern that matches none, at most three. */
static const char *near_paths(Sema *s, const char *text) {
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
