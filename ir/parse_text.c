/* parse_text.c: what all IR text is made of: places, errors, words, strings, numbers, types,
 * choices among names, `loc(…)`.
 *
 * There is no separate pass of tokens: each function skips white space and comments, looks at what
 * stands there, and takes it or reports what was expected.  What is missing at a line's end is
 * reported there, not at the start of the next line.
 */
#include "ir/parser.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- places and errors ---------------------------------------------------------------------- */

Loc parse_loc_at(const Parser *p, const char *at) {
  const Source *s = &p->diag->sources.at[p->source];
  uint32_t offset = (uint32_t)(at - p->text), low = 0, high = s->lines;
  while (high - low > 1) {
    uint32_t middle = low + (high - low) / 2;
    if (s->line_start[middle] <= offset) low = middle;
    else high = middle;
  }
  return (Loc){
      .source = p->source, .line = low + 1, .col = offset - s->line_start[low] + 1};
}

bool parse_fail(Parser *p, const char *where, const char *fmt, ...) {
  Text t = {.arena = &p->scratch};
  va_list ap;
  va_start(ap, fmt);
  text_vprintf(&t, fmt, ap);
  va_end(ap);
  diag_error(p->diag, parse_loc_at(p, where), "%s", t.at);
  return false;
}

/* Where something is missing: here, or at the end of the line before if this is a line's start. */
const char *parse_gap(const Parser *p) {
  const char *s = p->at;
  while (s > p->text && isspace((unsigned char)s[-1]) && s[-1] != '\n') s--;
  if (s == p->text || s[-1] != '\n') return p->at;
  while (s > p->text && isspace((unsigned char)s[-1])) s--;
  return s;
}

void parse_skip_space(Parser *p) {
  for (;;) {
    while (p->at < p->end && isspace((unsigned char)*p->at)) p->at++;
    if (p->at[0] != '/' || p->at[1] != '/') return;
    while (p->at < p->end && *p->at != '\n') p->at++;
  }
}

/* ---- tokens --------------------------------------------------------------------------------- */

bool parse_word_char(char c) { return isalnum((unsigned char)c) || c == '_' || c == '.'; }

bool parse_accept(Parser *p, char c) {
  parse_skip_space(p);
  if (*p->at != c || p->at == p->end) return false;
  p->at++;
  return true;
}

bool parse_expect(Parser *p, char c, const char *where) {
  return parse_accept(p, c) || parse_fail(p, parse_gap(p), "expected `%c` %s", c, where);
}

/* The word that comes next, or "". */
const char *parse_peek_word(Parser *p) {
  parse_skip_space(p);
  const char *s = p->at;
  if (!isalpha((unsigned char)*s) && *s != '_') return "";
  while (parse_word_char(*s)) s++;
  return intern(p->g->strings, p->at, (size_t)(s - p->at));
}

static const char *take_word(Parser *p) {
  const char *w = parse_peek_word(p);
  p->at += strlen(w);
  return w;
}

bool parse_accept_word(Parser *p, const char *word) {
  if (strcmp(parse_peek_word(p), word)) return false;
  p->at += strlen(word);
  return true;
}

static int hex_digit(char c) {
  if (isdigit((unsigned char)c)) return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What stands behind a backslash: the character, or -1. */
static int escape(const char **s) {
  char c = *(*s)++;
  if (c == 'n') return '\n';
  if (c == '"' || c == '\\') return c;
  int high = c == 'x' ? hex_digit((*s)[0]) : -1, low = high < 0 ? -1 : hex_digit((*s)[1]);
  *s += 2;
  return low < 0 || high + low == 0 ? -1 : high * 16 + low;
}

bool parse_string(Parser *p, const char **result, const char *what) {
  parse_skip_space(p);
  const char *start = p->at, *s = start + 1;
  if (*start != '"') return parse_fail(p, parse_gap(p), "expected %s in quotes", what);
  Text t = {.arena = &p->scratch};
  while (*s != '"') {
    if (s >= p->end || *s == '\n' || !*s)
      return parse_fail(p, start, "text does not end on its line");
    const char *at = s;
    int c = *s == '\\' ? (s++, escape(&s)) : (unsigned char)*s++;
    if (c < 0) return parse_fail(p, at, "unknown escape; there are \\\" \\\\ \\n \\x1f");
    text_add_n(&t, (char[]){(char)c}, 1);
  }
  p->at = s + 1;
  *result = intern(p->g->strings, t.len ? t.at : "", t.len);
  return true;
}

bool parse_word_or_string(Parser *p, const char **result, const char *what) {
  const char *w = take_word(p);
  *result = w;
  return *w || parse_string(p, result, what);
}

bool parse_integer(Parser *p, int64_t *v, const char *what) {
  parse_skip_space(p);
  const char *start = p->at;
  if (!isdigit((unsigned char)start[*start == '-']))
    return parse_fail(p, parse_gap(p), "expected %s", what);
  char *stop;
  errno = 0;
  *v = strtoll(start, &stop, 10);
  p->at = stop;
  return !errno || parse_fail(p, start, "the number does not fit in 64 bits");
}

bool parse_natural(Parser *p, int64_t *v, const char *what) {
  parse_skip_space(p);
  const char *start = p->at;
  return parse_integer(p, v, what) &&
         (*v >= 0 || parse_fail(p, start, "expected %s, not negative", what));
}

bool parse_number(Parser *p, double *v) {
  parse_skip_space(p);
  const char *start = p->at;
  double sign = parse_accept(p, '-') ? -1 : 1;
  if (parse_accept_word(p, "inf")) return *v = sign * INFINITY, true;
  if (parse_accept_word(p, "nan")) return *v = NAN, true;
  if (!isdigit((unsigned char)*p->at)) return parse_fail(p, parse_gap(p), "expected a number");
  char *stop;
  *v = sign * strtod(p->at, &stop);
  p->at = stop;
  return !isinf(*v) || parse_fail(p, start, "the number does not fit in a double; write inf");
}

bool parse_type(Parser *p, Type *t) {
  parse_skip_space(p);
  if (type_parse(&p->at, t)) return true;
  const char *name = parse_peek_word(p);
  DType d;
  if (*name && !dtype_parse(name, strlen(name), &d)) {
    const char *near = nearest_name(name, dtype_name, DT_COUNT);
    if (near)
      return parse_fail(p, p->at, "unknown element type `%s`; did you mean `%s`?", name, near);
    return parse_fail(p, p->at, "unknown element type `%s`", name);
  }
  return parse_fail(p, parse_gap(p), "expected a type, such as f32[64,10], of at most %d axes",
                    MAX_RANK);
}

/* One of `names`, by its place among them. */
bool parse_choice(Parser *p, const char *const *names, int n, const char *what, int *chosen) {
  const char *w = parse_peek_word(p);
  for (int i = 0; i < n; i++)
    if (!strcmp(w, names[i])) {
      p->at += strlen(w);
      *chosen = i;
      return true;
    }
  const char *near = nearest_name(w, names, (size_t)n);
  if (near) return parse_fail(p, p->at, "unknown %s `%s`; did you mean `%s`?", what, w, near);
  if (*w) return parse_fail(p, p->at, "unknown %s `%s`", what, w);
  return parse_fail(p, parse_gap(p), "expected %s %s", strchr("aeiou", *what) ? "an" : "a", what);
}

/* ---- places of the user's source ------------------------------------------------------------ */

static uint32_t source_named(Parser *p, const char *name) {
  Diag *d = p->diag;
  for (uint32_t i = d->sources.len; i-- > 0;)
    if (!strcmp(d->sources.at[i].name, name)) return i;
  return diag_source(d, name, "", 0);
}

static bool loc_part(Parser *p, uint32_t *part, const char *what) {
  int64_t v = 0;
  if (!parse_natural(p, &v, what)) return false;
  *part = (uint32_t)v;
  return v <= UINT32_MAX || parse_fail(p, p->at, "place out of range");
}

bool parse_loc(Parser *p, Loc *l) {
  Loc read = {0};
  const char *file;
  if (!parse_accept_word(p, "loc")) return true;
  if (!parse_expect(p, '(', "behind loc")) return false;
  if (parse_accept_word(p, "unknown")) {
    *l = read;
    return parse_expect(p, ')', "behind the place");
  }
  parse_skip_space(p);
  if (*p->at != '"') {
    if (!loc_part(p, &read.source, "a source")) return false;
  } else if (!parse_string(p, &file, "a source")) return false;
  else read.source = source_named(p, file);
  if (!parse_expect(p, ':', "and a line") || !loc_part(p, &read.line, "a line")) return false;
  if (!parse_expect(p, ':', "and a column") || !loc_part(p, &read.col, "a column")) return false;
  parse_skip_space(p);
  if (*p->at == '"' && !parse_string(p, &read.module, "a module")) return false;
  read.backward = parse_accept_word(p, "backward");
  *l = read;
  return parse_expect(p, ')', "behind the place");
}
