/* parser.h: what lexer, filter, grammar and reports share while one file is read.
 *
 *   lexer.l    text -> tokens; refuses what looks like another language, by name
 *   filter.c   line ends -> terminators; brackets; skips to the next statement after an error
 *   grammar.y  tokens -> tree; knows one way to recover: `error TERM`
 *   report.c   what a syntax error says
 *
 * Invariant of filter and grammar: the `{` in Parser.open are those the grammar has accepted, and
 * in each of them the grammar can shift `error TERM`; so recovery never leaves a block.
 */
#ifndef FRONTEND_PARSER_H
#define FRONTEND_PARSER_H

#include "frontend/ast.h"
#include "frontend/frontend.h"

enum { MAX_BRACKETS = 200 };

typedef VEC(Ast *) AstList;

typedef union TokenValue {
  const char *name;
  int64_t i;
  double f;
  Ast *ast;
  AstList list;
} TokenValue;

typedef struct Token {
  int kind; /* of grammar.h; 0 is the end of the file */
  TokenValue value;
  Loc loc;
  uint32_t end; /* column behind its last byte */
  bool begins_line;
  bool is_spoiled; /* it or what was before it is a known error */
} Token;

typedef struct Bracket {
  char kind; /* ( [ { */
  Loc loc;
} Bracket;

typedef struct Parser {
  Arena *arena;  /* of the tree */
  Arena scratch; /* of lists under construction; gone after the parse */
  Strings *strings;
  Diag *diag;
  uint32_t source;
  void *scanner;      /* flex's */
  uint32_t line, col; /* where the lexer is */
  bool at_line_begin;
  uint32_t spoiled_line; /* where an error was found since the last token, or 0 */

  Token held; /* read but not yet delivered */
  bool is_held;
  Token last, before_last;    /* delivered */
  int before_before;          /* the kind of the one before that */
  Token first, second;        /* of the current statement; kind 0 where there is none */
  Bracket open[MAX_BRACKETS]; /* innermost last */
  uint32_t depth, braces;     /* entries of open; `{` among them */
  bool quiet;     /* an error of this statement is known: a syntax error in it says nothing new */
  bool owes_term; /* after an error: the grammar throws away all tokens up to TERM, also `{` */
  bool stop;      /* nothing behind this point is worth reading */
  Ast *root;
} Parser;

/* ---- lexer.l ---- */
int lexer_next(Token *t, void *scanner);
/* parse.c: at the beginning of a source, behind a byte order mark; to be closed by lexer_close. */
void parser_open(Parser *p, Arena *arena, Strings *strings, Diag *diag, uint32_t source);
void lexer_open(Parser *p, const char *text, size_t size);
void lexer_close(Parser *p);

/* ---- filter.c ---- */
int grammar_lex(TokenValue *value, Loc *loc, Parser *p); /* called by the grammar */
void filter_recover(Parser *p); /* the last token was wrong: go to the end of its statement */

/* ---- report.c ---- */
void report_syntax_error(Parser *p, const char *const *expected, int count);
void report_unclosed(Parser *p); /* the innermost bracket */
void report_too_deep(Parser *p, Loc loc);
void report_element_assigned(Parser *p, Loc loc);

/* ---- ast.c ---- */
Ast *ast_new(Parser *p, AstKind kind, Loc loc, const char *name, Ast *const *kid, size_t n);
Ast *ast_list(Parser *p, AstKind kind, Loc loc, AstList list);
Ast *ast_values(Parser *p, AstList list); /* the only one, or a TUPLE */
AstList list_of(Parser *p, Ast *a);
AstList list_add(Parser *p, AstList list, Ast *a);

#define KIDS(...) (Ast *[]){__VA_ARGS__}, sizeof((Ast *[]){__VA_ARGS__}) / sizeof(Ast *)

#endif
