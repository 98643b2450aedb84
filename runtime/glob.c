/* glob.c: patterns of paths, and names built from what they matched.
 *
 *   *       any part of one segment            ?       one character of it
 *   **.     any number of whole segments       **      at the end: anything
 *   {a,b}   either; braces may hold braces
 *
 * The compiler has the same patterns (frontend/glob.c), and includes nothing of the runtime nor the
 * other way round; tests/unit/test_glob.c holds the two to the same answers.
 *
 * A pattern that matches a module covers what is in it: `net.0` covers net.0.weight.  In a rename
 * the wildcards on the left fill those on the right in order, and what a module's pattern left over
 * is appended.
 */
#include "runtime/rt.h"

#include <string.h>

enum { MAX_PATTERN = 512, MOST_PLAIN = 256 };

typedef struct Match {
  mp_glob_parts *parts;
  const char *end; /* of the path, or of the module that is tried */
  uint32_t plain;  /* patterns without braces that were tried */
} Match;

static bool match(Match *m, const char *glob, const char *p);

static size_t wildcard(const char *g) { /* its length; 0: none */
  if (g[0] == '*' && g[1] == '*' && g[2] == '.') return 3;
  if (g[0] == '*' && g[1] == '*' && !g[2]) return 2;
  return *g == '*' || *g == '?';
}

/* The wildcard took [p, p + n): does the rest fit? */
static bool take(Match *m, const char *rest, const char *p, size_t n) {
  mp_glob_parts *parts = m->parts;
  if (parts->len == MP_LEN(parts->at)) return false;
  parts->at[parts->len].at = p;
  parts->at[parts->len++].n = n;
  if (match(m, rest, p + n)) return true;
  parts->len--;
  return false;
}

/* `**.` takes nothing or up to behind a point; `**` anything; `*` up to a point. */
static bool match_many(Match *m, const char *g, size_t width, const char *p) {
  for (size_t n = 0; p + n <= m->end; n++) {
    bool whole = width != 3 || !n || p[n - 1] == '.';
    if (whole && take(m, g + width, p, n)) return true;
    if (width == 1 && p + n < m->end && p[n] == '.') return false;
  }
  return false;
}

static bool match(Match *m, const char *g, const char *p) {
  size_t width = wildcard(g);
  if (!*g) return p == m->end;
  if (*g == '?') return p < m->end && *p != '.' && take(m, g + 1, p, 1);
  if (width) return match_many(m, g, width, p);
  return p < m->end && *g == *p && match(m, g + 1, p + 1);
}

/* The brace that closes the one at g, or NULL. */
static const char *closing(const char *g) {
  int depth = 0;
  for (; *g; g++) {
    depth += (*g == '{') - (*g == '}');
    if (!depth) return g;
  }
  return NULL;
}

/* Where the choice from `a` on ends: at a comma that no inner brace holds, or at `close`. */
static const char *choice_end(const char *a, const char *close) {
  for (int depth = 0; a < close && (depth || *a != ','); a++) depth += (*a == '{') - (*a == '}');
  return a;
}

/* begin{a,b}rest is beginarest or beginbrest; the first braces first. */
static bool match_choices(Match *m, const char *glob, const char *path) {
  const char *open = strchr(glob, '{'), *close = open ? closing(open) : NULL;
  if (!open) return m->plain++ < MOST_PLAIN && match(m, glob, path);
  for (const char *a = open + 1, *end; close && a <= close; a = end + 1) {
    char pattern[MAX_PATTERN];
    end = choice_end(a, close);
    size_t begin = (size_t)(open - glob), n = (size_t)(end - a), rest = strlen(close + 1);
    if (begin + n + rest >= sizeof pattern || m->plain >= MOST_PLAIN) return false;
    memcpy(pattern, glob, begin);
    memcpy(pattern + begin, a, n);
    memcpy(pattern + begin + n, close + 1, rest + 1);
    if (match_choices(m, pattern, path)) return true;
  }
  return false;
}

bool mp_glob_match(const char *glob, const char *path, mp_glob_parts *parts) {
  const char *end = path + strlen(path);
  for (const char *at = end; at > path; at--) {
    if (at != end && *at != '.') continue;
    parts->len = 0;
    Match m = {.parts = parts, .end = at};
    parts->rest = at;
    if (match_choices(&m, glob, path)) return true;
  }
  return false;
}

bool mp_glob_fill(const char *to, const mp_glob_parts *parts, mp_text *out) {
  uint32_t used = 0;
  while (*to) {
    size_t width = wildcard(to);
    if (width && used == parts->len) return false;
    if (width) mp_text_add(out, "%.*s", (int)parts->at[used].n, parts->at[used].at), used++;
    else mp_text_add(out, "%c", *to);
    to += width ? width : 1;
  }
  mp_text_add(out, "%s", parts->rest);
  return used == parts->len;
}
