/* test_frontend_fuzz.c: parser and sema against damaged programs.
 *
 *   test_frontend_fuzz [--mutations=N] [--seed=N] [--tokens=N] [--save=FILE] FILE...
 *
 * First, programs of N tokens, which must compile or be refused within two seconds.  Then each
 * round takes one of the files, damages it in one to four places (a token replaced, dropped,
 * doubled; a line moved; a piece of another file put in; a byte changed) and compiles it.  Whatever
 * comes out: there is a graph exactly if there was no error; the graph keeps the verifier's rules
 * and prints as text that parses to the same; no round takes longer than a second or much memory.
 * Crashes and leaks are the sanitizers' to find.  --save keeps the text at hand, for after a crash.
 */
#include "frontend/ast.h"
#include "frontend/frontend.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
  MAX_FILES = 512,
  MAX_TEXT = 1 << 16,
  MAX_SECONDS = 1,
  LONG_SECONDS = 2,
  MAX_MEMORY = 1 << 30
};

typedef struct File {
  const char *path, *text;
  size_t size;
} File;

typedef struct Fuzz {
  Arena arena;
  File file[MAX_FILES];
  uint32_t files;
  VEC(const char *) tokens; /* of all files: what is put in */
  uint64_t random;
  FILE *out; /* what the user would see */
  const char *save;
  double seconds; /* that the frontend took, the last time */
  unsigned long rounds, compiled, failed;
} Fuzz;

static uint32_t below(Fuzz *f, size_t n) {
  f->random = f->random * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((f->random >> 33) % n);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static bool in_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Where the token that begins at `at` ends: a word, a run of blanks, or one byte. */
static size_t token_end(const char *t, size_t at, size_t n) {
  size_t end = at + 1;
  if (in_word(t[at]))
    while (end < n && in_word(t[end])) end++;
  else if (t[at] == ' ')
    while (end < n && t[end] == ' ') end++;
  return end;
}

static void add_tokens(Fuzz *f, const File *file) {
  for (size_t at = 0, end; at < file->size; at = end) {
    end = token_end(file->text, at, file->size);
    if (file->text[at] != ' ')
      vec_push(&f->arena, &f->tokens, arena_text(&f->arena, file->text + at, end - at));
  }
}

static const char *const extremes[] = {
    "0",          "1",      "-1",           "2",          "9223372036854775807",
    "4000000000", "1e300",  "0.5",          "true",       "\"x\"",
    "[]",         "(1, 2)", "[1, 2]",       "x",          "_",
    "f32",        "u8[B]",  "param[B]",     "fn (x) = x", "{ }",
    "...",        "relu",   "normal(0, 1)", "if",         "for",
    "state[]",    "int",    "2147483648",   "B",
};

/* ---- damage ---------------------------------------------------------------------------------- */

typedef struct Draft {
  char at[MAX_TEXT + 1];
  size_t n;
} Draft;

/* Bytes from .. to become s. */
static void splice(Draft *d, size_t from, size_t to, const char *s, size_t n) {
  if (d->n - (to - from) + n > MAX_TEXT) return;
  memmove(d->at + from + n, d->at + to, d->n - to);
  memcpy(d->at + from, s, n);
  d->n = d->n - (to - from) + n;
}

static void damage_token(Fuzz *f, Draft *d) {
  size_t at = below(f, d->n);
  while (at > 0 && in_word(d->at[at]) && in_word(d->at[at - 1])) at--;
  size_t end = token_end(d->at, at, d->n);
  const char *s = below(f, 3) ? f->tokens.at[below(f, f->tokens.len)]
                              : extremes[below(f, sizeof extremes / sizeof *extremes)];
  switch (below(f, 4)) {
  case 0: splice(d, at, end, "", 0); break;
  case 1: splice(d, at, at, s, strlen(s)); break;
  default: splice(d, at, end, s, strlen(s)); break;
  }
}

static void line_at(const char *t, size_t n, size_t at, size_t *from, size_t *to) {
  *from = *to = at;
  while (*from > 0 && t[*from - 1] != '\n') --*from;
  while (*to < n && t[*to] != '\n') ++*to;
  if (*to < n) ++*to;
}

/* A line of some file comes in, perhaps in place of another. */
static void damage_line(Fuzz *f, Draft *d) {
  const File *other = &f->file[below(f, f->files)];
  size_t from, to, other_from, other_to;
  line_at(d->at, d->n, below(f, d->n), &from, &to);
  line_at(other->text, other->size, below(f, other->size), &other_from, &other_to);
  switch (below(f, 3)) {
  case 0: splice(d, from, to, "", 0); break;
  case 1: splice(d, from, from, other->text + other_from, other_to - other_from); break;
  default: splice(d, from, to, other->text + other_from, other_to - other_from); break;
  }
}

static void damage_byte(Fuzz *f, Draft *d) {
  static const char bytes[] = "(){}[];,:=.+-*/^<@%\"\n 09_a\x01\xff";
  d->at[below(f, d->n)] = bytes[below(f, sizeof bytes)];
}

static void damage(Fuzz *f, Draft *d) {
  const File *file = &f->file[below(f, f->files)];
  memcpy(d->at, file->text, file->size);
  d->n = file->size;
  for (uint32_t i = below(f, 2) ? 1 : below(f, 4) + 1; i > 0 && d->n; i--) {
    uint32_t how = below(f, 8);
    if (how < 5) damage_token(f, d);
    else if (how < 7) damage_line(f, d);
    else damage_byte(f, d);
  }
}

/* ---- one round ------------------------------------------------------------------------------- */

static bool prints_as_itself(const Graph *g, Arena *arena, Strings *strings, Diag *diag) {
  Text first = {.arena = arena}, second = {.arena = arena};
  graph_print(g, &first, (PrintOptions){0});
  Graph *again = graph_parse(arena, strings, diag, diag_source(diag, "ir", first.at, first.len));
  if (!again) return false;
  graph_print(again, &second, (PrintOptions){0});
  return !strcmp(first.at, second.at);
}

/* What is wrong, or NULL.  The copy has no NUL behind it: a sanitizer sees every read too far. */
static const char *compile(Fuzz *f, const char *text, size_t size) {
  char *copy = malloc(size + !size);
  memcpy(copy, text, size);
  Arena arena = {0};
  Strings strings = {.arena = &arena};
  Diag diag;
  rewind(f->out);
  diag_init(&diag, &arena, f->out);
  Define d = {"n", "3"};
  FrontendOptions o = {
      .name = "fuzz", .source = "f", .defines = &d, .ndefines = f->rounds % 7 == 1};
  clock_t start = clock();
  Ast *ast = frontend_parse(&arena, &strings, &diag, diag_source(&diag, "f", copy, size));
  Graph *g = ast ? frontend_compile(&arena, &strings, &diag, ast, &o) : NULL;
  f->seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
  Text why = {.arena = &arena};
  const char *wrong = NULL;
  if (!g != (diag.errors > 0)) wrong = "either a graph or an error";
  else if (g && graph_verify(g, &why)) wrong = "the graph breaks a rule";
  else if (g && !prints_as_itself(g, &arena, &strings, &diag)) wrong = "print, parse, print";
  else if (arena.used > MAX_MEMORY) wrong = "too much memory";
  if (why.at) fprintf(stderr, "%s\n", why.at);
  f->compiled += g != NULL;
  arena_free(&arena);
  free(copy);
  return wrong;
}

static void save(const char *path, const char *text, size_t n) {
  FILE *out = path ? fopen(path, "wb") : NULL;
  if (!out) return;
  fwrite(text, 1, n, out);
  fclose(out);
}

static void run_round(Fuzz *f, Draft *d) {
  damage(f, d);
  save(f->save, d->at, d->n);
  const char *wrong = compile(f, d->at, d->n);
  if (f->seconds > MAX_SECONDS) wrong = "too slow";
  f->rounds++;
  if (!wrong) return;
  f->failed++;
  fprintf(stderr, "round %lu: %s:\n", f->rounds, wrong);
  fwrite(d->at, 1, d->n, stderr);
}

/* ---- long programs --------------------------------------------------------------------------- */

#define MODEL "model M {\n w: param[4] = zeros()\n fn f(x) { "
#define TRAIN                                                                                      \
  "return x + w }\n}\ntrain M {\n batch B = 4\n data { x: f32[B, 4] }\n optimizer sgd(lr: 0.1)\n " \
  "loss f(x)\n"

/* `repeated` comes `per` tokens each; a %u in it is a number of its own. */
static const struct {
  const char *before, *repeated, *after;
  uint32_t per, most;
  bool is_right;
} long_programs[] = {
    {"", "a = 1\n", MODEL TRAIN "}", 4, 0, false},
    {"", "a%u = 1\n", MODEL TRAIN "}", 4, 0, true},
    {"", "a = b\n", MODEL TRAIN "}", 4, 0, false},
    {"a = [", "1, ", "]\n" MODEL TRAIN "}", 2, 0, true},
    {"a = 0", " + 1", "\n" MODEL TRAIN "}", 2, 900, true},
    {MODEL, "x = relu(x)\n", TRAIN "}", 7, 0, true},
    {"fn g(y) = y\n" MODEL "x = g(x, ", "y: x, ", ")\n" TRAIN "}", 4, 0, false},
    {"fn g(", "y%u, ", ") = 1\n" MODEL TRAIN "}", 2, 0, false},
    {"fn g(y: [", "1, ", "]) = 1\n" MODEL "z = g(x)\n" TRAIN "}", 2, 0, false},
    {"module L() { v: param[1] = ones() }\nl = [", "L(), ", "]\n" MODEL TRAIN "}", 4, 100000, true},
    {"a0 = [relu]\n", "a%u = [a0, a0]\na0 = a0\n", MODEL TRAIN "}", 12, 0, false},
    {MODEL TRAIN, "metric m%u = f(x)\n", "}", 8, 4000, true},
    {MODEL TRAIN, "steps 4\n", "}", 3, 0, false},
    {MODEL TRAIN, "if 1 == 1 { a%u = 1 }\n", "}", 11, 0, true},
    {"h0 = [relu, relu]\n", "h%u = [h%u, h%u]\n", MODEL "x = h40(x)\n" TRAIN "}", 0, 40, false},
    {"h0 = fn (x) = relu(x)\n", "h%u = fn (x) = h%u(h%u(x))\n", MODEL "x = h40(x)\n" TRAIN "}", 0,
     40, false},
    {"h0 = [1]\n", "h%u = h%u + h%u\n", MODEL TRAIN "}", 0, 40, false},
    {"fn g(x) = g(x)\n", "", MODEL "x = g(x)\n" TRAIN "}", 1, 1, false},
};

/* The numbers in it: i, then i - 1. */
static void add_repeated(Text *t, const char *repeated, uint32_t i) {
  for (const char *s = repeated; *s; s++) {
    if (s[0] == '%') text_printf(t, "%u", (unsigned)(s == strchr(repeated, '%') ? i : i - 1)), s++;
    else text_add_n(t, s, 1);
  }
}

static void test_long_programs(Fuzz *f, uint32_t tokens) {
  for (size_t i = 0; i < sizeof long_programs / sizeof *long_programs; i++) {
    Arena arena = {0};
    Text t = {.arena = &arena};
    uint32_t most = long_programs[i].most, per = long_programs[i].per;
    uint32_t n = per && (!most || tokens / per < most) ? tokens / per : most;
    text_add(&t, "version 1\n");
    text_add(&t, long_programs[i].before);
    for (uint32_t k = 1; k <= n; k++) add_repeated(&t, long_programs[i].repeated, k);
    text_add(&t, long_programs[i].after);
    unsigned long compiled = f->compiled;
    const char *wrong = compile(f, t.at, t.len);
    if (f->seconds > LONG_SECONDS) wrong = "too slow";
    if (!wrong && long_programs[i].is_right != (f->compiled > compiled)) wrong = "right or not?";
    if (wrong)
      fprintf(stderr, "long `%s`: %s (%g s)\n", long_programs[i].repeated, wrong, f->seconds);
    f->failed += wrong != NULL;
    arena_free(&arena);
  }
}

static void add_file(Fuzz *f, const char *path) {
  const char *why;
  File file = {.path = path};
  if (f->files == MAX_FILES) return;
  file.text = read_file(&f->arena, path, &file.size, &why);
  if (!file.text) {
    fprintf(stderr, "%s: %s\n", path, why);
    f->failed++;
  } else if (file.size && file.size < MAX_TEXT / 4) {
    add_tokens(f, &file);
    f->file[f->files++] = file;
  }
}

int main(int argc, char **argv) {
  Fuzz *f = calloc(1, sizeof *f);
  Draft *d = malloc(sizeof *d);
  unsigned long mutations = 2000, tokens = 1000000;
  if (!f || !d || !(f->out = tmpfile())) return 1;
  f->random = 1;
  for (int i = 1; i < argc; i++) {
    if (!strncmp(argv[i], "--mutations=", 12)) mutations = strtoul(argv[i] + 12, NULL, 10);
    else if (!strncmp(argv[i], "--seed=", 7)) f->random = strtoul(argv[i] + 7, NULL, 10);
    else if (!strncmp(argv[i], "--tokens=", 9)) tokens = strtoul(argv[i] + 9, NULL, 10);
    else if (!strncmp(argv[i], "--save=", 7)) f->save = argv[i] + 7;
    else add_file(f, argv[i]);
  }
  for (uint32_t i = 0; i < f->files; i++)
    if (compile(f, f->file[i].text, f->file[i].size)) f->failed++;
  test_long_programs(f, (uint32_t)tokens);
  while (f->files && f->rounds < mutations) run_round(f, d);
  printf("frontend fuzz: %lu rounds, %lu graphs, %lu failed\n", f->rounds, f->compiled, f->failed);
  bool failed = f->failed || f->rounds < mutations;
  fclose(f->out);
  arena_free(&f->arena);
  free(f);
  free(d);
  return failed;
}
