/* diag.c: errors, warnings, notes and remarks, as text with the line and a caret or as JSON, an
 * object a line.
 *
 * The only place that prints what the user did wrong; callers return NULL or false and go on.
 * Errors are counted and, from a limit on, kept back: the count decides the exit status, so it is
 * what every stage is asked for. */
#include "base/base.h"

#include <string.h>

bool same_place(Loc a, Loc b) {
  return a.source == b.source && a.line == b.line && a.col == b.col;
}

enum {
  SHOWN = 100,           /* columns of a source line that are shown at most */
  MOST_REMEMBERED = 1000 /* errors that are not said twice */
};

typedef enum Severity { NOTE, REMARK, WARNING, ERROR } Severity;

static const struct {
  const char *word, *color; /* of a terminal: bold cyan, magenta, red as compilers have it */
} severities[] = {{"note", "\033[1;36m"},
                  {"remark", "\033[1;34m"},
                  {"warning", "\033[1;35m"},
                  {"error", "\033[1;31m"}};

void diag_init(Diag *d, Arena *a, FILE *out) {
  *d = (Diag){.arena = a, .out = out, .limit = 20};
  warnings_default(d);
}

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

static const char *paint(const Diag *d, const char *color) { return d->color ? color : ""; }

/* What is shown of a line: around col where it is long.  Offsets in the text. */
typedef struct Window {
  uint32_t begin, at, end;
} Window;

static Window window(const Source *s, Loc loc) {
  uint32_t from = s->line_start[loc.line - 1], to = s->line_start[loc.line] - 1;
  uint32_t at = from + loc.col - 1;
  if (at > to) at = to;
  uint32_t begin = at - from > SHOWN / 2 && to - from > SHOWN ? at - SHOWN / 2 : from;
  return (Window){begin, at, to - begin > SHOWN ? begin + SHOWN : to};
}

/* `mark` under the place, below a line that was shown. */
static void show_below(Diag *d, const Source *s, Window w, uint32_t line, const char *mark) {
  int digits = snprintf(NULL, 0, "%5u ", (unsigned)line);
  fprintf(d->out, "%*s| ", digits, "");
  for (uint32_t i = w.begin; i < w.at; i++)
    if (((unsigned char)s->text[i] & 0xC0) != 0x80) fputc(' ', d->out); /* one per character */
  fprintf(d->out, "%s%s%s\n", paint(d, "\033[1;32m"), mark, paint(d, "\033[0m"));
}

static void show_line(Diag *d, const Source *s, Loc loc) {
  Window w = window(s, loc);
  fprintf(d->out, "%5u | ", (unsigned)loc.line);
  for (uint32_t i = w.begin; i < w.end; i++) {
    unsigned char c = (unsigned char)s->text[i];
    fputc(c < 32 || c == 127 ? ' ' : c, d->out);
  }
  fputc('\n', d->out);
  show_below(d, s, w, loc.line, "^");
}

static void say_text(Diag *d, const Source *s, Loc loc, Severity severity, const char *message) {
  fputs(paint(d, "\033[1m"), d->out);
  if (s) fprintf(d->out, "%s:%u:%u: ", s->name, (unsigned)loc.line, (unsigned)loc.col);
  else fputs("mpcc: ", d->out);
  fprintf(d->out, "%s%s: %s", paint(d, severities[severity].color), severities[severity].word,
          paint(d, "\033[0m"));
  fprintf(d->out, "%s%s%s\n", paint(d, "\033[1m"), message, paint(d, "\033[0m"));
  if (s && loc.line <= s->lines) show_line(d, s, loc);
}

static void say_json(Diag *d, const Source *s, Loc loc, Severity severity, const char *message) {
  Arena scratch = {0};
  Text t = {.arena = &scratch};
  text_printf(&t, "{\"severity\":\"%s\",", severities[severity].word);
  if (s) {
    text_add(&t, "\"file\":");
    text_json(&t, s->name);
    text_printf(&t, ",\"line\":%u,\"column\":%u,", (unsigned)loc.line, (unsigned)loc.col);
  }
  text_add(&t, "\"message\":");
  text_json(&t, message);
  fprintf(d->out, "%s}\n", t.at);
  arena_free(&scratch);
}

/* A warning ends with the flag that switches it. */
static const char *format(Arena *a, const Warning *w, const char *fmt, va_list ap) {
  Text message = {.arena = a};
  text_vprintf(&message, fmt, ap);
  if (w) text_printf(&message, " [-W%s]", warning_name(*w));
  return message.at ? message.at : "";
}

static void say(Diag *d, Loc loc, Severity severity, const char *message) {
  if (!d->out) return;
  const Source *s = loc.line && loc.source < d->sources.len ? &d->sources.at[loc.source] : NULL;
  (d->json ? say_json : say_text)(d, s, loc, severity, message);
}

/* What was said of a place is not said again: a module is looked at anew for each instance. */
static bool said_before(Diag *d, Loc loc, const char *message) {
  const uint32_t place[] = {loc.source, loc.line, loc.col};
  uint64_t hash = hash_bytes(place, sizeof place, hash_bytes(message, strlen(message), 0));
  for (uint32_t i = 0; loc.line && i < d->said.len; i++)
    if (d->said.at[i] == hash) return true;
  if (d->said.len < MOST_REMEMBERED) vec_push(d->arena, &d->said, hash);
  return false;
}

static void too_many(Diag *d) {
  if (!d->out || d->errors != d->limit + 1 || d->json) return;
  fprintf(d->out, "mpcc: more than %u errors; the rest is not shown (-ferror-limit=N)\n",
          (unsigned)d->limit);
}

static void error(Diag *d, Loc loc, const char *message) {
  d->errors++;
  if (d->limit && d->errors > d->limit) too_many(d);
  else say(d, loc, ERROR, message);
}

/* w: of a warning, else NULL. */
static void report(Diag *d, Loc loc, Severity severity, const Warning *w, const char *fmt,
                   va_list ap) {
  Arena scratch = {0};
  const char *message = format(&scratch, w, fmt, ap);
  bool fatal = w && (d->werror || d->level[*w] == WARN_ERROR);
  bool past_limit = d->limit && d->errors > d->limit;
  if (severity != NOTE) d->repeated = !past_limit && said_before(d, loc, message);
  if (d->repeated) severity = NOTE, past_limit = true; /* nor its notes */
  d->warnings += severity == WARNING;
  if (severity == ERROR || (severity == WARNING && fatal)) error(d, loc, message);
  else if (severity == WARNING || !past_limit) say(d, loc, severity, message);
  arena_free(&scratch);
}

void diag_error(Diag *d, Loc loc, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  report(d, loc, ERROR, NULL, fmt, ap);
  va_end(ap);
}

void diag_warning(Diag *d, Warning w, Loc loc, const char *fmt, ...) {
  va_list ap;
  d->repeated = d->level[w] == WARN_OFF; /* so its notes are not shown either */
  if (d->repeated) return;
  va_start(ap, fmt);
  report(d, loc, WARNING, &w, fmt, ap);
  va_end(ap);
}

void diag_remark(Diag *d, Remark r, bool missed, Loc loc, const char *fmt, ...) {
  Arena scratch = {0};
  Text message = {.arena = &scratch};
  va_list ap;
  if (!remarks_wanted(d, r, missed)) return;
  va_start(ap, fmt);
  text_vprintf(&message, fmt, ap);
  va_end(ap);
  text_printf(&message, " [-Rpass%s=%s]", missed ? "-missed" : "", remark_name(r));
  if (!said_before(d, loc, message.at)) say(d, loc, REMARK, message.at);
  arena_free(&scratch);
}

void diag_note(Diag *d, Loc loc, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  report(d, loc, NOTE, NULL, fmt, ap);
  va_end(ap);
}

void diag_fixit(Diag *d, Loc loc, uint32_t length, const char *text) {
  const Source *s = loc.line && loc.source < d->sources.len ? &d->sources.at[loc.source] : NULL;
  bool shown = d->out && !d->repeated && !(d->limit && d->errors > d->limit);
  if (!shown || !s || loc.line > s->lines) return;
  if (!d->json) {
    show_below(d, s, window(s, loc), loc.line, text);
    return;
  }
  Arena scratch = {0};
  Text t = {.arena = &scratch};
  text_add(&t, "{\"severity\":\"fixit\",\"file\":");
  text_json(&t, s->name);
  text_printf(&t, ",\"line\":%u,\"column\":%u,\"length\":%u,\"text\":", (unsigned)loc.line,
              (unsigned)loc.col, (unsigned)length);
  text_json(&t, text);
  fprintf(d->out, "%s}\n", t.at);
  arena_free(&scratch);
}
