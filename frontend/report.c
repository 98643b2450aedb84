/* report.c: what a syntax error says.
 *
 * Bison knows the offending token and what could have stood there.  People are served better by
 * what they probably meant, so the well-known ways to be wrong are tried first, most certain
 * first; then "unexpected X", with what was expected where that is at most four things.
 * Nothing is said twice of one statement (Parser.quiet), and nothing after Parser.stop.
 */
#include "frontend/grammar.h"

#include <string.h>

/* Words of other languages that no statement of this one begins with. */
static const struct {
  const char *word, *hint;
} habits[] = {
    {"class", "a layer is written `module NAME(...) { ... }`"},
    {"def", "a function is written `fn NAME(...) { ... }`"},
    {"elif", "write `else if`"},
    {"from", "write `import \"file.mp\" as NAME`"},
    {"func", "a function is written `fn NAME(...) { ... }`"},
    {"function", "a function is written `fn NAME(...) { ... }`"},
    {"lambda", "a function is written `fn (x) = ...`"},
    {"let", "a name is bound by `NAME = ...` alone"},
    {"var", "a name is bound by `NAME = ...` alone"},
    {"while", "a loop has a count known when compiling: `for i in range(n) { ... }`, or `scan`"},
};

static const char *const statement_keywords[] = {"assert", "config", "extern", "fn",
                                                 "for",    "if",     "import", "model",
                                                 "module", "return", "version"};

/* What the source says at a token, for `...`; long ones are cut. */
static const char *token_text(Parser *p, const Token *t) {
  const Source *s = &p->diag->sources.at[p->source];
  size_t at = s->line_start[t->loc.line - 1] + t->loc.col - 1, n = t->end - t->loc.col;
  int shown = n > 40 ? 37 : (int)n;
  return arena_printf(&p->scratch, "%.*s%s", shown, s->text + at, n > 40 ? "..." : "");
}

static const char *token_words(Parser *p, const Token *t) {
  int cause = t->kind == T_TERM ? (int)t->value.i : t->kind;
  if (cause == 0) return t->kind == T_TERM ? "end of the line" : "end of the file";
  bool is_keyword = t->kind >= T_VERSION && t->kind <= T_NOT;
  return arena_printf(&p->scratch, "%s`%s`", is_keyword ? "keyword " : "", token_text(p, t));
}

/* Bison's name of a symbol: 'x' and keywords get the quotes of messages, descriptions none. */
static const char *symbol_words(Parser *p, const char *name) {
  if (*name == '\'') return arena_printf(&p->scratch, "`%c`", name[1]);
  bool is_plain = strchr(name, ' ') != NULL;
  return is_plain ? name : arena_printf(&p->scratch, "`%s`", name);
}

/* ---- what was probably meant: each returns whether it has said so --------------------------- */

static bool is_number(int kind) { return kind == T_INT || kind == T_FLOAT; }

static bool said_percent(Parser *p) {
  if (p->before_last.kind != '%' || !is_number(p->before_before)) return false;
  diag_error(p->diag, p->last.loc, "there are no percent literals: write 10%% as 0.1");
  return true;
}

static bool said_habit(Parser *p, const Token *t) {
  if (t->kind != T_NAME) return false;
  for (size_t i = 0; i < sizeof habits / sizeof *habits; i++) {
    if (strcmp(habits[i].word, t->value.name)) continue;
    diag_error(p->diag, t->loc, "there is no `%s`: %s", habits[i].word, habits[i].hint);
    return true;
  }
  return false;
}

/* Two words in a row where the first is almost a keyword: `retrun x`. */
static bool said_misspelt(Parser *p) {
  if (p->first.kind != T_NAME || p->second.kind < T_NAME) return false;
  const char *word = p->first.value.name;
  size_t n = sizeof statement_keywords / sizeof *statement_keywords;
  const char *near = nearest_name(word, statement_keywords, n);
  if (!near) return false;
  diag_error(p->diag, p->last.loc, "unexpected %s after `%s`: did you mean `%s`?",
             token_words(p, &p->last), word, near);
  if (p->first.loc.line == p->last.loc.line)
    diag_fixit(p->diag, p->first.loc, (uint32_t)strlen(word), near);
  return true;
}

static bool said_conditional(Parser *p) {
  if (p->last.kind != T_IF || p->last.begins_line) return false;
  diag_error(p->diag, p->last.loc, "a choice is written `if c { a } else { b }`");
  return true;
}

/* A declaration within code: rather the code was never ended. */
static bool said_unended(Parser *p) {
  int kind = p->last.kind;
  bool is_declaration = kind == T_MODULE || kind == T_MODEL || kind == T_IMPORT ||
                        kind == T_CONFIG || kind == T_VERSION || kind == T_EXTERN;
  if (!is_declaration || !p->last.begins_line || !p->depth) return false;
  report_unclosed(p);
  diag_note(p->diag, p->last.loc, "this begins a declaration, which cannot stand in code");
  p->stop = true;
  return true;
}

static void say_unexpected(Parser *p, const char *const *expected, int count) {
  Text t = {.arena = &p->scratch};
  for (int i = 0; i < count; i++) {
    text_add(&t, i == 0 ? "; expected " : i + 1 < count ? ", " : " or ");
    text_add(&t, symbol_words(p, expected[i]));
  }
  diag_error(p->diag, p->last.loc, "unexpected %s%s", token_words(p, &p->last), t.at ? t.at : "");
  if (!p->depth || !p->last.begins_line) return;
  const Bracket *b = &p->open[p->depth - 1];
  if (b->kind != '{') diag_note(p->diag, b->loc, "this `%c` is still open", b->kind);
}

void report_syntax_error(Parser *p, const char *const *expected, int count) {
  if (p->quiet || p->stop) return;
  bool is_shown = !p->diag->limit || p->diag->errors < p->diag->limit;
  if (!is_shown) diag_error(p->diag, p->last.loc, "syntax"); /* only counted: be quick */
  bool is_said = !is_shown || said_percent(p) || said_habit(p, &p->first) ||
                 said_habit(p, &p->last) || said_misspelt(p) || said_conditional(p) ||
                 said_unended(p);
  if (!is_said) say_unexpected(p, expected, count);
  p->quiet = true;
}

/* ---- errors found elsewhere ----------------------------------------------------------------- */

void report_unclosed(Parser *p) {
  const Bracket *b = &p->open[p->depth - 1];
  if (!p->quiet) diag_error(p->diag, b->loc, "this `%c` is never closed", b->kind);
  p->quiet = true;
}

void report_too_deep(Parser *p, Loc loc) {
  if (!p->stop)
    diag_error(p->diag, loc, "this is nested too deeply: at most %d levels", AST_LEVELS);
  p->stop = true;
}

void report_element_assigned(Parser *p, Loc loc) {
  diag_error(p->diag, loc, "lists and tensors do not change: build a new value, as with `write`");
}
