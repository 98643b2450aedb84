/* mpcc-opt.c: IR text in, passes, IR text out: the way every pass is tested and every dump is
 * looked into.  The text is verified as it comes in and after each pass.
 *
 * With --split-input-file a line `// -----` begins another graph; an error in one does not hide the
 * others.  With --verify-diagnostics the input says which errors it must give, and nothing is
 * written:
 *
 *     // expected-error@+1 {{not defined before its use}}
 *     %2 = neg %7 : f32[]
 *
 * @-2 looks back, nothing means the same line, @unknown an error without a place; expected-warning
 * and expected-note are alike.  Notes that nothing expects are let pass.
 *
 * Exit: 0, 1 errors in the input, 2 wrong command line, 70 internal error.
 */
#include "passes/pass.h"

#include <stdlib.h>
#include <string.h>

enum { EXIT_OK, EXIT_INPUT, EXIT_USAGE, EXIT_INTERNAL = 70 };

typedef struct Options {
  const char *input, *output, *passes;
  bool locs, split, verify_diagnostics, verify_roundtrip, help;
  PassOptions pass;
} Options;

/* Passes may ask for a device; tests must not depend on the one at hand. */
static const Target target = {
    .name = "x86-64-v3", .auto_precision = "bf16", .f32_lanes = 8, .costs = &costs_cpu};

/* ---- command line --------------------------------------------------------------------------- */

typedef enum OptionKind { KIND_flag, KIND_text, KIND_bytes } OptionKind; /* --name, --name=value */
typedef struct OptionRow {
  const char *name, *meaning;
  size_t at;
  OptionKind kind;
} OptionRow;

#define FLAG(name, field, meaning)                                                                 \
  { name, meaning, offsetof(Options, field), KIND_flag }
#define TEXT(name, field, meaning)                                                                 \
  { name, meaning, offsetof(Options, field), KIND_text }
#define BYTES(name, field, meaning)                                                                \
  { name, meaning, offsetof(Options, field), KIND_bytes }
static const OptionRow rows[] = {
    TEXT("--passes", passes, "a,b,c: run these, in this order"),
    FLAG("--locs", locs, "print places of the source"),
    FLAG("--split-input-file", split, "a line `// -----` begins another graph"),
    FLAG("--verify-diagnostics", verify_diagnostics, "errors are those the input expects"),
    FLAG("--verify-roundtrip", verify_roundtrip, "what is printed must read back as it is"),
    TEXT("--print-ir-before", pass.print_before, "a,b: dump before these passes"),
    TEXT("--print-ir-after", pass.print_after, "a,b: dump after these passes"),
    FLAG("--print-ir-after-all", pass.print_after_all, "dump after every pass"),
    TEXT("--stop-after", pass.stop_after, "p: run no pass behind this one"),
    TEXT("--disable", pass.disable, "a,b: leave these passes out"),
    FLAG("--time-passes", pass.time, "say how long each pass took"),
    FLAG("--roundtrip-each", pass.roundtrip, "print and read back after every pass"),
    FLAG("--halves", pass.halves, "optimize gives each step in halves, too"),
    FLAG("--with-replay", pass.replay, "what a skipped step is asked by stands beside it"),
    FLAG("--precision-greedy", pass.greedy_precision, "precision by the baseline, not the cut"),
    BYTES("--memory-limit", pass.memory_limit, "n: recompute to meet so many bytes"),
    FLAG("--help", help, "this text"),
};
enum { ROWS = sizeof rows / sizeof *rows };

static bool set_option(Options *o, const OptionRow *r, const char *value) {
  void *field = (char *)o + r->at;
  char *end = (char *)"";
  if (r->kind == KIND_flag) *(bool *)field = true;
  else if (r->kind == KIND_text) *(const char **)field = value;
  else *(uint64_t *)field = strtoull(value, &end, 10);
  return !*end;
}

static bool read_option(Options *o, const char *arg) {
  for (int i = 0; i < ROWS; i++) {
    const OptionRow *r = &rows[i];
    size_t n = strlen(r->name);
    if (strncmp(arg, r->name, n)) continue;
    bool valued = r->kind != KIND_flag;
    if (arg[n] == (valued ? '=' : 0)) return set_option(o, r, arg + n + valued);
  }
  return false;
}

static bool usage(const char *what, const char *arg) {
  fprintf(stderr, "mpcc-opt: %s `%s`; see --help\n", what, arg);
  return false;
}

static bool read_options(Options *o, int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const char *arg = argv[i];
    if (!strcmp(arg, "-o")) {
      if (++i == argc) return usage("a file must follow", arg);
      o->output = argv[i];
    } else if (arg[0] == '-' && arg[1]) {
      if (!read_option(o, arg)) return usage("unknown option", arg);
    } else if (o->input) return usage("a second input", arg);
    else o->input = arg;
  }
  if (!o->input) o->input = "-";
  return true;
}

static int help(void) {
  Arena a = {0};
  Text t = {.arena = &a};
  text_add(&t, "mpcc-opt [options] [file | -] [-o file]: runs passes over the compiler's IR\n\n");
  for (int i = 0; i < ROWS; i++)
    text_printf(&t, "  %s%s%*s%s\n", rows[i].name, rows[i].kind ? "=" : "",
                (int)(24 - strlen(rows[i].name) - !!rows[i].kind), "", rows[i].meaning);
  text_add(&t, "\npasses:\n");
  passes_describe(&t);
  fputs(t.at, stdout);
  arena_free(&a);
  return EXIT_OK;
}

/* ---- one graph ------------------------------------------------------------------------------ */

typedef struct Job {
  const Options *o;
  Arena *arena;
  Strings *strings;
  Diag diag;
  Text out;
} Job;

/* 70 where the text does not read back as the graph it was printed from. */
static int roundtrip(Job *j, const char *text, PrintOptions p) {
  Text again = {.arena = j->arena};
  uint32_t source = diag_source(&j->diag, "printed", text, strlen(text));
  Graph *g = graph_parse(j->arena, j->strings, &j->diag, source);
  if (g) graph_print(g, &again, p);
  if (g && !strcmp(text, again.at)) return EXIT_OK;
  fputs("mpcc-opt: internal error: print, parse, print is not the identity\n", stderr);
  return EXIT_INTERNAL;
}

static int run_graph(Job *j, const char *text, size_t size) {
  uint32_t source = diag_source(&j->diag, j->o->input, text, size);
  PrintOptions p = {.locs = j->o->locs, .diag = &j->diag};
  PassCtx c = {.arena = j->arena, .diag = &j->diag, .target = &target, .options = &j->o->pass};
  Graph *g = graph_parse(j->arena, j->strings, &j->diag, source);
  if (!g || graph_verify_diag(g, &j->diag)) return EXIT_INPUT;
  if (!passes_run(&g, j->o->passes ? j->o->passes : "", &c)) return EXIT_INPUT;
  size_t from = j->out.len;
  graph_print(g, &j->out, p);
  return j->o->verify_roundtrip ? roundtrip(j, j->out.at + from, p) : EXIT_OK;
}

/* ---- errors that the input expects ---------------------------------------------------------- */

typedef struct Message {
  const char *kind, *text;
  uint32_t line; /* 0: without a place */
  bool met;
} Message;
typedef VEC(Message) Messages;

static const char *const kinds[] = {"error", "warning", "note"};

static const char *kind_at(const char *s) {
  for (int i = 0; i < 3; i++)
    if (!strncmp(s, kinds[i], strlen(kinds[i]))) return kinds[i];
  return NULL;
}

/* `name:line:col: error: text`, or `…: error: text` for a place elsewhere or none. */
static void found_in_line(Job *j, Messages *found, const char *line, const char *end) {
  Message m = {0};
  size_t n = strlen(j->o->input);
  if (!strncmp(line, j->o->input, n) && line[n] == ':')
    m.line = (uint32_t)strtoul(line + n + 1, NULL, 10);
  for (const char *s = line; (s = strstr(s, ": ")) && s < end; s++) {
    m.kind = kind_at(s + 2);
    if (!m.kind || strncmp(s + 2 + strlen(m.kind), ": ", 2)) continue;
    s += 4 + strlen(m.kind);
    m.text = arena_text(j->arena, s, (size_t)(end - s));
    vec_push(j->arena, found, m);
    return;
  }
}

static void read_found(Job *j, Messages *found, const char *printed) {
  for (const char *end; *printed; printed = end + (*end != 0)) {
    end = printed + strcspn(printed, "\n");
    if (*printed != ' ') found_in_line(j, found, printed, end); /* not the source under it */
  }
}

/* …error@+1 {{text}} */
static void expected_at(Job *j, Messages *expected, const char *s, uint32_t line) {
  Message m = {.kind = kind_at(s), .line = line};
  if (!m.kind) return;
  s += strlen(m.kind);
  if (!strncmp(s, "@unknown", 8)) m.line = 0;
  else if (*s == '@') m.line += (uint32_t)strtol(s + 1, NULL, 10);
  const char *open = strstr(s, "{{"), *close = open ? strstr(open, "}}") : NULL;
  if (!close) return;
  m.text = arena_text(j->arena, open + 2, (size_t)(close - open - 2));
  vec_push(j->arena, expected, m);
}

static void read_expected(Job *j, Messages *expected, const char *text) {
  uint32_t line = 1;
  for (; *text; text++) {
    line += *text == '\n';
    if (!strncmp(text, "expected-", 9)) expected_at(j, expected, text + 9, line);
  }
}

static bool meets(const Message *e, const Message *f) {
  return !e->met && e->kind == f->kind && e->line == f->line && strstr(f->text, e->text);
}

static int compare(Job *j, Messages expected, Messages found) {
  int status = EXIT_OK;
  for (uint32_t i = 0; i < found.len; i++) {
    Message *f = &found.at[i];
    for (uint32_t k = 0; k < expected.len && !f->met; k++)
      if (meets(&expected.at[k], f)) f->met = expected.at[k].met = true;
    if (f->met || !strcmp(f->kind, "note")) continue;
    fprintf(stderr, "%s:%u: unexpected %s: %s\n", j->o->input, (unsigned)f->line, f->kind, f->text);
    status = EXIT_INPUT;
  }
  for (uint32_t i = 0; i < expected.len; i++) {
    const Message *e = &expected.at[i];
    if (e->met) continue;
    fprintf(stderr, "%s:%u: expected %s did not come: %s\n", j->o->input, (unsigned)e->line,
            e->kind, e->text);
    status = EXIT_INPUT;
  }
  return status;
}

static int run_expecting(Job *j, const char *text, size_t size) {
  Messages expected = {0}, found = {0};
  Text printed = {.arena = j->arena};
  char part[4096];
  FILE *f = tmpfile();
  if (!f) {
    fputs("mpcc-opt: no temporary file can be made\n", stderr);
    return EXIT_INPUT;
  }
  j->diag.out = f;
  j->diag.limit = 0;
  int status = run_graph(j, text, size);
  rewind(f);
  text_add(&printed, "");
  for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;) text_add_n(&printed, part, n);
  fclose(f);
  read_expected(j, &expected, text);
  read_found(j, &found, printed.at);
  return status == EXIT_INTERNAL ? status : compare(j, expected, found);
}

/* ---- all graphs of the input ---------------------------------------------------------------- */

static int run_part(const Options *o, const char *text, size_t size, FILE *out) {
  Arena arena = {0};
  Strings strings = {.arena = &arena};
  Job j = {.o = o, .arena = &arena, .strings = &strings, .out = {.arena = &arena}};
  diag_init(&j.diag, &arena, stderr);
  int status = o->verify_diagnostics ? run_expecting(&j, text, size) : run_graph(&j, text, size);
  if (status == EXIT_OK && !o->verify_diagnostics) fputs(j.out.at, out);
  arena_free(&arena);
  return status;
}

/* The next `// -----` line at or behind s, or the end of the text. */
static const char *next_split(const char *s, const char *end) {
  static const char mark[] = "\n// -----";
  while ((s = memchr(s, '\n', (size_t)(end - s))) && strncmp(s, mark, sizeof mark - 1)) s++;
  return s ? s + 1 : end;
}

/* A part stands in the middle of as many lines as in the file, so that its errors name these. */
static int run_parts(const Options *o, const char *text, size_t size, FILE *out) {
  const char *end = text + size;
  int status = EXIT_OK;
  uint32_t lines = 0;
  for (const char *s = text, *stop; s < end || s == text; s = stop) {
    Arena arena = {0};
    Text part = {.arena = &arena};
    stop = o->split ? next_split(s, end) : end;
    for (uint32_t i = 0; i < lines; i++) text_add(&part, "\n");
    text_add_n(&part, s, (size_t)(stop - s));
    if (s != text && !o->verify_diagnostics) fputs("// -----\n", out);
    int one = run_part(o, part.at, part.len, out);
    for (const char *c = s; c < stop; c++) lines += *c == '\n';
    if (one > status) status = one;
    arena_free(&arena);
    if (stop == end) break;
  }
  return status;
}

static int run(const Options *o) {
  Arena arena = {0};
  size_t size;
  const char *why;
  char *text = read_file(&arena, o->input, &size, &why);
  if (!text) {
    fprintf(stderr, "mpcc-opt: %s: %s\n", o->input, why);
    return EXIT_INPUT;
  }
  FILE *out = o->output && strcmp(o->output, "-") ? fopen(o->output, "w") : stdout;
  int status = EXIT_INPUT;
  if (out) status = run_parts(o, text, size, out);
  if (!out || fflush(out) || ferror(out) || (out != stdout && fclose(out))) {
    fprintf(stderr, "mpcc-opt: %s cannot be written\n", o->output ? o->output : "the output");
    status = EXIT_INPUT;
  }
  arena_free(&arena);
  return status;
}

int main(int argc, char **argv) {
  Options o = {0};
  if (!read_options(&o, argc, argv)) return EXIT_USAGE;
  return o.help ? help() : run(&o);
}
