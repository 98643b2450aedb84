/* diag.c: errors, warnings and notes with the line and a caret.  The only place that prints what
 * the user did wrong; callers return NULL or false and go on. */
#include "base/base.h"

#include <string.h>

enum { SHOWN = 100 }; /* columns of a source line that are shown at most */

void diag_init(Diag *d, Arena *a, FILE *out) { *d = (Diag){.arena = a, .out = out, .limit = 20}; }

uint32_t diag_source(Diag *d, const char *name, const char *text, size_t size) {
  VEC(uint32_t) starts = {0};
  vec_push(d->arena, &starts, 0);
  for (size_t i = 0; i < size; i++)
    if (text[i] == '\n') vec_push(d->arena, &starts, (uint32_t)i + 1);
  vec_push(d->arena, &starts, (uint32_t)size + 1);
  Source s = {
      .name = name, .text = text, .size = size, .line_start = starts.at, .lines = starts.len - 1};
  vec_push(d->arena, &d->sources, s);
  return d->sources.len - 1;
}

/* The line with the caret under col; a long line is shown around it. */
static void show_line(Diag *d, const Source *s, Loc loc) {
  uint32_t from = s->line_start[loc.line - 1], to = s->line_start[loc.line] - 1;
  uint32_t at = from + loc.col - 1;
  if (at > to) at = to;
  uint32_t begin = at - from > SHOWN / 2 && to - from > SHOWN ? at - SHOWN / 2 : from;
  uint32_t end = to - begin > SHOWN ? begin + SHOWN : to;
  int indent = fprintf(d->out, "%5u | ", (unsigned)loc.line);
  for (uint32_t i = begin; i < end; i++) {
    unsigned char c = (unsigned char)s->text[i];
    fputc(c < 32 || c == 127 ? ' ' : c, d->out);
  }
  fprintf(d->out, "\n%*s| ", indent - 2, "");
  for (uint32_t i = begin; i < at; i++)
    if (((unsigned char)s->text[i] & 0xC0) != 0x80) fputc(' ', d->out); /* one per character */
  fputs("^\n", d->out);
}

static void say(Diag *d, Loc loc, const char *kind, const char *fmt, va_list ap) {
  if (!d->out) return;
  const Source *s = loc.line && loc.source < d->sources.len ? &d->sources.at[loc.source] : NULL;
  if (s) fprintf(d->out, "%s:%u:%u: ", s->name, (unsigned)loc.line, (unsigned)loc.col);
  else fputs("mpcc: ", d->out);
  fprintf(d->out, "%s: ", kind);
  vfprintf(d->out, fmt, ap);
  fputc('\n', d->out);
  if (s && loc.line <= s->lines) show_line(d, s, loc);
}

void diag_error(Diag *d, Loc loc, const char *fmt, ...) {
  d->errors++;
  if (d->limit && d->errors > d->limit) {
    if (d->out && d->errors == d->limit + 1)
      fprintf(d->out, "mpcc: more than %u errors; the rest is not shown\n", (unsigned)d->limit);
    return;
  }
  va_list ap;
  va_start(ap, fmt);
  say(d, loc, "error", fmt, ap);
  va_end(ap);
}

void diag_warning(Diag *d, Loc loc, const char *fmt, ...) {
  d->warnings++;
  va_list ap;
  va_start(ap, fmt);
  say(d, loc, "warning", fmt, ap);
  va_end(ap);
}

void diag_note(Diag *d, Loc loc, const char *fmt, ...) {
  if (d->limit && d->errors > d->limit) return;
  va_list ap;
  va_start(ap, fmt);
  say(d, loc, "note", fmt, ap);
  va_end(ap);
}
