/* parser.h: what the files of the reader of IR text share: parse.c reads entries, parse_parts.c
 * what stands around them, parse_text.c what both are made of.
 *
 * All that return bool have reported why they return false.
 */
#ifndef IR_PARSER_H
#define IR_PARSER_H

#include "ir/ir.h"

typedef struct Slot {
  const char *name; /* interned */
  ValueId value;
  uint32_t entry; /* defined in this one */
  Loc loc;
} Slot;

typedef struct Parser {
  Graph *g;
  Arena scratch;
  Diag *diag;
  uint32_t source;
  const char *text, *at, *end;
  uint32_t entry, depth, parts;
  bool lost;  /* a block is not closed: its text ended or the next entry began */
  Slot *slot; /* open addressing by the name's pointer */
  uint32_t slots, names;
  const char *op[OP_COUNT]; /* names of operations as they are written */
} Parser;

/* ---- parse_text.c ---- */

Loc parse_loc_at(const Parser *p, const char *at);
bool parse_fail(Parser *p, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
const char *parse_gap(const Parser *p); /* where something is missing: here, or a line before */
void parse_skip_space(Parser *p);
bool parse_accept(Parser *p, char c);
bool parse_expect(Parser *p, char c, const char *where);
bool parse_word_char(char c);           /* of a word, or of a value's name */
const char *parse_peek_word(Parser *p); /* "": no word comes next */
bool parse_accept_word(Parser *p, const char *word);
bool parse_string(Parser *p, const char **result, const char *what);
bool parse_word_or_string(Parser *p, const char **result, const char *what);
bool parse_integer(Parser *p, int64_t *v, const char *what);
bool parse_natural(Parser *p, int64_t *v, const char *what);
bool parse_number(Parser *p, double *v);
bool parse_type(Parser *p, Type *t);
bool parse_choice(Parser *p, const char *const *names, int n, const char *what, int *chosen);
bool parse_loc(Parser *p, Loc *l); /* [loc("file":line:col)] */

/* ---- parse_parts.c: a part, behind its first word ---- */
bool parse_header(Parser *p);
bool parse_train(Parser *p);
bool parse_hyper(Parser *p);
bool parse_formula(Parser *p);
bool parse_data_source(Parser *p);
bool parse_loss_scale(Parser *p);
bool parse_split(Parser *p);
bool parse_load(Parser *p);
bool parse_state(Parser *p);
bool parse_slot(Parser *p);

#endif
