/* parse.c: one source through lexer, filter and grammar.
 *
 * What is not text is refused before, at its byte: UTF-8 that is not well-formed, a zero byte, a
 * source too large for columns and offsets of 32 bits.  So nothing behind it meets a byte that it
 * cannot print. */
#include "frontend/grammar.h"

#include <string.h>

enum { MAX_SOURCE = 1 << 28 }; /* bytes; columns and offsets stay far from 32 bits */

/* The length of the UTF-8 character at s, at most n bytes; 0 if there is none. */
static size_t utf8_length(const unsigned char *s, size_t n) {
  static const struct {
    unsigned char from, to, second_from, second_to, length;
  } forms[] = {
      {0x01, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
      {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
      {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
  };
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    if (*s < forms[i].from || *s > forms[i].to) continue;
    size_t length = forms[i].length;
    if (length > n) return 0;
    if (length > 1 && (s[1] < forms[i].second_from || s[1] > forms[i].second_to)) return 0;
    for (size_t k = 2; k < length; k++)
      if ((s[k] & 0xc0) != 0x80) return 0;
    return length;
  }
  return 0;
}

static bool is_text(Diag *diag, uint32_t source) {
  const Source *s = &diag->sources.at[source];
  Loc loc = {.source = source, .line = 1, .col = 1};
  if (s->size > MAX_SOURCE) {
    diag_error(diag, loc, "this file is too large: at most %d bytes", MAX_SOURCE);
    return false;
  }
  for (size_t i = 0, length; i < s->size; i += length) {
    length = utf8_length((const unsigned char *)s->text + i, s->size - i);
    if (!length) {
      diag_error(diag, loc, "this is not a text file: byte 0x%02x is not UTF-8 text",
                 (unsigned char)s->text[i]);
      return false;
    }
    loc.col += (uint32_t)length;
    if (s->text[i] == '\n') loc.line++, loc.col = 1;
  }
  return true;
}

void parser_open(Parser *p, Arena *arena, Strings *strings, Diag *diag, uint32_t source) {
  const Source *s = &diag->sources.at[source];
  size_t mark = s->size >= 3 && !memcmp(s->text, "\xef\xbb\xbf", 3) ? 3 : 0; /* byte order mark */
  *p = (Parser){.arena = arena,
                .strings = strings,
                .diag = diag,
                .source = source,
                .line = 1,
                .col = 1 + (uint32_t)mark,
                .at_line_begin = true};
  lexer_open(p, s->text + mark, s->size - mark);
}

Ast *frontend_parse(Arena *arena, Strings *strings, Diag *diag, uint32_t source) {
  if (!is_text(diag, source)) return NULL;
  uint32_t errors = diag->errors;
  Parser *p = NEW(arena, Parser);
  parser_open(p, arena, strings, diag, source);
  int failed = grammar_parse(p);
  lexer_close(p);
  arena_free(&p->scratch);
  return failed || diag->errors != errors ? NULL : p->root;
}
