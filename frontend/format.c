/* format.c: the standard layout of a source, for `mpcc fmt`.
 *
 * Works on tokens, so comments, line breaks and the spelling of numbers stay as they were written;
 * what changes is white space alone.  The rules:
 *   - a line in a block is two columns further in than the line that opened the block; the `}`
 * stands where that line does
 *   - a line inside ( or [, or one that goes on with an expression, keeps its place relative to the
 *     line it belongs to
 *   - one blank between tokens where one is due; around `+ - * / % @ ^` both sides have one or
 *     neither, as the author grouped them (2*d + 1); before ( and [ the author's choice stands,
 *     because a word before a bracket may be a call or a setting
 *   - at most one blank line, none behind `{` or in front of `}`; a comment behind code keeps its
 *     column where there is room
 * Formatting what was formatted changes nothing.
 */
#include "frontend/grammar.h"

#include <string.h>

enum { INDENT = 2 };

typedef struct Opened { /* an open bracket */
  char kind;
  int indent, shift; /* of the line it stands on: its new indentation; that minus the old */
} Opened;

typedef struct Format {
  Parser *p; /* for the lexer */
  const Source *source;
  Text *out;
  VEC(Token) tokens; /* ends with kind 0 */
  VEC(Opened) open;
  size_t line_begin; /* in out */
  int indent, shift; /* of the line being written */
  int statement;     /* shift of the line that the statement began on */
} Format;

static bool is_in(int kind, const char *set) { return kind > 0 && kind < 128 && strchr(set, kind); }

/* ---- the source between tokens --------------------------------------------------------------- */

static size_t offset_of(const Format *f, uint32_t line, uint32_t col) {
  return f->source->line_start[line - 1] + col - 1;
}

static size_t begin_of(const Format *f, const Token *t) {
  return t->kind ? offset_of(f, t->loc.line, t->loc.col) : f->source->size;
}

/* A token never spans lines. */
static size_t end_of(const Format *f, const Token *t) { return offset_of(f, t->loc.line, t->end); }

/* From `at` to the end of its line; the source need not end with a NUL. */
static size_t rest_of_line(const Format *f, size_t at) {
  size_t n = 0;
  while (at + n < f->source->size && f->source->text[at + n] != '\n') n++;
  return n;
}

/* Blanks at `at`. */
static size_t blanks_at(const Format *f, size_t at) {
  size_t n = 0, most = rest_of_line(f, at);
  while (n < most && is_in(f->source->text[at + n], " \t\r")) n++;
  return n;
}

static int old_indent(const Format *f, uint32_t line) {
  return (int)blanks_at(f, f->source->line_start[line - 1]);
}

/* ---- blanks between tokens ------------------------------------------------------------------- */

static bool ends_value(int kind) {
  return kind == T_NAME || kind == T_INT || kind == T_FLOAT || kind == T_STRING || kind == T_BOOL ||
         kind == ')' || kind == ']' || kind == '}';
}

static bool is_infix(const Token *before, const Token *t) {
  return is_in(t->kind, "+-*/%@^") && ends_value(before->kind);
}

static bool apart(const Format *f, const Token *a, const Token *b) {
  return a->loc.line != b->loc.line || begin_of(f, b) > end_of(f, a);
}

/* tokens[i] is an operator between two values: blanks on both sides, or on neither. */
static bool infix_blank(const Format *f, uint32_t i) {
  const Token *t = &f->tokens.at[i];
  return apart(f, t - 1, t) || apart(f, t, t + 1);
}

static bool blank_at_colon(const Format *f, const Token *a, const Token *b) {
  bool slice = f->open.len && f->open.at[f->open.len - 1].kind == '[';
  if (slice) return apart(f, a, b);
  return a->kind == ':';
}

/* How many blanks stand between tokens i - 1 and i of one line. */
static int blanks(const Format *f, uint32_t i) {
  const Token *b = &f->tokens.at[i], *a = b - 1;
  bool unary = i < 2 || !ends_value(a[-1].kind);
  if (b->kind == ';' || b->kind == ',' || is_in(b->kind, ")]") || is_in(a->kind, "([")) return 0;
  if (a->kind == ';') return begin_of(f, b) - end_of(f, a) >= 2 ? 2 : 1;
  if (b->kind == '.') return a->kind == T_INT; /* 1.f would be half a number */
  if (a->kind == '.') return 0;
  if (a->kind == T_DOTS) return b->kind == T_NAME ? 0 : 1;
  if (a->kind == ',') return 1;
  if (a->kind == ':' || b->kind == ':') return blank_at_colon(f, a, b);
  if (is_infix(a, b)) return infix_blank(f, i);
  if (is_in(a->kind, "+-*/%@^")) return unary ? 0 : infix_blank(f, i - 1);
  if (is_in(b->kind, "([") && ends_value(a->kind)) return apart(f, a, b);
  if (a->kind == '{' && b->kind == '}') return apart(f, a, b);
  return 1;
}

/* ---- lines ----------------------------------------------------------------------------------- */

static void add_blanks(Text *t, int n) {
  while (n-- > 0) text_add(t, " ");
}

static bool goes_on(const Format *f, uint32_t i) {
  const Token *t = &f->tokens.at[i];
  if (!i || is_in(t->kind, "}")) return false;
  int last = t[-1].kind;
  if (last == ',' && f->open.len && f->open.at[f->open.len - 1].kind == '{') return false;
  if (last == ';' || last == '{') return false;
  return !ends_value(last) || is_in(t->kind, "+-*/%@^<>=.,:{") || t->kind == T_EQ ||
         t->kind == T_NE || t->kind == T_LE || t->kind == T_GE || t->kind == T_AND ||
         t->kind == T_OR || t->kind == T_BECOMES || t->kind == T_ARROW || t->kind == T_THEN ||
         t->kind == T_ELSE || t->kind == T_GRAD;
}

/* Where a line goes whose old indentation is `old`; closes: it begins with a closing bracket. */
static void place_line(Format *f, int old, bool continues, bool closes) {
  const Opened *in = f->open.len ? &f->open.at[f->open.len - 1] : NULL;
  bool statement = !in || in->kind == '{';
  if (!statement) f->indent = old + in->shift;
  else if (continues) f->indent = old + f->statement;
  else f->indent = !in ? 0 : closes ? in->indent : in->indent + INDENT;
  if (f->indent < 0) f->indent = 0;
  f->shift = f->indent - old;
  if (statement && !continues) f->statement = f->shift;
  f->line_begin = f->out->len;
  add_blanks(f->out, f->indent);
}

static void end_line(Format *f) {
  while (f->out->len && f->out->at[f->out->len - 1] == ' ') f->out->at[--f->out->len] = 0;
  text_add(f->out, "\n");
}

/* A comment without what stands behind it. */
static void add_comment(Format *f, const char *s, size_t n) {
  while (n && (s[n - 1] == ' ' || s[n - 1] == '\t' || s[n - 1] == '\r')) n--;
  text_add_n(f->out, s, n);
}

/* A comment behind code. */
static void trailing_comment(Format *f, const char *s, size_t n, size_t column) {
  size_t now = f->out->len - f->line_begin;
  add_blanks(f->out, now + 1 <= column ? (int)(column - now) : 2);
  add_comment(f, s, n);
}

/* What lies between two tokens on different lines: the rest of the first one's line, then lines of
 * comments and empty ones.  Leaves the output at the begin of a line. */
static void write_gap(Format *f, const Token *before, const Token *next) {
  size_t at = before ? end_of(f, before) : 0, end = begin_of(f, next);
  const char *text = f->source->text;
  bool first = before != NULL, blank = false, any = before != NULL && before->kind != '{';
  while (at < end || first) {
    size_t n = rest_of_line(f, at), skip = blanks_at(f, at);
    if (at + n >= end && !first && next->kind) break; /* the line that `next` stands on */
    if (n > end - at) n = end - at;
    bool comment = skip < n;
    if (first && comment)
      trailing_comment(f, text + at + skip, n - skip,
                       at + skip - f->source->line_start[before->loc.line - 1]);
    if (first) end_line(f);
    else if (comment) {
      if (blank && any) text_add(f->out, "\n");
      place_line(f, (int)skip, false, false);
      add_comment(f, text + at + skip, n - skip);
      end_line(f);
      any = true;
    }
    blank = !first && !comment && (at < end);
    first = false;
    at += n + 1;
  }
  if (blank && any && next->kind && next->kind != '}') text_add(f->out, "\n");
}

static void track_bracket(Format *f, const Token *t) {
  if (is_in(t->kind, "([{"))
    vec_push(&f->p->scratch, &f->open, (Opened){(char)t->kind, f->indent, f->shift});
  if (is_in(t->kind, ")]}") && f->open.len) f->open.len--;
}

static void write_token(Format *f, uint32_t i) {
  const Token *t = &f->tokens.at[i];
  if (i && t[-1].loc.line == t->loc.line) add_blanks(f->out, blanks(f, i));
  else {
    write_gap(f, i ? t - 1 : NULL, t);
    place_line(f, old_indent(f, t->loc.line), goes_on(f, i), t->kind == '}');
  }
  text_add_n(f->out, f->source->text + begin_of(f, t), end_of(f, t) - begin_of(f, t));
  track_bracket(f, t);
}

void format_source(Strings *strings, Diag *diag, uint32_t source, Text *out) {
  const Source *s = &diag->sources.at[source];
  Parser p;
  Format f = {.p = &p, .source = s, .out = out};
  Token t = {0};
  parser_open(&p, out->arena, strings, diag, source);
  do {
    t.kind = lexer_next(&t, p.scanner);
    p.at_line_begin = false;
    vec_push(&p.scratch, &f.tokens, t);
  } while (t.kind);
  lexer_close(&p);
  text_add(out, "");
  for (uint32_t i = 0; f.tokens.at[i].kind; i++) write_token(&f, i);
  write_gap(&f, f.tokens.len > 1 ? &f.tokens.at[f.tokens.len - 2] : NULL,
            &f.tokens.at[f.tokens.len - 1]);
  arena_free(&p.scratch);
}
