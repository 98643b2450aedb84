/* filter.c: between lexer and grammar: line ends, brackets, and where to go on after an error.
 *
 * A line end becomes TERM iff the token before it can end a value, the one behind it cannot
 * continue one, and the innermost open bracket is not ( or [.  TERM is also supplied before `}` and
 * at the end of the file, except after `,` and `{`; `;` is always TERM.  No two TERMs follow each
 * other.  A statement keyword, `}` or the end of the file under an open ( or [ closes it, with one
 * error at the bracket.
 */
#include "frontend/grammar.h"

static bool can_end_value(int kind) {
  switch (kind) {
  case T_NAME:
  case T_INT:
  case T_FLOAT:
  case T_STRING:
  case T_BOOL:
  case ')':
  case ']':
  case '}': return true;
  default: return false;
  }
}

/* Tokens that go on with what the line before began.  `(` and `[` do not: a line may begin so. */
static bool continues_value(int kind) {
  switch (kind) {
  case '+':
  case '-':
  case '*':
  case '/':
  case '%':
  case '@':
  case '^':
  case '<':
  case '>':
  case '=':
  case '.':
  case ',':
  case ':':
  case '{':
  case ')':
  case ']':
  case T_EQ:
  case T_NE:
  case T_LE:
  case T_GE:
  case T_AND:
  case T_OR:
  case T_BECOMES:
  case T_ARROW:
  case T_THEN:
  case T_ELSE:
  case T_GRAD: return true;
  default: return false;
  }
}

/* Keywords that begin a statement and nothing else, but for `: module`, a type. */
static bool begins_statement(const Parser *p, const Token *t) {
  switch (t->kind) {
  case T_VERSION:
  case T_IMPORT:
  case T_CONFIG:
  case T_MODEL:
  case T_EXTERN:
  case T_RETURN:
  case T_ASSERT: return t->begins_line;
  case T_MODULE: return t->begins_line && p->last.kind != ':';
  default: return false;
  }
}

/* ---- reading -------------------------------------------------------------------------------- */

static Token take(Parser *p) {
  Token t = p->held;
  if (!p->is_held) {
    t = (Token){0};
    t.kind = lexer_next(&t, p->scanner);
    t.is_spoiled = p->spoiled_line == t.loc.line;
    if (p->spoiled_line && p->spoiled_line == p->last.loc.line) p->quiet = true;
    p->spoiled_line = 0;
    p->at_line_begin = false;
  }
  p->is_held = false;
  return t;
}

static void hold(Parser *p, Token t) {
  p->held = t;
  p->is_held = true;
}

/* The TERM of a line is behind its last token, any other where what brings it is. */
static Token terminator(const Parser *p, const Token *next) {
  Token t = {.kind = T_TERM, .value.i = next->kind, .loc = next->loc, .end = next->end};
  if (next->kind == '}' || next->kind == ';' || !p->last.loc.line) return t;
  if (next->kind != T_END) t.value.i = 0;
  t.loc = p->last.loc;
  t.loc.col = t.end = p->last.end;
  return t;
}

/* ---- brackets ------------------------------------------------------------------------------- */

static bool is_round_open(const Parser *p) { return p->depth && p->open[p->depth - 1].kind != '{'; }

static void push(Parser *p, char kind, Loc loc) {
  if (p->depth == MAX_BRACKETS) {
    diag_error(p->diag, loc, "brackets nest at most %d deep", MAX_BRACKETS);
    p->stop = true;
    return;
  }
  p->open[p->depth++] = (Bracket){kind, loc};
  p->braces += kind == '{';
}

static void pop(Parser *p) { p->braces -= p->open[--p->depth].kind == '{'; }

static void drop_round(Parser *p) {
  while (is_round_open(p)) pop(p);
}

static void closes_nothing(Parser *p, const Token *t) {
  if (!p->quiet) diag_error(p->diag, t->loc, "`%c` closes nothing", t->kind);
  p->quiet = true;
}

/* A bracket that does not match goes on to the grammar, which will not take it and recover. */
static void close_round(Parser *p, const Token *t) {
  char opener = t->kind == ')' ? '(' : '[';
  if (!is_round_open(p)) closes_nothing(p, t);
  else if (p->open[p->depth - 1].kind == opener) pop(p);
  else report_unclosed(p);
}

/* ---- statements ----------------------------------------------------------------------------- */

/* Is a TERM due before t? */
static bool ends_statement(Parser *p, const Token *t) {
  int last = p->last.kind;
  if (is_round_open(p) && (t->kind == '}' || begins_statement(p, t))) {
    report_unclosed(p);
    drop_round(p);
    return last != T_TERM;
  }
  if (t->kind == '}' || t->kind == T_END)
    return last && last != T_TERM && last != ',' && last != '{';
  if (is_round_open(p) || !t->begins_line) return false;
  return can_end_value(last) && !continues_value(t->kind);
}

/* A statement of nothing: `;` where none has begun, `}` where no block is open. */
static bool is_dropped(Parser *p, const Token *t) {
  int last = p->last.kind;
  if (t->kind == ';') return !last || last == T_TERM || last == '{';
  if (t->kind != '}' || p->braces) return false;
  closes_nothing(p, t);
  return true;
}

static Token deliver(Parser *p, Token t) {
  if (t.is_spoiled) p->quiet = true;
  if (t.kind == ';') return terminator(p, &t);
  if (t.kind == '(' || t.kind == '[' || t.kind == '{') push(p, (char)t.kind, t.loc);
  else if (t.kind == ')' || t.kind == ']') close_round(p, &t);
  else if (t.kind == '}') pop(p);
  return t;
}

static Token next_token(Parser *p) {
  Token t;
  if (p->owes_term && !p->stop) {
    p->owes_term = false;
    t = take(p);
    hold(p, t);
    return terminator(p, &t);
  }
  do {
    if (p->stop) return (Token){.loc = p->last.loc, .end = p->last.end};
    t = take(p);
  } while (is_dropped(p, &t));
  if (t.kind == T_END && p->depth) {
    report_unclosed(p);
    p->stop = true;
    return t;
  }
  if (!ends_statement(p, &t)) return deliver(p, t);
  hold(p, t);
  return terminator(p, &t);
}

int grammar_lex(TokenValue *value, Loc *loc, Parser *p) {
  int last = p->last.kind;
  if (last == T_TERM) p->quiet = false;
  Token t = next_token(p);
  if (!last || last == T_TERM || last == '{' || last == '}') p->first = p->second = (Token){0};
  if (!p->first.kind) p->first = t;
  else if (!p->second.kind) p->second = t;
  p->before_before = p->before_last.kind;
  p->before_last = p->last;
  p->last = t;
  *value = t.value;
  *loc = t.loc;
  return t.kind;
}

/* ---- recovery ------------------------------------------------------------------------------- */

/* Reads up to the token that ends or follows the statement; blocks in it are skipped whole. */
static Token skip_statement(Parser *p, int last, uint32_t blocks) {
  for (;;) {
    Token t = take(p);
    bool is_next = t.begins_line && last != ',' && !continues_value(t.kind);
    if (t.kind == T_END) return t;
    if (!blocks && (t.kind == '}' || t.kind == ';' || is_next)) return t;
    if (t.kind == '{') blocks++;
    if (t.kind == '}') blocks--;
    last = t.kind;
  }
}

/* The grammar has refused the last token: it will throw away what comes until TERM.  So drop the
 * open ( and [, skip the rest of the statement, and deliver TERM next. */
void filter_recover(Parser *p) {
  int kind = p->last.kind;
  if (p->stop) return;
  if (kind == '{') pop(p);
  drop_round(p);
  if (kind == T_TERM || kind == T_END) return;
  if (kind == '}') { /* it will be wanted again, after the TERM */
    hold(p, p->last);
    p->open[p->depth++] = (Bracket){'{', p->last.loc};
    p->braces++;
  } else {
    hold(p, skip_statement(p, kind, kind == '{'));
  }
  p->owes_term = true;
}
